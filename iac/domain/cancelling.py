"""What a cancellation writes into a task: who wanted it, how far its runner is, when it may be forced. Pure.

A cancellation is one thing with one id, however often it is asked for. It may be forced once, not before it had some time
(`FORCE_AFTER`), and for an apply only by somebody who says that he knows what that means.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from iac.domain.ladder import OWN_REASONS, RANK, StopReport, StopStep
from iac.domain.records import Task
from iac.errors import Conflict


def wanted(task: Task, *, cancel_id: str, reason: str, by: str, force: bool, now: datetime) -> Task:
    """The first one stands."""
    return replace(
        task,
        cancel_id=cancel_id,
        cancel_reason=reason,
        cancel_by=by,
        cancel_force=force,
        cancel_requested_at=now,
    )


def refuse_force(task: Task, *, confirmed: bool, after_s: float, now: datetime) -> None:
    """Raises Conflict: not_cancelling, force_too_early (`allowed_in_s`), force_unconfirmed. What is forced may be again."""
    if task.cancel_force:
        return
    if task.cancel_requested_at is None:
        raise Conflict(
            f"Task {task.id} was not cancelled yet. Cancel it first: Terraform then finishes what it is doing. It can be "
            f"forced {after_s:g} s later.",
            code="not_cancelling",
        )
    left = after_s - (now - task.cancel_requested_at) / timedelta(seconds=1)
    if left > 0:
        raise Conflict(
            f"Task {task.id} was cancelled a moment ago; it can be forced in {left:.1f} s.",
            code="force_too_early",
            allowed_in_s=round(left, 1),
        )
    if task.phase == "apply" and not confirmed:
        raise Conflict(
            f"Task {task.id} is an apply: forced, Terraform drops what it is creating, and the state may not know of it. "
            "Say that you want that: `confirm: true` (`iac task cancel --force --yes`).",
            code="force_unconfirmed",
        )


def stepped(task: Task, report: StopReport, now: datetime) -> Task:
    """What the runner of the task's present assignment says of its stop. One of its own makes a running task a cancelled
    one; whatever comes late, or again, changes nothing.
    """
    at = now - timedelta(seconds=report.since_s)
    if task.status == "running" and report.reason in OWN_REASONS:
        asked = wanted(task, cancel_id=report.cancel_id, reason=report.reason, by="runner", force=False, now=at)
        task = replace(asked, status="cancelling")
    if task.status not in ("cancelling", "lost") or task.cancel_id is None:
        return task
    last = task.cancel_steps[-1].stage if task.cancel_steps else None
    if last is not None and RANK[report.stage] < RANK[last]:
        return task
    known = task.cancel_steps
    return replace(
        task,
        cancel_steps=known if last == report.stage else (*known, StopStep(stage=report.stage, at=at)),
        cancel_force=task.cancel_force or report.forced,
        cancel_next_at=_after(now, report.next_s),
        cancel_kill_at=_after(now, report.kill_s),
        cancel_deadline_at=_after(now, report.deadline_s),
    )


def over(task: Task, now: datetime) -> Task:
    """The task has ended, and so has its stop."""
    if not task.cancel_steps:
        return task
    steps = task.cancel_steps
    if RANK[steps[-1].stage] < RANK["exited"]:
        steps = (*steps, StopStep(stage="exited", at=now))
    return replace(task, cancel_steps=steps, cancel_next_at=None, cancel_kill_at=None, cancel_deadline_at=None)


def in_vain(task: Task) -> bool:
    """Whether the stop was only the runner's idea, and what it should have cut short had come to its end all the same."""
    return task.cancel_reason in OWN_REASONS


def never_asked(task: Task) -> Task:
    """The same without a cancellation."""
    return replace(
        task,
        cancel_id=None,
        cancel_reason=None,
        cancel_by=None,
        cancel_force=False,
        cancel_requested_at=None,
        cancel_steps=(),
        cancel_next_at=None,
        cancel_kill_at=None,
        cancel_deadline_at=None,
        cancel_overdue_at=None,
    )


def _after(now: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)
