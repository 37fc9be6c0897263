"""Logs on disk and in PostgreSQL against a model: whatever is lost, doubled, late or mixed up, the bytes are right."""

from __future__ import annotations

import random
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from iac.domain.records import Task
from iac.domain.work import LogDigest
from iac.errors import LogRefused, NotFound, TooLarge
from iac.store import logs
from iac.store.database import Database, open_database
from iac.store.log_cache import LogCache
from tests.harness.thoroughness import examples
from tests.store import given

LIMIT = 1 << 20


@pytest.fixture
def cache(database: Database, tmp_path: Path) -> LogCache:
    return LogCache(database, tmp_path / "logs")


async def a_stream(database: Database) -> Task:
    await given.a_workspace(database)
    return await given.running(database, await given.a_task(database, "w", "plan"))


async def append(cache: LogCache, task: Task, offset: int, data: bytes, *, limit: int = LIMIT) -> int:
    return await cache.append(task.id, task.fence, offset, data, limit=limit)


async def whole(cache: LogCache, task: Task, *, step: int = LIMIT) -> bytes:
    data = b""
    while True:
        part = await cache.read(task.id, len(data), step)
        if not part.data:
            return data
        data += part.data
        assert part.next_offset == len(data)


async def close(database: Database, cache: LogCache, task: Task, digest: LogDigest) -> None:
    async with cache.ending(task.id, task.fence, digest, strict=False) as end:
        if end is not None:
            await database.tx(logs.close, task.id, task.fence, end)


async def state_of(database: Database, task: Task) -> str:
    return (await database.read(logs.stream, task.id, task.fence)).state


SCHEDULES = st.tuples(st.binary(min_size=1, max_size=400), st.integers(0, 2**32), st.integers(1, 60))


@drawn(st.lists(SCHEDULES, min_size=1, max_size=2), st.integers(1, 500))
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_schedule_of_sends_ends_in_the_same_bytes(
    database_url: str, streams: list[tuple[bytes, int, int]], step: int
) -> None:
    with TemporaryDirectory() as directory:
        async with open_database(database_url, pool_size=1) as database:
            await check_schedule(database, LogCache(database, Path(directory)), streams, step)


async def check_schedule(database: Database, cache: LogCache, streams: list[tuple[bytes, int, int]], step: int) -> None:
    number = await given.scalar(database, "SELECT count(*) FROM workspace")
    workspace = f"w{number}"
    await given.a_workspace(database, workspace)
    task = await given.running(database, await given.a_task(database, workspace, "plan"))
    expected = b""
    for number, (text, seed, largest) in enumerate(streams):
        if number:
            task = await given.another_assignment(database, task)
        await send_badly(cache, task, text, random.Random(seed), largest)  # noqa: S311
        expected += text
        assert await whole(cache, task, step=step) == expected
        assert await database.tx(logs.stream_length, task.id, task.fence) == len(text)
    offset = step % (len(expected) + 1)
    part = await cache.read(task.id, offset, step)
    assert (part.data, part.total) == (expected[offset : offset + step], len(expected))


async def send_badly(cache: LogCache, task: Task, text: bytes, chance: random.Random, largest: int) -> None:
    """Pieces of the text in any order, some twice, some overlapping, until the store says that it has all."""
    sent = 0
    while sent < len(text):
        at = chance.choice([sent, sent, chance.randint(0, len(text))])
        piece = text[at : at + chance.randint(0, largest)]
        try:
            after = await append(cache, task, at, piece)
        except LogRefused as error:
            refused = error
        else:
            assert after == max(sent, at + len(piece))
            sent = after
            continue
        assert at > sent
        assert (refused.code, refused.extras["next_offset"]) == ("log_gap", sent)


async def test_senders_at_once_with_the_same_bytes_store_them_once(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    text = bytes(range(256)) * 8

    async def sender(size: int) -> None:
        at = 0
        while at < len(text):
            at = await append(cache, task, at, text[at : at + size])

    async with trio.open_nursery() as nursery:
        for size in (100, 333, 2048):
            nursery.start_soon(sender, size)
    assert await whole(cache, task) == text


async def test_bytes_that_differ_from_the_stored_ones_are_refused_and_stay_out(
    database: Database, cache: LogCache
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"hello ")
    await append(cache, task, 6, b"world")
    for offset, data, conflict_at in [(0, b"hullo", 1), (4, b"o_world", 5), (6, b"worse and more", 9)]:
        with pytest.raises(LogRefused) as refused:
            await append(cache, task, offset, data)
        assert refused.value.code == "log_conflict"
        assert refused.value.extras == {"conflict_at": conflict_at, "next_offset": 11}
    assert await whole(cache, task) == b"hello world"


async def test_a_closed_log_takes_what_it_has_and_nothing_more(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"all of it")
    digest = LogDigest(length=9, sha256=sha256(b"all of it").hexdigest(), truncated_bytes=3)
    await close(database, cache, task, digest)
    assert await append(cache, task, 4, b"of") == 9
    for offset, data in [(9, b"!"), (4, b"if")]:
        with pytest.raises(LogRefused) as refused:
            await append(cache, task, offset, data)
        assert (refused.value.code, refused.value.extras["next_offset"]) == ("log_closed", 9)
    [stream] = await database.tx(logs.streams, task.id)
    assert (stream.state, stream.sha256, stream.truncated_bytes) == ("complete", digest.sha256, 3)


@pytest.mark.parametrize(
    ("said", "ends"), [(b"half and more", "incomplete"), (b"hal", "diverged"), (b"hall", "diverged")]
)
async def test_a_log_that_is_not_what_its_sender_says_tells_so(
    database: Database, cache: LogCache, said: bytes, ends: str
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"half")
    await close(database, cache, task, LogDigest(length=len(said), sha256=sha256(said).hexdigest()))
    assert await state_of(database, task) == ends
    await close(database, cache, task, LogDigest(length=4, sha256=sha256(b"half").hexdigest()))
    assert await state_of(database, task) == ends, "the first close stands"


async def test_a_log_does_not_grow_over_its_limit(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    assert await append(cache, task, 0, b"x" * 10, limit=10) == 10
    with pytest.raises(TooLarge) as refused:
        await append(cache, task, 10, b"x", limit=10)
    assert refused.value.code == "log_limit"
    assert await append(cache, task, 5, b"x" * 5, limit=10) == 10, "what is there may be said again"


async def test_the_largest_chunk_is_found_from_its_last_byte(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    big = random.Random(1).randbytes(logs.LARGEST_CHUNK)  # noqa: S311
    await append(cache, task, 0, big, limit=2 * logs.LARGEST_CHUNK)
    await append(cache, task, len(big), b"tail", limit=2 * logs.LARGEST_CHUNK)
    part = await cache.read(task.id, len(big) - 1, 3)
    assert part.data == big[-1:] + b"ta"


async def test_an_empty_chunk_is_an_ask_for_the_length(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    assert await append(cache, task, 0, b"") == 0
    await append(cache, task, 0, b"abc")
    assert await append(cache, task, 3, b"") == 3
    with pytest.raises(LogRefused):
        await append(cache, task, 4, b"")


async def test_reading_beyond_the_end_gives_nothing(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"abc")
    part = await cache.read(task.id, 10**12, 5)
    assert (part.data, part.total, part.next_offset) == (b"", 3, 10**12)
    assert (await cache.read(task.id, 1, 0)).data == b""
    assert (await cache.read(404, 0, 5)).data == b""


async def test_a_log_of_no_assignment_is_not_found(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    with pytest.raises(NotFound):
        await cache.append(task.id, task.fence + 1, 0, b"x", limit=LIMIT)
