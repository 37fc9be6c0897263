"""A task's log: bytes by offset, and live as server-sent events."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import msgspec
from quart import Response, request

from iac.domain.cancel_bodies import cancel_view
from iac.domain.live import Viewer
from iac.domain.records import Task
from iac.errors import IllegalTransition, Invalid, RateLimited, Unavailable
from iac.store import logs, tasks
from iac.store.logs import Part
from iac.web import sse
from iac.web.platform import Platform
from iac.web.routing import MIB, Api, Call, NoQuery
from iac.web.tasks import ONE

TAG = "Logs"
PIECE = 256 * 1024
TROUBLED = 2.0
"""Seconds until the database is asked again where it was away."""
SILENCE = 15.0
"""Seconds after which a comment is sent, so that proxies and clients know that the stream lives."""
RESTING = frozenset({"planned", "lost", "cancelled", "succeeded", "failed"})
GROWING = frozenset({"assigned", "running", "cancelling", "lost"})


class LogQuery(msgspec.Struct, frozen=True):
    offset: int = 0
    limit: int = MIB

    def __post_init__(self) -> None:
        if not 0 <= self.offset < 1 << 62:
            raise ValueError("`offset` is not a byte offset")
        if not 1 <= self.limit <= 8 * MIB:
            raise ValueError(f"`limit` is not between 1 and {8 * MIB}")


class StreamQuery(msgspec.Struct, frozen=True):
    """From which byte on; `Last-Event-ID` wins, so that a reconnect goes on where it was.

    `stay`: go on while the task is lost and its log still open; its runner may come back.
    """

    offset: int = 0
    stay: bool = False

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
            **sse.HEADERS,
            "X-IAC-Next-Offset": str(part.next_offset),
            "X-IAC-Log-Length": str(part.total),
            "X-IAC-Log-State": part.state,
            "X-IAC-Task-Status": task.status,
            "X-Content-Type-Options": "nosniff",
        }
        return Response(part.data, content_type="application/octet-stream", headers=headers)

    @api.operation(
        "GET", f"{ONE}/logs/stream", "Follow the log live: events `log`, `status`, `reset` and `end`", tag=TAG,
        right="read", query=StreamQuery, raw_answer="text/event-stream", also=(410, 429),
    )  # fmt: skip
    async def stream_log(call: Call[None, StreamQuery]) -> Response:
        # The first read is made here: what it refuses is still an answer of its own.
        task, _ = await _task_and_part(platform, call.path["task_id"], 0, 1)
        offset, fence = _position(request.headers.get("Last-Event-ID", "")) or (call.query.offset, None)
        platform.live.refuse_crowd(task.id)
        head = request.method == "HEAD"  # there would be no end of what is not sent
        events = follow(platform, task.id, offset, fence, stay=call.query.stay)
        response = Response(b"" if head else sse.told(events), content_type=sse.CONTENT_TYPE, headers=sse.HEADERS)
        response.timeout = None
        return response

    @api.operation(
        "POST", f"{ONE}/logs/flush", "Have the runner send what it has of the log now", tag=TAG, right="run", status=202,
        conflicts=("illegal_transition",), also=(429,),
    )  # fmt: skip
    async def flush_log(call: Call[None, NoQuery]) -> None:
        task = await platform.read(tasks.get, call.path["task_id"])
        if task.agent_id is None or task.status not in GROWING:
            raise IllegalTransition(f"Task {task.id} is {task.status}: its log is not being written.")
        if wait := platform.live.flush(task.id, task.fence, task.agent_id):
            raise RateLimited("Its log was asked for a moment ago.", retry_after_s=round(wait, 1))


async def watched(platform: Platform, task_id: int, place: str) -> sse.Talker:
    """The log from `place` on, which is the id of an event of it, for a page that shows more than the log.

    Raises Invalid, Gone, NotFound, RateLimited.
    """
    if (found := _position(place)) is None:
        raise Invalid("`log` is not a place in a log.", path="$.log")
    task, _ = await _task_and_part(platform, task_id, 0, 1)
    platform.live.refuse_crowd(task.id)
    return follow(platform, task.id, *found, stay=True)


async def follow(
    platform: Platform, task_id: int, offset: int, fence: int | None = None, *, stay: bool = False
) -> sse.Talker:
    """Events until the task rests and its log is told, or the server stops: what is stored, then what is told live.

    `fence` is the assignment that told the bytes before `offset`, if they were not stored yet. `stay`: also while the task
    is lost, and while the database is away. Nothing is queued for a viewer: he gets the next piece when he has taken the one
    before, however slow he is.
    """
    viewer = Viewer(offset)
    followed: tuple[int, str] | None = None
    told: tuple[object, ...] | None = None
    with platform.live.watch(task_id) as watch:
        while True:
            # Listened to before looking: what comes after the look rings.
            heard = _Heard(platform, task_id)
            if (at := watch.reset()) is not None and viewer.reset(at):
                yield _reset_event(at)
            step = viewer.next(watch.stream, PIECE)
            if step == "stored":
                try:
                    task, part = await _task_and_part(platform, task_id, viewer.offset, PIECE)
                    if (task.fence, task.status) != followed:
                        watch.follow(task, await platform.read(logs.streams, task_id))
                        followed = (task.fence, task.status)
                except Unavailable:
                    if not stay:
                        raise
                    yield sse.Pause.of(platform.draining, within=TROUBLED)
                    continue
                viewer.found(len(part.data), part.total)
                if part.data:
                    yield _log_event(part.offset, part.data)
                may_grow = stay and task.status == "lost" and part.state == "open"
                rests = task.status in RESTING and part.next_offset >= part.total and not may_grow
                # What he was told live, by an assignment that is over, is stored nowhere.
                gone = part.total if rests or fence not in (None, task.fence) else watch.reset()
                if gone is not None and viewer.reset(gone):
                    yield _reset_event(gone)
                fence = None
                if (news := _news_of(task)) != told:
                    told = news
                    yield sse.Event("status", _status_of(platform, task))
                if rests:
                    yield sse.Event("end", {**_status_of(platform, task), "offset": viewer.offset})
                    return
            elif isinstance(step, bytes):
                live = watch.stream
                yield _log_event(viewer.offset - len(step), step, live.fence if live is not None else None)
            elif platform.draining.is_set():
                return
            else:
                pause = heard.pause(within=watch.flush() if step == "gap" else SILENCE)
                yield pause
                if not pause.heard and step != "gap":
                    viewer.look_again()
                    yield sse.STILL_HERE
            if heard.stored:
                viewer.look_again()


class _Heard:
    """What may happen that a viewer has to hear of, from now on."""

    def __init__(self, platform: Platform, task_id: int) -> None:
        self._stored = (platform.log_grew.listen(task_id), platform.task_changed.listen(task_id))
        self._others = (platform.live.grew.listen(task_id), platform.draining)

    @property
    def stored(self) -> bool:
        """Whether what is stored, or the task, has changed."""
        return any(event.is_set() for event in self._stored)

    def pause(self, *, within: float) -> sse.Pause:
        return sse.Pause.of(*self._stored, *self._others, within=within)


async def _task_and_part(platform: Platform, task_id: int, offset: int, limit: int) -> tuple[Task, Part]:
    # In this order: the end of a log is stored no later than the status that ends the stream.
    return await platform.read(tasks.get, task_id), await platform.log_cache.read(task_id, offset, limit)


def _news_of(task: Task) -> tuple[object, ...]:
    """What a viewer is told of when it changes."""
    return task.status, task.stage, task.cancel_steps, task.cancel_force, task.cancel_overdue_at


def _status_of(platform: Platform, task: Task) -> dict[str, object]:
    return {
        "status": task.status,
        "phase": task.phase,
        "stage": task.stage,
        "outcome": task.outcome,
        "reason": task.reason,
        "cancel": cancel_view(task, now=datetime.now(UTC), force_after_s=platform.fleet.times.force_after),
    }


def _log_event(offset: int, data: bytes, fence: int | None = None) -> sse.Event:
    """The id is where to go on; behind bytes that are not stored yet with the assignment that told them."""
    after = offset + len(data)
    told = {"offset": offset, "next_offset": after, "data": base64.b64encode(data).decode()}
    return sse.Event("log", told, f"{after}{'' if fence is None else f':{fence}'}")


def _position(last: str) -> tuple[int, int | None] | None:
    """What the last event's id says; None for one that was never given."""
    offset, _, fence = last.partition(":")
    if not _is_number(offset) or not (_is_number(fence) or last == offset):
        return None
    return int(offset), int(fence) if fence else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def _reset_event(offset: int) -> sse.Event:
    """What was told of the log from this byte on was not what is stored: it comes anew."""
    return sse.Event("reset", {"offset": offset}, str(offset))
