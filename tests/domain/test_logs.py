from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.logs import (
    MARKER_ROOM,
    Append,
    Capped,
    Closed,
    Compare,
    Conflict,
    Duplicate,
    Gap,
    OverLimit,
    accept,
    compared,
    first_difference,
)
from iac.errors import Invalid

LIMIT = 1000


@pytest.mark.parametrize(
    ("length", "offset", "size", "verdict"),
    [
        (100, 100, 50, Append()),
        (0, 0, 0, Duplicate()),
        (100, 100, 0, Duplicate()),
        (100, 40, 0, Duplicate()),
        (100, 40, 60, Compare(40, 60, 60, closed=False)),
        (100, 40, 80, Compare(40, 60, 80, closed=False)),
        (100, 101, 5, Gap(100)),
        (100, 101, 0, Gap(100)),
        (100, 100, 900, Append()),
        (100, 100, 901, OverLimit(LIMIT)),
        (100, 40, 961, OverLimit(LIMIT)),
        (100, 999, 500, Gap(100)),
        (LIMIT + 5, 0, LIMIT + 5, Compare(0, LIMIT + 5, LIMIT + 5, closed=False)),
    ],
)
def test_an_open_stream_decides_by_its_length(length: int, offset: int, size: int, verdict: object) -> None:
    assert accept(length, offset, size, closed=False, limit=LIMIT) == verdict


@pytest.mark.parametrize(
    ("offset", "size", "verdict"),
    [
        (100, 1, Closed()),
        (90, 11, Closed()),
        (101, 0, Closed()),
        (100, 0, Duplicate()),
        (90, 10, Compare(90, 10, 10, closed=True)),
    ],
)
def test_a_closed_stream_takes_only_what_it_has(offset: int, size: int, verdict: object) -> None:
    assert accept(100, offset, size, closed=True, limit=LIMIT) == verdict


def test_a_negative_offset_is_refused() -> None:
    with pytest.raises(Invalid, match="negative"):
        accept(100, -1, 5, closed=False, limit=LIMIT)


@pytest.mark.parametrize(
    ("asked", "differs_at", "verdict"),
    [
        (Compare(40, 60, 60, closed=False), None, Duplicate()),
        (Compare(40, 60, 80, closed=False), None, Append(skip=60)),
        (Compare(40, 60, 80, closed=False), 3, Conflict(at=43)),
        (Compare(40, 60, 60, closed=True), None, Duplicate()),
        (Compare(40, 60, 60, closed=True), 3, Closed()),
    ],
)
def test_the_comparison_settles_it(asked: Compare, differs_at: int | None, verdict: object) -> None:
    assert compared(asked, differs_at) == verdict


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_the_first_difference_is_where_the_common_beginning_ends(common: bytes, left: bytes, right: bytes) -> None:
    stored, sent = common + left, common + right
    at = first_difference(stored, sent)
    if stored == sent:
        assert at is None
    else:
        assert at is not None
        assert stored[:at] == sent[:at]
        assert stored[at : at + 1] != sent[at : at + 1]


# --- A sender, a network that does its worst, and a server that keeps the rules -----------------------------------


@dataclass
class Chunk:
    offset: int
    data: bytes


@dataclass
class Server:
    stored: bytes = b""

    def receive(self, chunk: Chunk) -> int:
        """Returns next_offset, as every answer of the server does."""
        verdict: object = accept(len(self.stored), chunk.offset, len(chunk.data), closed=False, limit=1 << 20)
        if isinstance(verdict, Compare):
            there = self.stored[verdict.offset : verdict.offset + verdict.size]
            verdict = compared(verdict, first_difference(there, chunk.data[: verdict.size]))
        assert not isinstance(verdict, Conflict | Closed | OverLimit)
        if isinstance(verdict, Append):
            self.stored += chunk.data[verdict.skip :]
        return len(self.stored)


@dataclass
class OverwritingServer(Server):
    """The obvious rule, which is wrong: write at the offset, then cut the file after what was written."""

    def receive(self, chunk: Chunk) -> int:
        self.stored = self.stored[: chunk.offset].ljust(chunk.offset, b"\0") + chunk.data
        return len(self.stored)


@dataclass
class Sender:
    """Cuts its chunks anywhere; a restart forgets what was acknowledged."""

    log: bytes
    dice: random.Random
    acked: int = 0
    written: int = 0

    def step(self) -> Chunk:
        self.written = min(len(self.log), self.written + self.dice.randint(0, 40))
        if self.dice.random() < 0.05:
            self.acked = self.dice.randint(0, self.acked)
        end = min(self.written, self.acked + self.dice.randint(1, 60))
        return Chunk(self.acked, self.log[self.acked : end])


