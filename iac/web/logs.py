"""A task's log: bytes by offset, and live as server-sent events."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import msgspec
import trio
from quart import Response, request

from iac.domain.records import Task
from iac.store import tasks
from iac.store.logs import Part
from iac.web.platform import Platform
from iac.web.routing import MIB, Api, Call
from iac.web.tasks import ONE

TAG = "Logs"
PIECE = 256 * 1024
SILENCE = 15.0
"""Seconds after which a comment is sent, so that proxies and clients know that the stream lives."""
RESTING = frozenset({"planned", "lost", "cancelled", "succeeded", "failed"})
_NO_STORE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class LogQuery(msgspec.Struct, frozen=True):
    offset: int = 0
    limit: int = MIB

    def __post_init__(self) -> None:
        if not 0 <= self.offset < 1 << 62:
            raise ValueError("`offset` is not a byte offset")
        if not 1 <= self.limit <= 8 * MIB:
            raise ValueError(f"`limit` is not between 1 and {8 * MIB}")


class StreamQuery(msgspec.Struct, frozen=True):
    """From which byte on; `Last-Event-ID` wins, so that a reconnect goes on where it was."""

    offset: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.offset < 1 << 62:
            raise ValueError("`offset` is not a byte offset")


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""

    @api.operation(
        "GET", f"{ONE}/logs", "Read log bytes; `X-IAC-Next-Offset` says where to go on", tag=TAG, right="read",
        query=LogQuery, raw_answer="application/octet-stream", also=(410,),
    )  # fmt: skip
    async def read_log(call: Call[None, LogQuery]) -> Response:
        task, part = await _task_and_part(platform, call.path["task_id"], call.query.offset, call.query.limit)
        headers = {
            **_NO_STORE,
            "X-IAC-Next-Offset": str(part.next_offset),
            "X-IAC-Log-Length": str(part.total),
            "X-IAC-Task-Status": task.status,
            "X-Content-Type-Options": "nosniff",
        }
        return Response(part.data, content_type="application/octet-stream", headers=headers)

    @api.operation(
        "GET", f"{ONE}/logs/stream", "Follow the log live: events `log`, `status` and `end`", tag=TAG, right="read",
        query=StreamQuery, raw_answer="text/event-stream", also=(410,),
    )  # fmt: skip
    async def stream_log(call: Call[None, StreamQuery]) -> Response:
        # The first read is made here: what it refuses is still an answer of its own.
        task, _ = await _task_and_part(platform, call.path["task_id"], 0, 1)
        last = request.headers.get("Last-Event-ID", "")
        offset = int(last) if last.isdecimal() and len(last) < 19 else call.query.offset
        if task.agent_id is not None:
            platform.fleet.flush(task.agent_id, task.id, task.fence)
        response = Response(
            follow(platform, task.id, offset), content_type="text/event-stream; charset=utf-8", headers=_NO_STORE
        )
        response.timeout = None
        return response


async def follow(platform: Platform, task_id: int, offset: int) -> AsyncIterator[bytes]:
    """Events until the task rests and its log is told, or the server stops. Only what is stored for good is told."""
    told: tuple[str, str | None] | None = None
    while True:
        # Listened to before reading: what comes after the read rings.
        grew, changed = platform.log_grew.listen(task_id), platform.task_changed.listen(task_id)
        task, part = await _task_and_part(platform, task_id, offset, PIECE)
        if part.data:
            offset = part.next_offset
            yield _log_event(part)
        if (task.status, task.stage) != told:
            told = (task.status, task.stage)
            yield _event("status", _status_of(task))
        if part.next_offset < part.total:
            continue
        if task.status in RESTING:
            yield _event("end", {**_status_of(task), "offset": offset})
            return
        if platform.draining.is_set():
            return
        if not await _first_of(grew, changed, platform.draining, within=SILENCE):
            yield b": still here\n\n"


async def _task_and_part(platform: Platform, task_id: int, offset: int, limit: int) -> tuple[Task, Part]:
    # In this order: the end of a log is stored no later than the status that ends the stream.
    return await platform.read(tasks.get, task_id), await platform.log_cache.read(task_id, offset, limit)


async def _first_of(*events: trio.Event, within: float) -> bool:
    """Whether one of them came within so many seconds."""
    with trio.move_on_after(within) as deadline:
        async with trio.open_nursery() as nursery:
            for event in events:
                nursery.start_soon(_then_cancel, event, nursery.cancel_scope)
    return not deadline.cancelled_caught


async def _then_cancel(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _status_of(task: Task) -> dict[str, object]:
    return {
        "status": task.status,
        "phase": task.phase,
        "stage": task.stage,
        "outcome": task.outcome,
        "reason": task.reason,
    }


def _log_event(part: Part) -> bytes:
    data = {"offset": part.offset, "next_offset": part.next_offset, "data": base64.b64encode(part.data).decode()}
    return f"id: {part.next_offset}\n".encode() + _event("log", data)


def _event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
