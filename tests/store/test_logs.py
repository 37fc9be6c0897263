"""Logs in PostgreSQL against a model: whatever is lost, doubled, late or mixed up on the way, the bytes are right."""

from __future__ import annotations

import gzip
import random

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from iac.domain.records import Task
from iac.domain.work import LogDigest
from iac.errors import LogRefused, NotFound, TooLarge
from iac.store import logs
from iac.store.database import Connection, Database, open_database
from iac.store.logs import Chunk
from tests.store import given

LIMIT = 1 << 20


async def a_stream(database: Database) -> Task:
    await given.a_workspace(database)
    return await given.running(database, await given.a_task(database, "w", "plan"))


async def append(database: Database, task: Task, offset: int, data: bytes, *, limit: int = LIMIT) -> int:
    async def call(c: Connection) -> int:
        return await logs.append(c, task.id, task.fence, Chunk.of(offset, data), limit=limit)

    return await database.tx(call)


async def whole(database: Database, task: Task, *, step: int = LIMIT) -> bytes:
    data = b""
    while True:
        part = await database.tx(logs.read, task.id, len(data), step)
        if not part.data:
            return data
        data += part.data
        assert part.next_offset == len(data)


async def another_stream(database: Database, task: Task) -> Task:
    """The same task under a new assignment."""
    lost = await given.moved(database, task, given.a_loss(task))
    return await given.running(database, lost)


SCHEDULES = st.tuples(st.binary(min_size=1, max_size=400), st.integers(0, 2**32), st.integers(1, 60))


@drawn(st.lists(SCHEDULES, min_size=1, max_size=2), st.integers(1, 500))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_schedule_of_sends_ends_in_the_same_bytes(
    database_url: str, streams: list[tuple[bytes, int, int]], step: int
) -> None:
    async with open_database(database_url, pool_size=1) as database:
        await check_schedule(database, streams, step)


async def check_schedule(database: Database, streams: list[tuple[bytes, int, int]], step: int) -> None:
    number = await given.scalar(database, "SELECT count(*) FROM workspace")
    workspace = f"w{number}"
    await given.a_workspace(database, workspace)
    task = await given.running(database, await given.a_task(database, workspace, "plan"))
    expected = b""
    for number, (text, seed, largest) in enumerate(streams):
        if number:
            task = await another_stream(database, task)
        await send_badly(database, task, text, random.Random(seed), largest)  # noqa: S311
        expected += text
        assert await whole(database, task, step=step) == expected
        assert await database.tx(logs.stream_length, task.id, task.fence) == len(text)
    offset = step % (len(expected) + 1)
    part = await database.tx(logs.read, task.id, offset, step)
    assert (part.data, part.total) == (expected[offset : offset + step], len(expected))


async def send_badly(database: Database, task: Task, text: bytes, chance: random.Random, largest: int) -> None:
    """Pieces of the text in any order, some twice, some overlapping, until the store says that it has all."""
    sent = 0
    while sent < len(text):
        at = chance.choice([sent, sent, chance.randint(0, len(text))])
        piece = text[at : at + chance.randint(0, largest)]
        try:
            after = await append(database, task, at, piece)
        except LogRefused as error:
            refused = error
        else:
            assert after == max(sent, at + len(piece))
            sent = after
            continue
        assert at > sent
        assert (refused.code, refused.extras["next_offset"]) == ("log_gap", sent)


async def test_senders_at_once_with_the_same_bytes_store_them_once(database: Database) -> None:
    task = await a_stream(database)
    text = bytes(range(256)) * 8

    async def sender(size: int) -> None:
        at = 0
        while at < len(text):
            at = await append(database, task, at, text[at : at + size])

    async with trio.open_nursery() as nursery:
        for size in (100, 333, 2048):
            nursery.start_soon(sender, size)
    assert await whole(database, task) == text


