"""Tells whoever waits that something with a name changed. What changed is read where it is kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import trio

K = TypeVar("K", bound=Hashable)


def _nobody(_key: object) -> None: ...


class Bell(Generic[K]):
    """Listen first, then read, then wait: nothing is missed that way, and ringing for nobody costs nothing."""

    def __init__(self, overheard: Callable[[K], None] = _nobody) -> None:
        """`overheard` is told of each ring, whether anybody listens or not; it must not block."""
        self._events: dict[K, trio.Event] = {}
        self._overheard = overheard

    def listen(self, key: K) -> trio.Event:
        """An event that the next `ring` of this key sets."""
        return self._events.setdefault(key, trio.Event())

    def heeded(self, key: K) -> bool:
        """Whether somebody listened since it was last rung."""
        return key in self._events

    def ring(self, key: K) -> None:
        event = self._events.pop(key, None)
        if event is not None:
            event.set()
        self._overheard(key)

    def ring_all(self) -> None:
        """Everybody looks again; for the end of the program."""
        for key in list(self._events):
            self.ring(key)


async def first_of(*events: trio.Event, within: float) -> bool:
    """Whether one of them came within so many seconds."""
    with trio.move_on_after(within) as deadline:
        async with trio.open_nursery() as nursery:
            for event in events:
                nursery.start_soon(_then_cancel, event, nursery.cancel_scope)
    return not deadline.cancelled_caught


async def _then_cancel(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
