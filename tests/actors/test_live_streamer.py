"""Who tells a log live: only while it is watched, never too much, and behind everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import trio
import trio.testing

from iac.actors.connection import QUEUED_LIVE, Line, LiveLane
from iac.actors.live_streamer import Budget, LiveStreamer, Unbounded
from iac.domain.live import FRAME, TASK
from iac.domain.messages import FlushLogs, FromAgent, LiveLog, LiveSubscribe, LiveUnsubscribe
from iac.executor.log_spool import RECENT, LogSpool
from tests.domain.test_live import Quick


@dataclass
class Bench:
    """A streamer over the log of assignment 7."""

    spool: LogSpool
    budget: Budget = field(default_factory=Unbounded)
    told: list[tuple[float, LiveLog]] = field(default_factory=list)
    is_full: bool = False

    def __post_init__(self) -> None:
        self.streamer = LiveStreamer(lambda fence: self.spool if fence == 7 else None, self.post, self.budget)

    def post(self, frame: LiveLog) -> bool:
        if not self.is_full:
            self.told.append((trio.current_time(), frame))
        return not self.is_full

    def grows(self, data: bytes) -> None:
        self.spool.recent.put(self.spool.recent.end, data)

    def watch(self, offset: int = 0, ttl: float = 30.0) -> None:
        self.streamer.hear(LiveSubscribe(task_id=1, fence=7, from_offset=offset, ttl_s=ttl))

    @property
    def shown(self) -> bytes:
        """All of it, which must be without a gap."""
        frames = [frame for _, frame in self.told]
        for one, two in pairwise(frames):
            assert one.offset + len(one.data) == two.offset
        return b"".join(frame.data for frame in frames)


@asynccontextmanager
async def streaming(tmp_path: Path, budget: Budget | None = None) -> AsyncIterator[Bench]:
    bench = Bench(LogSpool(tmp_path / "raw"), budget or Unbounded())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.streamer.run)
        yield bench
        nursery.cancel_scope.cancel()
    bench.spool.release()


async def test_nothing_is_told_of_a_log_that_nobody_watches(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with streaming(tmp_path) as bench:
        bench.grows(b"unwatched")
        await trio.sleep(5)
        assert not bench.told
        bench.watch()
        await trio.sleep(1)
        assert bench.shown == b"unwatched", "what is still in memory comes first"
        bench.streamer.hear(LiveUnsubscribe(task_id=1, fence=7))
        bench.grows(b" again")
        await trio.sleep(5)
        assert bench.shown == b"unwatched"


async def test_a_line_is_told_within_a_tenth_of_a_second(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with streaming(tmp_path) as bench:
        bench.watch()
        for number in range(20):
            await trio.sleep(0.77)
            before = trio.current_time()
            bench.grows(b"line %d\n" % number)
            await trio.sleep(0.11)
            assert bench.shown.endswith(b"line %d\n" % number)
            assert bench.told[-1][0] - before <= 0.101


async def test_a_server_that_does_not_ask_again_is_told_nothing_more(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with streaming(tmp_path) as bench:
        bench.watch()
        await trio.sleep(20)
        bench.watch()
        await trio.sleep(20)
        bench.grows(b"still")
        await trio.sleep(15)
        bench.grows(b" gone")
        await trio.sleep(5)
        assert bench.shown == b"still"


async def test_the_server_says_from_where_on(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with streaming(tmp_path) as bench:
        bench.grows(b"x" * (RECENT + 100))
        bench.watch(RECENT + 90)
        await trio.sleep(1)
        assert bench.shown == b"x" * 10
        bench.told.clear()
        bench.watch(0)
        await trio.sleep(1)
        assert bench.told[0][1].offset == 100, "from where it is still in memory"
        assert len(bench.shown) == RECENT
        assert max(len(frame.data) for _, frame in bench.told) == FRAME


async def test_what_there_is_no_room_for_is_told_when_there_is(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with streaming(tmp_path) as bench:
        bench.watch()
        bench.is_full = True
        bench.grows(b"first")
        await trio.sleep(1)
        bench.grows(b" second")
        bench.is_full = False
        await trio.sleep(1)
        assert bench.shown == b"first second"


async def test_a_flood_is_told_at_its_rate_and_leaves_gaps(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with streaming(tmp_path, Quick()) as bench:
        bench.watch()
        for _ in range(100):
            bench.grows(b"x" * 200_000)
            await trio.sleep(0.1)
        told = sum(len(frame.data) for _, frame in bench.told)
        assert told <= TASK.burst + TASK.per_second * 10
        offsets = [frame.offset for _, frame in bench.told]
        assert offsets == sorted(offsets)
        assert offsets[-1] > told, "it keeps up with the newest bytes"


async def test_a_flush_reaches_the_spool(tmp_path: Path) -> None:
    async with streaming(tmp_path) as bench:
        bench.streamer.hear(FlushLogs(task_id=1, fence=7))
        bench.streamer.hear(FlushLogs(task_id=1, fence=8))
        assert bench.spool.flushes == 1


# The lane behind the others


FRAME_OF_LOG = LiveLog(task_id=1, fence=7, offset=0, data=b"x")


def test_a_lane_takes_so_many_and_drops_the_rest() -> None:
    lane = LiveLane()
    assert all(lane.put(FRAME_OF_LOG) for _ in range(QUEUED_LIVE))
    assert not lane.put(FRAME_OF_LOG)
    lane.take()
    assert lane.put(FRAME_OF_LOG)


def test_a_line_that_is_down_shows_nothing_and_forgets_what_waited() -> None:
    line = Line()
    assert not line.show(FRAME_OF_LOG)
    outbox, _outgoing = trio.open_memory_channel[FromAgent](1)
    line.connected(outbox, trio.CancelScope())
    assert line.show(FRAME_OF_LOG)
    line.disconnected()
    assert line.live.take() is None
