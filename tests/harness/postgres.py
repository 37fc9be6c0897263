"""A real PostgreSQL for a test session, and a fresh migrated database for each test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import asyncpg
import trio

from iac.store.database import open_database
from iac.store.embedded import PostgresServer
from iac.store.migrating import migrate

TEMPLATE = "iac_template"
_numbers = count(1)


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
        execute(url, "SELECT pg_reload_conf()")
        execute(url, f"CREATE DATABASE {TEMPLATE}")
        trio.run(_migrate, url.replace("/postgres?", f"/{TEMPLATE}?"))
        yield url
    finally:
        server.stop()


async def _migrate(url: str) -> None:
    async with open_database(url) as database:
        await migrate(database)


def fresh_database(url: str, *, empty: bool = False) -> str:
    """The URL of a new database: migrated, or really empty."""
    name = f"iac_test_{next(_numbers)}"
    execute(url, f"CREATE DATABASE {name} TEMPLATE {'template0' if empty else TEMPLATE}")
    return url.replace("/postgres?", f"/{name}?")


def drop_database(url: str, database_url: str) -> None:
    """A hundred of them would fill the disk, and hold up the cluster's end."""
    name = database_url.partition("?")[0].rpartition("/")[2]
    execute(url, f"DROP DATABASE {name} WITH (FORCE)")


def execute(url: str, statement: str) -> None:
    """One statement on a connection of its own, outside of any Trio loop."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


async def statement(url: str, sql: str) -> None:
    """The same from inside of a Trio test: somebody else at the database."""
    await trio.to_thread.run_sync(execute, url, sql)
