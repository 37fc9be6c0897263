"""An assignment's own endpoints: its data, log, plan, state and result. A skin over the accessor that Local mode uses.

The task token says which assignment is meant; what it is good for shrinks as the task goes on (iac.domain.agent_tokens).
Every answer tells the task's status, so that a cancellation arrives even where the control channel does not.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial, wraps
from typing import Any

import msgspec
import trio
from quart import Response, request

from iac.domain import agent_reports, log_chunks
from iac.domain.agent_bodies import (
    CHUNK_COMPRESSED,
    CHUNK_INFLATED,
    AssignmentFacts,
    DataBody,
    LogChunkAnswer,
    LogChunkBody,
    LogPosition,
    PlanBody,
    SeedTask,
    SeedWorkspace,
    StateAnswer,
    StateBody,
    StatusAnswer,
    StatusBody,
    Stored,
)
from iac.domain.messages import LogTimes
from iac.domain.rates import Rates
from iac.domain.records import FINAL, AssignmentRecord
from iac.domain.work import Result, RunTask, SavedPlan, StatePush, TaskData
from iac.errors import AlreadyFinal, BadRequest, Conflict, Fenced, Forbidden, IacError, Invalid, Unavailable
from iac.store import assignments, logs, pools, standings, tasks
from iac.store.database import Connection
from iac.web.agent_auth import CHECKPOINTS, CHUNKS, NOTES, RESULTS, STATES, asked_path, one_of, peer, within
from iac.web.errors import answer_for
from iac.web.platform import Platform
from iac.web.routing import JSON, MIB, Api, Call, Method, NoQuery

log = logging.getLogger(__name__)

ONE = "/api/v1/agents/tasks/<int(max=9223372036854775807):task_id>"
TAG = "Agent API"
INFLATIONS = 2
CHUNKS_AT_ONCE = 4 + 4
"""Of one agent. An agent sends four at a time; of those whose connections broke, the server may not know yet."""
LARGE_CHUNK = MIB
STATE_LIMIT, STATE_INFLATED = 128 * MIB, 256 * MIB
PLAN_LIMIT = 192 * MIB
WATCHED_S = 1.0
"""Seconds between two chunks of a log that somebody watches, if the agent does not tell it live."""
_VERDICTS = {"current": 201, "checkpoint": 201, "duplicate": 200, "quarantined": 202}

Handler = Callable[[Call[Any, Any]], Awaitable[object]]


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""
    _data(api, platform)
    _log(api, platform)
    _results(api, platform)
    _files(api, platform)


def _operation(
    api: Api,
    platform: Platform,
    method: Method,
    path: str,
    summary: str,
    **declared: Any,  # noqa: ANN401 - of Operation
) -> Callable[[Handler], Handler]:
    """An operation with a task token: checked against the path, and answered with the headers that all of them have."""

    def declare_it(handler: Handler) -> Handler:
        @wraps(handler)
        async def answered(call: Call[Any, Any]) -> Response:
            held: AssignmentRecord = call.caller
            if held.task_id != call.path["task_id"]:
                raise Forbidden("This token is good for another task.", code="wrong_scope")
            try:
                result = await handler(call)
            except IacError as error:
                platform.incidents.see(error, asked_path(), peer())
                response = answer_for(error)
            else:
                response = result if isinstance(result, Response) else _json(result)
            response.headers.update(await _headers(platform, held))
            return response

        return api.operation(
            method,
            ONE + path,
            summary,
            tag=TAG,
            right=None,
            auth="task",
            **declared,
        )(answered)

    return declare_it


async def _headers(platform: Platform, held: AssignmentRecord) -> dict[str, str]:
    try:
        status = await platform.read(tasks.status_of, held.task_id)
    except Unavailable:
        status = held.task_status
    watched = platform.log_grew.heeded(held.task_id) and not platform.live.is_lively(held.task_id)
    interval = WATCHED_S if watched else LogTimes().interval_s
    return {
        "X-IAC-Task-Status": status,
        "X-IAC-Server-Time": datetime.now(UTC).isoformat(),
        "X-IAC-Log-Interval-S": f"{interval:g}",
    }


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status=status, content_type=JSON)


def order_of(held: AssignmentRecord) -> RunTask:
    return RunTask(
        task_id=held.task_id,
        workspace_id=held.workspace_id,
        action=held.phase,
        assignment_id=held.assignment_id,
        fence=held.fence,
        attempt=held.attempt,
    )


def _in_scope(held: AssignmentRecord) -> None:
    """Raises Fenced for an assignment that has no say any more."""
    if held.scope in ("quarantine", "dead"):
        raise Fenced(f"Assignment {held.fence} of task {held.task_id} was taken away.", fence=held.fence)


def _data(api: Api, platform: Platform) -> None:
    @_operation(
        api, platform, "GET", "/data", "Claim the task: everything that its phase needs, with the secrets",
        answer=DataBody, also=(410,),
        conflicts=("fenced", "already_final", "illegal_transition", "plan_stale", "no_configuration", "no_plan"),
    )  # fmt: skip
    async def claim_task(call: Call[None, NoQuery]) -> Response:
        held: AssignmentRecord = call.caller
        if held.scope == "quarantine":
            _in_scope(held)
        noted = partial(_note_claim, held=held, boot_id=_boot_id(), ip=peer())
        data = await platform.accessor.get_task_data(order_of(held), noted)
        platform.fleet.claimed(held.agent_id, held.fence)
        body = await trio.to_thread.run_sync(msgspec.json.encode, data_body(data))
        return Response(body, content_type=JSON, headers={"Cache-Control": "no-store"})


def _boot_id() -> str | None:
    """The program that asks."""
    return request.headers.get("X-IAC-Boot-Id", "")[:64] or None


async def _note_claim(c: Connection, *, held: AssignmentRecord, boot_id: str | None, ip: str) -> None:
    if held.pool_id is None or not await pools.may_serve(c, held.pool_id, held.workspace_id):
        raise Forbidden("The agent's pool may not serve this workspace any more.", code="wrong_scope")
    await assignments.note_read(c, held.fence, boot_id=boot_id, ip=ip)


def data_body(data: TaskData) -> DataBody:
    """The seed's form of what an executor needs (4.3.1)."""
    order, bundle = data.order, data.bundle
    return DataBody(
        task=SeedTask(id=order.task_id, workspace_id=order.workspace_id, action=order.action),
        workspace=SeedWorkspace(
            workspace_id=bundle.workspace_id, name=bundle.workspace_name, terraform_version=bundle.terraform_version
        ),
        assignment=AssignmentFacts(
            assignment_id=order.assignment_id,
            fence=order.fence,
            attempt=order.attempt,
            timeout_s=0.0 if data.limits is None else data.limits.timeout_s,
            grace_s=None if data.limits is None else data.limits.grace_s,
            log_max_bytes=data.log_max_bytes,
        ),
        bundle=bundle,
        bundle_digest=data.bundle_digest,
        archive=data.archive,
        state_version=data.state,
        plan=data.plan,
        sensitive_values=data.sensitive_values,
        log_offset=data.log_offset,
    )


