"""A log on its way while the platform is slow, forgetful, or of another opinion."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from iac.domain.log_transform import Transform
from iac.domain.logs import first_difference
from iac.errors import BadRequest, IacError, LogRefused, Unavailable
from iac.executor.log_carrier import AHEAD, Carrier, Post, open_log
from iac.executor.log_spool import LogPolicy, LogSpool, Pace
from tests.executor.workbench import becomes

LINE = b"a line of sixty-four bytes with a s3cr3t-value in the middle ...\n"
CHUNK = 64 * 1024


@dataclass
class Platform:
    """Appends as the server does. `gate` holds every answer back."""

    data: bytearray = field(default_factory=bytearray)
    gate: trio.Event = field(default_factory=trio.Event)
    errors: list[IacError] = field(default_factory=list)
    sent: list[tuple[float, int, int]] = field(default_factory=list)
    packed: list[int] = field(default_factory=list)
    loses: list[int] = field(default_factory=list)
    """Before the next chunks are taken, it is cut to these lengths."""

    async def prepare(self, offset: int, data: bytes) -> Post:
        self.packed.append(offset)
        return partial(self.post, offset, data)

    async def post(self, offset: int, data: bytes) -> int:
        self.sent.append((trio.current_time(), offset, len(data)))
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.loses and len(self.data) >= 4 * CHUNK:
            del self.data[self.loses.pop(0) :]
        if offset > len(self.data):
            raise LogRefused("gap", code="log_gap", next_offset=len(self.data))
        have = self.data[offset : offset + len(data)]
        at = first_difference(bytes(have), data[: len(have)])
        if at is not None:
            raise LogRefused("other", code="log_conflict", conflict_at=offset + at, next_offset=len(self.data))
        self.data += data[len(have) :]
        return len(self.data)

    async def nobody(self, told: object) -> None:
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def carrying(self, path: Path, *, interval: float = 0.01) -> AsyncIterator[tuple[LogSpool, Transform]]:
        carrier = Carrier(prepare=self.prepare, on_stage=self.nobody, on_progress=self.nobody)
        policy = LogPolicy(limit=10**9, drain_within=60, pace=Pace(chunk=CHUNK, interval=interval))
        async with open_log(path, carrier, secrets=["s3cr3t-value"], start=0, policy=policy) as opened:
            yield opened


def masked(raw: bytes) -> bytes:
    return raw.replace(b"s3cr3t-value", b"***")


async def test_the_file_is_read_and_packed_while_a_chunk_is_on_its_way(tmp_path: Path) -> None:
    platform = Platform()
    async with platform.carrying(tmp_path / "raw") as (spool, _):
        os.write(spool.fd, LINE * 4000)
        with trio.fail_after(20):
            await becomes(lambda: len(platform.packed) == 2 and spool.length >= AHEAD * CHUNK)
        assert len(platform.sent) == 1, "one request at a time"
        assert spool.recent.end == spool.length, "whoever watches sees what is not sent yet"
        platform.gate.set()
    assert spool.complete
    assert platform.data == masked(LINE * 4000)


@pytest.mark.parametrize("left", [0, 1, 3 * CHUNK + 5])
async def test_a_platform_that_lost_what_it_had_gets_it_again(tmp_path: Path, left: int) -> None:
    platform = Platform(loses=[left])
    platform.gate.set()
    async with platform.carrying(tmp_path / "raw") as (spool, transform):
        os.write(spool.fd, LINE * 10_000)
    assert spool.complete
    assert not spool.diverged
    assert platform.data == masked(LINE * 10_000)
    assert transform.digest.length == len(platform.data)


async def test_a_platform_that_loses_it_twice_gets_it_twice(tmp_path: Path) -> None:
    platform = Platform(loses=[3 * CHUNK, CHUNK, 0, 17])
    platform.gate.set()
    async with platform.carrying(tmp_path / "raw") as (spool, _):
        os.write(spool.fd, LINE * 12_000)
    assert platform.data == masked(LINE * 12_000)


async def test_the_platform_s_bytes_win(tmp_path: Path) -> None:
    other = b"quite another beginning\n" * 100
    platform = Platform(data=bytearray(other))
    platform.gate.set()
    async with platform.carrying(tmp_path / "raw") as (spool, _):
        os.write(spool.fd, LINE * 1000)
    assert (spool.complete, spool.diverged) == (True, True)
    assert platform.data == other + masked(LINE * 1000)[len(other) :]


async def test_a_chunk_that_was_hurt_on_the_way_is_sent_again(tmp_path: Path) -> None:
    platform = Platform(errors=[BadRequest("x", code="checksum_mismatch")])
    platform.gate.set()
    async with platform.carrying(tmp_path / "raw") as (spool, _):
        os.write(spool.fd, LINE)
    assert platform.data == masked(LINE)


async def test_a_busy_platform_is_left_alone_for_as_long_as_it_wants(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    platform = Platform(errors=[Unavailable("busy", retry_after_s=7.0)])
    platform.gate.set()
    async with platform.carrying(tmp_path / "raw", interval=0.1) as (spool, _):
        os.write(spool.fd, LINE)
        await trio.sleep(20)
    first, second = (at for at, _, _ in platform.sent)
    assert 7.0 <= second - first <= 8.0


async def test_people_who_cannot_be_told_do_not_hold_up_the_log(tmp_path: Path) -> None:
    platform = Platform()
    platform.gate.set()
    asked, forever = trio.Event(), trio.Event()

    async def stuck(stage: str) -> None:
        asked.set()
        await forever.wait()

    carrier = Carrier(prepare=platform.prepare, on_stage=stuck, on_progress=platform.nobody)
    policy = LogPolicy(limit=10**9, interval=0.01)
    async with open_log(tmp_path / "raw", carrier, secrets=[], start=0, policy=policy) as (spool, _):
        spool.begin("applying")
        await asked.wait()
        os.write(spool.fd, LINE)
        await becomes(lambda: platform.data.endswith(LINE))
        forever.set()
    assert spool.complete


async def test_on_a_slow_link_chunks_become_smaller_until_they_arrive(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    platform, sizes = Platform(), list[int]()
    platform.gate.set()

    async def prepare(offset: int, data: bytes) -> Post:
        async def post() -> int:
            sizes.append(len(data))
            await trio.sleep(len(data) / 4000)
            if len(data) > 200_000:  # the server waited long enough
                raise Unavailable("cut")
            return await platform.post(offset, data)

        return post

    carrier = Carrier(prepare=prepare, on_stage=platform.nobody, on_progress=platform.nobody)
    policy = LogPolicy(limit=10**9, drain_within=3600, pace=Pace(chunk=16 * CHUNK, interval=10))
    async with open_log(tmp_path / "raw", carrier, secrets=[], start=0, policy=policy) as (spool, _):
        for _ in range(20):
            os.write(spool.fd, LINE * 900)  # so little that it needs no thread, which a mock clock knows nothing of
            await trio.sleep(0.2)
        await trio.sleep(1000)
    assert platform.data == LINE * 18_000
    assert sizes[0] > 200_000
    assert max(sizes[-4:-1]) <= 100_000
