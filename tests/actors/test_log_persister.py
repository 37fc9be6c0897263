"""Logs on their way from the server's disk into PostgreSQL: nothing is lost on it, nothing is there twice."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from iac.actors.log_persister import LogPersister, log_persister
from iac.domain.records import Task
from iac.errors import Unavailable
from iac.store.database import Database, open_database
from iac.store.log_cache import BATCH, LogCache
from tests.harness.postgres import statement
from tests.store import given
from tests.store.log_scenes import a_stream, append, close, persisted, row_of, said, whole

FOR_EVER = 3600.0


@pytest.fixture
def cache(database: Database, tmp_path: Path) -> LogCache:
    return LogCache(database, tmp_path / "logs")


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A directory without any file: with it only the database is read."""
    return tmp_path / "nowhere"


@asynccontextmanager
async def copying(database: Database, cache: LogCache, every: float = 0.01) -> AsyncIterator[trio.CancelScope]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: log_persister(database, cache, every=every))
        yield nursery.cancel_scope
        nursery.cancel_scope.cancel()


async def until_persisted(database: Database, task: Task, length: int) -> None:
    with trio.fail_after(30):
        while (await row_of(database, task)).persisted < length:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_several_streams_of_several_chunks_are_copied_and_read_back(
    database: Database, cache: LogCache, nowhere: Path
) -> None:
    chance = random.Random(1)  # noqa: S311
    texts = [chance.randbytes(size) for size in (0, 1, 3 << 20, (1 << 20) + 5)]
    streams = [await a_stream(database, f"w{number}") for number in range(len(texts))]
    for task, text in zip(streams, texts, strict=True):
        await append(cache, task, 0, text)
        await close(database, cache, task, said(text))

    await persisted(database, cache)

    only_database = LogCache(database, nowhere)
    for task, text in zip(streams, texts, strict=True):
        assert await whole(only_database, task, step=700_000) == text
        row = await row_of(database, task)
        assert (row.persisted, row.verified) == (len(text), True)


async def test_a_stream_that_still_grows_is_copied_bit_by_bit_and_checked_at_its_end_only(
    database: Database, cache: LogCache, nowhere: Path
) -> None:
    task = await a_stream(database)
    text = b""
    for number in range(5):
        line = b"line %d\n" % number
        await append(cache, task, len(text), line)
        text += line
        await persisted(database, cache)
        row = await row_of(database, task)
        assert (row.persisted, row.verified) == (len(text), None)
    assert await given.scalar(database, "SELECT count(*) FROM log_chunk") == 5
    await close(database, cache, task, said(text))
    await persisted(database, cache)
    assert (await row_of(database, task)).verified is True
    assert await whole(LogCache(database, nowhere), task) == text


async def test_two_copyists_at_once_store_each_byte_once(database: Database, cache: LogCache, nowhere: Path) -> None:
    text = random.Random(2).randbytes(5 << 20)  # noqa: S311
    task = await a_stream(database)
    await append(cache, task, 0, text)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(LogPersister(database, cache).copy)
    assert (await row_of(database, task)).persisted == len(text)
    assert await given.scalar(database, "SELECT sum(length) FROM log_chunk") == len(text)
    assert await whole(LogCache(database, nowhere), task) == text


async def test_an_outage_of_the_database_loses_nothing_and_is_over_when_it_is_over(
    database: Database, cache: LogCache, database_url: str, nowhere: Path
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"before the outage\n")
    await statement(
        database_url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '55P03'; END$$",
    )
    await statement(
        database_url, "CREATE TRIGGER refusing BEFORE INSERT ON log_chunk FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(Unavailable):
        await LogPersister(database, cache).copy()
    async with copying(database, cache):
        await append(cache, task, 18, b"and after it\n")
        assert (await row_of(database, task)).persisted == 0
        await statement(database_url, "DROP TRIGGER refusing ON log_chunk")
        await until_persisted(database, task, 31)
    assert await whole(LogCache(database, nowhere), task) == b"before the outage\nand after it\n"


async def test_much_that_waits_is_copied_before_its_time(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    async with copying(database, cache, every=FOR_EVER):
        await append(cache, task, 0, b"x" * BATCH)
        await until_persisted(database, task, BATCH)


async def test_what_is_left_is_copied_when_the_server_stops(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    async with copying(database, cache, every=FOR_EVER):
        await append(cache, task, 0, b"the last words")
    assert (await row_of(database, task)).persisted == 14


async def test_a_stop_does_not_wait_for_a_database_that_is_away(
    database: Database, cache: LogCache, database_url: str
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"kept on the disk")
    async with open_database(database_url, pool_size=1) as somebody:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: log_persister(somebody, cache, every=FOR_EVER, flush_within=0.0))
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
    assert (await row_of(database, task)).persisted == 0
    assert await whole(cache, task) == b"kept on the disk"


async def test_a_copy_that_is_not_what_it_was_made_of_is_told_and_the_file_is_kept(
    database: Database, cache: LogCache, caplog: pytest.LogCaptureFixture
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"right")
    await close(database, cache, task, said(b"right"))
    persister = LogPersister(database, cache)
    await persister.copy()
    await given.scalar(database, "UPDATE log_chunk SET data = '\\x00' RETURNING 1")
    await persister.check()
    assert (await row_of(database, task)).verified is False
    assert "its file is kept" in caplog.text
    assert await whole(cache, task) == b"right"


async def test_a_file_that_was_changed_on_the_disk_is_noticed(
    database: Database, cache: LogCache, caplog: pytest.LogCaptureFixture
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"right")
    await close(database, cache, task, said(b"right"))
    cache.bytes.path(await row_of(database, task)).write_bytes(b"wrong")
    await persisted(database, cache)
    assert (await row_of(database, task)).verified is False
    assert "its file is kept" in caplog.text


async def test_a_closed_stream_whose_file_was_lost_is_incomplete(
    database: Database, cache: LogCache, nowhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"some, ")
    await persisted(database, cache)
    await append(cache, task, 6, b"and the rest")
    await close(database, cache, task, said(b"some, and the rest"))
    await persisted(database, LogCache(database, nowhere))
    row = await row_of(database, task)
    assert (row.length, row.state, row.verified) == (6, "incomplete", True)
    assert "missing on this server's disk" in caplog.text
    assert await whole(LogCache(database, nowhere), task) == b"some, "