def _log(api: Api, platform: Platform) -> None:
    chunks, flying, inflating = Rates(CHUNKS), Counter[str](), trio.CapacityLimiter(INFLATIONS)

    def checked(body: LogChunkBody) -> bytes:
        data = log_chunks.unpacked(
            body.data, packed_limit=CHUNK_COMPRESSED, limit=CHUNK_INFLATED, too_large="chunk_too_large"
        )
        log_chunks.check(data, body.checksum, body.length)
        return data

    async def unpacked(held: AssignmentRecord, body: LogChunkBody) -> bytes:
        try:
            data: bytes = await trio.to_thread.run_sync(checked, body, limiter=inflating)
        except BadRequest as error:
            within(chunks, held.fence, "log chunks")
            error.extras["next_offset"] = await platform.read(logs.stream_length, held.task_id, held.fence)
            raise
        return data

    @_operation(
        api, platform, "POST", "/logs/chunk", "Store log bytes; told again, they change nothing", body=LogChunkBody,
        answer=LogChunkAnswer, limit=12 * MIB, also=(507,),
        conflicts=("fenced", "log_gap", "log_conflict", "log_closed"),
    )  # fmt: skip
    async def store_log_chunk(call: Call[LogChunkBody, NoQuery]) -> LogChunkAnswer:
        held: AssignmentRecord = call.caller
        _in_scope(held)
        # A log that comes in large pieces is held up by nothing but the line; many small ones are not honest.
        if (call.body.length or 0) < LARGE_CHUNK:
            within(chunks, held.fence, "log chunks")
        with one_of(flying, held.agent_id, CHUNKS_AT_ONCE, "log chunks at once"):
            data = await unpacked(held, call.body)
            after = await platform.accessor.save_task_log(order_of(held), call.body.offset, data, from_afar=True)
        return LogChunkAnswer(next_offset=after)

    @_operation(
        api, platform, "GET", "/logs/chunk", "Where the log goes on, and whether it is closed", answer=LogPosition
    )
    async def show_log_position(call: Call[None, NoQuery]) -> LogPosition:
        held: AssignmentRecord = call.caller
        stream = await platform.read(logs.stream, held.task_id, held.fence)
        return LogPosition(next_offset=stream.length, closed=stream.state != "open")


