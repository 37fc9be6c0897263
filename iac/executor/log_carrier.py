"""A log's way to the platform: one task reads the raw file and transforms it, one sends, one tells people what it saw.

They run beside each other: while a chunk is on its way the next one is packed, and the file is read on, until AHEAD chunks
are held. Then the reader stops: what is not read yet is safe in the raw file. One request is in flight at a time.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from iac.domain.log_transform import Reading, Replay, Transform
from iac.domain.log_window import Window
from iac.domain.rendering import Event, ResourceProgress
from iac.errors import BadRequest, IacError, LogRefused
from iac.executor.log_spool import POLL, LogPolicy, LogSpool, Pace

log = logging.getLogger(__name__)

READ = 512 * 1024
AHEAD = 3
"""Chunks in memory at most: one in flight, one packed, one that gathers."""
IN_A_THREAD = 64 * 1024
RETRY_FIRST, RETRY_MOST = 0.2, 30.0
SMALLEST, LONG = 32 * 1024, 10.0
"""Bytes of a chunk at least, and seconds after which one took too long: on a slow link they become smaller."""

Send = Callable[[int, bytes], Awaitable[int]]
Post = Callable[[], Awaitable[int]]
Prepare = Callable[[int, bytes], Awaitable[Post]]


@dataclass(frozen=True, slots=True)
class Carrier:
    """Where the log goes, and who else wants to know.

    `prepare` makes a chunk ready, which may take a while; what it returns sends it, as often as it is called, and
    returns the offset to go on at.
    """

    prepare: Prepare
    on_stage: Callable[[str], Awaitable[None]]
    on_progress: Callable[[list[ResourceProgress]], Awaitable[None]]


def unprepared(send: Send) -> Prepare:
    """For a platform that takes chunks as they are."""

    async def prepare(offset: int, data: bytes) -> Post:
        return partial(send, offset, data)

    return prepare


@asynccontextmanager
async def open_log(
    path: Path, carrier: Carrier, *, secrets: Sequence[str], start: int, policy: LogPolicy
) -> AsyncIterator[tuple[LogSpool, Transform]]:
    """The spool, carried while the body runs and drained when it ends, cancelled or not, within the policy's budget.

    `start` bytes are stored already. Afterwards `spool.complete` says whether all of it is.
    """
    spool = LogSpool(path)
    work = _Carriage(spool, carrier, partial(Transform, secrets, policy.limit), policy, start)
    transform = work.transform
    try:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope(shield=True)  # given its deadline when the body has ended
            nursery.start_soon(_within, scope, work.run)
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


class _Signal:
    """Set any number of times, it wakes the one who waits once."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


@dataclass(frozen=True, slots=True)
class _Chunk:
    offset: int
    end: int
    post: Post


