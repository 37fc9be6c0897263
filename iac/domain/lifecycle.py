"""The lifecycle of a task as one pure function: `decide(task, event, now)` gives the task as it is afterwards.

    pending ─► queued ─► assigned ─► running ─► planned ─► queued (phase apply) ─► … ─► succeeded
       │          │  ◄──────┘           │ ╲         │
       ▼          ▼    unclaimed        ▼   ╲       ▼
    cancelled  cancelled           cancelling  lost  cancelled        failed from running, cancelling, lost, queued

The store reads the row under its lock, calls `decide`, and writes the difference in one conditional UPDATE; nobody else
moves a task. Numbers T1…T17 are the transitions of the protocol's specification.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

import msgspec
from msgspec.structs import replace

from iac.domain import cancelling
from iac.domain.decision import Decision, Effect, end, need, newer_fence, same_fence, to_apply
from iac.domain.ladder import FORCE_AFTER, StopReport
from iac.domain.limits import Limits
from iac.domain.records import Confirmation, Status, Task
from iac.domain.reporting import lose, report
from iac.domain.work import Result
from iac.errors import PlanStale


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of what may happen to a task."""


class Queue(Event, frozen=True, kw_only=True):
    """T1: nothing stands before it in its workspace."""


class Assign(Event, frozen=True, kw_only=True):
    """T3: the dispatcher gives it to a runner under a new fence, with the limits that hold now."""

    agent_id: str
    assignment_id: str
    fence: int
    limits: Limits | None = None


class QueueTimeout(Event, frozen=True, kw_only=True):
    """T4: nobody took it for too long."""

    after: timedelta


class Claim(Event, frozen=True, kw_only=True):
    """T5: the runner fetched the task's data; from now on it may have had effects."""

    fence: int


class Unassign(Event, frozen=True, kw_only=True):
    """T6: given back, or its runner went away, before it was claimed."""

    fence: int


class Cancel(Event, frozen=True, kw_only=True):
    """T2, T7, T9: somebody wants it stopped. `force` is for what was cancelled before; see iac.domain.cancelling."""

    cancel_id: str
    reason: str
    by: str
    force: bool = False
    confirmed: bool = False
    force_after_s: float = FORCE_AFTER


class Stopping(Event, frozen=True, kw_only=True):
    """T9 by the runner itself, and how far any stop is."""

    fence: int
    report: StopReport


class Discard(Event, frozen=True, kw_only=True):
    """T2 from planned: the plan will not be applied."""

    by: str
    comment: str = ""


class Confirm(Event, frozen=True, kw_only=True):
    """T17: the plan that was looked at may be applied."""

    by: str
    comment: str
    plan_digest: str


class Report(Event, frozen=True, kw_only=True):
    """T8, T10, T11, T16: the runner says how the phase ended."""

    fence: int
    result: Result


class Lose(Event, frozen=True, kw_only=True):
    """T12, T13, T14: the runner is gone, and nobody knows how far it came. `retry` allows a plan another attempt."""

    fence: int
    reason: str
    detail: str
    retry: bool = True


class Heard(Event, frozen=True, kw_only=True):
    """T15: the runner that was given up is back, with the same fence."""

    fence: int


class Resolve(Event, frozen=True, kw_only=True):
    """T14: a human declares a lost apply over."""

    by: str
    comment: str
    fence: int
    unlock: bool


def begin(*, goes: bool, now: datetime) -> tuple[Status, datetime | None]:
    """How a task begins, and since when it is queued: with T1 at once if nothing stands before it."""
    return ("queued", now) if goes else ("pending", None)


def decide(task: Task, event: Event, now: datetime) -> Decision:
    """What `event` makes of `task`.

    Raises AlreadyFinal, IllegalTransition, Fenced or PlanStale where the move is not allowed; a repetition of what
    already happened is no error and changes nothing.
    """
    match event:
        case Queue():
            need(task, "pending", by="queue")
            return Decision(replace(task, status="queued", queued_at=now))
        case Assign():
            return _assign(task, event, now)
        case QueueTimeout():
            return _queue_timeout(task, event, now)
        case Claim():
            return _claim(task, event, now)
        case Unassign():
            return _unassign(task, event)
        case Cancel():
            return _cancel(task, event, now)
        case Stopping():
            same_fence(task, event.fence)
            return Decision(cancelling.stepped(task, event.report, now))
        case Discard():
            need(task, "planned", by="discard")
            return end(task, "cancelled", now, outcome="discarded", reason="discarded", detail=event.comment or None)
        case Confirm():
            return _confirm(task, event, now)
        case Report():
            return report(task, event.fence, event.result, now)
        case Lose():
            return lose(task, event.fence, event.reason, event.detail, now, retry=event.retry)
        case Heard():
            return _heard(task, event)
        case Resolve():
            return _resolve(task, event, now)
        case _:
            assert_never(event)  # type: ignore[arg-type]


