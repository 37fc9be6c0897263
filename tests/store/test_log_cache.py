"""The disk cache against a model: after any schedule of sends and any crash, the log is a prefix of what was sent, and holds
everything that was acknowledged.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from iac.domain.records import Task
from iac.errors import LogRefused, StorageFull, Unavailable
from iac.store import logs
from iac.store.database import Database, open_database
from iac.store.log_cache import LogCache
from tests.harness.thoroughness import examples
from tests.harness.tmpfs import fill, small_disk
from tests.store import given
from tests.store.log_scenes import a_stream, append, close, persisted, row_of, said, whole

TEXT = os.urandom(400)
Death = Literal["before the commit", "after the commit"]


class Crash(Exception):
    """The server is gone at this point."""


class DyingDatabase:
    """The database as a server sees it that dies at its next commit: just before, or before it hears of it."""

    def __init__(self, database: Database, death: Death) -> None:
        self.read = database.read
        self._single = database.single
        self._death = death

    async def single(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        if function is logs.grow:
            if self._death == "after the commit":
                await self._single(function, *args)
            raise Crash
        return await self._single(function, *args)


class Send(msgspec.Struct, frozen=True):
    """A chunk of the text from `at`, measured from what is acknowledged; one of its bytes is flipped if `flips`."""

    at: int
    size: int
    flips: int | None
    durable: bool


class Die(msgspec.Struct, frozen=True):
    """A chunk that the server does not survive. `torn`: how much of it is on the disk, in 256ths."""

    size: int
    death: Death
    torn: int


class Restart(msgspec.Struct, frozen=True): ...


class Persist(msgspec.Struct, frozen=True): ...


class LoseFile(msgspec.Struct, frozen=True):
    """Somebody cuts the stream's file behind the server's back, while it is down. In 256ths of its length."""

    left: int


class Sender:
    """An honest sender of TEXT, and all that it knows."""

    def __init__(self, database: Database, directory: Path, task: Task) -> None:
        self.database, self.directory, self.task = database, directory, task
        self.cache = LogCache(database, directory)
        self.acknowledged = 0

    @property
    def key(self) -> tuple[int, int]:
        return self.task.id, self.task.fence

    async def file(self) -> Path:
        return self.cache.bytes.path(await row_of(self.database, self.task))

    async def perform(self, step: Send | Die | Restart | Persist | LoseFile) -> None:
        match step:
            case Send():
                await self.send(step)
            case Die():
                await self.die(step)
            case Restart():
                self.cache = LogCache(self.database, self.directory)
            case Persist():
                await persisted(self.database, self.cache)
            case LoseFile():
                await self.lose(step)

    async def send(self, step: Send) -> None:
        at = min(max(0, self.acknowledged + step.at), len(TEXT))
        data = bytearray(TEXT[at : at + step.size])
        flips = None if step.flips is None or not data else step.flips % len(data)
        if flips is not None:
            if at + flips >= self.acknowledged:
                return  # a checksum stops such a chunk before it comes here
            data[flips] ^= 1
        append_it = partial(self.cache.append, *self.key, at, bytes(data), limit=len(TEXT), durable=step.durable)
        if at > self.acknowledged:
            with pytest.raises(LogRefused) as refused:
                await append_it()
            assert (refused.value.code, refused.value.extras["next_offset"]) == ("log_gap", self.acknowledged)
        elif flips is not None:
            with pytest.raises(LogRefused) as refused:
                await append_it()
            assert (refused.value.code, refused.value.extras["conflict_at"]) == ("log_conflict", at + flips)
        else:
            after = await append_it()
            assert after == max(self.acknowledged, at + len(data))
            self.acknowledged = after

    async def die(self, step: Die) -> None:
        data = TEXT[self.acknowledged : self.acknowledged + step.size]
        dying: Any = DyingDatabase(self.database, step.death)
        try:
            await LogCache(dying, self.directory).append(*self.key, self.acknowledged, data, limit=len(TEXT))
        except Crash:
            file = await self.file()
            if step.death == "before the commit":
                os.truncate(file, self.acknowledged + len(data) * step.torn // 256)
            else:
                self.acknowledged += len(data)
        self.cache = LogCache(self.database, self.directory)

    async def lose(self, step: LoseFile) -> None:
        file = await self.file()
        if not file.exists():
            return
        left = file.stat().st_size * step.left // 256
        os.truncate(file, left)
        self.acknowledged = max((await row_of(self.database, self.task)).persisted, min(left, self.acknowledged))
        self.cache = LogCache(self.database, self.directory)


STEPS = st.one_of(
    st.builds(
        Send,
        at=st.sampled_from([0, 0, 0]) | st.integers(-60, 60),
        size=st.integers(0, 90),
        flips=st.none() | st.integers(0, 90),
        durable=st.booleans(),
    ),
    st.builds(
        Die,
        size=st.integers(1, 90),
        death=st.sampled_from(["before the commit", "after the commit"]),
        torn=st.integers(0, 256),
    ),
    st.builds(Restart),
    st.builds(Persist),
    st.builds(LoseFile, left=st.integers(0, 256)),
)


@drawn(st.lists(STEPS, max_size=15))
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_after_any_schedule_and_any_crash_the_log_is_what_was_acknowledged(
    database_url: str, steps: list[Send | Die | Restart | Persist | LoseFile]
) -> None:
    with TemporaryDirectory() as directory:
        async with open_database(database_url, pool_size=2) as database:
            number = await given.scalar(database, "SELECT count(*) FROM workspace")
            sender = Sender(database, Path(directory), await a_stream(database, f"w{number}"))
            for step in steps:
                await sender.perform(step)
                assert await whole(sender.cache, sender.task) == TEXT[: sender.acknowledged]
            await all_arrives(database, sender)


async def all_arrives(database: Database, sender: Sender) -> None:
    """Whatever was, an honest sender gets all of its log through, and it is complete in every place."""
    await sender.send(Send(at=0, size=len(TEXT), flips=None, durable=True))
    await close(database, sender.cache, sender.task, said(TEXT), strict=True)
    await persisted(database, sender.cache)
    row = await row_of(database, sender.task)
    assert (row.state, row.verified, row.length) == ("complete", True, len(TEXT))
    assert (await sender.file()).read_bytes() == TEXT
    assert await whole(LogCache(database, Path("/nowhere")), sender.task) == TEXT


@pytest.fixture
def cache(database: Database, tmp_path: Path) -> LogCache:
    return LogCache(database, tmp_path / "logs")


async def test_the_file_lies_by_day_and_task_and_has_the_bytes_as_they_are(
    database: Database, cache: LogCache, tmp_path: Path
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"\x00\xff\n")
    day = (await row_of(database, task)).created_at.date().isoformat()
    file = tmp_path / "logs" / day / f"{task.id % 256:02x}" / f"{task.id}-{task.fence}.log"
    assert file.read_bytes() == b"\x00\xff\n"
    assert file.stat().st_mode & 0o777 == 0o600


async def test_bytes_behind_the_committed_length_are_neither_read_nor_kept(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"acknowledged")
    file = cache.bytes.path(await row_of(database, task))
    with file.open("ab") as stranger:
        stranger.write(b" and not")
    again = LogCache(database, cache.bytes.directory)
    assert await whole(again, task) == b"acknowledged"
    await append(again, task, 12, b".")
    assert file.read_bytes() == b"acknowledged."


async def test_a_lost_data_directory_is_told_and_an_open_log_goes_on_from_what_is_left(
    database: Database, cache: LogCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"in the database, ")
    await persisted(database, cache)
    await append(cache, task, 17, b"on the disk only")
    elsewhere = LogCache(database, tmp_path / "new")
    with pytest.raises(LogRefused) as refused:
        await append(elsewhere, task, 33, b"!")
    assert (refused.value.code, refused.value.extras["next_offset"]) == ("log_gap", 17)
    assert "missing on this server's disk" in caplog.text
    await append(elsewhere, task, 17, b"on the disk only!")
    await close(database, elsewhere, task, said(b"in the database, on the disk only!"), strict=True)
    assert await whole(elsewhere, task) == b"in the database, on the disk only!"


async def test_more_streams_than_are_remembered_are_found_again(database: Database, tmp_path: Path) -> None:
    cache = LogCache(database, tmp_path / "logs", most_known=2)
    streams = [await a_stream(database, f"w{number}") for number in range(5)]
    open_files = len(os.listdir("/proc/self/fd"))
    for turn in range(3):
        for task in streams:
            await append(cache, task, turn, b"x")
    assert len(os.listdir("/proc/self/fd")) == open_files
    for task in streams:
        await close(database, cache, task, said(b"xxx"), strict=True)
        assert (await row_of(database, task)).state == "complete"


async def test_a_file_that_goes_away_under_a_running_server_is_noticed_at_the_next_append(
    database: Database, cache: LogCache, caplog: pytest.LogCaptureFixture
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"persisted, ")
    await persisted(database, cache)
    await append(cache, task, 11, b"not persisted")
    file = cache.bytes.path(await row_of(database, task))
    file.unlink()
    with pytest.raises(LogRefused) as refused:
        await append(cache, task, 24, b"!")
    assert (refused.value.code, refused.value.extras["next_offset"]) == ("log_gap", 11)
    await append(cache, task, 11, b"not persisted")
    file.unlink()
    assert await append(cache, task, 11, b"not") == 14, "what cannot be compared is not there"
    file.write_bytes(b"persisted, ")
    assert "missing on this server's disk" in caplog.text
    await append(cache, task, 11, b"not persisted!")
    assert file.read_bytes() == b"persisted, not persisted!"
    file.unlink()
    with pytest.raises(Unavailable):
        await close(database, cache, task, said(b"persisted, not persisted!"), strict=True)
    with pytest.raises(LogRefused) as refused:
        await close(database, cache, task, said(b"persisted, not persisted!"), strict=True)
    assert (refused.value.code, refused.value.extras["next_offset"]) == ("log_incomplete", 11)


async def test_a_digest_is_right_whether_this_server_saw_all_of_the_log_or_not(
    database: Database, cache: LogCache
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"first ")
    again = LogCache(database, cache.bytes.directory)
    await append(again, task, 6, b"second")
    await close(database, again, task, said(b"first second"), strict=True)
    assert (await row_of(database, task)).state == "complete"


async def test_a_sender_that_can_look_again_is_told_what_is_missing_and_once_what_differs(
    database: Database, cache: LogCache, caplog: pytest.LogCaptureFixture
) -> None:
    task = await a_stream(database)
    stored = b"a" * (1 << 20) + b"stored"
    await append(cache, task, 0, stored)
    with pytest.raises(LogRefused) as refused:
        await close(database, cache, task, said(stored + b"?"), strict=True)
    assert (refused.value.code, refused.value.extras["next_offset"]) == ("log_incomplete", len(stored))
    other = stored[:-6] + b"meant!"
    with pytest.raises(LogRefused) as refused:
        await close(database, cache, task, said(other), strict=True)
    assert refused.value.code == "log_mismatch"
    blocks = [said(stored[: 1 << 20]).sha256, said(b"stored").sha256]
    assert refused.value.extras["blocks"] == blocks
    await close(database, cache, task, said(other), strict=True)
    assert (await row_of(database, task)).state == "diverged"
    assert "not what its sender says" in caplog.text


async def test_nothing_is_appended_while_a_log_is_being_closed(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"all")
    refused: list[str] = []

    async def late() -> None:
        with pytest.raises(LogRefused) as error:
            await append(cache, task, 3, b", and more")
        refused.append(error.value.code)

    async with trio.open_nursery() as nursery:
        async with cache.ending(task.id, task.fence, said(b"all"), strict=True) as end:
            assert end is not None
            nursery.start_soon(late)
            await trio.testing.wait_all_tasks_blocked()
            await database.tx(logs.close, task.id, task.fence, end)
    assert refused == ["log_closed"]
    assert (await row_of(database, task)).state == "complete"


async def test_an_append_to_a_row_that_others_have_changed_is_decided_anew(
    database: Database, cache: LogCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"abc")
    await persisted(database, cache)
    await append(LogCache(database, tmp_path / "another server's"), task, 3, b"def")
    # What the other one acknowledged is not here: that is told, and the sender's bytes take its place.
    assert await append(cache, task, 3, b"xyz") == 6
    assert "missing on this server's disk" in caplog.text
    assert await whole(cache, task) == b"abcxyz"
    await given.another_assignment(database, task)
    with pytest.raises(LogRefused) as refused:
        await append(cache, task, 6, b"!")
    assert refused.value.code == "log_closed"


async def test_an_end_that_is_not_true_any_more_is_not_written(database: Database, cache: LogCache) -> None:
    task = await a_stream(database)
    await append(cache, task, 0, b"all")
    async with cache.ending(task.id, task.fence, said(b"all"), strict=True) as end:
        assert end is not None
        assert await database.single(logs.grow, task.id, task.fence, 3, 4)  # by somebody who has not asked for the lock
        await database.tx(logs.close, task.id, task.fence, end)
    assert (await row_of(database, task)).state == "open"


async def test_a_full_disk_acknowledges_nothing_and_spoils_nothing(database: Database, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=256) as disk:
        cache = LogCache(database, disk / "logs")
        task = await a_stream(database)
        await append(cache, task, 0, b"before")
        fill(disk)
        with pytest.raises(StorageFull):
            await append(cache, task, 6, b"x" * 8192)
        assert (await row_of(database, task)).length == 6
        assert cache.bytes.path(await row_of(database, task)).read_bytes() == b"before"
        (disk / "filler").unlink()
        await append(cache, task, 6, b" after")
        await close(database, cache, task, said(b"before after"), strict=True)
        assert (await row_of(database, task)).state == "complete"
