"""What is tidied away of logs, and what never is."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from iac.actors.log_cleaner import Keeping, clean
from iac.domain.records import Task
from iac.errors import Gone, LogRefused
from iac.store.database import Database
from iac.store.log_cache import LogCache
from tests.store import given
from tests.store.log_scenes import a_stream, append, close, persisted, row_of, said, whole

DAY = timedelta(days=1)
NOW = datetime.now(UTC)


@pytest.fixture
def cache(database: Database, tmp_path: Path) -> LogCache:
    return LogCache(database, tmp_path / "logs")


async def file_of(database: Database, cache: LogCache, task: Task) -> Path:
    return cache.bytes.path(await row_of(database, task))


async def begun_before(database: Database, task: Task, days: int) -> None:
    """To be said before there is a file: where it lies tells the day."""
    shift = "UPDATE log_stream SET created_at = now() - make_interval(days => :days) WHERE task_id = :id RETURNING 1"
    await given.scalar(database, shift, days=days, id=task.id)


async def ended_before(database: Database, task: Task, days: int) -> None:
    await given.ended(database, task, "failed")
    shift = "UPDATE task SET finished_at = now() - make_interval(days => :days) WHERE id = :id RETURNING 1"
    await given.scalar(database, shift, days=days, id=task.id)


async def test_a_file_goes_a_day_after_its_log_is_checked_in_the_database_and_the_log_can_still_be_read(
    database: Database, cache: LogCache
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"all of it")
    await close(database, cache, task, said(b"all of it"))
    file = await file_of(database, cache, task)
    await clean(database, cache, Keeping(), NOW + 2 * DAY)
    assert file.exists(), "it is not in the database yet"
    await persisted(database, cache)
    await clean(database, cache, Keeping(), NOW + DAY / 2)
    assert file.exists(), "it is not old enough"

    await clean(database, cache, Keeping(), NOW + 2 * DAY)

    assert list(cache.bytes.directory.iterdir()) == []
    assert await whole(cache, task) == b"all of it"
    assert await append(cache, task, 0, b"all of it") == 9, "what is there may be said again"
    with pytest.raises(LogRefused):
        await append(cache, task, 0, b"ALL")


async def test_the_file_of_an_open_log_stays_however_old_it_is(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"so far")
    await persisted(database, cache)
    await clean(database, cache, Keeping(), NOW + 1000 * DAY)
    assert (await file_of(database, cache, task)).read_bytes() == b"so far"
    assert await append(cache, task, 6, b", so good") == 15


async def test_the_file_of_a_deleted_task_goes_when_it_is_old(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"of nobody")
    file = await file_of(database, cache, task)
    await given.scalar(database, "DELETE FROM task WHERE id = :id RETURNING 1", id=task.id)
    await clean(database, cache, Keeping(), NOW)
    assert file.exists()
    os.utime(file, (0, 0))
    await clean(database, cache, Keeping(), NOW)
    assert not file.exists()


async def test_what_is_no_log_file_is_left_alone(database: Database, cache: LogCache) -> None:
    strangers = [
        cache.bytes.directory / name for name in ("2020-01-01/ff/notes.log", "2020-01-01/1-2.txt", "x/ff/1-2.log")
    ]
    for stranger in strangers:
        stranger.parent.mkdir(parents=True, exist_ok=True)
        stranger.touch()
        os.utime(stranger, (0, 0))
    await clean(database, cache, Keeping(), NOW)
    assert all(stranger.exists() for stranger in strangers)


async def test_a_directory_that_is_tidied_away_is_made_again_when_it_is_needed(
    database: Database, cache: LogCache
) -> None:
    task = await a_stream(database)
    file = await file_of(database, cache, task)
    file.parent.mkdir(parents=True)
    await clean(database, cache, Keeping(), NOW)
    assert not file.parent.exists()
    await append(cache, task, 0, b"here")
    assert file.read_bytes() == b"here"


async def test_the_rest_of_a_log_that_does_not_come_for_a_week_is_not_waited_for(
    database: Database, cache: LogCache
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"half of")
    await ended_before(database, task, 6)
    await clean(database, cache, Keeping(), NOW)
    assert (await row_of(database, task)).state == "open"
    await ended_before(database, task, 8)
    await clean(database, cache, Keeping(), NOW)
    assert (await row_of(database, task)).state == "incomplete"
    with pytest.raises(LogRefused) as refused:
        await append(cache, task, 7, b" it")
    assert refused.value.code == "log_closed"


async def test_logs_beyond_their_retention_are_deleted_and_said_to_be(database: Database, cache: LogCache) -> None:
    old, young, running = [await a_stream(database, name) for name in ("old", "young", "running")]
    await begun_before(database, old, 31)
    for task in (old, young, running):
        await append(cache, task, 0, b"some log")
    for task in (old, young):
        await close(database, cache, task, said(b"some log"))
    await persisted(database, cache)
    file = await file_of(database, cache, old)
    await ended_before(database, old, 31)
    await given.ended(database, young, "failed")
    await clean(database, cache, Keeping(logs=31 * DAY), NOW)

    await clean(database, cache, Keeping(logs=30 * DAY), NOW)

    assert not file.exists()
    assert await given.scalar(database, "SELECT count(*) FROM log_chunk WHERE task_id = :id", id=old.id) == 0
    with pytest.raises(Gone) as gone:
        await cache.read(old.id, 0, 10)
    assert gone.value.code == "log_expired"
    for task in (young, running):
        assert await whole(cache, task) == b"some log"


async def test_without_a_retention_logs_are_kept_for_ever(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    await begun_before(database, task, 10_000)
    await append(cache, task, 0, b"ancient")
    await ended_before(database, task, 10_000)
    await clean(database, cache, Keeping(), NOW)
    assert await whole(cache, task) == b"ancient"
