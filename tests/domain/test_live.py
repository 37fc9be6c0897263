"""Live log bytes: what is kept of them, how many may be told, and what a viewer sees."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iac.domain.live import AGENT, FRAME, NARROW, REST, TASK, LiveBudget, LiveStream, Ring, Viewer
from tests.harness.thoroughness import examples

WHOLE = bytes(range(256)) * 4


# The newest bytes


def test_a_ring_keeps_the_newest_bytes_and_knows_where_they_are() -> None:
    ring = Ring(4)
    assert ring.put(0, b"abc") == 3
    assert ring.put(2, b"cdef") == 3
    assert (ring.start, ring.end, ring.get(2, 9), ring.get(3, 2)) == (2, 6, b"cdef", b"de")
    assert ring.get(1, 9) == ring.get(6, 9) == b""
    assert ring.put(3, b"xx") == 0, "what is here stays"
    assert ring.get(2, 9) == b"cdef"


def test_behind_a_hole_a_ring_begins_anew() -> None:
    ring = Ring(10)
    ring.put(0, b"abc")
    ring.put(5, b"fg")
    assert (ring.start, ring.get(5, 9)) == (5, b"fg")


@pytest.mark.parametrize(
    ("offset", "data", "at"),
    [(5, b"fgh", None), (3, b"..fgh", None), (5, b"fXh", 6), (0, b"??", None), (7, b"hi", None), (9, b"x", None)],
)
def test_a_ring_tells_the_first_byte_that_is_another_one(offset: int, data: bytes, at: int | None) -> None:
    ring = Ring(10)
    ring.put(5, b"fgh")
    assert ring.differs(offset, data) == at


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(1, 300)), max_size=20), st.integers(1, 200))
def test_what_a_ring_has_is_always_what_was_put(pieces: list[tuple[int, int]], limit: int) -> None:
    ring = Ring(limit)
    for offset, size in pieces:
        ring.put(offset, WHOLE[offset : offset + size])
        assert ring.end - ring.start <= limit
        assert ring.get(ring.start, limit) == WHOLE[ring.start : ring.end]


# How many may be told


def test_little_is_on_its_way_until_it_is_known_to_arrive() -> None:
    budget = LiveBudget()
    assert budget.take(1, 10**6, 100.0) == NARROW
    assert budget.take(1, 10**6, 101.0) == 0
    budget.arrived(NARROW, 0.05, 101.0)
    assert budget.take(1, 10**6, 101.0) == 2 * NARROW
    budget.arrived(2 * NARROW, 1.5, 103.0)
    assert budget.take(1, 10**6, 107.0) == 0, "it is left alone"
    assert budget.take(1, 10**6, 108.1) == NARROW
    budget.restart()
    assert budget.take(1, 10**6, 109.0) > 0
    budget.give_back(NARROW)


class Quick(LiveBudget):
    """What is taken has arrived at once."""

    def take(self, fence: int, size: int, now: float) -> int:
        took = super().take(fence, size, now)
        self.arrived(took, 0.0, now)
        return took


def test_a_task_has_a_rate_and_an_agent_has_one_over_all_of_them() -> None:
    budget, told = Quick(), dict.fromkeys(range(8), 0)
    for tick in range(100):
        for fence in told:
            while took := budget.take(fence, 10**6, 100 + tick / 10):
                assert took <= FRAME
                told[fence] += took
    assert sum(told.values()) <= AGENT.burst + AGENT.per_second * 10
    assert sum(told.values()) >= 0.7 * 30 * 10 * FRAME, "thirty messages a second are what is left of that"
    alone = Quick()
    took = sum(alone.take(1, 10**6, 100 + tick / 10) for tick in range(100) for _ in range(9))
    assert 0.9 * TASK.per_second * 10 <= took <= TASK.burst + TASK.per_second * 10


def test_small_pieces_are_not_told_one_byte_at_a_time() -> None:
    budget = Quick()
    assert [budget.take(1, 10, 100.0) for _ in range(3)] == [10, 10, 10]
    while budget.take(1, 10**6, 100.0):
        continue
    assert budget.take(1, 10**6, 100.001) == 0
    assert budget.take(1, 10**6, 100.1) > 10_000


def test_a_slow_link_is_left_alone_and_then_used_less() -> None:
    budget = Quick()
    budget.sent(0.4, 100.0)
    assert budget.take(1, 100, 100.0)
    budget.sent(0.6, 100.0)
    assert not budget.take(1, 100, 100.0 + REST - 0.1)

    def rate(begin: float) -> int:
        return sum(budget.take(1, 10**6, begin + tick / 10) for tick in range(50) for _ in range(9))

    half = rate(106.0)
    assert half <= TASK.burst + TASK.per_second * 5 / 2
    budget.sent(0.6, 112.0)
    assert rate(118.0) < half
    rate(300.0)
    assert rate(400.0) > half, "in time it is believed to have recovered"


def test_even_the_slowest_link_is_told_something() -> None:
    budget = Quick()
    for _ in range(20):
        budget.sent(5.0, 100.0)
    assert 0 < sum(budget.take(1, 10**6, 110 + second) for second in range(10)) <= 128 * 1024


# What a server has of a log


def test_bytes_that_are_stored_need_not_be_told() -> None:
    stream = LiveStream(7, "a", base=100, stored=5, room=100)
    assert stream.due == 5
    assert not stream.told(0, b"abcde")
    assert stream.told(0, b"abcdefg")
    assert (stream.get(105, 9), stream.get(104, 9)) == (b"fg", b"")
    assert not stream.told(5, b"fg"), "no news"
    assert stream.due == 7
    assert stream.appended(5, b"fghi") is None
    assert stream.due == 9


def test_stored_bytes_that_are_others_say_from_where_on() -> None:
    stream = LiveStream(7, "a", base=100, stored=0, room=100)
    stream.told(0, b"abcdef")
    assert stream.appended(0, b"abXd") == 102
    assert stream.get(100, 9) == b""
    assert stream.due == 4


# A viewer


@dataclass
class World:
    """A log that grows, is told live with losses, and is stored at times."""

    stream: LiveStream
    made: int = 0
    told: int = 0
    stored: int = 0

    def act(self, what: str, size: int) -> None:
        match what:
            case "make":
                self.made = min(len(WHOLE), self.made + size)
            case "tell":
                self.stream.told(self.told, WHOLE[self.told : min(self.told + size, self.made)])
                self.told = min(self.told + size, self.made)
            case "lose":
                self.told = min(self.told + size, self.made)
            case "store":
                after = min(self.stored + size, self.made)
                assert self.stream.appended(self.stored, WHOLE[self.stored : after]) is None
                self.stored = after


ACTS = st.lists(st.tuples(st.sampled_from(["make", "tell", "lose", "store", "view"]), st.integers(1, 120)), max_size=60)


@settings(max_examples=examples(300))
@given(acts=ACTS, begin=st.integers(0, 50))
def test_a_viewer_sees_each_byte_once_in_order_however_it_comes(acts: list[tuple[str, int]], begin: int) -> None:
    world = World(LiveStream(1, "a", base=0, stored=0, room=100))
    viewer, seen = Viewer(begin), b""

    def view(most: int) -> bool:
        nonlocal seen
        match viewer.next(world.stream, most):
            case "stored":
                data = WHOLE[viewer.offset : max(viewer.offset, min(viewer.offset + most, world.stored))]
                viewer.found(len(data), world.stored)
                seen += data
                return True
            case bytes(live):
                seen += live
                return True
        return False

    for what, size in acts:
        if what == "view":
            view(size)
            continue
        world.act(what, size)
        if what == "store":
            viewer.look_again()
        assert seen == WHOLE[begin : begin + len(seen)]
    world.act("make", len(WHOLE))
    world.act("store", len(WHOLE))
    viewer.look_again()
    while viewer.offset < len(WHOLE):
        assert view(100)
    assert seen == WHOLE[begin:]


def test_a_viewer_knows_a_gap_from_a_log_that_rests() -> None:
    stream, viewer = LiveStream(1, "a", base=10, stored=0, room=100), Viewer(10)
    assert viewer.next(stream, 9) == "stored"
    viewer.found(0, 10)
    assert viewer.next(None, 9) == viewer.next(stream, 9) == "nothing"
    stream.told(5, b"later")
    assert viewer.next(stream, 9) == "gap"
    viewer.look_again()
    assert viewer.next(stream, 9) == "stored"
    viewer.found(5, 15)
    assert viewer.next(stream, 9) == b"later"


def test_a_viewer_goes_back_only_if_he_saw_what_was_wrong() -> None:
    viewer = Viewer(20)
    assert not viewer.reset(20)
    assert viewer.reset(12)
    assert viewer.offset == 12
