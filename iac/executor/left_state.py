"""The state that an apply left in its work directory, wherever Terraform could put it.

Normally it is the local backend's file. When that cannot be written (a full disk: Terraform has truncated it by then),
Terraform writes `errored.tfstate`, which may come out empty for the same reason; and at last it prints the whole state into
its -json output. For that line the raw log keeps some room reserved (iac.executor.log_spool).
"""

from __future__ import annotations

import mmap
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from iac.domain import states
from iac.errors import Invalid
from iac.executor.workdir import Workdir, read_if_there

_DUMP = b'{"@level":"info","@message":"Emergency state dump",'


class StateLost(Exception):
    """There was a state, and no usable one is left. The message says what was found instead."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Found:
    """A usable state. `astray`: it is not where it belongs, because Terraform could not write it there."""

    data: bytes
    astray: bool


def find_state(place: Workdir, before: bytes | None) -> Found | None:
    """The newest usable state; None when it is still `before`. Raises StateLost, OSError.

    Without the directory there is no telling whether there was one.
    """
    problems = []
    for name, data in _candidates(place):
        if data == before:
            return None
        try:
            states.inspect(data)
        except Invalid as error:
            problems.append(f"{name}: {error.message}")
        else:
            return Found(data, astray=name != place.state.name)
    if problems:
        raise StateLost("state_unreadable", "; ".join(problems))
    if before is None and place.state.parent.is_dir():
        return None
    raise StateLost("state_missing", f"{place.state.name} is gone from the work directory")


def _candidates(place: Workdir) -> list[tuple[str, bytes]]:
    """What may be a state, the newest first."""
    found = (
        (place.errored_state.name, read_if_there(place.errored_state) or None),
        ("the state printed into the log", dumped_state(place.raw_log)),
        (place.state.name, read_if_there(place.state)),
    )
    return [(name, data) for name, data in found if data is not None]


def has_no_room(place: Workdir, size: int) -> bool:
    """Whether a file of this size could not be written in the work directory. Raises OSError."""
    return shutil.disk_usage(place.root).free < size


class _Dump(msgspec.Struct):
    state: msgspec.Raw


def dumped_state(raw_log: Path) -> bytes | None:
    """The state that Terraform printed because it could write it nowhere; None if it never had to."""
    try:
        with raw_log.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.rfind(_DUMP)
            end = content.find(b"\n", start)
            line = content[start : end if end >= 0 else len(content)] if start >= 0 else None
    except (FileNotFoundError, ValueError):  # ValueError: an empty file cannot be mapped
        return None
    try:
        return None if line is None else bytes(msgspec.json.decode(line, type=_Dump).state)
    except msgspec.DecodeError:
        return None
