"""Heartbeats on a mock clock."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from iac.actors.heartbeat import Pulse, Wake, heartbeat
from iac.actors.websocket import LinkLost


class Sent:
    """What was sent, and when."""

    def __init__(self, pulse: Pulse, *, answer: bool = True) -> None:
        self.at: list[float] = []
        self._pulse, self.answer = pulse, answer

    def __call__(self, seq: int) -> None:
        self.at.append(trio.current_time())
        if self.answer:
            self._pulse.answered(seq)


async def test_the_first_is_sent_at_once_and_the_others_nearly_evenly(autojump_clock: trio.testing.MockClock) -> None:
    pulse = Pulse()
    sent = Sent(pulse)
    began = trio.current_time()
    with trio.move_on_after(1000):
        await heartbeat(sent, pulse, Wake(), every=10, ack_within=25, clock=trio.current_time)
    assert sent.at[0] == began
    gaps = [later - earlier for earlier, later in zip(sent.at, sent.at[1:], strict=False)]
    assert all(9 <= gap <= 11 for gap in gaps)
    assert len(set(gaps)) > 10


async def test_a_changed_slot_is_told_at_once(autojump_clock: trio.testing.MockClock) -> None:
    pulse, wake = Pulse(), Wake()
    sent = Sent(pulse)
    beat = partial(heartbeat, every=100, ack_within=1000, clock=trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat, sent, pulse, wake)
        await trio.sleep(5)
        changed = trio.current_time()
        wake.ring()
        wake.ring()
        await trio.sleep(50)
        nursery.cancel_scope.cancel()
    assert sent.at == [changed - 5, changed]


async def test_a_missing_answer_ends_the_connection_in_time(autojump_clock: trio.testing.MockClock) -> None:
    pulse = Pulse()
    sent = Sent(pulse, answer=False)
    began = trio.current_time()
    with pytest.raises(LinkLost, match="25 s"):
        await heartbeat(sent, pulse, Wake(), every=10, ack_within=25, clock=trio.current_time)
    assert trio.current_time() - began == 25
    assert len(sent.at) == 3


async def test_a_late_answer_saves_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    pulse = Pulse()
    sent = Sent(pulse, answer=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(heartbeat, sent, pulse, Wake(), every=10, ack_within=25, clock=trio.current_time))
        for _ in range(10):
            await trio.sleep(24)
            pulse.answered(len(sent.at))
        nursery.cancel_scope.cancel()
    assert len(sent.at) > 20


def test_an_answer_tells_when_its_heartbeat_was_sent_and_stands_for_earlier_ones() -> None:
    pulse = Pulse()
    numbers = [pulse.beat(at=float(at), stamp=100.0 + at) for at in range(4)]
    assert numbers == [1, 2, 3, 4]
    assert pulse.due(25) == 25
    assert pulse.answered(3) == 102.0
    assert pulse.answered(3) is None
    assert pulse.answered(2) is None
    assert pulse.due(25) == 28
    pulse.restart()
    assert pulse.due(25) == float("inf")
    assert pulse.answered(4) is None
    assert pulse.beat(at=9, stamp=109) == 5
