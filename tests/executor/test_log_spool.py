"""The log's way from the raw file to the platform: each byte once, whatever happens on the way."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from iac.domain.log_transform import Transform
from iac.domain.rendering import ResourceProgress
from iac.errors import LogRefused, Unavailable
from iac.executor import log_carrier
from iac.executor.log_carrier import Carrier, open_log, unprepared
from iac.executor.log_spool import RESERVE, LogPolicy, LogSpool, Pace
from tests.executor.workbench import becomes
from tests.harness.tmpfs import fill, small_disk

SECRET = "s3cr3t-value"
LIMIT = 4 * 1024 * 1024
POLICY = LogPolicy(limit=LIMIT, interval=0.005, drain_within=20)


@dataclass
class Sink:
    """What the platform has; strict about offsets."""

    data: bytearray = field(default_factory=bytearray)
    calls: int = 0
    down: int = 0
    stages: list[str] = field(default_factory=list)
    progress: list[ResourceProgress] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    async def send(self, offset: int, data: bytes) -> int:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        if self.down:
            self.down -= 1
            raise Unavailable("away")
        assert offset == len(self.data), "neither a gap nor a repetition"
        assert len(data) <= 8 << 20
        self.data += data
        self.offsets.append(offset)
        return len(self.data)

    async def on_stage(self, stage: str) -> None:
        self.stages.append(stage)

    async def on_progress(self, events: list[ResourceProgress]) -> None:
        self.progress += events

    @property
    def carrier(self) -> Carrier:
        return Carrier(prepare=unprepared(self.send), on_stage=self.on_stage, on_progress=self.on_progress)


@asynccontextmanager
async def carried(
    path: Path, sink: Sink, *, start: int = 0, policy: LogPolicy = POLICY
) -> AsyncIterator[tuple[LogSpool, Transform]]:
    with trio.fail_after(60):
        async with open_log(path, sink.carrier, secrets=[SECRET], start=start, policy=policy) as opened:
            yield opened


def expected(raw: bytes, limit: int = LIMIT) -> bytes:
    """What a log must be: a function of the raw bytes alone."""
    transform = Transform([SECRET], limit)
    return transform.feed(raw)[0] + transform.finish()[0]


async def test_a_secret_that_comes_in_two_writes_is_never_seen(tmp_path: Path) -> None:
    sink = Sink()
    async with carried(tmp_path / "raw", sink) as (spool, _):
        os.write(spool.fd, b"token=s3cr3t")
        await becomes(lambda: sink.data == b"token=")
        os.write(spool.fd, b"-value!\n")

    assert sink.data == b"token=***!\n"


async def test_ordinary_bytes_do_not_wait_for_the_end_of_their_line(tmp_path: Path) -> None:
    sink = Sink()
    async with carried(tmp_path / "raw", sink) as (spool, _):
        os.write(spool.fd, b"Do you want to")
        await becomes(lambda: sink.data == b"Do you want to")


async def test_the_digest_is_that_of_what_was_stored(tmp_path: Path) -> None:
    sink = Sink()
    async with carried(tmp_path / "raw", sink) as (spool, transform):
        spool.begin("init")
        os.write(spool.fd, b"x" * 3_000_000)
        spool.say("done")

    assert spool.complete
    assert sink.data == expected((tmp_path / "raw").read_bytes())
    assert transform.digest.length == len(sink.data)


@pytest.mark.parametrize("stored", [0, 1, 1000, 250_000, 2_999_999])
async def test_a_log_that_is_carried_again_goes_on_where_it_was(tmp_path: Path, stored: int) -> None:
    raw = b"".join(b"line %d with s3cr3t-value in it\n" % number for number in range(100_000))[:3_000_000]
    (tmp_path / "raw").write_bytes(raw)
    whole = expected(raw)
    sink = Sink(data=bytearray(whole[:stored]))

    async with carried(tmp_path / "raw", sink, start=min(stored, len(whole))) as (spool, transform):
        pass

    assert spool.complete
    assert sink.data == whole
    assert transform.digest.length == len(whole)


async def test_what_came_late_of_a_log_that_was_carried_before_is_carried_too(tmp_path: Path) -> None:
    first = Sink()
    async with carried(tmp_path / "raw", first) as (spool, _):
        os.write(spool.fd, b"before the crash\n")
    second = Sink(data=first.data)

    async with carried(tmp_path / "raw", second, start=len(first.data)) as (spool, _):
        spool.say("collected")

    assert second.data == b"before the crash\n[iac] collected\n"


async def test_an_abandoned_log_is_not_brought_to_an_end(tmp_path: Path) -> None:
    half = b'{"@level":"info","@message":"half'
    sink = Sink()
    async with carried(tmp_path / "raw", sink) as (spool, _):
        os.write(spool.fd, b"whole\n" + half)
        await becomes(lambda: sink.data == b"whole\n")
        spool.abandon()
    assert (bytes(sink.data), spool.complete) == (b"whole\n", False)

    # Whoever wrote it finished the line meanwhile: now it is one.
    with (tmp_path / "raw").open("ab") as raw:
        raw.write(b' a line","type":"log"}\n')
    async with carried(tmp_path / "raw", sink, start=len(sink.data)) as (spool, _):
        pass

    assert sink.data == b"whole\nhalf a line\n"


async def test_an_outage_costs_time_and_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_carrier, "RETRY_FIRST", 0.001)
    reads: list[int] = []
    read = os.pread

    def counting(fd: int, size: int, offset: int) -> bytes:
        if size > 1:
            reads.append(offset)
        return read(fd, size, offset)

    monkeypatch.setattr(os, "pread", counting)
    sink, chunk = Sink(down=8), 64 * 1024
    policy = LogPolicy(limit=LIMIT, drain_within=20, pace=Pace(chunk=chunk, interval=0.005))
    async with carried(tmp_path / "raw", sink, policy=policy) as (spool, _):
        os.write(spool.fd, b"x" * 3_900_000)
        await becomes(lambda: sink.down == 0)
        # While nobody takes them, only a few chunks were read ahead.
        assert max(reads) <= log_carrier.AHEAD * chunk + log_carrier.READ

    assert len(sink.data) == 3_900_000


async def test_a_refusal_for_good_ends_the_carriage_and_not_the_body(tmp_path: Path) -> None:
    sink = Sink()

    async def refuse(_offset: int, _data: bytes) -> int:
        sink.calls += 1
        raise LogRefused("closed", code="log_closed")

    carrier = Carrier(prepare=unprepared(refuse), on_stage=sink.on_stage, on_progress=sink.on_progress)
    async with open_log(tmp_path / "raw", carrier, secrets=[], start=0, policy=POLICY) as (spool, _):
        os.write(spool.fd, b"x\n")
        await becomes(lambda: sink.calls == 1)
        await trio.lowlevel.checkpoint()

    assert not spool.complete


async def test_a_drain_that_takes_too_long_is_given_up_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink(down=10**6)
    async with carried(tmp_path / "raw", sink, policy=LogPolicy(limit=LIMIT, drain_within=0.2)) as (spool, _):
        os.write(spool.fd, b"x\n")

    assert not spool.complete
    assert "a task's log is not complete" in caplog.text


async def test_a_log_that_is_too_long_keeps_its_head_and_its_tail(tmp_path: Path) -> None:
    sink = Sink()
    async with carried(tmp_path / "raw", sink) as (spool, transform):
        for number in range(6 * 1024):
            os.write(spool.fd, b"%07d" % number + b"x" * 1016 + b"\n")

    assert len(sink.data) <= LIMIT
    assert sink.data.startswith(b"0000000x")
    assert sink.data.endswith(b"0006143" + b"x" * 1016 + b"\n")
    assert b"[iac: " in sink.data
    assert transform.digest.truncated_bytes == 6 * 1024 * 1024 - (len(sink.data) - len(_marker(bytes(sink.data))))


def _marker(data: bytes) -> bytes:
    start = data.index(b"[iac: ")
    return data[start : data.index(b"\n", start) + 1]


async def test_progress_is_told_and_rendered_once(tmp_path: Path) -> None:
    sink = Sink()
    line = (
        b'{"@level":"info","@message":"a: Creating...","@module":"terraform.ui","hook":{"resource":{"addr":"a"},'
        b'"action":"create"},"type":"apply_start"}\n'
    )
    async with carried(tmp_path / "raw", sink) as (spool, _):
        os.write(spool.fd, line[:40])
        os.write(spool.fd, line[40:])

    assert [(event.address, event.status) for event in sink.progress] == [("a", "started")]
    assert b"Creating..." in sink.data
    assert b"@level" not in sink.data


def test_a_mark_begins_a_line_of_its_own(tmp_path: Path) -> None:
    spool = LogSpool(tmp_path / "raw")
    os.write(spool.fd, b"no newline")
    spool.begin("init")
    os.write(spool.fd, b"neither here")
    spool.say("told")
    spool.close()
    spool.release()

    lines = (tmp_path / "raw").read_text().splitlines()
    assert [line for line in lines if "stage" not in line] == ["no newline", "neither here", "[iac] told"]
    assert [("begin" in line, "end" in line) for line in lines if "stage" in line] == [(True, False), (False, True)]


def test_a_full_disk_leaves_room_for_the_log(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=3 * RESERVE // 1024) as disk:
        spool = LogSpool(disk / "raw")
        fill(disk)
        assert os.fstat(spool.fd).st_size == 0

        for _ in range(RESERVE // 65536):
            assert os.write(spool.fd, b"x" * 65536) == 65536
        spool.release()


def test_the_room_moves_along_with_the_log(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=4 * RESERVE // 1024) as disk:
        spool = LogSpool(disk / "raw")
        os.write(spool.fd, b"x" * RESERVE)
        spool.reserve(RESERVE)
        fill(disk)

        assert os.write(spool.fd, b"x" * (RESERVE // 2)) == RESERVE // 2
        spool.release()


def test_a_disk_that_is_full_already_does_not_stop_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        spool = LogSpool(disk / "raw")
        fill(disk)
        spool.say("x" * 70_000)
        spool.release()

    assert "no room could be reserved" in caplog.text
    assert "was not written" in caplog.text
