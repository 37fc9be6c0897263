"""Documents that were read lately and never change: kept while there is room, read once for all who ask meanwhile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import msgspec
import trio

T = TypeVar("T")
ROOM = 96 * 1024 * 1024
"""Bytes of documents that are kept; one that is larger than that is kept alone."""


class Shelf(Generic[T]):
    """Documents by key. What `read` raises is raised, and nothing is kept of it."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._kept = OrderedDict[Hashable, tuple[T, int]]()
        self._reading: dict[Hashable, trio.Lock] = {}

    async def made(self, key: Hashable, make: Callable[[], T]) -> T:
        """The same for what is made of documents: `make` runs in a thread; it makes a structure, as large as its JSON."""

        async def read() -> tuple[T, int]:
            found = await trio.to_thread.run_sync(make)
            return found, len(msgspec.json.encode(found))

        return await self.get(key, read)

    async def get(self, key: Hashable, read: Callable[[], Awaitable[tuple[T, int]]]) -> T:
        """The document with this key; `read` gives it with its size in bytes."""
        lock = self._reading.setdefault(key, trio.Lock())
        try:
            async with lock:
                if key not in self._kept:
                    self._kept[key] = await read()
                self._kept.move_to_end(key)
                found = self._kept[key][0]
        finally:
            if not lock.statistics().tasks_waiting:
                self._reading.pop(key, None)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > self._room:
            self._kept.popitem(last=False)
        return found
