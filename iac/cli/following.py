"""A task's log, live, over a connection that may break: each byte once, in order, however often it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

import httpx
import msgspec

from iac.cli.sse import EventParser, Malformed, ServerEvent
from iac.cli.transport import ApiError, Transport, Unreachable, backoff, may_pass
from iac.domain.cancel_bodies import CancelView
from iac.domain.live import Ring
from iac.domain.records import Outcome, Phase, Status

RECENT = 1024 * 1024
"""Bytes that are remembered, to see whether what comes again is the same."""
SILENCE = 45.0
"""Seconds without a byte after which a connection is given up; the server says something each 15."""


class LogBytes(msgspec.Struct, frozen=True):
    """Log bytes; `next_offset` is where the following ones begin."""

    offset: int
    next_offset: int
    data: bytes


class StatusEvent(msgspec.Struct, frozen=True):
    """The task's status or stage changed, or the connection is new."""

    status: Status
    phase: Phase
    stage: str | None
    outcome: Outcome | None
    reason: str | None
    cancel: CancelView | None = None


class End(StatusEvent, frozen=True):
    """The task rests (over, lost, or waiting for a confirmation) and all of its log until `offset` was told."""

    offset: int = 0


class Rewound(msgspec.Struct, frozen=True):
    """What was told of the log from `offset` on came live and is not what is stored; what is stored follows."""

    offset: int


LogEvent = LogBytes | Rewound | StatusEvent | End


class _Reset(msgspec.Struct, frozen=True):
    offset: int


class _Told:
    """Which bytes were told. `offset` is the one that is due; it goes back when the server says so."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.position = str(offset)
        self._recent = Ring(RECENT)
        self._recent.restart(offset)

    def take(self, event: LogBytes, position: str) -> Iterator[LogEvent]:
        """What is new in it; what was told before and is the same is left out. Raises _Broken."""
        if event.offset > self.offset:
            raise _Broken(f"bytes {self.offset} to {event.offset} of the log are missing")
        if event.next_offset != event.offset + len(event.data):
            raise _Broken("a piece of the log is not as long as it says")
        data = event.data[self.offset - event.offset :]
        if not data:
            return
        start, self.offset, self.position = self.offset, event.next_offset, position or str(event.next_offset)
        differs = self._recent.differs(start, data)
        if differs is not None:
            self._recent.restart(differs)
            yield Rewound(differs)
        new = data[self._recent.end - start :]
        if new:
            self._recent.put(event.next_offset - len(new), new)
            yield LogBytes(event.next_offset - len(new), event.next_offset, new)

    def reset(self, event: _Reset) -> None:
        self.offset, self.position = min(event.offset, self.offset), str(min(event.offset, self.offset))

    def end(self) -> Iterator[LogEvent]:
        """What was told live and is not stored."""
        if self._recent.end > self.offset:
            self._recent.restart(self.offset)
            yield Rewound(self.offset)


class _Broken(Exception):
    """The stream cannot be used any further; another one can."""


def follow_log(
    transport: Transport,
    task_id: int,
    offset: int = 0,
    *,
    patience: float = 300.0,
    on_break: Callable[[str], None] | None = None,
) -> Generator[LogEvent, None, None]:
    """Events until `End`. A broken connection is replaced, and the log goes on with the byte that is due.

    Gives up after `patience` seconds without an answer; `on_break` is told why each connection ended. Raises ApiError
    where the server refuses for good, Unreachable when patience is at its end.
    """
    waits, heard, told = backoff(), time.monotonic(), _Told(offset)
    while True:
        try:
            for event in _connection(transport, task_id, told):
                waits, heard = backoff(), time.monotonic()
                yield event
                if isinstance(event, End):
                    return
            why = "the server ended the stream"
        except (ApiError, Unreachable) as error:
            if not may_pass(error) or time.monotonic() - heard > patience:
                raise
            why = error.why if isinstance(error, Unreachable) else error.message
        except (_Broken, Malformed) as error:
            why = str(error)
        if on_break is not None:
            on_break(why)
        transport.pause(next(waits))


def _connection(transport: Transport, task_id: int, told: _Told) -> Iterator[LogEvent]:
    """What one connection tells, without a byte before the one that is due and without a gap."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": told.position, "Cache-Control": "no-store"}
    path, parser = f"/api/v1/tasks/{task_id}/logs/stream", EventParser()
    params = {"offset": told.offset}
    with transport.stream(path, read_timeout=SILENCE, headers=headers, params=params) as response:
        for each in _events(response, parser):
            match _decoded(each):
                case LogBytes() as piece:
                    yield from told.take(piece, each.id)
                case _Reset() as reset:
                    told.reset(reset)
                case End() as end:
                    yield from told.end()
                    yield end
                case StatusEvent() as status:
                    if status.status in ("pending", "queued"):
                        yield from told.end()  # nobody is left who would tell it again
                    yield status


def _events(response: httpx.Response, parser: EventParser) -> Iterator[ServerEvent]:
    for piece in response.iter_bytes():
        yield from parser.feed(piece)


def _decoded(event: ServerEvent) -> LogBytes | _Reset | StatusEvent | End | None:
    """None for kinds of events that a newer server may have."""
    kind = {"log": LogBytes, "status": StatusEvent, "reset": _Reset, "end": End}.get(event.name)
    try:
        return None if kind is None else msgspec.json.decode(event.data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Broken(f"the server sent an event that cannot be read: {error}") from None
