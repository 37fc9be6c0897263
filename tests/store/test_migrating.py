"""The schema is brought to where the program is: once, by one at a time, and never over something it does not know."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import trio

from iac.errors import StartFailed
from iac.store import logs, migrating
from iac.store.database import Connection, Database, open_database
from iac.store.log_cache import LogCache
from iac.store.migrating import Migration, migrate, migrations
from tests.harness.postgres import fresh_database
from tests.store import given

NAMES = [migration.name for migration in migrations()]


@pytest.fixture
def empty_url(postgres: str) -> str:
    return fresh_database(postgres, empty=True)


async def run(c: Connection, /, sql: str, **values: object) -> None:
    await c.run(sql, **values)


async def tables(database: Database) -> list[str]:
    sql = "SELECT array_agg(tablename::text ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'"
    return list(await given.scalar(database, sql) or ())


async def test_an_empty_database_gets_everything_and_the_second_time_nothing(empty_url: str) -> None:
    async with open_database(empty_url) as database:
        assert await migrate(database) == NAMES
        before = await tables(database)
        assert {"task", "workspace", "state_version", "log_chunk"} <= set(before)
        assert await migrate(database) == []
        assert await tables(database) == before


async def test_two_servers_that_start_together_migrate_once(empty_url: str) -> None:
    done: list[list[str]] = []

    async def server() -> None:
        async with open_database(empty_url) as database:
            done.append(await migrate(database))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(server)
    assert sorted(done) == [[], [], [], NAMES]


async def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Migration(9998, "9998_bad.sql", "CREATE TABLE half (x int); SELECT 1/0;")
    monkeypatch.setattr(migrating, "migrations", lambda: [*migrations(), bad])
    async with open_database(empty_url) as database:
        with pytest.raises(Exception, match="division by zero"):
            await migrate(database)
        assert await tables(database) == []


async def test_a_schema_of_a_newer_program_is_refused_and_left_alone(database: Database) -> None:
    await database.tx(run, "INSERT INTO schema_migration (number, name, digest) VALUES (9999, '9999_later.sql', 'x')")
    with pytest.raises(StartFailed, match=r"newer IAC \(9999_later\.sql\); this program knows up to \d{4}") as failed:
        await migrate(database)
    assert failed.value.exit_code == 78


async def test_a_migration_that_was_edited_after_it_was_applied_is_refused(database: Database) -> None:
    await database.tx(run, "UPDATE schema_migration SET digest = 'other' WHERE number = 1")
    with pytest.raises(StartFailed, match=f"Migration {NAMES[0]} in the database is not the one") as failed:
        await migrate(database)
    assert failed.value.exit_code == 78


async def test_what_is_new_is_applied_after_what_is_there(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    new = Migration(9998, "9998_new.sql", "CREATE TABLE new (x int)")
    monkeypatch.setattr(migrating, "migrations", lambda: [*migrations(), new])
    assert await migrate(database) == ["9998_new.sql"]
    assert await migrate(database) == []


async def test_logs_from_before_the_disk_cache_are_read_and_go_on(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrations()
    async with open_database(empty_url) as database:
        monkeypatch.setattr(migrating, "migrations", lambda: known[:2])
        await migrate(database)
        await database.tx(run, "ALTER TABLE log_stream DROP CONSTRAINT log_stream_task_id_fkey")
        for fence, state in ((1, "complete"), (2, "open")):
            stream = "INSERT INTO log_stream (task_id, fence, phase, length, state) VALUES (7, :f, 'plan', 6, :state)"
            await database.tx(run, stream, f=fence, state=state)
            packed = gzip.compress(b"old %d\n" % fence)
            await database.tx(run, "INSERT INTO log_chunk VALUES (7, :f, 0, 6, :packed)", f=fence, packed=packed)
        monkeypatch.setattr(migrating, "migrations", lambda: known)
        assert await migrate(database) == NAMES[2:]
        cache = LogCache(database, tmp_path)
        assert (await cache.read(7, 0, 100)).data == b"old 1\nold 2\n"
        assert await cache.append(7, 2, 6, b"new", limit=100) == 9
        assert (await cache.read(7, 0, 100)).data == b"old 1\nold 2\nnew"
        assert (await database.read(logs.stream, 7, 1)).verified is True


def test_migrations_are_numbered_without_gap_or_double() -> None:
    assert [migration.number for migration in migrations()] == list(range(1, len(NAMES) + 1))
