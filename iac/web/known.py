"""What is known of a task whose end nobody saw: all that a human can look at before saying that it is over."""

from __future__ import annotations

from datetime import datetime

import msgspec

from iac.domain import state_bodies
from iac.domain.records import LOCAL, StateVersion, Task, Workspace
from iac.domain.work import ResourceProgress
from iac.errors import NotFound
from iac.store import agents, logs, plans, state_pushes, statefiles, tasks, workspaces
from iac.store.database import Connection
from iac.web import views
from iac.web.platform import Platform
from iac.web.routing import Api, Call, NoQuery
from iac.web.tasks import ONE, TAG

LAST_BYTES, LAST_LINES = 16 * 1024, 20
"""How much of the log's end is shown."""


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    """As of one transaction."""

    task: Task
    workspace: Workspace
    checkpoint: StateVersion | None
    problem: str | None
    states: list[StateVersion]
    progress: list[ResourceProgress]
    log_length: int
    heard_at: datetime | None


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""

    @api.operation(
        "GET", f"{ONE}/known", "What is known of a task whose end nobody saw: look at it before `resolve`", tag=TAG,
        right="read", answer=state_bodies.KnownView,
    )  # fmt: skip
    async def show_known(call: Call[None, NoQuery]) -> state_bodies.KnownView:
        return await known(platform, call.path["task_id"])


async def known(platform: Platform, task_id: int) -> state_bodies.KnownView:
    """Raises NotFound, Gone where its log is not kept any more."""
    found = await platform.read(_facts, task_id)
    start = max(0, found.log_length - LAST_BYTES)
    end = await platform.log_cache.read(found.task.id, start, LAST_BYTES)
    return _view(found, _last_lines(end.data, whole=start == 0))


async def _facts(c: Connection, task_id: int) -> _Facts:
    task = await tasks.get(c, task_id)
    checkpoint = await state_pushes.checkpoint_of(c, task_id)
    problem = None
    if checkpoint is not None:
        problem = await state_pushes.why_not_adopted(c, task.workspace_id, checkpoint)
    return _Facts(
        task=task,
        workspace=await workspaces.get(c, task.workspace_id),
        checkpoint=checkpoint,
        problem=problem,
        states=await statefiles.of_task(c, task_id),
        progress=await plans.progress(c, task_id),
        log_length=sum(stream.length for stream in await logs.streams(c, task_id)),
        heard_at=await _heard_at(c, task),
    )


async def _heard_at(c: Connection, task: Task) -> datetime | None:
    """When the agent that had it was heard for the last time; None for the server itself, or an agent that is forgotten."""
    if task.agent_id is None or task.agent_id == LOCAL:
        return None
    try:
        return (await agents.get(c, task.agent_id)).last_seen_at
    except NotFound:
        return None


def _last_lines(data: bytes, *, whole: bool) -> list[str]:
    """The end of the log; its first line only if it is not cut off."""
    lines = data.decode(errors="replace").splitlines()
    return (lines if whole else lines[1:])[-LAST_LINES:]


def _view(found: _Facts, lines: list[str]) -> state_bodies.KnownView:
    checkpoint = None
    if found.checkpoint is not None:
        checkpoint = state_bodies.CheckpointView(
            version=views.state_version(found.checkpoint), not_adoptable=found.problem
        )
    return state_bodies.KnownView(
        task_id=found.task.id,
        status=found.task.status,
        reason=found.task.reason,
        detail=found.task.detail,
        last_heard_at=found.heard_at,
        state_serial=found.workspace.current_serial,
        state_lineage=found.workspace.lineage,
        state_uncertain=found.workspace.state_uncertain,
        checkpoint=checkpoint,
        states=[views.state_version(version) for version in found.states],
        progress=found.progress,
        log_length=found.log_length,
        log_lines=lines,
    )
