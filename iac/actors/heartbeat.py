"""Heartbeats: every few seconds, at once when a slot changed, and the end of the connection when they go unanswered.

A frozen server, or a half-open connection, takes what is sent for a long time: only answers prove that somebody is there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import trio

from iac.actors.websocket import LinkLost

JITTER = 0.1


class Wake:
    """Any number of rings before the one who waits is awake are one. One waits at a time."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self) -> None:
        await self._rung.wait()
        self._rung = trio.Event()


@dataclass(frozen=True, slots=True)
class _Sent:
    at: float
    stamp: float


class Pulse:
    """Which heartbeats were sent and not answered yet. Numbers go on over connections: the highest wins.

    `at` is Trio's clock, for time-outs; `stamp` the clock of leases, which counts suspended time too.
    """

    def __init__(self) -> None:
        self._seq = 0
        self._open: dict[int, _Sent] = {}

    def beat(self, *, at: float, stamp: float) -> int:
        """The number of a heartbeat that is sent now."""
        self._seq += 1
        self._open[self._seq] = _Sent(at, stamp)
        return self._seq

    def answered(self, seq: int) -> float | None:
        """When the answered heartbeat was sent (its stamp); None if it was answered before, or on another connection.

        An answer stands for those before it as well: a busy server answers only the last.
        """
        sent = self._open.get(seq)
        self._open = {number: other for number, other in self._open.items() if number > seq}
        return None if sent is None else sent.stamp

    def due(self, within: float) -> float:
        """When the oldest unanswered one becomes too old; infinite if there is none."""
        return min((sent.at for sent in self._open.values()), default=inf) + within

    def restart(self) -> None:
        """On a new connection nothing is owed."""
        self._open.clear()


async def heartbeat(
    send: Callable[[int], None],
    pulse: Pulse,
    wake: Wake,
    *,
    every: float,
    ack_within: float,
    clock: Callable[[], float],
) -> None:
    """Sends until it is cancelled; the first one at once. Raises LinkLost when one is not answered `ack_within` seconds."""
    due = trio.current_time()
    while True:
        now = trio.current_time()
        if now >= pulse.due(ack_within):
            raise LinkLost(f"The server answered no heartbeat for {ack_within:g} s.")
        if now >= due:
            send(pulse.beat(at=now, stamp=clock()))
            due = now + every * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - to spread agents, not to hide
        with trio.move_on_at(min(due, pulse.due(ack_within))):
            await wake.wait()
            due = trio.current_time()
