"""What is found out about a log by reading it: where its rows begin, and where a text is in it.

Indexes are kept in memory and go on where they were; after a restart they are made anew. No log is held in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from iac.domain.log_index import LogIndex
from iac.domain.log_search import LogSearch
from iac.store import log_files, logs
from iac.store.database import Database
from iac.store.log_cache import LogCache
from iac.store.logs import Part

MIB = 1024 * 1024
STEP = 8 * MIB
"""Bytes after which a search tells what it has found; and that are read at once of what is not on the disk any more."""
PIECE = 512 * 1024
"""Bytes that are looked at without letting go of the interpreter: milliseconds."""
MOST_INDEXED = 128
Take = Callable[[bytes], bool]
"""Looks at the next bytes, in a thread; whether it wants more."""


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
            part = await _read_on(self._cache, task_id, known.index.length, budget, partial(_index, known.index))
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
    found, begin, seen = list[int](), sought.settled, 0

    def look(data: bytes) -> bool:
        nonlocal seen
        seen += len(data)
        found.extend(sought.feed(data))
        return len(found) < most and not (found and seen >= STEP)

    part = await _read_on(cache, task_id, begin, budget, look)
    if begin + seen >= part.total:
        found += sought.finish()
    return found, part


def _index(index: LogIndex, data: bytes) -> bool:
    index.feed(data)
    return True


async def _read_on(cache: LogCache, task_id: int, offset: int, budget: int, take: Take) -> Part:
    """Reads from `offset` until the log's end, the budget's, or until `take` wants no more.

    All that is on the disk in one go: under load, each change of threads costs more than looking through megabytes.
    """
    end = offset + budget
    while True:
        rows = await cache.streams(task_id)
        files = [(cache.bytes.path(row), row.length) for row in rows]
        offset, more = await trio.to_thread.run_sync(_from_files, files, offset, end, take)
        total = sum(row.length for row in rows)
        if not more or offset >= min(end, total):
            return Part(offset, b"", total, rows[-1].state if rows else "open")
        part = await cache.read(task_id, offset, min(STEP, end - offset))
        more = await trio.to_thread.run_sync(_taken, part.data, take)
        offset = part.next_offset
        if not more or offset >= min(end, part.total):
            return Part(offset, b"", part.total, part.state)


def _from_files(files: Sequence[tuple[Path, int]], offset: int, end: int, take: Take) -> tuple[int, bool]:
    """Takes from `offset` of the files, one behind the other, until one lacks what it should have.

    Returns how far it came, and whether more is wanted. Raises trio.Cancelled.
    """
    begin = 0
    for path, length in files:
        stop = min(end, begin + length)
        while begin <= offset < stop:
            try:
                data = log_files.read_at(path, offset - begin, min(PIECE, stop - offset))
            except OSError:
                data = b""
            if not data:
                return offset, True
            offset += len(data)
            if not _taken(data, take):
                return offset, False
            trio.from_thread.check_cancelled()
        begin += length
    return offset, True


def _taken(data: bytes, take: Take) -> bool:
    return all(take(data[at : at + PIECE]) for at in range(0, len(data), PIECE))
