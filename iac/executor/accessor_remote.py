"""DataAccessor over the agent API: what makes the executor of an agent the one of Local mode.

Each call is one attempt, because the executor and its log know how long to go on; two answers are worth a second one at
once: a checksum that did not fit (the bytes were hurt on the way), and a 401 when the task has got a new token meanwhile.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import httpx
import msgspec
import trio
from msgspec.structs import replace

from iac.domain.agent_bodies import (
    DataBody,
    LogChunkAnswer,
    LogChunkBody,
    LogPosition,
    PlanBody,
    StateAnswer,
    StateBody,
    StatusAnswer,
    StatusBody,
)
from iac.domain.records import FINAL
from iac.domain.work import ResourceProgress, Result, RunTask, SavedPlan, StatePush, StateReceipt, TaskData
from iac.errors import BadRequest, Fenced, Invalid, LogRefused, Unauthenticated
from iac.executor.remote_client import AgentClient, Done

T = TypeVar("T")

IN_A_THREAD = 64 * 1024
GZIP_LEVEL, LOG_GZIP_LEVEL = 6, 1
"""A log is packed while it grows: level 1 takes a quarter of the time of level 6, for a third more bytes."""
CHUNKS_AT_ONCE = 4
"""Log chunks that an agent has on their way at once; the server takes no more."""
LEAST_PACE, MOST_PACE = 1.0, 300.0
"""Seconds between two log chunks that a server may ask for."""

TokenOf = Callable[[RunTask], str | None]


def _always(order: RunTask) -> bool:
    return True


def _nobody(order: RunTask, told: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Listeners:
    """What an agent wants to know beside the answers. Called in the loop, must not block."""

    claimed: Callable[[RunTask, TaskData], None] = _nobody
    """The task's data has come."""
    may_start: Callable[[RunTask], bool] = _always
    """Asked when the task's data has come: False if the assignment may be another agent's by now."""
    task_status: Callable[[RunTask, str], None] = _nobody
    """The task's status, which comes with every answer."""
    log_interval: Callable[[RunTask, float], None] = _nobody
    """The seconds between log chunks that the server wants."""
    reported: Callable[[RunTask, Result], None] = _nobody
    """The server has taken the result."""