@dataclass
class Network:
    dice: random.Random
    late: list[Chunk] = field(default_factory=list)

    def carry(self, chunk: Chunk) -> list[Chunk]:
        """What arrives now: perhaps nothing, perhaps twice, perhaps with old copies before or after it."""
        if self.dice.random() < 0.3:
            self.late.append(chunk)
        arriving = [chunk] * self.dice.choices([0, 1, 2], [2, 6, 2])[0]
        while self.late and self.dice.random() < 0.3:
            arriving.append(self.late.pop(self.dice.randrange(len(self.late))))
        self.dice.shuffle(arriving)
        return arriving


def transfer(server: Server, seed: int, check: Callable[[bytes, bytes], None]) -> None:
    dice = random.Random(seed)  # noqa: S311 - a failure must be repeatable
    log = dice.randbytes(dice.randint(0, 400))
    sender, network = Sender(log, dice), Network(dice)
    for _ in range(3000):
        for chunk in network.carry(sender.step()):
            before = server.stored
            next_offset = server.receive(chunk)
            assert log.startswith(server.stored), "the stored log is not a beginning of what was written"
            assert server.stored.startswith(before), "the stored log shrank"
            if dice.random() < 0.8:
                sender.acked = next_offset
        if server.stored == log and sender.written == len(log):
            check(server.stored, log)
            return
    raise AssertionError("the log did not arrive")


def identical(stored: bytes, log: bytes) -> None:
    assert stored == log


def test_a_stored_log_is_always_a_beginning_of_what_was_written_and_never_shrinks() -> None:
    for seed in range(1500):
        transfer(Server(), seed, identical)


def test_the_schedules_are_hard_enough_to_break_a_server_that_overwrites() -> None:
    broken = 0
    for seed in range(200):
        try:
            transfer(OverwritingServer(), seed, identical)
        except AssertionError:
            broken += 1
    assert broken > 100


# --- Head and tail ------------------------------------------------------------------------------------------------


def capped(log: bytes, cuts: list[int], limit: int, tail: int) -> tuple[bytes, int]:
    cap = Capped(limit, tail)
    edges = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    out = b"".join(cap.feed(log[start:end]) for start, end in pairwise(edges))
    assert log.startswith(out)
    return out + cap.finish(), cap.truncated_bytes


@given(
    st.integers(0, 2000),
    st.integers(MARKER_ROOM + 1, 400),
    st.integers(0, 300),
    st.lists(st.integers(0, 2000), max_size=8),
    st.randoms(use_true_random=False),
)
def test_head_and_tail_are_exact_and_the_limit_holds(
    size: int, tail: int, head: int, cuts: list[int], dice: random.Random
) -> None:
    log = dice.randbytes(size)
    limit = head + tail
    kept, truncated = capped(log, cuts, limit, tail)
    assert len(kept) <= limit
    if size <= limit:
        assert (kept, truncated) == (log, 0)
        return
    line = f"[iac: {truncated} bytes left out: the log reached its limit of {limit} bytes]\n".encode()
    end = log[MARKER_ROOM - tail :]
    fresh = b"" if log[:head].endswith(b"\n") or not head else b"\n"
    assert kept == log[:head] + fresh + line + end
    assert truncated == size - head - len(end)


def test_the_line_about_missing_bytes_never_needs_more_room_than_it_has() -> None:
    huge = 2**63
    assert len(f"\n[iac: {huge} bytes left out: the log reached its limit of {huge} bytes]\n") <= MARKER_ROOM


def test_a_long_log_is_capped_in_bounded_memory() -> None:
    cap = Capped(3000, 1000)
    out = b"".join(cap.feed(b"x" * 999 + b"\n") for _ in range(1000)) + cap.feed(b"Error: the end\n")
    assert len(cap._tail) <= 3000
    kept = out + cap.finish()
    assert len(kept) <= 3000
    assert kept.endswith(b"Error: the end\n")
    assert cap.truncated_bytes == 1_000_015 - 2000 - (1000 - MARKER_ROOM)


def test_a_tail_without_room_for_the_line_is_refused() -> None:
    with pytest.raises(ValueError, match="tail"):
        Capped(1000, MARKER_ROOM)
    with pytest.raises(ValueError, match="tail"):
        Capped(1000, 1001)
