"""A task's log: one raw file that Terraform and we append to, and the task that carries it, masked, to the platform.

What is stored is a pure function of the raw file and the secrets: rendered, masked, capped. So after a crash the file is
carried again from its beginning, what is stored already is skipped, and nothing is lost or doubled.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf
from pathlib import Path

import trio

from iac.domain.logs import Capped
from iac.domain.redaction import Masker
from iac.domain.rendering import Edge, Event, Renderer, ResourceProgress, stage_marker
from iac.domain.work import LogDigest
from iac.errors import IacError

log = logging.getLogger(__name__)

READ = 256 * 1024
CHUNK = 1024 * 1024
TAIL_KEPT = 1024 * 1024
POLL = 0.05
RESERVE = 8 * 1024 * 1024
"""Bytes that the raw file always has room for, however full the disk becomes: there the last copy of a state may go."""
IN_A_THREAD = 64 * 1024
RETRY_FIRST, RETRY_MOST = 0.2, 5.0

Send = Callable[[int, bytes], Awaitable[int]]


@dataclass(slots=True)
class Pace:
    """How much log gathers before it is sent: `chunk` bytes or `interval` seconds, whichever comes first.

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


class Transform:
    """Raw bytes in, the bytes to be stored out; and the events that Terraform's -json lines told."""

    def __init__(self, secrets: Sequence[str], limit: int) -> None:
        self._renderer = Renderer()
        self._masker = Masker(secrets)
        self._capped = Capped(limit, min(TAIL_KEPT, limit))
        self._hash = hashlib.sha256()
        self.length = 0

    @property
    def digest(self) -> LogDigest:
        """Of all that came out so far."""
        return LogDigest(
            length=self.length, sha256=self._hash.hexdigest(), truncated_bytes=self._capped.truncated_bytes
        )

    def feed(self, raw: bytes) -> tuple[bytes, list[Event]]:
        text, events = self._renderer.feed(raw)
        return self._out(self._capped.feed(self._masker.feed(text))), events

    def finish(self) -> tuple[bytes, list[Event]]:
        text, events = self._renderer.finish()
        masked = self._masker.feed(text) + self._masker.finish()
        return self._out(self._capped.feed(masked) + self._capped.finish()), events

    def _out(self, data: bytes) -> bytes:
        self.length += len(data)
        self._hash.update(data)
        return data


