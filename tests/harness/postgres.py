"""A real PostgreSQL for a test session, and a fresh migrated database for each test."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from time import monotonic
from typing import Any

import asyncpg
import trio

from iac.executor.leftovers import alive, start_time_of
from iac.store.database import open_database
from iac.store.embedded import PostgresServer
from iac.store.migrating import migrate

TEMPLATE = "iac_template"
CLONING = {"file_copy_method": "clone"}
"""The kernel copies a template's files, as cheaply as its file system can."""
IN_MEMORY, ROOM = Path("/dev/shm"), 2 * 1024**3
"""Where clusters live if so many bytes are free: a database is three hundred files, and a busy disk takes half a second."""
_numbers = count(1)


@contextmanager
def place_of_cluster(prefix: str = "iac-pg-") -> Iterator[Path]:
    """A directory for a cluster's data that does not exist yet; gone with the body.

    Not below pytest's own directory: as root PostgreSQL runs as another user, to whom pytest closes that one, again
    and again, whenever another session starts. And a socket's path has at most about a hundred characters.
    """
    roomy = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM
    with TemporaryDirectory(prefix=prefix, dir=IN_MEMORY if roomy else None) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "data"


@contextmanager
def running_postgres(directory: Path) -> Iterator[str]:
    """The URL of a cluster's maintenance database; the cluster lives as long as the body."""
    server = PostgresServer(directory, cleanup_mode=None)
    directory.mkdir()
    server.start()
    try:
        url = server.get_uri(database="postgres")
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            execute(url, f"ALTER SYSTEM SET {setting} = off")  # nobody needs these data after a power cut
        execute(url, "ALTER SYSTEM SET max_wal_size = '192MB'")
        execute(url, "SELECT pg_reload_conf()")
        execute(url, f"CREATE DATABASE {TEMPLATE}")
        trio.run(_migrate, url.replace("/postgres?", f"/{TEMPLATE}?"))
        yield url
    finally:
        server.stop()


async def _migrate(url: str) -> None:
    async with open_database(url) as database:
        await migrate(database)


def fresh_database(url: str, *, empty: bool = False, like: str = "") -> str:
    """The URL of a new database: migrated, really empty, or with all of another one, to which nobody is connected."""
    name = f"iac_test_{next(_numbers)}"
    template = "template0" if empty else name_of(like) if like else TEMPLATE
    # By default each page goes through the log of the cluster, which costs eight times as much.
    execute(url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy", **CLONING)
    return url.replace("/postgres?", f"/{name}?")


def drop_database(url: str, database_url: str) -> None:
    """A hundred of them would fill the disk, and hold up the cluster's end."""
    execute(url, f"DROP DATABASE {name_of(database_url)} WITH (FORCE)")


def name_of(database_url: str) -> str:
    return database_url.partition("?")[0].rpartition("/")[2]


def execute(url: str, statement: str, **settings: str) -> None:
    """One statement on a connection of its own, outside of any Trio loop."""

    async def run() -> None:
        connection = await asyncpg.connect(url, server_settings=settings)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


async def statement(url: str, sql: str) -> None:
    """The same from inside of a Trio test: somebody else at the database."""
    await trio.to_thread.run_sync(execute, url, sql)


@dataclass(frozen=True)
class OwnCluster:
    """A PostgreSQL that a test may break. `url` is that of a migrated database in it."""

    data: Path
    url: str

    def crash(self) -> None:
        """Immediate mode: no backend says goodbye, nothing is written down; the next start recovers from its log."""
        pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGQUIT)
        deadline = monotonic() + 30
        while alive(pid, start_time_of(pid) or 0):
            assert monotonic() < deadline, "PostgreSQL does not end"
            Event().wait(0.01)

    def start(self) -> None:
        """Starts it again."""
        self._handle()

    def stop(self) -> None:
        """Ends it, whoever started it last."""
        self._handle().stop()

    def _handle(self) -> Any:
        server = PostgresServer(self.data, cleanup_mode=None)
        server.start()  # one that runs already is found
        atexit.unregister(server._cleanup)
        return server


@contextmanager
def own_cluster() -> Iterator[OwnCluster]:
    """One that keeps what it has committed through a crash."""
    with place_of_cluster("iac-own-") as data, running_postgres(data) as url:
        execute(url, "ALTER SYSTEM SET synchronous_commit = on")
        execute(url, "SELECT pg_reload_conf()")
        cluster = OwnCluster(data, fresh_database(url))
        try:
            yield cluster
        finally:
            cluster.stop()