class _Carriage:
    """One log's. `run` ends when the spool is closed and all of it is stored: then `spool.complete` is set.

    It stays unset when the platform refuses the rest for good (`spool.refused` says why), or the spool is abandoned.
    """

    def __init__(
        self, spool: LogSpool, carrier: Carrier, made: Callable[[], Transform], policy: LogPolicy, start: int
    ) -> None:
        self.transform = made()
        self._spool, self._carrier, self._made = spool, carrier, made
        self._pace = policy.pace or Pace(interval=policy.interval)
        self._window = Window(start)
        self._replay: Replay | None = None
        self._at_end = False
        self._most = self._pace.chunk
        self._filled, self._emptied, self._noted = _Signal(), _Signal(), _Signal()
        self._progress: dict[str, ResourceProgress] = {}
        self._stage: str | None = None
        self._reading = Reading(self.transform, spool.read, spool.gaps)
        self._marks: deque[tuple[int, int]] = deque()
        """(length of the log, length of the raw file that made it), not stored yet."""
        spool.stored = start

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell)
            nursery.start_soon(self._send_all, nursery.cancel_scope)
            await self._read_all()
            if self._spool.abandoned:
                nursery.cancel_scope.cancel()

    # The reader

    async def _read_all(self) -> None:
        spool, window = self._spool, self._window
        seen, flushed = spool.stage, 0
        while not spool.abandoned:
            spool.reserve(spool.size)
            if window.held >= AHEAD * self._pace.chunk:
                with trio.move_on_after(POLL):
                    await self._emptied.wait()
                continue
            last, wanted = spool.closed, spool.flushes
            read = await self._step(finish=last)
            # Told when it has lasted a look: a stage of some milliseconds is nobody's news, and telling it costs as much.
            if spool.stage is not None and spool.stage == seen:
                self._note(spool.stage)
            seen = spool.stage
            if not read:
                if wanted > flushed or self._at_end:
                    window.press()
                flushed = wanted
            self._filled.set()
            if self._at_end:
                return
            if not read:
                await spool.wait_for_more()

    async def _step(self, *, finish: bool) -> int:
        """Reads on. At the end of a file that grows no more, `finish` makes the rest of it."""
        spool = self._spool
        if spool.unread < IN_A_THREAD:
            read, text, events = self._reading.step(IN_A_THREAD)
        else:
            read, text, events = await trio.to_thread.run_sync(self._reading.step, READ)
        if not read and finish:
            text, events = self.transform.finish()  # a line and the kept tail at most: a few milliseconds
            self._at_end = True
        spool.read_to = self._reading.offset
        self._window.put(text, trio.current_time())
        spool.length = self._window.end
        self._mark()
        spool.recent.put(spool.length - len(text), text)
        self._note(None, events)
        return read

    def _mark(self) -> None:
        """Remembers how much of the raw file made how much log, until that is stored."""
        spool, marks = self._spool, self._marks
        if marks and marks[-1][0] == spool.length:
            marks.pop()
        marks.append((spool.length, spool.read_to))
        self._stored()

    def _stored(self) -> None:
        while self._marks and self._marks[0][0] <= self._window.acked:
            self._spool.sent_to = self._marks.popleft()[1]

    # The sender

    async def _send_all(self, scope: trio.CancelScope) -> None:
        try:
            chunk: _Chunk | None = None
            while True:
                chunk = chunk or await self._next()
                if chunk is None:
                    break
                chunk = await self._send(chunk)
            self._spool.complete = True
        except IacError as error:
            log.error("the platform refuses the rest of a log", extra={"error": error.message})
            self._spool.refused = error
        self._noted.set()
        if self._spool.refused is not None:
            scope.cancel()

    async def _next(self) -> _Chunk | None:
        """The next chunk, packed, as soon as it is due; None when all is sent."""
        window, pace = self._window, self._pace
        while True:
            interval = pace.interval if self._spool.interval is None else self._spool.interval
            most = min(self._most, pace.chunk)
            if window.due(trio.current_time(), most, interval):
                break
            if self._at_end and window.acked >= window.end:
                return None
            await self._filled.wait()
        if window.missing:
            offset, data = window.cut, await self._again(min(window.missing, most))
            window.cut += len(data)
        else:
            offset, data = window.take(most)
        return _Chunk(offset, offset + len(data), await self._carrier.prepare(offset, data))

    async def _send(self, chunk: _Chunk) -> _Chunk | None:
        """Sends it, however long that takes, and packs the next one meanwhile; returns that if it is still the next."""
        following: _Chunk | None = None
        refused: IacError | None = None
        after = chunk.offset

        async def prepare() -> None:
            nonlocal following
            following = await self._next()

        async with trio.open_nursery() as nursery:
            if not self._window.missing:
                nursery.start_soon(prepare)
            try:
                after = await self._delivered(chunk)
            except IacError as error:
                refused = error
            nursery.cancel_scope.cancel()
        if refused is not None:
            raise refused
        self._answered(chunk, following, after)
        return following if after == chunk.end else None

    def _answered(self, chunk: _Chunk, following: _Chunk | None, after: int) -> None:
        spool, window = self._spool, self._window
        expected = after == chunk.end
        # What was taken and not packed, and what no longer follows, is taken once more.
        window.answered(after, following.end if expected and following is not None else after)
        spool.stored = after
        self._stored()
        self._emptied.set()
        if not expected:
            extra = {"sent": chunk.offset, "goes_on_at": after, "path": str(spool.path)}
            log.warning("a log goes on elsewhere than it should", extra=extra)

    async def _delivered(self, chunk: _Chunk) -> int:
        """Where the platform goes on; for as long as the surrounding scope lets it try. That is the chunk's own beginning
        if it has to be sent in smaller ones. Raises what trying again would not change.
        """
        delay = RETRY_FIRST
        while True:
            began, wait = trio.current_time(), 0.0
            try:
                after = await chunk.post()
            except LogRefused as error:
                after = self._elsewhere(error)
            except IacError as error:
                # A broken checksum is the way's fault, and ways are mended.
                if not error.retryable and not (isinstance(error, BadRequest) and error.code == "checksum_mismatch"):
                    raise
                after, wait = chunk.offset, _asked_for(error)
                log.warning("a piece of a log was not taken yet", extra={"error": error.message})
            too_large = self._sized(chunk, trio.current_time() - began)
            if after != chunk.offset or chunk.end == chunk.offset:
                return after
            await trio.sleep(wait + random.uniform(delay / 2, delay))  # noqa: S311 - to spread agents, not to hide
            if too_large:
                return after
            delay = min(delay * 2, RETRY_MOST)

    def _sized(self, chunk: _Chunk, took: float) -> bool:
        """Chunks become so large that each takes a few seconds at most. Whether this one took too long for its size."""
        if took > LONG:
            self._most = max(SMALLEST, (chunk.end - chunk.offset) // 2)
        elif took < LONG / 4:
            self._most = min(self._pace.chunk, self._most * 2)
        return chunk.end - chunk.offset > self._most

    def _elsewhere(self, error: LogRefused) -> int:
        """The platform has less than we thought, or other bytes: it goes on at what it says."""
        at = error.extras.get("next_offset")
        if error.code not in ("log_gap", "log_conflict") or not isinstance(at, int):
            raise error
        if error.code == "log_conflict":
            log.error("the platform has other bytes of a log; they stay", extra={"path": str(self._spool.path)})
            self._spool.diverged = True
        return at

    async def _again(self, size: int) -> bytes:
        """Bytes that the platform had, and lost: made once more from the raw file."""
        spool, offset = self._spool, self._window.cut
        if self._replay is None or self._replay.offset > offset:
            log.warning("a log is made again from its beginning", extra={"path": str(spool.path), "from": offset})
            self._replay = Replay(Reading(self._made(), spool.read, spool.gaps), step=READ)
        data = await trio.to_thread.run_sync(self._replay.take, offset, size)
        if not data:
            raise LogRefused("The raw log is shorter than what was made from it.", code="log_gone")
        return data

    # Who is told

    def _note(self, stage: str | None, events: Sequence[Event] = ()) -> None:
        if stage is not None and stage != self._stage:
            self._stage = stage
            self._noted.set()
        for event in events:
            if isinstance(event, ResourceProgress):
                # Of each resource the newest: an outage does not make this grow without end.
                self._progress[event.address] = event
                self._noted.set()

    async def _tell(self) -> None:
        """For people only: its failures, and how long it takes, must not disturb the log."""
        told: str | None = None
        while True:
            await self._noted.wait()
            if self._stage != told and self._stage is not None:
                told = self._stage
                await _quietly(self._carrier.on_stage(told))
            if self._progress:
                progress, self._progress = list(self._progress.values()), {}
                await _quietly(self._carrier.on_progress(progress))
            if self._spool.complete and not self._progress:
                return


def _asked_for(error: IacError) -> float:
    """The seconds that the platform wants us to wait."""
    wait = error.extras.get("retry_after_s")
    return min(float(wait), RETRY_MOST) if isinstance(wait, int | float) else 0.0


async def _quietly(call: Awaitable[None]) -> None:
    try:
        await call
    except Exception as error:  # our own faults too
        log.warning("progress was not noted", extra={"error": repr(error)})