class LogSpool:
    """The raw file. Everything that becomes log is appended here, by us and by Terraform's processes.

    `length` is how much log came out of it, `stored` how much of that the platform has; `refused` why it takes no more.
    `interval` goes over that of the pace.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.stage: str | None = None
        self.complete = False
        self.abandoned = False
        self.refused: IacError | None = None
        self.length = self.stored = 0
        self.interval: float | None = None
        self.flushes = 0
        self._ended = trio.Event()
        self._reserved = 0
        self.reserve(0)

    def reserve(self, length: int) -> None:
        """Keeps RESERVE bytes of the disk for what follows the first `length` bytes, in steps of half of it."""
        if length + RESERVE // 2 >= self._reserved:
            self._reserved = length + RESERVE
            if error := _allocate(self.fd, length, RESERVE):
                log.warning("no room could be reserved for a task's log", extra={"reason": os.strerror(error)})
                if error != errno.ENOSPC:
                    self._reserved = sys.maxsize  # this file system has no such thing; asking again is of no use

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
        size = os.fstat(self.fd).st_size
        return size == 0 or os.pread(self.fd, 1, size - 1) == b"\n"

    def _append(self, data: bytes) -> None:
        try:
            os.write(self.fd, data)
        except OSError as error:
            # A full disk must not stop what runs; the file that Terraform writes is the one that matters.
            log.error("a line of the task's log was not written", extra={"error": str(error)})


def _allocate(fd: int, offset: int, size: int) -> int:
    """Blocks of the disk behind the file's end, its length unchanged. Returns 0, or the error's number."""
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is None:  # not Linux
        return errno.ENOSYS
    keep_size = 1
    done = fallocate(fd, keep_size, ctypes.c_int64(offset), ctypes.c_int64(size))
    return 0 if done == 0 else ctypes.get_errno()


@dataclass(frozen=True, slots=True)
class Carrier:
    """Where the log goes, and who else wants to know."""

    send: Send
    on_stage: Callable[[str], Awaitable[None]]
    on_progress: Callable[[list[ResourceProgress]], Awaitable[None]]


@asynccontextmanager
async def open_log(
    path: Path, carrier: Carrier, *, secrets: Sequence[str], start: int, policy: LogPolicy
) -> AsyncIterator[tuple[LogSpool, Transform]]:
    """The spool, carried while the body runs and drained when it ends, cancelled or not, within the policy's budget.

    `start` bytes are stored already. Afterwards `spool.complete` says whether all of it is.
    """
    spool, transform = LogSpool(path), Transform(secrets, policy.limit)
    try:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope(shield=True)  # given its deadline when the body has ended
            nursery.start_soon(_within, scope, partial(carry, spool, transform, carrier, start=start, policy=policy))
            try:
                yield spool, transform
            finally:
                spool.close()
                scope.deadline = trio.current_time() + policy.drain_within
    finally:
        spool.release()
        if not spool.complete:
            log.error("a task's log is not complete", extra={"path": str(path), "carried": transform.length})


async def _within(scope: trio.CancelScope, work: Callable[[], Awaitable[None]]) -> None:
    with scope:
        try:
            await work()
        except Exception:  # the bulkhead: whatever becomes of its log, Terraform is not stopped for it
            log.exception("a task's log is carried no further")


async def carry(spool: LogSpool, transform: Transform, carrier: Carrier, *, start: int, policy: LogPolicy) -> None:
    """Carries the raw file until the spool is closed and read to its end; then `spool.complete` is set.

    It stays unset when the platform refuses the rest for good (`spool.refused` says why), or the spool is abandoned.
    """
    spool.stored = start
    pace = policy.pace or Pace(interval=policy.interval)
    raw_offset, pending, sent = 0, bytearray(), start
    skip, told, seen, sent_at, flushed = start, None, spool.stage, -inf, 0
    while not spool.abandoned:
        last, wanted = spool.closed, spool.flushes
        raw = os.pread(spool.fd, READ, raw_offset)
        raw_offset += len(raw)
        spool.reserve(raw_offset)
        at_end = last and not raw
        text, events = await _transformed(transform, raw, finish=at_end)
        skip, text = max(0, skip - len(text)), text[skip:]
        pending += text
        spool.length = transform.length
        if progress := [event for event in events if isinstance(event, ResourceProgress)]:
            await _quietly(carrier.on_progress(progress))
        # Told when it has lasted a look: a stage of some milliseconds is nobody's news, and telling it would cost as much.
        if spool.stage is not None and spool.stage == seen and spool.stage != told:
            told = spool.stage
            await _quietly(carrier.on_stage(told))
        seen = spool.stage
        interval = pace.interval if spool.interval is None else spool.interval
        now = not raw and (wanted > flushed or trio.current_time() >= sent_at + interval)
        if pending and (at_end or now or len(pending) >= pace.chunk):
            try:
                sent = spool.stored = await _deliver(carrier.send, sent, bytes(pending))
            except IacError as error:
                log.error("the platform refuses the rest of a log", extra={"error": error.message})
                spool.refused = error
                return
            pending.clear()
            sent_at = trio.current_time()
        if not raw:
            flushed = wanted
        if at_end:
            spool.complete = True
            return
        if not raw:
            await spool.wait_for_more()


async def _transformed(transform: Transform, raw: bytes, *, finish: bool) -> tuple[bytes, list[Event]]:
    if finish:
        return await trio.to_thread.run_sync(transform.finish)
    if len(raw) < IN_A_THREAD:
        return transform.feed(raw)
    return await trio.to_thread.run_sync(transform.feed, raw)


async def _deliver(send: Send, offset: int, data: bytes) -> int:
    """Sends all of it, for as long as the surrounding scope lets it try. Raises what trying again would not change."""
    delay, end = RETRY_FIRST, offset + len(data)
    while offset < end:
        try:
            offset = await send(offset, data[len(data) - (end - offset) :])
            delay = RETRY_FIRST
        except IacError as error:
            if not error.retryable:
                raise
            await trio.sleep(delay)
            delay = min(delay * 2, RETRY_MOST)
    return end


async def _quietly(call: Awaitable[None]) -> None:
    """For people only: its failure must not disturb the log."""
    try:
        await call
    except Exception as error:  # our own faults too
        log.warning("progress was not noted", extra={"error": repr(error)})
