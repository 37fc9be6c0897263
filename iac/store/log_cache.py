"""Log bytes on the server's disk: durable there before they are acknowledged, and copied to PostgreSQL afterwards.

An append is decided by the stream's length alone, written behind it, and committed by one conditional UPDATE of its row, all
under the stream's lock. A crash anywhere between leaves bytes behind the committed length: they were never acknowledged, so
they are cut off when the file is opened again, and the sender sends them again. What an embedded executor sends is not
forced to the disk each time: its raw log is on the same disk, and stays until `ending` has forced all of it at once.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import trio

from iac.domain.logs import (
    Append,
    Closed,
    Compare,
    Conflict,
    End,
    Gap,
    OverLimit,
    Settled,
    accept,
    compared,
    ending,
    first_difference,
)
from iac.domain.records import LogStream
from iac.domain.work import LogDigest
from iac.errors import Gone, LogRefused, StorageFull, TooLarge, Unavailable
from iac.store import log_files, logs
from iac.store.database import Database
from iac.store.log_bytes import LogBytes
from iac.store.log_files import BLOCK, CachedFile, FileChanged, Key, LogFile
from iac.store.logs import Part

log = logging.getLogger(__name__)

MOST_KNOWN = 4096
MOST_TOLD = 10_000
ATTEMPTS = 5
"""How often an append is decided anew because the row was changed meanwhile."""
BATCH = 8 * 1024 * 1024
"""Bytes that wait for the database before its writer is woken."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class _Stream:
    """What is known of a stream that was used lately. Everything but `users` is touched under the lock only."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.lock = trio.Lock()
        self.users = 0
        self.row: LogStream | None = None
        """As of our last look at it or change of it; None when what we last did to it had no certain end."""
        self.length = 0
        self.file: LogFile | None = None
        """Where it goes on, while it is open."""
        self.digest: tuple[int, hashlib._Hash] | None = (0, hashlib.sha256())
        """sha256 of so many first bytes; None when this server did not see them all."""


class LogCache:
    """The logs of all tasks. `directory` is this server's alone."""

    def __init__(self, database: Database, directory: Path, *, most_known: int = MOST_KNOWN) -> None:
        self.bytes = LogBytes(database, directory)
        self.full = trio.Event()
        """Set when so much is waiting for the database that it should not wait longer; its writer renews it."""
        self._database = database
        self._most_known = most_known
        self._streams: OrderedDict[Key, _Stream] = OrderedDict()
        self._mismatched: set[int] = set()
        self._waiting = 0

    # Appending

    async def append(
        self, task_id: int, fence: int, offset: int, data: bytes, *, limit: int, durable: bool = True
    ) -> int:
        """The offset to go on at: all before it is on the disk (forced there, if `durable`). Repeating is no error.

        Raises NotFound, LogRefused (log_gap, log_conflict, log_closed; `next_offset` says where to go on), TooLarge,
        StorageFull and Unavailable, after which nothing was acknowledged.
        """
        async with self._held(Key(task_id, fence)) as stream:
            for _ in range(ATTEMPTS):
                row = stream.row or await self._look(stream)
                try:
                    skip = await self._decide(stream, row, offset, data, limit)
                    if skip is None or await self._write(stream, memoryview(data)[skip:], durable=durable):
                        return stream.length
                except FileChanged:
                    stream.row = None
        raise Unavailable("The log is being changed by others; try again.")

    async def _decide(self, stream: _Stream, row: LogStream, offset: int, data: bytes, limit: int) -> int | None:
        """From which byte of the chunk on it is to be written; None when all of it is there. Raises what refuses it."""
        verdict = accept(stream.length, offset, len(data), closed=row.state != "open", limit=limit)
        if not isinstance(verdict, Compare):
            return _begin(verdict, offset, stream.length)
        stored = await self.bytes.read(row, verdict.offset, verdict.size)
        if len(stored) < verdict.size:
            raise FileChanged
        differs_at = first_difference(stored, data[: verdict.size])
        return _begin(compared(verdict, differs_at), offset, stream.length)

    async def _write(self, stream: _Stream, data: memoryview, *, durable: bool) -> bool:
        """False when the row is not as it was any more; then it has to be looked at again."""
        row, file, before = stream.row, stream.file, stream.length
        after = before + len(data)
        # Until the row has taken it, nobody knows what the row says.
        stream.row = None
        if row is None or file is None:
            return False
        digest = None if stream.digest is None or stream.digest[0] != before else stream.digest[1].copy()
        try:
            await self.bytes.in_thread(partial(file.append, before, data, digest, durable=durable))
        except OSError as error:
            raise _refused(error) from error
        if not await self._database.single(logs.grow, *stream.key, before, after):
            # Nobody acknowledged these; and they must not be taken for what the row may speak of now.
            await self.bytes.in_thread(partial(file.cut, before))
            return False
        stream.row, stream.length = row, after
        stream.digest = None if digest is None else (after, digest)
        self._count(len(data))
        return True

    def _count(self, size: int) -> None:
        self._waiting += size
        if self._waiting >= BATCH:
            self.full.set()

    def all_taken(self) -> None:
        """The writer of the database begins to copy what there is."""
        self._waiting, self.full = 0, trio.Event()

    # A stream's file and row

    @asynccontextmanager
    async def _held(self, key: Key) -> AsyncIterator[_Stream]:
        """The stream's lock."""
        stream = self._streams.setdefault(key, _Stream(key))
        self._streams.move_to_end(key)
        stream.users += 1
        try:
            async with stream.lock:
                yield stream
        finally:
            stream.users -= 1
            self._forget_idle()

    def _forget_idle(self) -> None:
        excess = len(self._streams) - self._most_known
        idle = [key for key, stream in self._streams.items() if not stream.users] if excess > 0 else []
        for key in idle[:excess]:
            del self._streams[key]

    async def _look(self, stream: _Stream) -> LogStream:
        """Reads the row, and makes the file what the row says."""
        row = await self._database.read(logs.stream, *stream.key)
        try:
            if row.state == "open":
                row = await self._made_whole(stream, row)
        except FileChanged:
            raise Unavailable("The log's file is being changed by others; try again.") from None
        except OSError as error:
            raise _refused(error) from error
        stream.row, stream.length = row, row.length
        if stream.digest is not None and stream.digest[0] != row.length:
            stream.digest = None
        return row

    async def _made_whole(self, stream: _Stream, row: LogStream) -> LogStream:
        """The file of an open stream has exactly the row's bytes afterwards; or as many as are left, and the row says so."""
        file = stream.file = stream.file or LogFile(self.bytes.path(row))
        size = await self.bytes.in_thread(partial(file.cut, row.length))
        while size < row.persisted:
            data = await self.bytes.archived(row, size, BLOCK)
            if not data:
                break
            await self.bytes.in_thread(partial(file.append, size, memoryview(data), None, durable=True))
            size += len(data)
        return row if size >= row.length else await self._told_lost(row, size)

    async def _told_lost(self, row: LogStream, left: int) -> LogStream:
        log.error(
            "acknowledged log bytes are missing on this server's disk",
            extra={"task_id": row.task_id, "fence": row.fence, "length": row.length, "left": left, "state": row.state},
        )
        await self._database.single(logs.shrink, row.task_id, row.fence, row.length, left)
        return await self._database.read(logs.stream, row.task_id, row.fence)

    async def reconcile(self, task_id: int, fence: int) -> LogStream:
        """The stream's row, after what is stored was compared with it: bytes that are not there are not promised."""
        async with self._held(Key(task_id, fence)) as stream:
            row = await self._look(stream)
            if row.state != "open" and row.expired_at is None:
                left = max(row.persisted, await self.bytes.size_on_disk(row))
                if left < row.length:
                    stream.row, row = None, await self._told_lost(row, left)
            return row

    # Reading

    async def read(self, task_id: int, offset: int, limit: int) -> Part:
        """Up to `limit` bytes of the task's whole log from `offset`; empty at its end.

        Raises Gone (log_expired) for a log that was deleted because it was old, Unavailable.
        """
        for _ in range(ATTEMPTS):
            rows = await self.streams(task_id)
            ends = [0]
            for row in rows:
                ends.append(ends[-1] + row.length)
            wanted, pieces = min(offset + limit, ends[-1]), []
            for row, (start, end) in zip(rows, pairwise(ends), strict=True):
                low, high = max(offset, start), min(wanted, end)
                if low < high:
                    pieces.append(await self.bytes.read(row, low - start, high - low))
                    if len(pieces[-1]) < high - low:
                        await self.reconcile(row.task_id, row.fence)
                        break
            else:
                return Part(offset, b"".join(pieces), ends[-1], rows[-1].state if rows else "open")
        raise Unavailable("The log cannot be read now; try again.")

    async def streams(self, task_id: int) -> list[LogStream]:
        """What the log is made of. Raises Gone (log_expired)."""
        rows = await self._database.read(logs.streams, task_id)
        if any(row.expired_at is not None for row in rows):
            raise Gone("The log is older than logs are kept here; it was deleted.", code="log_expired")
        return rows

    # The end

    @asynccontextmanager
    async def ending(self, task_id: int, fence: int, said: LogDigest, *, strict: bool) -> AsyncIterator[End | None]:
        """How the stream ends, for `logs.close` in the body: until that has ended, nothing is appended. None for one that
        has ended already. All its bytes are forced to the disk.

        With `strict` the sender is one that can look again. Raises LogRefused then: log_incomplete, and once log_mismatch.
        """
        async with self._held(Key(task_id, fence)) as stream:
            row = stream.row or await self._look(stream)
            if row.state != "open" or stream.file is None:
                yield None
                return
            end = await self._end(stream, stream.file, said, strict=strict)
            stream.row = None
            yield end

    async def _end(self, stream: _Stream, file: LogFile, said: LogDigest, *, strict: bool) -> End:
        try:
            await self.bytes.in_thread(file.sync)
            digest = stream.digest and stream.digest[1]
            digest = digest or await self.bytes.in_thread(partial(log_files.digest_of, file.path, stream.length))
        except OSError as error:
            stream.row = None
            raise _refused(error) from error
        if digest is None:
            stream.row = None
            raise Unavailable("The log's file was changed meanwhile; try again.")
        stream.digest = (stream.length, digest)
        end = ending(stream.length, digest.hexdigest(), said)
        if strict and end.state == "incomplete":
            raise LogRefused(
                f"The log has {stream.length} of {said.length} bytes; send the rest first.",
                code="log_incomplete",
                next_offset=stream.length,
            )
        if strict and end.state == "diverged" and stream.key.fence not in self._mismatched:
            if len(self._mismatched) >= MOST_TOLD:
                self._mismatched.clear()
            self._mismatched.add(stream.key.fence)
            raise LogRefused(
                "The stored log is another one than you say. What is stored stays; report again to accept.",
                code="log_mismatch",
                next_offset=stream.length,
                blocks=await self.bytes.in_thread(partial(log_files.block_digests, file.path, stream.length)),
            )
        self._mismatched.discard(stream.key.fence)
        if end.state != "complete":
            log.error(
                "a log is not what its sender says",
                extra={"task_id": stream.key.task_id, "fence": stream.key.fence, "state": end.state},
            )
        return end

    async def remove(self, file: CachedFile) -> None:
        """Deletes a file that is not needed any more."""
        async with self._held(file.key) as stream:
            stream.row = None
            await self.bytes.in_thread(partial(file.path.unlink, missing_ok=True))


def _begin(verdict: Settled | Gap | OverLimit, offset: int, length: int) -> int | None:
    match verdict:
        case Append(skip=skip):
            return skip
        case Gap(expected=expected):
            raise LogRefused(
                f"Bytes {expected} to {offset} are missing.",
                code="log_gap",
                next_offset=expected,
                expected_offset=expected,
            )
        case Conflict(at=at):
            raise LogRefused(
                "Other bytes are stored there; they stay.", code="log_conflict", conflict_at=at, next_offset=length
            )
        case Closed():
            raise LogRefused("The log is closed.", code="log_closed", next_offset=length)
        case OverLimit(limit=most):
            raise TooLarge(f"The log has reached its limit of {most} bytes.", code="log_limit", limit=most)
    return None


def _refused(error: OSError) -> StorageFull | Unavailable:
    if error.errno in _FULL:
        log.error("the disk for logs is full; nothing is acknowledged until there is room")
        return StorageFull("The disk for logs is full; nothing was stored. Free some space in the data directory.")
    log.error("the disk for logs fails", extra={"error": str(error)})
    return Unavailable("The disk for logs cannot be used right now; try again.")
