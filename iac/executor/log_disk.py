"""What a raw log takes of the disk: room that is reserved for it, and room that is given back.

Linux only; elsewhere nothing is reserved and nothing can be given back. A gap is on the disk before its bytes go, so that
whoever reads the file again, after a crash too, knows that zeros are no log.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from iac.domain.log_transform import Gap

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
RAW_LOG = "raw.log"
BLOCK = 512
"""Bytes that `st_blocks` counts in."""


def allocate(fd: int, offset: int, size: int) -> int:
    """Blocks of the disk behind the file's end, its length unchanged. Returns 0, or the error's number."""
    return _fallocate(fd, _KEEP_SIZE, offset, size)


def punch(fd: int, start: int, end: int) -> int:
    """Gives the blocks of these bytes back; they read as zeros. Returns 0, or the error's number."""
    return _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, start, end - start)


def _fallocate(fd: int, mode: int, offset: int, size: int) -> int:
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is None:  # not Linux
        return errno.ENOSYS
    done = fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(size))
    return 0 if done == 0 else ctypes.get_errno()


def allocated(fd: int) -> int:
    """Bytes of the disk that the file takes."""
    return os.fstat(fd).st_blocks * BLOCK


def allocated_in(tasks: Path) -> int:
    """Bytes of the disk that all raw logs below a directory of work directories take, those that were left too."""
    found = 0
    for path in tasks.glob(f"*/{RAW_LOG}"):
        with suppress(FileNotFoundError):
            found += path.stat().st_blocks * BLOCK
    return found


class GivenUp(msgspec.Struct):
    """Raw bytes that the file has no more: `dropped` ones nobody will ever read, `stored` ones the platform has."""

    dropped: list[Gap] = []
    stored: list[Gap] = []


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.gaps")


def kept(path: Path) -> GivenUp:
    """What a raw log has given up so far."""
    try:
        return msgspec.json.decode(_record(path).read_bytes(), type=GivenUp)
    except FileNotFoundError:
        return GivenUp()


def keep(path: Path, given_up: GivenUp) -> None:
    """On the disk for good when it returns. Raises OSError."""
    record = _record(path)
    new = record.with_name(f"{record.name}.new")
    with new.open("wb") as file:
        file.write(msgspec.json.encode(given_up))
        file.flush()
        os.fsync(file.fileno())
    new.rename(record)
    directory = os.open(record.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