def _assign(task: Task, event: Assign, now: datetime) -> Decision:
    need(task, "queued", by="assign")
    newer_fence(task, event.fence)
    if task.phase == "plan":
        task = replace(task, plan_digest=None, has_changes=None)  # what an earlier attempt stored is not this one's
    return Decision(
        replace(
            task,
            status="assigned",
            agent_id=event.agent_id,
            assignment_id=event.assignment_id,
            fence=event.fence,
            attempt=task.attempt + 1,
            assigned_at=now,
            claimed_at=None,
            result_id=None,
            timeout_s=None if event.limits is None else event.limits.timeout_s,
            grace_s=None if event.limits is None else event.limits.grace_s,
        )
    )


def _queue_timeout(task: Task, event: QueueTimeout, now: datetime) -> Decision:
    need(task, "queued", by="queue timeout")
    detail = f"No runner took the task within {event.after}."
    return end(task, "failed", now, reason="queue_timeout", detail=detail)


def _claim(task: Task, event: Claim, now: datetime) -> Decision:
    same_fence(task, event.fence)
    if task.claimed_at is not None and task.status in ("running", "cancelling"):
        return Decision(task)
    need(task, "assigned", by="claim")
    return Decision(
        replace(task, status="running", claimed_at=now, started_at=task.started_at or now, reason=None, detail=None)
    )


def _unassign(task: Task, event: Unassign) -> Decision:
    same_fence(task, event.fence)
    need(task, "assigned", by="giving it back")
    return Decision(replace(task, status="queued", agent_id=None, assignment_id=None, attempt=task.attempt - 1))


def _cancel(task: Task, event: Cancel, now: datetime) -> Decision:
    asked = cancelling.wanted(
        task, cancel_id=event.cancel_id, reason=event.reason, by=event.by, force=event.force, now=now
    )
    if task.status in ("pending", "queued", "planned", "assigned"):
        # Assigned and not yet claimed: nothing has happened that would have to be undone (T7).
        stop = (Effect.STOP,) if task.status == "assigned" else ()
        ended = end(asked, "cancelled", now, reason=event.reason)
        return Decision(ended.task, ended.effects + stop)
    need(task, "running", "cancelling", "lost", by="cancel")
    if event.force:
        cancelling.refuse_force(task, confirmed=event.confirmed, after_s=event.force_after_s, now=now)
    if task.cancel_id is None:
        return Decision(replace(asked, status="lost" if task.status == "lost" else "cancelling"), (Effect.STOP,))
    if event.force and not task.cancel_force:
        return Decision(replace(task, cancel_force=True), (Effect.STOP,))
    return Decision(task)


def _confirm(task: Task, event: Confirm, now: datetime) -> Decision:
    need(task, "planned", by="confirm")
    if event.plan_digest != task.plan_digest:
        raise PlanStale(
            f"The plan of task {task.id} is another one than the one you looked at; look again.",
            plan_digest=task.plan_digest,
        )
    by = Confirmation(by=event.by, at=now, comment=event.comment, plan_digest=event.plan_digest)
    return Decision(to_apply(task, by, now))


def _heard(task: Task, event: Heard) -> Decision:
    same_fence(task, event.fence)
    if task.status in ("running", "cancelling"):
        return Decision(task)
    need(task, "lost", by="taking it up again")
    if task.cancel_id is not None:
        return Decision(replace(task, status="cancelling", reason=None, detail=None), (Effect.STOP,))
    return Decision(replace(task, status="running", reason=None, detail=None))


def _resolve(task: Task, event: Resolve, now: datetime) -> Decision:
    need(task, "lost", by="resolve")
    newer_fence(task, event.fence)
    detail = f"Resolved by {event.by}" + (f": {event.comment}" if event.comment else ".")
    done = replace(
        task, status="failed", finished_at=now, stage=None, fence=event.fence, reason=task.reason, detail=detail
    )
    return Decision(done, (Effect.RELEASE_LOCK,) if event.unlock else (Effect.HOLD_LOCK,))
