"""A task's raw log: one file that Terraform and we append to. It is first, and everything else is made from it.

What is stored is a pure function of the raw file and the secrets: rendered, masked, capped. So after a crash the file is
carried again from its beginning, what is stored already is skipped, and nothing is lost or doubled.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trio

from iac.domain.live import Ring
from iac.domain.log_transform import Gap
from iac.domain.rendering import Edge, stage_marker
from iac.domain.spool_quota import KEPT, GiveUp, RawLog
from iac.errors import IacError, LogRefused
from iac.executor.log_disk import allocate, allocated, keep, kept, punch

log = logging.getLogger(__name__)

CHUNK = 1024 * 1024
POLL = 0.05
RESERVE, LEAST_RESERVE = 8 * 1024 * 1024, 1024 * 1024
"""Bytes that the raw file always has room for, however full the disk becomes: there the last copy of a state may go. On a
disk that is too small it is half of that, or a quarter, or an eighth.
"""
RECENT = 256 * 1024
"""The last bytes of a log that are kept in memory, for who begins to watch it."""


@dataclass(slots=True)
class Pace:
    """How much log gathers before it is sent: `chunk` bytes, or less when the oldest of it is `interval` seconds old.

    Shared by the logs of a runner, and may change while they are carried.
    """

    chunk: int = CHUNK
    interval: float = 0.1


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """How a log is carried; seconds and bytes. `pace` is one that others may change, over the `interval` of this log."""

    limit: int
    interval: float = 0.1
    drain_within: float = 120.0
    pace: Pace | None = None


class LogSpool:
    """The raw file. Everything that becomes log is appended here, by us and by Terraform's processes.

    `length` is how much log came out of it, `stored` how much of that the platform has; `refused` why it takes no more;
    `diverged` whether it has other bytes than ours, which then stay. `interval` goes over that of the pace. `recent` are
    the newest bytes of the log, masked; `read_to` and `sent_to` how much of the raw file was read, and was stored.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.stage: str | None = None
        self.complete = False
        self.diverged = False
        self.abandoned = False
        self.refused: IacError | None = None
        self.length = self.stored = 0
        self.read_to = self.sent_to = 0
        self.recent = Ring(RECENT)
        self.given_up = kept(path)
        self.interval: float | None = None
        self.flushes = 0
        self._ended = trio.Event()
        self._reserved, self._room = 0, RESERVE
        self.reserve(0)

    def reserve(self, length: int) -> None:
        """Keeps RESERVE bytes of the disk for what follows the first `length` bytes, in steps of half of it."""
        if length + self._room // 2 >= self._reserved:
            self._room, error = RESERVE, allocate(self.fd, length, RESERVE)
            while error == errno.ENOSPC and self._room > LEAST_RESERVE:
                self._room //= 2
                error = allocate(self.fd, length, self._room)
            self._reserved = length + self._room
            if error:
                log.warning("no room could be reserved for a task's log", extra={"reason": os.strerror(error)})
                if error != errno.ENOSPC:
                    self._reserved = sys.maxsize  # this file system has no such thing; asking again is of no use

    @property
    def gaps(self) -> list[Gap]:
        """What was given up before it was read; it may grow, always behind what is read."""
        return self.given_up.dropped

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def unread(self) -> int:
        return self.size - self.read_to

    def read(self, size: int, offset: int) -> bytes:
        """Raw bytes; none at the end. Raises LogRefused for those that were given back because they were stored."""
        if any(gap.start < offset + size and offset < gap.end for gap in self.given_up.stored):
            raise LogRefused("The raw log has given these bytes back; it cannot be carried again.", code="log_gone")
        return os.pread(self.fd, size, offset)

    def as_raw_log(self, fence: int) -> RawLog:
        """How much there is of it, for who decides what has to go."""
        return RawLog(
            fence=fence,
            allocated=allocated(self.fd),
            size=self.size,
            read_to=self.read_to,
            sent_to=self.sent_to,
            stored=tuple(self.given_up.stored),
            dropped=tuple(self.given_up.dropped),
        )

    def give_up(self, what: GiveUp) -> bool:
        """Lets bytes go for good. That they are gone is on the disk before they are, so the log can be made again the same.

        Writes and forces a small file: milliseconds, in which nothing may be read here. False where it is not possible.
        """
        gap = what.gap
        if what.kind == "dropped":
            # Whole lines, if they are not too long; the newline before the first one that stays, stays too.
            end = max(self._next_line(gap.end) - 1, gap.start)
            gap = Gap(gap.start if what.extends else self._next_line(gap.start), end)
        gaps = self.given_up.dropped if what.kind == "dropped" else self.given_up.stored
        before = [*gaps]
        if what.extends:
            gaps[-1] = gap
        else:
            gaps.append(gap)
        try:
            keep(self.path, self.given_up)
        except OSError as error:
            log.error("a full spool cannot give up anything", extra={"error": str(error)})
            gaps[:] = before
            return False
        extra = {"path": str(self.path), "bytes": gap.end - gap.start, "kind": what.kind}
        log.warning("the spool is full: raw log is given up", extra=extra)
        return punch(self.fd, gap.start, gap.end) == 0

    def _next_line(self, offset: int) -> int:
        """Where the first line begins at or after the offset; the offset itself if the line is too long."""
        found = os.pread(self.fd, KEPT // 2, offset - 1).find(b"\n")
        return offset + found if found >= 0 else offset

    def begin(self, stage: str) -> None:
        """Marks a stage's beginning in the log, and the end of the one before."""
        self.end()
        self.stage = stage
        self._mark("begin", "")
        self.flush()

    def end(self, detail: str = "") -> None:
        if self.stage is not None:
            self._mark("end", detail)
            self.stage = None

    def say(self, text: str) -> None:
        """A line of ours for the reader of the log."""
        self._append((b"" if self._on_fresh_line() else b"\n") + f"[iac] {text}\n".encode())

    def flush(self) -> None:
        """What there is is sent now, whatever the pace says."""
        self.flushes += 1

    def close(self) -> None:
        """Nothing is appended after this."""
        self.end()
        self._ended.set()

    def abandon(self) -> None:
        """Others still append, but we go: what is unfinished now is for the one who carries it again, from the beginning."""
        self.abandoned = True
        self._ended.set()

    @property
    def closed(self) -> bool:
        return self._ended.is_set()

    async def wait_for_more(self) -> None:
        with trio.move_on_after(POLL):
            await self._ended.wait()

    def release(self) -> None:
        os.close(self.fd)

    def _mark(self, edge: Edge, detail: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._append(stage_marker(self.stage or "-", edge, at, detail, fresh_line=self._on_fresh_line()))

    def _on_fresh_line(self) -> bool:
        size = self.size
        return size == 0 or os.pread(self.fd, 1, size - 1) == b"\n"

    def _append(self, data: bytes) -> None:
        try:
            os.write(self.fd, data)
        except OSError as error:
            # A full disk must not stop what runs; the file that Terraform writes is the one that matters.
            log.error("a line of the task's log was not written", extra={"error": str(error)})
