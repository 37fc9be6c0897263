"""An agent's disk that must not fill up with logs: what goes, what is told of it, and that nothing else changes."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from iac.actors.spool_room import SpoolRoom
from iac.domain.log_transform import Reading, Transform
from iac.errors import LogRefused, Unavailable
from iac.executor import log_carrier
from iac.executor.log_carrier import Carrier, open_log, unprepared
from iac.executor.log_disk import allocated
from iac.executor.log_spool import LogPolicy, LogSpool, Pace
from tests.executor.workbench import becomes

MIB = 1024 * 1024
LINE = b"%08d a line of a log that has a secret     in it, and is as long as others are....\n"
TELLING = b"%08d a line of a log that has a s3cr3t-value in it, and is as long as others are...\n"
SECRET = "s3cr3t-value"
QUOTA = 20 * MIB


def lines(first: int, count: int) -> bytes:
    return b"".join((LINE if number % 100 else TELLING) % number for number in range(first, first + count))


async def nobody(told: object) -> None: ...


class Platform:
    def __init__(self) -> None:
        self.data, self.is_up = bytearray(), False

    async def send(self, offset: int, data: bytes) -> int:
        await trio.lowlevel.checkpoint()
        if not self.is_up:
            raise Unavailable("away")
        assert offset == len(self.data)
        self.data += data
        return len(self.data)

    @property
    def carrier(self) -> Carrier:
        return Carrier(prepare=unprepared(self.send), on_stage=nobody, on_progress=nobody)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_carrier, "RETRY_MOST", 0.05)


def a_raw_log(tmp_path: Path) -> Path:
    place = tmp_path / "tasks" / "1-7"
    place.mkdir(parents=True)
    return place / "raw.log"


POLICY = LogPolicy(limit=10**9, drain_within=60, pace=Pace(chunk=256 * 1024, interval=0.01))


async def test_in_an_outage_the_middle_goes_and_the_log_says_so(tmp_path: Path) -> None:
    path, platform, room = a_raw_log(tmp_path), Platform(), SpoolRoom(tmp_path / "tasks", QUOTA)
    with trio.fail_after(60):
        async with open_log(path, platform.carrier, secrets=[SECRET], start=0, policy=POLICY) as (spool, transform):
            for part in range(6):
                os.write(spool.fd, lines(part * 100_000, 100_000))
                room.look({7: spool})
                assert room.used < QUOTA + 10 * MIB, "what was given up is the disk's again"
            assert room.is_scarce or room.used < QUOTA
            platform.is_up = True
    assert spool.complete
    told = bytes(platform.data)
    assert told.startswith(lines(0, 1000).replace(SECRET.encode(), b"***"))
    assert told.endswith((LINE % 599_999).replace(SECRET.encode(), b"***"))
    assert told.count(b"bytes dropped: spool full]\n") == 1
    whole = set(lines(0, 600_000).replace(SECRET.encode(), b"***").splitlines())
    assert all(line in whole for line in told.splitlines() if not line.startswith(b"[iac"))
    assert SECRET.encode() not in told
    assert transform.digest.truncated_bytes > 30 * MIB
    assert transform.digest.length == len(told)
    # What another process makes of the file that is left is the same.
    again = LogSpool(path)
    reading, made = Reading(Transform([SECRET], 10**9), again.read, again.gaps), b""
    while (step := reading.step(1 * MIB))[0]:
        made += step[1]
    assert made + reading.transform.finish()[0] == told
    again.release()


async def test_a_log_that_is_stored_already_gives_its_disk_back_and_loses_nothing(tmp_path: Path) -> None:
    path, platform, room = a_raw_log(tmp_path), Platform(), SpoolRoom(tmp_path / "tasks", QUOTA)
    platform.is_up = True
    with trio.fail_after(60):
        async with open_log(path, platform.carrier, secrets=[SECRET], start=0, policy=POLICY) as (spool, transform):
            for part in range(6):
                os.write(spool.fd, lines(part * 100_000, 100_000))
                await becomes(lambda: spool.sent_to == spool.size)
                room.look({7: spool})
            assert allocated(spool.fd) < 30 * MIB
            with pytest.raises(LogRefused):
                spool.read(100, 10 * MIB)
    assert platform.data == lines(0, 600_000).replace(SECRET.encode(), b"***")
    assert (spool.complete, transform.digest.truncated_bytes) == (True, 0)


def test_logs_that_were_left_behind_count_too(tmp_path: Path) -> None:
    path = a_raw_log(tmp_path)
    path.write_bytes(b"x" * 9 * MIB)
    room = SpoolRoom(tmp_path / "tasks", 10 * MIB)
    assert not room.is_scarce
    room.look({})
    assert room.used >= 9 * MIB
    assert room.is_scarce


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process may open nothing more; what is open stays open."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def test_a_look_without_a_descriptor_changes_nothing_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = a_raw_log(tmp_path)
    path.write_bytes(b"x" * MIB)
    room = SpoolRoom(tmp_path / "tasks", QUOTA)
    room.look({})
    before = room.used
    assert before >= MIB
    path.write_bytes(b"x" * 2 * MIB)
    with no_descriptors():
        room.look({})
        room.look({})
    assert room.used == before
    assert caplog.text.count("cannot be measured") == 1
    room.look({})
    assert room.used >= 2 * MIB
