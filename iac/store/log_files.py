"""The files of the log cache: `<day>/<shard>/<task>-<fence>.log`, with the stream's bytes, masked and as they are.

Everything here blocks: call it in a thread. A failed append leaves the file as it was.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


class FileChanged(Exception):
    """A file is not as it was left: somebody else has been there."""


class LogFile:
    """One stream's file, from the writer's side. It is open only while it is used, so there may be any number of these."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._named = False

    def append(self, offset: int, data: memoryview, digest: hashlib._Hash | None, *, durable: bool) -> None:
        """Writes at `offset`, the file's end, and feeds the digest; forces it to the disk if `durable`.

        Raises OSError, and then nothing was written; FileChanged when `offset` is not where the file ends.
        """
        try:
            with _opened(self.path, os.O_RDWR) as fd:
                if os.fstat(fd).st_size != offset:
                    raise FileChanged(self.path)
                self._write(fd, offset, data, durable=durable)
        except FileNotFoundError:
            raise FileChanged(self.path) from None
        if digest is not None:
            digest.update(data)

    def _write(self, fd: int, offset: int, data: memoryview, *, durable: bool) -> None:
        try:
            at = offset
            while at < offset + len(data):
                at += os.pwrite(fd, data[at - offset :], at)
            if durable:
                self._force(fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, offset)
            raise

    def cut(self, length: int) -> int:
        """Makes the file if there is none, drops what is behind `length`, and returns how much there is now."""
        with _opened(self.path, os.O_RDWR | os.O_CREAT) as fd:
            size = os.fstat(fd).st_size
            if size > length:
                os.ftruncate(fd, length)
            return min(size, length)

    def sync(self) -> None:
        """Forces the bytes to the disk. With a journal the file's name goes with them; `append` does not count on that."""
        with _opened(self.path, os.O_RDWR) as fd:
            os.fdatasync(fd)

    def _force(self, fd: int) -> None:
        os.fdatasync(fd)
        if not self._named:
            for directory in self.path.parents[:3]:
                with _opened(directory, os.O_RDONLY | os.O_DIRECTORY) as its:
                    os.fsync(its)
            self._named = True


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """The descriptor, as long as the body runs. Where the flags say that a file is to be made, its directories are too."""
    attempts = _ATTEMPTS if flags & os.O_CREAT else 1
    while True:
        attempts -= 1
        if flags & os.O_CREAT:
            # An empty directory may be tidied away between these two steps.
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            if not attempts:
                raise
        else:
            break
    try:
        yield fd
    finally:
        os.close(fd)


def read_at(path: Path, offset: int, size: int) -> bytes:
    """A piece of a file; shorter at its end, empty where there is no file."""
    try:
        with _opened(path, os.O_RDONLY) as fd:
            found = os.pread(fd, size, offset)
            while len(found) < size and (more := os.pread(fd, size - len(found), offset + len(found))):
                found += more
            return found
    except FileNotFoundError:
        return b""


def digest_of(path: Path, length: int) -> hashlib._Hash | None:
    """sha256 of a file's first `length` bytes; None when there are not so many."""
    digest, at = hashlib.sha256(), 0
    buffer = memoryview(bytearray(min(BLOCK, length)))
    try:
        with _opened(path, os.O_RDONLY) as fd:
            while size := os.preadv(fd, [buffer[: length - at]], at):
                digest.update(buffer[:size])
                at += size
    except FileNotFoundError:
        return None
    return digest if at == length else None


def block_digests(path: Path, length: int) -> list[str]:
    """sha256 of each MiB of the first `length` bytes, so that one sees where two logs part."""
    starts = range(0, length, BLOCK)
    return [hashlib.sha256(read_at(path, at, min(BLOCK, length - at))).hexdigest() for at in starts]


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
