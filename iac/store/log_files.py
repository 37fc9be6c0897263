"""The files of the log cache: `<day>/<shard>/<task>-<fence>.log`, with the stream's bytes, masked and as they are.

Everything here blocks: call it in a thread. A failed append leaves the file as it was.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

BLOCK = 1024 * 1024
_NAME = re.compile(r"(\d{1,19})-(\d{1,19})\.log")
_ATTEMPTS = 5


class Key(NamedTuple):
    """What names a stream."""

    task_id: int
    fence: int


class CachedFile(NamedTuple):
    """A file that lies in the cache; `modified` is in seconds since 1970."""

    key: Key
    path: Path
    modified: float


def path_of(root: Path, key: Key, created: datetime) -> Path:
    """Where a stream's file lies: by the day (UTC) of its creation, then by task."""
    return root / created.date().isoformat() / f"{key.task_id & 0xFF:02x}" / f"{key.task_id}-{key.fence}.log"


class LogFile:
    """One stream's file, open. `read_only` for streams that have ended; such a file is not made when it is missing."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Raises FileNotFoundError for a missing one that is only to be read."""
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if read_only else _made(path)
        self._named = False

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def append(self, offset: int, data: memoryview, digest: hashlib._Hash | None, *, durable: bool) -> None:
        """Writes at `offset`, the file's end, and feeds the digest. Raises OSError; then nothing was written."""
        try:
            at = offset
            while at < offset + len(data):
                at += os.pwrite(self.fd, data[at - offset :], at)
            if durable:
                self._force()
        except OSError:
            with suppress(OSError):
                self.cut(offset)
            raise
        if digest is not None:
            digest.update(data)

    def read(self, offset: int, size: int) -> bytes:
        """Shorter only at the file's end."""
        found = os.pread(self.fd, size, offset)
        while len(found) < size and (more := os.pread(self.fd, size - len(found), offset + len(found))):
            found += more
        return found

    def cut(self, length: int) -> int:
        """Drops what is behind `length`, and returns how much there is now. A shorter file is not made longer."""
        if self.size > length:
            os.ftruncate(self.fd, length)
        return self.size

    def sync(self) -> None:
        """Forces the bytes to the disk. With a journal the file's name goes with them; `append` does not count on that."""
        os.fdatasync(self.fd)

    def _force(self) -> None:
        os.fdatasync(self.fd)
        if not self._named:
            for directory in self.path.parents[:3]:
                _sync_directory(directory)
            self._named = True

    def digest(self, length: int) -> hashlib._Hash:
        """sha256 of the first `length` bytes, or of as many as there are."""
        found, at = hashlib.sha256(), 0
        buffer = memoryview(bytearray(BLOCK))
        while size := os.preadv(self.fd, [buffer[: length - at]], at):
            found.update(buffer[:size])
            at += size
        return found

    def block_digests(self, length: int) -> list[str]:
        """sha256 of each MiB of the first `length` bytes, so that one sees where two logs part."""
        return [hashlib.sha256(self.read(at, min(BLOCK, length - at))).hexdigest() for at in range(0, length, BLOCK)]

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _made(path: Path) -> int:
    for left in reversed(range(_ATTEMPTS)):
        # An empty directory may be tidied away between these two steps.
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            if not left:
                raise
    raise FileNotFoundError(path)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_at(path: Path, offset: int, size: int) -> bytes:
    """A piece of a file that is not open; empty where there is none."""
    try:
        file = LogFile(path, read_only=True)
    except FileNotFoundError:
        return b""
    try:
        return file.read(offset, size)
    finally:
        file.close()


def digest_of(path: Path, length: int) -> str | None:
    """sha256 in hex of a file's first `length` bytes; None when there are not so many."""
    try:
        file = LogFile(path, read_only=True)
    except FileNotFoundError:
        return None
    try:
        return file.digest(length).hexdigest() if file.size >= length else None
    finally:
        file.close()


def size_of(path: Path) -> int:
    """0 where there is no file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def files_in(root: Path) -> Iterator[CachedFile]:
    """All log files, day by day, the oldest first."""
    for day in _days(root):
        for path in sorted(day.glob("*/*.log")):
            if match := _NAME.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    yield CachedFile(Key(int(match[1]), int(match[2])), path, path.stat().st_mtime)


def tidy(root: Path) -> None:
    """Removes the directories that are empty."""
    for day in _days(root):
        for directory in (*day.iterdir(), day):
            with suppress(OSError):  # not empty, or not a directory
                directory.rmdir()


def _days(root: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return sorted(path for path in root.iterdir() if _is_day(path.name))
    return []


def _is_day(name: str) -> bool:
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return True
