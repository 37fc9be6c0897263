"""What a task's page says first: why it waits, what it asks for, what went wrong."""

from __future__ import annotations

from datetime import datetime

import msgspec

from iac.domain.records import Task
from iac.domain.scheduling import Wait
from iac.domain.work import PlanFacts
from iac.web.ui.models.task_asks import losses, summary
from iac.web.ui.models.words import Tone


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """`error`: the log's first error is worth a look."""

    tone: Tone
    icon: str
    title: str
    text: str = ""
    points: tuple[str, ...] = ()
    since: datetime | None = None
    error: bool = False


_REASONS = {
    "server_restarted": "The server was restarted while it ran.",
    "queue_timeout": "Nobody took it in time.",
    "timeout": "It took longer than it may.",
    "agent_lost": "Its agent went silent.",
    "state_not_stored": "Its state could not be stored.",
}


def notice(
    task: Task, plan: PlanFacts | None, wait: Wait | None, current_serial: int | None, rights: frozenset[str]
) -> Notice | None:
    if task.status in ("pending", "queued"):
        return _waiting(task, wait)
    if task.status == "planned":
        return _planned(task, plan, current_serial, rights)
    if task.status == "lost":
        return _lost(task, rights)
    if task.status == "failed":
        return _failed(task)
    if task.status == "cancelled" and task.outcome != "discarded":
        return _cancelled(task)
    if task.outcome == "discarded" and task.detail:
        return Notice(tone="calm", icon="slash", title="The plan was discarded", text=task.detail)
    return None


def _waiting(task: Task, wait: Wait | None) -> Notice:
    place = f"Place {wait.position} in the queue." if wait is not None and wait.position else ""
    text = wait.message if wait is not None else "It is about to be looked at."
    points: tuple[str, ...] = (place,) if place else ()
    if task.reason is not None and task.attempt:
        points += (f"An attempt before this one ended: {task.detail or task.reason}",)
    return Notice(tone="calm", icon="clock", title="Waiting", text=text, points=points, since=task.queued_at)


def _planned(task: Task, plan: PlanFacts | None, current_serial: int | None, rights: frozenset[str]) -> Notice:
    if plan is not None and plan.serial != current_serial:
        return Notice(
            tone="bad",
            icon="warning",
            title="This plan is stale",
            text=f"It was made for state serial {plan.serial}; the state is at {current_serial} now. It cannot be applied: "
            "discard it and plan again.",
            since=task.planned_at,
        )
    lost = losses(plan)
    points: tuple[str, ...] = (f"{lost} would be destroyed.",) if lost else ()
    if "run" not in rights:
        points += ("You may look at it; somebody with the right to run tasks has to decide.",)
    return Notice(
        tone="bad" if lost else "warn",
        icon="warning" if lost else "hand",
        title="This plan waits for a decision",
        text=f"{summary(plan).capitalize()}. Nothing happens until it is confirmed; exactly this plan is applied then.",
        points=points,
        since=task.planned_at,
    )


def _lost(task: Task, rights: frozenset[str]) -> Notice:
    points: tuple[str, ...] = ("Its workspace stays locked. If its runner comes back, the task goes on by itself.",)
    if "force_unlock" not in rights:
        points += ("An admin can resolve it.",)
    return Notice(
        tone="bad",
        icon="question",
        title="Nobody knows how this apply ended",
        text=task.detail or _REASONS.get(task.reason or "", task.reason or ""),
        points=points,
        error=True,
    )


def _failed(task: Task) -> Notice:
    text = task.detail or _REASONS.get(task.reason or "", "")
    if not text:
        text = f"Terraform ended with exit code {task.exit_code}." if task.exit_code else task.reason or ""
    title = "The apply failed" if task.phase == "apply" else "The plan failed"
    points = () if task.state_safe or task.phase == "plan" else ("Its state may be incomplete.",)
    return Notice(tone="bad", icon="cross", title=title, text=text, points=points, error=True)


def _cancelled(task: Task) -> Notice:
    by = f" by {task.cancel_by}" if task.cancel_by else ""
    return Notice(tone="calm", icon="slash", title=f"Cancelled{by}", text=task.detail or "")
