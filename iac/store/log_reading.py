"""What is found out about a log by reading it: where its rows begin, and where a text is in it.

Indexes are kept in memory and go on where they were; after a restart they are made anew. No log is held in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from iac.domain.log_index import LogIndex
from iac.domain.log_search import LogSearch
from iac.store import logs
from iac.store.database import Database
from iac.store.log_cache import LogCache
from iac.store.logs import Part

MIB = 1024 * 1024
STEP = 8 * MIB
"""Bytes that are read at once: each step asks the database where they lie, and goes to two threads."""
PIECE = 256 * 1024
"""Bytes that are looked at without letting go of the interpreter: milliseconds."""
MOST_INDEXED = 128
ReadPart = Callable[[int, int], Awaitable[Part]]


class _Known:
    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.index = LogIndex()
        self.streams: tuple[tuple[int, int], ...] = ()


class LogIndexes:
    """The indexes of logs that were looked at lately."""

    def __init__(self, database: Database, cache: LogCache, *, most: int = MOST_INDEXED) -> None:
        self._database, self._cache, self._most = database, cache, most
        self._known: OrderedDict[int, _Known] = OrderedDict()

    async def of(self, task_id: int, budget: int) -> tuple[LogIndex, Part]:
        """The index, up to `budget` bytes further than it was, and the log as it is now (an empty part behind the index).

        Raises Gone for a log that is not kept any more, Unavailable.
        """
        known = self._known.setdefault(task_id, _Known())
        self._known.move_to_end(task_id)
        async with known.lock:
            await self._renewed(task_id, known)
            part = await _read_on(
                partial(self._cache.read, task_id), known.index.length, budget, partial(_index, known.index)
            )
        self._forget()
        return known.index, part

    async def _renewed(self, task_id: int, known: _Known) -> None:
        """A log whose stored bytes became fewer (somebody lost the disk), or grew in its middle, is read anew."""
        rows = await self._database.read(logs.streams, task_id)
        streams = tuple((row.fence, row.length) for row in rows)
        before = known.streams[:-1]
        shorter = sum(length for _, length in streams) < known.index.length
        if streams[: len(before)] != before or shorter:
            known.index = LogIndex()
        known.streams = streams

    def _forget(self) -> None:
        while len(self._known) > self._most:
            self._known.popitem(last=False)


async def search(cache: LogCache, task_id: int, sought: LogSearch, *, budget: int, most: int) -> tuple[list[int], Part]:
    """Matches from where the search stands: those of the first step that has any, `most` or somewhat more of them.

    It stops behind them, so that they can be shown, or after `budget` bytes. The part is the log behind what was read.
    Raises Gone, Unavailable.
    """
    found: list[int] = []

    def look(data: bytes) -> bool:
        for at in range(0, len(data), PIECE):
            found.extend(sought.feed(data[at : at + PIECE]))
            if len(found) >= most:
                return False
        return not found

    part = await _read_on(partial(cache.read, task_id), sought.settled, budget, look)
    if part.next_offset >= part.total and len(found) < most:
        found += sought.finish()
    return found, part


def _index(index: LogIndex, data: bytes) -> bool:
    for at in range(0, len(data), PIECE):
        index.feed(data[at : at + PIECE])
    return True


async def _read_on(read: ReadPart, offset: int, budget: int, take: Callable[[bytes], bool]) -> Part:
    """Reads from `offset` until the log's end, the budget's, or until `take` (called in a thread) wants no more."""
    end = offset + budget
    while True:
        part = await read(offset, min(STEP, end - offset))
        more = await trio.to_thread.run_sync(take, part.data) if part.data else False
        offset = part.next_offset
        if not more or offset >= min(end, part.total):
            return Part(offset, b"", part.total, part.state)
