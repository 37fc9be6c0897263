"""What a move of a task comes to, and what most moves have in common. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from iac.domain import cancelling
from iac.domain.records import FINAL, Confirmation, Task
from iac.errors import AlreadyFinal, Fenced, IllegalTransition


class Effect(StrEnum):
    """What the same transaction (or, for `STOP`, the caller after it) has to do."""

    RELEASE_LOCK = "release_lock"
    HOLD_LOCK = "hold_lock"  # the outcome is unknown: the lock stays, with a reason that says so
    STATE_UNCERTAIN = "state_uncertain"
    STOP = "stop"  # somebody runs it: tell them to stop


class Decision(msgspec.Struct, frozen=True):
    task: Task
    effects: tuple[Effect, ...] = ()


def need(task: Task, *allowed: str, by: str) -> None:
    """Raises AlreadyFinal, IllegalTransition unless the task is in one of these states. `by`: what is refused then."""
    if task.status in allowed:
        return
    if task.status in FINAL:
        raise AlreadyFinal(f"Task {task.id} is already {task.status}; nothing changes any more.", status=task.status)
    raise IllegalTransition(
        f"Task {task.id} is {task.status}: {by} is possible only while it is {' or '.join(allowed)}.",
        status=task.status,
        allowed=list(allowed),
    )


def same_fence(task: Task, fence: int) -> None:
    """Raises Fenced unless this is the task's present assignment."""
    if fence != task.fence:
        raise Fenced(
            f"Assignment {fence} of task {task.id} was taken away; the current one is {task.fence}.", fence=task.fence
        )


def newer_fence(task: Task, fence: int) -> None:
    """Raises Fenced unless this fence is above all that the task had."""
    if fence <= task.fence:
        raise Fenced(f"Fence {fence} is not above {task.fence}, the present one of task {task.id}.", fence=task.fence)


def end(task: Task, status: str, now: datetime, **facts: object) -> Decision:
    """The task is over; its workspace is free again if it held it."""
    done = replace(cancelling.over(task, now), status=status, finished_at=now, stage=None, **facts)
    return Decision(done, (Effect.RELEASE_LOCK,) if task.takes_lock else ())


def strand(task: Task, reason: str, detail: str | None) -> Decision:
    """Nobody knows what the apply did: it keeps its lock until a human says so."""
    lost = replace(task, status="lost", reason=reason, detail=detail, stage=None)
    return Decision(lost, (Effect.HOLD_LOCK, Effect.STATE_UNCERTAIN))


def to_apply(task: Task, by: Confirmation, now: datetime) -> Task:
    """What was planned is queued once more, to be applied with nothing of its plan's runner held."""
    return replace(
        task,
        status="queued",
        phase="apply",
        confirmation=by,
        queued_at=now,
        agent_id=None,
        assignment_id=None,
        claimed_at=None,
        attempt=0,
        stage=None,
    )
