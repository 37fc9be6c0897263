"""A task's log, live, over a connection that may break: each byte once, in order, however often it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

import httpx
import msgspec

from iac.cli.sse import EventParser, Malformed, ServerEvent
from iac.cli.transport import ApiError, Transport, Unreachable, backoff, may_pass
from iac.domain.records import Outcome, Phase, Status

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


class End(StatusEvent, frozen=True):
    """The task rests (over, lost, or waiting for a confirmation) and all of its log until `offset` was told."""

    offset: int


LogEvent = LogBytes | StatusEvent | End


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
    waits, heard = backoff(), time.monotonic()
    while True:
        try:
            for event in _connection(transport, task_id, offset):
                if isinstance(event, LogBytes):
                    offset = event.next_offset
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


def _connection(transport: Transport, task_id: int, offset: int) -> Iterator[LogEvent]:
    """What one connection tells, without a byte before `offset` and without a gap."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(offset), "Cache-Control": "no-store"}
    path, parser = f"/api/v1/tasks/{task_id}/logs/stream", EventParser()
    with transport.stream(path, read_timeout=SILENCE, headers=headers, params={"offset": offset}) as response:
        for told in _events(response, parser):
            event = _decoded(told)
            if isinstance(event, LogBytes):
                event = _due(event, offset)
                if event is None:
                    continue
                offset = event.next_offset
            if event is not None:
                yield event


def _events(response: httpx.Response, parser: EventParser) -> Iterator[ServerEvent]:
    for piece in response.iter_bytes():
        yield from parser.feed(piece)


def _decoded(event: ServerEvent) -> LogEvent | None:
    """None for kinds of events that a newer server may have."""
    kind = {"log": LogBytes, "status": StatusEvent, "end": End}.get(event.name)
    try:
        return None if kind is None else msgspec.json.decode(event.data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Broken(f"the server sent an event that cannot be read: {error}") from None


def _due(event: LogBytes, offset: int) -> LogBytes | None:
    """The part of it that was not told yet."""
    if event.offset > offset:
        raise _Broken(f"bytes {offset} to {event.offset} of the log are missing")
    if event.next_offset != event.offset + len(event.data):
        raise _Broken("a piece of the log is not as long as it says")
    data = event.data[offset - event.offset :]
    return LogBytes(offset, event.next_offset, data) if data else None
