"""A task's cancellation as the API shows it."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import ceil

import msgspec

from iac.domain.ladder import StopStage, StopStep
from iac.domain.records import Task


class CancelView(msgspec.Struct, frozen=True, kw_only=True):
    """How far the stop of what runs is. Spans are seconds as of this answer; None for what will not come any more."""

    id: str
    reason: str
    by: str
    force: bool
    requested_at: datetime | None
    stage: StopStage | None = None
    """None: its runner has not heard of it, or there was nothing to stop."""
    stage_at: datetime | None = None
    steps: tuple[StopStep, ...] = ()
    next_step_at: datetime | None = None
    next_step_in_s: float | None = None
    kill_at: datetime | None = None
    """When everything that is left of it is killed."""
    kill_in_s: float | None = None
    deadline_at: datetime | None = None
    """When there should be a result."""
    force_allowed_at: datetime | None = None
    force_in_s: float | None = None
    """0: it may be forced now."""
    overdue_at: datetime | None = None
    """Since then its runner is there and should have ended it."""


def cancel_view(task: Task, *, now: datetime, force_after_s: float) -> CancelView | None:
    if task.cancel_id is None:
        return None
    last = task.cancel_steps[-1] if task.cancel_steps else None
    asked = task.cancel_requested_at
    forcible = asked is not None and not task.cancel_force and task.status in ("cancelling", "lost")
    force_at = asked + timedelta(seconds=force_after_s) if asked is not None and forcible else None
    return CancelView(
        id=task.cancel_id,
        reason=task.cancel_reason or "",
        by=task.cancel_by or "",
        force=task.cancel_force,
        requested_at=asked,
        stage=None if last is None else last.stage,
        stage_at=None if last is None else last.at,
        steps=task.cancel_steps,
        next_step_at=task.cancel_next_at,
        next_step_in_s=_until(task.cancel_next_at, now),
        kill_at=task.cancel_kill_at,
        kill_in_s=_until(task.cancel_kill_at, now),
        deadline_at=task.cancel_deadline_at,
        force_allowed_at=force_at,
        force_in_s=_until(force_at, now),
        overdue_at=task.cancel_overdue_at,
    )


def _until(at: datetime | None, now: datetime) -> float | None:
    """Rounded up: what is 0 has come."""
    return None if at is None else ceil(max(0.0, (at - now) / timedelta(seconds=1)) * 10) / 10