class RemoteDataAccessor:
    """See DataAccessor for the promises."""

    def __init__(
        self, client: AgentClient, token_of: TokenOf, *, boot_id: str = "", listeners: Listeners | None = None
    ) -> None:
        """`token_of` gives the newest task token of an assignment, None when it is not ours any more."""
        self._client = client
        self._token_of = token_of
        self._boot_id = boot_id
        self._listeners = listeners or Listeners()
        self._chunks = trio.CapacityLimiter(CHUNKS_AT_ONCE)

    async def get_task_data(self, order: RunTask) -> TaskData:
        data = (await self._ask(order, "GET", "data", DataBody)).as_task_data(order)
        self._listeners.claimed(order, data)
        if not self._listeners.may_start(order):
            raise Fenced(f"The data of task {order.task_id} came after its lease had ended; another agent may have it.")
        return data

    async def save_task_log(self, order: RunTask, offset: int, data: bytes) -> int:
        return await (await self.ready_task_log(order, offset, data))()

    async def ready_task_log(self, order: RunTask, offset: int, data: bytes) -> Callable[[], Awaitable[int]]:
        body = await _packed(len(data), lambda: msgspec.json.encode(_chunk(offset, data)))
        return partial(self._save_task_log, order, body)

    async def _save_task_log(self, order: RunTask, body: bytes) -> int:
        async with self._chunks:
            try:
                answer = await self._ask(order, "POST", "logs/chunk", LogChunkAnswer, body)
            except BadRequest as error:
                if error.code != "checksum_mismatch":
                    raise
                answer = await self._ask(order, "POST", "logs/chunk", LogChunkAnswer, body)
        return answer.next_offset

    async def log_position(self, order: RunTask) -> LogPosition:
        """How much of the log the platform has, and whether that is all it wants."""
        return await self._ask(order, "GET", "logs/chunk", LogPosition)

    async def note_stage(self, order: RunTask, stage: str) -> None:
        await self._note(order, StatusBody(status="running", phase=order.action, stage=stage))

    async def note_progress(self, order: RunTask, entries: list[ResourceProgress]) -> None:
        await self._note(order, StatusBody(status="running", phase=order.action, progress=tuple(entries)))

    async def save_plan(self, order: RunTask, plan: SavedPlan, planned: list[ResourceProgress]) -> None:
        body = PlanBody(
            facts=plan.facts,
            sha256=hashlib.sha256(plan.file).hexdigest(),
            file=plan.file,
            json=plan.json,
            lock_hcl=plan.lock_hcl,
            planned=tuple(planned),
        )
        size = len(plan.file) + len(plan.json)
        await self._ask(order, "POST", "plan", Done, await _packed(size, lambda: msgspec.json.encode(body)))

    async def save_state_version(self, order: RunTask, push: StatePush) -> StateReceipt:
        body = await _packed(len(push.data), lambda: msgspec.json.encode(_state(push)))
        try:
            answer = await self._ask(order, "POST", "state", StateAnswer, body)
        except Invalid as error:
            if error.code != "state_invalid":
                raise
            return StateReceipt(verdict="quarantined", serial=None, reason=error.message)  # stored all the same
        return StateReceipt(verdict=answer.verdict, serial=answer.serial, reason=answer.reason)

    async def update_task(self, order: RunTask, result: Result) -> None:
        await self.report(order, result)

    async def report(self, order: RunTask, result: Result) -> bool:
        """As `update_task`; whether the task is over now, or was already."""
        body = StatusBody(
            status=result.status,
            phase=order.action,
            result_id=result.result_id,
            outcome="applied" if result.outcome == "applied" else None,
            exit_code=result.exit_code,
            signal=result.signal,
            reason=result.reason,
            detail=result.detail,
            state_safe=result.state_safe,
            log=result.log,
        )
        try:
            answer = await self._note(order, body)
        except LogRefused as error:
            # A result is never held up by its log: told once more, it is taken with the log that is there.
            if error.code == "log_incomplete" and body.log is not None:
                body = replace(body, log=replace(body.log, state="pending"))
            answer = await self._note(order, body)
        self._listeners.reported(order, result)
        return answer.status in FINAL  # "final" is said of the report, which a lost task may outlive

    async def _note(self, order: RunTask, body: StatusBody) -> StatusAnswer:
        return await self._ask(order, "PUT", "status", StatusAnswer, msgspec.json.encode(body))

    async def _ask(self, order: RunTask, method: str, what: str, answer: type[T], body: bytes | None = None) -> T:
        token = self._token(order)
        try:
            return await self._once(order, method, what, answer, body, token=token)
        except Unauthenticated:
            newest = self._token(order)
            if newest == token:
                raise
            return await self._once(order, method, what, answer, body, token=newest)

    async def _once(
        self, order: RunTask, method: str, what: str, answer: type[T], body: bytes | None, *, token: str
    ) -> T:
        found, headers = await self._client.call(
            method,
            f"/agents/tasks/{order.task_id}/{what}",
            answer,
            token=token,
            body=body,
            headers={"X-IAC-Boot-Id": self._boot_id},
        )
        self._heed(order, headers)
        return found

    def _token(self, order: RunTask) -> str:
        token = self._token_of(order)
        if token is None:
            raise Fenced(f"Assignment {order.fence} of task {order.task_id} is not held here any more.")
        return token

    def _heed(self, order: RunTask, headers: httpx.Headers) -> None:
        """What the server says beside the answer: good enough when the control channel is cut."""
        if status := headers.get("x-iac-task-status"):
            self._listeners.task_status(order, status)
        interval = _number(headers, "x-iac-log-interval-s")
        if interval is not None:
            self._listeners.log_interval(order, min(max(interval, LEAST_PACE), MOST_PACE))


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers[name])
    except (KeyError, ValueError):
        return None


async def _packed(size: int, encode: Callable[[], bytes]) -> bytes:
    """Compressing, hashing and base64 take milliseconds for each megabyte: not in the loop."""
    return encode() if size <= IN_A_THREAD else await trio.to_thread.run_sync(encode)


def _chunk(offset: int, data: bytes) -> LogChunkBody:
    packed = _gzipped(data, LOG_GZIP_LEVEL)
    return LogChunkBody(offset=offset, data=packed, checksum=hashlib.sha256(data).hexdigest(), length=len(data))


def _state(push: StatePush) -> StateBody:
    # A checkpoint is packed on a host that is busy with the apply itself, and soon replaced.
    level = LOG_GZIP_LEVEL if push.partial else GZIP_LEVEL
    return StateBody(state=_gzipped(push.data, level), sha256=push.sha256, partial=push.partial)


def _gzipped(data: bytes, level: int = GZIP_LEVEL) -> str:
    return base64.b64encode(gzip.compress(data, level, mtime=0)).decode()