def _results(api: Api, platform: Platform) -> None:
    notes, results = Rates(NOTES), Rates(RESULTS)

    async def note(held: AssignmentRecord, body: StatusBody) -> None:
        within(notes, held.fence, "notes")
        if held.scope != "full":
            return
        if body.stage is not None:
            await platform.accessor.note_stage(order_of(held), body.stage[:100])
        if body.progress:
            await platform.accessor.note_progress(order_of(held), list(body.progress))

    async def end_log(held: AssignmentRecord, result: Result) -> None:
        if result.log is not None and result.log.state == "whole":
            await platform.accessor.close_log(order_of(held), result.log, from_afar=True)

    async def report(held: AssignmentRecord, body: StatusBody) -> None:
        result = _result(body)
        within(results, held.fence, "results")
        if await platform.read(standings.reported, held.fence) == result.result_id:
            # Its answer was lost; the task may have gone on to its next phase meanwhile. Or the rest of its log has come.
            await end_log(held, result)
            return
        _in_scope(held)
        if agent_reports.is_outdated(result, claimed_by=held.boot_id, told_by=_boot_id()):
            raise Conflict("The assignment was ordered again meanwhile.", code="illegal_transition")
        try:
            if agent_reports.gives_back(held.phase, result):
                detail = result.detail or f"Its agent stopped the plan ({result.reason})."
                await platform.accessor.give_back(order_of(held), result, detail)
            else:
                await platform.accessor.update_task(order_of(held), result, from_afar=True)
        except AlreadyFinal:
            await end_log(held, result)  # the task was given up meanwhile; its log has come all the same
            raise
        finally:
            platform.dispatcher.wake()

    @_operation(
        api, platform, "PUT", "/status", "Say what is being done, or how it ended", body=StatusBody, answer=StatusAnswer,
        conflicts=("fenced", "already_final", "illegal_transition", "log_incomplete", "log_mismatch"), limit=4 * MIB,
    )  # fmt: skip
    async def put_status(call: Call[StatusBody, NoQuery]) -> StatusAnswer:
        held: AssignmentRecord = call.caller
        if call.body.status == "running":
            await note(held, call.body)
        else:
            await report(held, call.body)
        status = await platform.read(tasks.status_of, held.task_id)
        return StatusAnswer(status=status, final=status in FINAL or call.body.status != "running")


def _result(body: StatusBody) -> Result:
    if not body.result_id:
        raise Invalid("A result needs a result_id.", path="$.result_id")
    values: dict[str, Any] = {name: getattr(body, name, None) for name in Result.__struct_fields__}
    return Result(**values)


def _files(api: Api, platform: Platform) -> None:
    states, checkpoints, inflating = Rates(STATES), Rates(CHECKPOINTS), trio.CapacityLimiter(1)

    @_operation(
        api, platform, "POST", "/state", "Store a state; nothing that an apply left behind is ever refused",
        body=StateBody, answer=StateAnswer, status=201, also=(200, 202, 507), limit=STATE_LIMIT,
    )  # fmt: skip
    async def store_state(call: Call[StateBody, NoQuery]) -> Response:
        held: AssignmentRecord = call.caller
        if held.phase != "apply":
            raise Forbidden("A plan leaves no state behind.", code="wrong_scope")
        within(checkpoints if call.body.partial else states, held.fence, "states")
        unpack = partial(
            log_chunks.unpacked, packed_limit=STATE_LIMIT, limit=STATE_INFLATED, too_large="state_too_large"
        )
        data = await trio.to_thread.run_sync(unpack, call.body.state, limiter=inflating)
        await trio.to_thread.run_sync(log_chunks.check, data, call.body.sha256, limiter=inflating)
        push = StatePush(data=data, sha256=call.body.sha256, partial=call.body.partial)
        if held.scope == "dead":
            _in_scope(held)
        revoked = held.scope == "quarantine"
        receipt = await platform.accessor.save_state_version(order_of(held), push, revoked=revoked)
        if receipt.verdict == "quarantined" and receipt.serial is None:
            # Kept all the same: it may be the only trace of what the apply did.
            raise Invalid(receipt.reason or "It is no usable state; it is kept.", code="state_invalid", path="$.state")
        answer = StateAnswer(verdict=receipt.verdict, serial=receipt.serial, reason=receipt.reason)
        return _json(answer, _VERDICTS[receipt.verdict])

    @_operation(
        api, platform, "POST", "/plan", "Store the plan that will be applied if somebody confirms it", body=PlanBody,
        answer=Stored, status=201, conflicts=("fenced",), limit=PLAN_LIMIT, also=(507,),
    )  # fmt: skip
    async def store_plan(call: Call[PlanBody, NoQuery]) -> Response:
        held, body = call.caller, call.body
        _in_scope(held)
        await trio.to_thread.run_sync(log_chunks.check, body.file, body.sha256)
        plan = SavedPlan(facts=body.facts, file=body.file, json=body.json, lock_hcl=body.lock_hcl)
        await platform.accessor.save_plan(order_of(held), plan, list(body.planned))
        return _json(Stored(), 201)
