"""Tasks as rows of a list: what, how, by whom, when, and why if it waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from iac.domain.records import Task
from iac.domain.scheduling import Wait
from iac.domain.work import PlanFacts
from iac.web.ui.models.times import lasting
from iac.web.ui.models.words import ACTIONS, Badge, Counts, plan_counts, task_badge


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """`since` is when it came to be as it is; `lasted` how long it ran, empty while it has not ended."""

    id: int
    action: str
    badge: Badge
    message: str
    by: str
    since: datetime
    lasted: str
    running_since: datetime | None
    note: str
    counts: Counts | None
    where: str


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What rows show besides the tasks' own rows: plans and waits by task, names of pools and agents by id."""

    plans: Mapping[int, PlanFacts]
    waits: Mapping[int, Wait]
    names: Mapping[str, str]


def task_rows(tasks: Sequence[Task], beside: Beside) -> tuple[TaskRow, ...]:
    return tuple(_row(task, beside) for task in tasks)


def _row(task: Task, beside: Beside) -> TaskRow:
    plan = beside.plans.get(task.plan_task_id or task.id)
    running = task.status in ("running", "cancelling")
    return TaskRow(
        id=task.id,
        action=ACTIONS[task.action],
        badge=task_badge(task.status, task.phase, task.action, task.outcome, has_changes=task.has_changes),
        message=task.message,
        by=task.created_by,
        since=_since(task),
        lasted=_lasted(task),
        running_since=task.started_at if running else None,
        note=_note(task, beside.waits.get(task.id)),
        counts=None if plan is None or not plan.has_changes else plan_counts(plan.summary),
        where=_where(task, beside.names),
    )


def _since(task: Task) -> datetime:
    if task.final and task.finished_at is not None:
        return task.finished_at
    return task.planned_at or task.started_at or task.queued_at or task.created_at


def _lasted(task: Task) -> str:
    if not task.final or task.started_at is None or task.finished_at is None:
        return ""
    return lasting((task.finished_at - task.started_at).total_seconds())


def _note(task: Task, wait: Wait | None) -> str:
    if wait is not None and not task.final:
        return wait.message
    if task.status in ("failed", "lost"):
        exit_code = f"Terraform ended with exit code {task.exit_code}." if task.exit_code else ""
        return task.detail or exit_code or (task.reason or "").replace("_", " ")
    return ""


def _where(task: Task, names: Mapping[str, str]) -> str:
    if task.execution_mode == "local":
        return "this server"
    if task.agent_id is not None:
        return names.get(task.agent_id, task.agent_id)
    return names.get(task.pool_id or "", "")
