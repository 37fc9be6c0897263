"""How much of a log gathers before it is sent, on a mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio.testing

from iac.domain.log_transform import Transform
from iac.domain.rendering import ResourceProgress
from iac.errors import Fenced, StorageFull, Unavailable
from iac.executor.log_carrier import Carrier, open_log, unprepared
from iac.executor.log_spool import LogPolicy, LogSpool, Pace


@dataclass
class Platform:
    """What arrived, and when."""

    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    async def send(self, offset: int, data: bytes) -> int:
        if self.errors:
            raise self.errors.pop(0)
        self.chunks.append((trio.current_time(), data))
        return offset + len(data)

    async def stage(self, stage: str) -> None:
        await trio.lowlevel.checkpoint()

    async def progress(self, entries: list[ResourceProgress]) -> None:
        await trio.lowlevel.checkpoint()

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.chunks]


@asynccontextmanager
async def a_log(tmp_path: Path, platform: Platform, pace: Pace) -> AsyncIterator[tuple[LogSpool, Transform]]:
    carrier = Carrier(prepare=unprepared(platform.send), on_stage=platform.stage, on_progress=platform.progress)
    policy = LogPolicy(limit=10**9, pace=pace)
    async with open_log(tmp_path / "raw.log", carrier, secrets=(), start=0, policy=policy) as opened:
        yield opened


async def test_lines_go_together_when_the_oldest_is_old_enough(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    platform = Platform()
    async with a_log(tmp_path, platform, Pace(interval=30)) as (spool, _):
        began = trio.current_time()
        for number in range(50):
            spool.say(f"line {number}")
            await trio.sleep(1)
    assert len(platform.chunks) == 2
    assert 30 <= platform.times[0] - began <= 30.1
    assert spool.complete


async def test_a_flush_does_not_wait_for_the_interval(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    platform = Platform()
    async with a_log(tmp_path, platform, Pace(interval=300)) as (spool, _):
        spool.say("one")
        await trio.sleep(1)
        spool.say("two")
        await trio.sleep(10)
        assert platform.chunks == []
        assert (spool.length, spool.stored) == (len("[iac] one\n[iac] two\n"), 0)
        asked = trio.current_time()
        spool.flush()
        await trio.sleep(1)
        assert platform.times[0] - asked < 0.2
        assert spool.stored == spool.length
        spool.begin("planning")
        await trio.sleep(1)
        assert len(platform.chunks) == 2, "a new stage is told at once"


async def test_a_shorter_interval_holds_from_now_on(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    platform, pace = Platform(), Pace(interval=300)
    async with a_log(tmp_path, platform, pace) as (spool, _):
        spool.say("one")
        await trio.sleep(5)
        spool.say("two")
        spool.interval = 1.0
        await trio.sleep(0.2)
        assert len(platform.chunks) == 1
        spool.interval = None
        pace.interval = 2.0
        spool.say("three")
        await trio.sleep(1)
        assert len(platform.chunks) == 1
        await trio.sleep(1.2)
        assert len(platform.chunks) == 2


async def test_a_full_chunk_does_not_wait(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    platform = Platform()
    async with a_log(tmp_path, platform, Pace(chunk=1000, interval=300)) as (spool, _):
        spool.say("one")
        await trio.sleep(1)
        assert platform.chunks == []
        spool.say("x" * 2000)
        await trio.sleep(0.2)
        assert [len(data) for _, data in platform.chunks] == [1000, 1000]


async def test_what_passes_is_tried_again_and_what_does_not_is_remembered(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    platform = Platform(errors=[Unavailable("x"), StorageFull("x"), Unavailable("x")])
    async with a_log(tmp_path, platform, Pace()) as (spool, _):
        spool.say("one")
        await trio.sleep(60)
        assert [data for _, data in platform.chunks] == [b"[iac] one\n"]
        platform.errors = [Fenced("taken away")]
        spool.say("two")
        await trio.sleep(60)
    assert isinstance(spool.refused, Fenced)
    assert not spool.complete