async def test_bytes_that_differ_from_the_stored_ones_are_refused_and_stay_out(database: Database) -> None:
    task = await a_stream(database)
    await append(database, task, 0, b"hello ")
    await append(database, task, 6, b"world")
    for offset, data, conflict_at in [(0, b"hullo", 1), (4, b"o_world", 5), (6, b"worse and more", 9)]:
        with pytest.raises(LogRefused) as refused:
            await append(database, task, offset, data)
        assert refused.value.code == "log_conflict"
        assert refused.value.extras == {"conflict_at": conflict_at, "next_offset": 11}
    assert await whole(database, task) == b"hello world"


async def test_a_closed_log_takes_what_it_has_and_nothing_more(database: Database) -> None:
    task = await a_stream(database)
    await append(database, task, 0, b"all of it")
    await database.tx(logs.close, task.id, task.fence, LogDigest(length=9, sha256="s", truncated_bytes=3))
    assert await append(database, task, 4, b"of") == 9
    with pytest.raises(LogRefused) as refused:
        await append(database, task, 9, b"!")
    assert (refused.value.code, refused.value.extras["next_offset"]) == ("log_closed", 9)
    [stream] = await database.tx(logs.streams, task.id)
    assert (stream.state, stream.sha256, stream.truncated_bytes) == ("complete", "s", 3)


@pytest.mark.parametrize("digest", [None, LogDigest(length=99, sha256="s")])
async def test_a_log_that_is_not_all_there_says_so(database: Database, digest: LogDigest | None) -> None:
    task = await a_stream(database)
    await append(database, task, 0, b"half")
    await database.tx(logs.close, task.id, task.fence, digest)
    assert (await database.tx(logs.streams, task.id))[0].state == "incomplete"
    await database.tx(logs.close, task.id, task.fence, LogDigest(length=4, sha256="s"))
    assert (await database.tx(logs.streams, task.id))[0].state == "incomplete", "the first close stands"


async def test_a_log_does_not_grow_over_its_limit(database: Database) -> None:
    task = await a_stream(database)
    assert await append(database, task, 0, b"x" * 10, limit=10) == 10
    with pytest.raises(TooLarge) as refused:
        await append(database, task, 10, b"x", limit=10)
    assert refused.value.code == "log_limit"
    assert await append(database, task, 5, b"x" * 5, limit=10) == 10, "what is there may be said again"


async def test_the_largest_chunk_is_found_from_its_last_byte(database: Database) -> None:
    task = await a_stream(database)
    big = random.Random(1).randbytes(logs.LARGEST_CHUNK)  # noqa: S311
    await append(database, task, 0, big, limit=2 * logs.LARGEST_CHUNK)
    await append(database, task, len(big), b"tail", limit=2 * logs.LARGEST_CHUNK)
    part = await database.tx(logs.read, task.id, len(big) - 1, 3)
    assert part.data == big[-1:] + b"ta"


async def test_an_empty_chunk_is_an_ask_for_the_length(database: Database) -> None:
    task = await a_stream(database)
    assert await append(database, task, 0, b"") == 0
    await append(database, task, 0, b"abc")
    assert await append(database, task, 3, b"") == 3
    with pytest.raises(LogRefused):
        await append(database, task, 4, b"")


async def test_reading_beyond_the_end_gives_nothing(database: Database) -> None:
    task = await a_stream(database)
    await append(database, task, 0, b"abc")
    part = await database.tx(logs.read, task.id, 10**12, 5)
    assert (part.data, part.total, part.next_offset) == (b"", 3, 10**12)
    assert (await database.tx(logs.read, task.id, 1, 0)).data == b""
    assert (await database.tx(logs.read, 404, 0, 5)).data == b""


async def test_a_log_of_no_assignment_is_not_found(database: Database) -> None:
    task = await a_stream(database)
    with pytest.raises(NotFound):
        await database.tx(logs.append, task.id, task.fence + 1, Chunk.of(0, b"x"), limit=LIMIT)


async def test_chunks_are_kept_packed(database: Database) -> None:
    task = await a_stream(database)
    await append(database, task, 0, b"the same line\n" * 5000)
    stored = await given.scalar(database, "SELECT data FROM log_chunk")
    assert len(stored) < 2000
    assert gzip.decompress(stored) == b"the same line\n" * 5000
