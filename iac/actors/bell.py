"""Tells whoever waits that something with a number changed. What changed is read where it is kept."""

from __future__ import annotations

import trio


class Bell:
    """Listen first, then read, then wait: nothing is missed that way, and ringing for nobody costs nothing."""

    def __init__(self) -> None:
        self._events: dict[int, trio.Event] = {}

    def listen(self, key: int) -> trio.Event:
        """An event that the next `ring` of this key sets."""
        return self._events.setdefault(key, trio.Event())

    def heeded(self, key: int) -> bool:
        """Whether somebody listened since it was last rung."""
        return key in self._events

    def ring(self, key: int) -> None:
        event = self._events.pop(key, None)
        if event is not None:
            event.set()

    def ring_all(self) -> None:
        """Everybody looks again; for the end of the program."""
        for key in list(self._events):
            self.ring(key)
