"""How the phase of a task ends: what its runner reports, or that the runner is gone. Pure."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from iac.domain import cancelling
from iac.domain.decision import Decision, end, need, same_fence, strand, to_apply
from iac.domain.ladder import OWN_REASONS
from iac.domain.records import Confirmation, Task
from iac.domain.work import Result
from iac.errors import IllegalTransition

MAX_ATTEMPTS = 2
"""A plan whose runner vanished is tried this often in all; an apply never twice."""


def report(task: Task, fence: int, result: Result, now: datetime) -> Decision:
    """T8, T10, T11, T16. The same result again changes nothing."""
    if task.result_id == result.result_id:
        return Decision(task)
    same_fence(task, fence)
    need(task, "running", "cancelling", "lost", by="report")
    _fits_phase(task, result)
    reported = replace(
        task,
        result_id=result.result_id,
        exit_code=result.exit_code,
        signal=result.signal,
        state_safe=result.state_safe,
        reason=result.reason,
        detail=result.detail,
    )
    if result.status == "planned":
        return _planned(reported, now)
    if task.phase == "apply" and not result.state_safe:
        return strand(reported, result.reason or "state_not_stored", result.detail)
    status = result.status
    if status == "cancelled" and task.cancel_id is None and result.reason not in OWN_REASONS:
        # Nobody asked: whatever interrupted it is a failure, not a wish.
        status = "failed"
        reported = replace(reported, reason=result.reason or "interrupted")
    elif status == "cancelled":
        reported = replace(reported, reason=result.reason or task.cancel_reason)
    return end(reported, status, now, outcome=result.outcome)


def _fits_phase(task: Task, result: Result) -> None:
    """An apply that called itself planned would be queued, and run, once more."""
    if result.status == ("planned" if task.phase == "apply" else "succeeded"):
        raise IllegalTransition(
            f"Task {task.id} is in its {task.phase} phase, which cannot end as {result.status}.", status=task.status
        )


def _planned(task: Task, now: datetime) -> Decision:
    if task.status == "cancelling" and not cancelling.in_vain(task):
        # The plan is stored, but it was asked to stop: it must not wait for, or even get, an approval.
        return end(task, "cancelled", now, reason=task.cancel_reason)
    digest = task.plan_digest
    if digest is None:
        # Only a stored plan counts; without one "no changes" would be a guess.
        raise IllegalTransition(f"Task {task.id} has no stored plan; store it, then report it.", status=task.status)
    task = replace(cancelling.never_asked(task), planned_at=now, reason=None, detail=None)
    if task.action == "plan":
        outcome = "planned" if task.has_changes else "planned_and_finished"
        return end(task, "succeeded", now, outcome=outcome)
    if not task.has_changes:
        return end(task, "succeeded", now, outcome="planned_and_finished")
    if task.auto_apply:
        by = Confirmation(by="auto-apply", at=now, comment="", plan_digest=digest)
        return Decision(to_apply(task, by, now))
    return Decision(replace(task, status="planned", agent_id=None, assignment_id=None, stage=None))


def lose(task: Task, fence: int, reason: str, detail: str, now: datetime, *, retry: bool) -> Decision:
    """T12, T13, T14. A plan may be tried once more if `retry`."""
    same_fence(task, fence)
    need(task, "running", "cancelling", by="giving it up")
    if task.phase == "apply":
        return strand(task, reason, detail)
    if task.cancel_id is not None:
        ends_as = "failed" if task.cancel_reason == "timeout" else "cancelled"
        return end(task, ends_as, now, reason=task.cancel_reason, detail=detail)
    if retry and task.attempt < MAX_ATTEMPTS:
        again = replace(
            task, status="queued", queued_at=now, agent_id=None, assignment_id=None, claimed_at=None, stage=None
        )
        return Decision(replace(again, reason=reason, detail=detail))
    return end(task, "failed", now, reason=reason, detail=detail)
