"""One direction of a network that misbehaves on demand; see tests.harness.chaos_proxy."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import trio

READ, READ_SLOWLY = 64 * 1024, 2048
Change = Callable[[dict[str, Any]], Iterable[dict[str, Any] | bytes]]
"""What becomes of a control message: nothing, itself, another one, several; bytes are put on the wire as they are."""


class Way:
    """One direction of all connections. Verbs hold from now on, also for connections that are open; they may be combined."""

    def __init__(self) -> None:
        self._lanes: set[Lane] = set()
        self.passes()

    def passes(self) -> None:
        """Everything gets through again, at once."""
        self.seconds = 0.0
        self.bytes_per_s: float | None = None
        self.mode: Literal["pass", "hole", "hold"] = "pass"
        self.longest = inf
        self.change: Change | None = None
        self._free_at = 0.0
        self._let_go()

    def delay(self, seconds: float) -> None:
        """Every byte is so long on its way."""
        self.seconds = seconds

    def rate(self, bytes_per_s: float) -> None:
        """All connections together get no more through."""
        self.bytes_per_s, self._free_at = bytes_per_s, trio.current_time()

    def blackhole(self) -> None:
        """Bytes are accepted and vanish; neither end is told, not even that the other one has closed."""
        self.mode = "hole"
        self._let_go()

    def hold(self) -> None:
        """Bytes wait until the way passes again."""
        self.mode = "hold"
        for lane in self._lanes:
            lane.go_on = trio.Event()
            lane.taken.set()

    def forget(self) -> None:
        """Open connections are dead from now on, and nobody is told; new ones pass."""
        for lane in self._lanes:
            lane.lost = True

    def cut_after(self, count: int) -> None:
        """Every connection is reset when it has carried so many bytes this way."""
        self.longest = count

    def rewrite(self, change: Change | None) -> None:
        """Every message of a control channel becomes what `change` makes of it."""
        self.change = change

    def half_close(self) -> None:
        """The receiving end of every open connection is told that nothing more comes; the other way stays open."""
        for lane in self._lanes:
            lane.shut = True
            with suppress(OSError):
                lane.sink.socket.shutdown(socket.SHUT_WR)

    def appetite(self) -> int:
        """Bytes that are taken at once: a slow link has to be felt by those who send."""
        return READ if self.bytes_per_s is None else READ_SLOWLY

    async def turn(self, size: int) -> None:
        """Waits until the link is free and the bytes are on the other side."""
        if self.bytes_per_s is None:
            return
        self._free_at = max(self._free_at, trio.current_time()) + size / self.bytes_per_s
        await trio.sleep_until(self._free_at)

    def enter(self, sink: trio.SocketStream) -> Lane:
        lane = Lane(sink)
        if self.mode != "hold":
            lane.go_on.set()
        self._lanes.add(lane)
        return lane

    def _let_go(self) -> None:
        for lane in self._lanes:
            lane.go_on.set()

    def leave(self, lane: Lane) -> None:
        self._lanes.discard(lane)


@dataclass(eq=False)
class Lane:
    """One direction of one connection. `lost` when bytes vanished: what follows them would make no sense; `shut` when its
    end was told.
    """

    sink: trio.SocketStream
    go_on: trio.Event = field(default_factory=trio.Event)
    taken: trio.Event = field(default_factory=trio.Event)
    """Set when something of what is on its way was handed over."""
    lost: bool = False
    shut: bool = False
    carried: int = 0
