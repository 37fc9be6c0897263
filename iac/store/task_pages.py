"""What the page of one task is made of, and the list of tasks as people look through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from iac.domain.records import LOCAL, LogStream, Status, Task
from iac.domain.steps import TaskStep
from iac.domain.work import PlanFacts, ResourceProgress
from iac.store import agents, logs, plans, tasks
from iac.store.database import Connection
from iac.store.tasks import Filter


class TaskSituation(msgspec.Struct, frozen=True, kw_only=True):
    """`names` are those of its agent and pool by id; `progress` is that of its apply's resources."""

    task: Task
    plan: PlanFacts | None
    names: Mapping[str, str]
    steps: list[TaskStep]
    progress: list[ResourceProgress]
    logs: list[LogStream]
    current_serial: int | None


async def situation(c: Connection, task_id: int) -> TaskSituation:
    """Raises NotFound."""
    task = await tasks.get(c, task_id)
    plan_of = task.plan_task_id or task.id
    found = await plans.summaries(c, [plan_of])
    return TaskSituation(
        task=task,
        plan=found.get(plan_of),
        names=await _names(c, [task]),
        steps=await steps(c, task_id),
        progress=await plans.progress(c, task_id) if task.phase == "apply" else [],
        logs=await logs.streams(c, task_id),
        current_serial=await c.value("SELECT current_serial FROM workspace WHERE id = :id", id=task.workspace_id),
    )


async def steps(c: Connection, task_id: int) -> list[TaskStep]:
    rows = await c.all(
        "SELECT at, phase, status, stage, attempt FROM task_step WHERE task_id = :id ORDER BY number", id=task_id
    )
    return [TaskStep(**row) for row in rows]


async def _names(c: Connection, found: Sequence[Task]) -> Mapping[str, str]:
    ids = {each for task in found for each in (task.agent_id, task.pool_id) if each not in (None, LOCAL)}
    return await agents.names_of(c, sorted(ids)) if ids else {}


class TaskList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of tasks, how many there are of each status, and the names of agents and pools."""

    tasks: list[Task]
    counts: Mapping[Status, int]
    names: Mapping[str, str]
    plans: Mapping[int, PlanFacts]


async def workspace_named(c: Connection, name: str) -> str | None:
    """The id of the workspace with this name."""
    found: str | None = await c.value("SELECT id FROM workspace WHERE name = :name", name=name)
    return found


async def listed(c: Connection, chosen: Filter, *, limit: int, offset: int) -> TaskList:
    """Newest first."""
    where, values = chosen.conditions()
    if chosen.statuses:
        where += " AND t.status = ANY(:statuses)"
        values["statuses"] = list(chosen.statuses)
    rows = await c.all(
        f"SELECT {tasks.COLUMNS} {tasks.FROM} WHERE {where} ORDER BY t.id DESC LIMIT :limit OFFSET :offset",
        limit=limit,
        offset=offset,
        **values,
    )
    found = [tasks.from_row(row) for row in rows]
    counts: dict[Status, int] = await tasks.counts(c, chosen)  # type: ignore[assignment]  # the column has no others
    return TaskList(
        tasks=found,
        counts=counts,
        names=await _names(c, found),
        plans=await plans.summaries(c, [task.plan_task_id or task.id for task in found]),
    )
