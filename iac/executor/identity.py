"""Which instance this is: `identity.json` in the data directory, and the lock that keeps the directory ours alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from iac.errors import StartFailed

EXIT_CONFIG, EXIT_IN_USE = 78, 6
FILE = "identity.json"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """`instance_id` is made here, once; the other two come from the first register. The secret proves the instance."""

    instance_id: str
    agent_id: str | None = None
    instance_secret: str | None = None


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Holds the data directory. Raises StartFailed: 78 when it cannot be used, 6 when another agent has it."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data_dir / "agent.lock").open("w")
    except OSError as error:
        raise _unusable(data_dir, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartFailed(
                f"IAC_DATA_DIR: another agent uses {data_dir.absolute()}; stop it, or give this one a directory of its own.",
                exit_code=EXIT_IN_USE,
            ) from None
        yield


def load(data_dir: Path) -> Identity:
    """The identity of this directory; a new one the first time. Raises StartFailed (78)."""
    path = data_dir / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        identity = Identity(instance_id=os.urandom(16).hex())
        save(data_dir, identity)
        return identity
    except msgspec.DecodeError as error:
        raise StartFailed(
            f"IAC_DATA_DIR: {path} is damaged ({error}); restore it, or delete it to register as a new agent.",
            exit_code=EXIT_CONFIG,
        ) from None
    except OSError as error:
        raise _unusable(data_dir, error) from None


def save(data_dir: Path, identity: Identity) -> None:
    """Replaces the file as a whole, durably. Raises StartFailed (78)."""
    path = data_dir / FILE
    draft = path.with_suffix(".new")
    try:
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(identity))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_directory(data_dir)
    except OSError as error:
        raise _unusable(data_dir, error) from None


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unusable(data_dir: Path, error: OSError) -> StartFailed:
    return StartFailed(
        f"IAC_DATA_DIR: cannot use {data_dir} ({error.strerror}); point it at a directory that this user may write.",
        exit_code=EXIT_CONFIG,
    )
