"""The stored bytes of log streams, wherever they lie: on the server's disk, or else in PostgreSQL."""

from __future__ import annotations

import gzip
import hashlib
import logging
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from iac.domain.records import LogStream
from iac.store import log_archive, log_files
from iac.store.database import Database
from iac.store.log_archive import Packed, Piece
from iac.store.log_files import BLOCK, Key

log = logging.getLogger(__name__)

THREADS = 8
T = TypeVar("T")


class LogBytes:
    """Reads both places; changes neither."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.directory = directory
        self._database = database
        self._threads = trio.CapacityLimiter(THREADS)

    def path(self, row: LogStream) -> Path:
        """Where the stream's file is, if it is still there."""
        return log_files.path_of(self.directory, Key(row.task_id, row.fence), row.created_at)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """What touches the disk or takes milliseconds, with as much company as logs may have."""
        return await trio.to_thread.run_sync(call, limiter=self._threads)

    async def read(self, row: LogStream, offset: int, size: int) -> bytes:
        """File first, then the database. Shorter if neither has all of it."""
        try:
            data = await self.in_thread(partial(log_files.read_at, self.path(row), offset, size))
        except OSError as error:
            log.error("a log file cannot be read", extra={"path": str(self.path(row)), "error": str(error)})
            data = b""
        if len(data) < size:
            data += await self.archived(row, offset + len(data), size - len(data))
        return data

    async def archived(self, row: LogStream, offset: int, size: int) -> bytes:
        """What the database has of it."""
        found = await self._database.read(log_archive.chunks, row.task_id, row.fence, offset, size)
        return await self.in_thread(partial(log_archive.unpacked, found, offset, size))

    async def size_on_disk(self, row: LogStream) -> int:
        """0 where there is no file."""
        return await self.in_thread(partial(log_files.size_of, self.path(row)))

    async def digest_on_disk(self, row: LogStream) -> str | None:
        """sha256 of the stream's file; None when it is not there, or shorter than the stream."""
        digest = await self.in_thread(partial(log_files.digest_of, self.path(row), row.length))
        return None if digest is None else digest.hexdigest()

    async def digest_in_archive(self, row: LogStream) -> str | None:
        """sha256 of what the database has of the stream, read back; None when that cannot be unpacked."""
        digest, offset = hashlib.sha256(), 0
        while found := await self._database.read(log_archive.next_chunks, row.task_id, row.fence, offset):
            try:
                offset += await self.in_thread(partial(_fold, digest, found))
            except (gzip.BadGzipFile, zlib.error, EOFError):
                return None
        return digest.hexdigest()

    async def pieces(self, row: LogStream, most: int) -> list[Piece]:
        """The next bytes of the file that the database has not, packed for it; `most` bytes at most."""
        return await self.in_thread(partial(_pieces, self.path(row), row, most))


def _fold(digest: hashlib._Hash, found: list[Packed]) -> int:
    size = 0
    for each in found:
        data = gzip.decompress(each.data)
        digest.update(data)
        size += len(data)
    return size


def _pieces(path: Path, row: LogStream, most: int) -> list[Piece]:
    found: list[Piece] = []
    at, end = row.persisted, min(row.length, row.persisted + most)
    while at < end and (data := log_files.read_at(path, at, min(BLOCK, end - at))):
        packed = gzip.compress(data, 1, mtime=0)
        found.append(Piece(row.task_id, row.fence, at, len(data), packed))
        at += len(data)
    return found
