"""What a task went through: its steps as they were noted, and the periods that they make. Pure: made from rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import zip_longest

from iac.domain.records import FINAL, Phase, Record, Status


class TaskStep(Record, frozen=True, kw_only=True):
    """From `at` on the task was this."""

    at: datetime
    phase: Phase
    status: Status
    stage: str | None
    attempt: int


class Period(Record, frozen=True, kw_only=True):
    """A time in which the task was at one thing; `ends` is None for what goes on.

    `stopping`: it was asked to stop meanwhile.
    """

    phase: Phase
    attempt: int
    status: Status
    stage: str | None
    begins: datetime
    ends: datetime | None
    stopping: bool = False


def periods(steps: Sequence[TaskStep]) -> list[Period]:
    """In order. Steps that are of one stage are one period; the final status is a moment and ends when it begins."""
    found: list[Period] = []
    for step, after in zip_longest(steps, steps[1:]):  # none at all: a task of a server that did not write them down
        over = step.status in FINAL
        ends = step.at if over else None if after is None else after.at
        last = found[-1] if found else None
        if last is not None and _goes_on(last, step):
            stopping = last.stopping or step.status == "cancelling"
            found[-1] = _with(last, ends=ends, stage=step.stage or last.stage, stopping=stopping)
            continue
        found.append(
            Period(
                phase=step.phase,
                attempt=step.attempt,
                status=step.status,
                stage=step.stage,
                begins=step.at,
                ends=ends,
                stopping=step.status == "cancelling",
            )
        )
    return found


_AT_WORK = frozenset({"running", "cancelling"})


def _goes_on(last: Period, step: TaskStep) -> bool:
    if last.phase != step.phase or last.attempt != step.attempt:
        return False
    if last.status in _AT_WORK and step.status in _AT_WORK:
        # Before its first stage is told it is at that stage already.
        return step.stage == last.stage or last.stage is None or step.stage is None
    return last.status == step.status


def _with(period: Period, *, ends: datetime | None, stage: str | None, stopping: bool) -> Period:
    return Period(
        phase=period.phase,
        attempt=period.attempt,
        status=period.status,
        stage=stage,
        begins=period.begins,
        ends=ends,
        stopping=stopping,
    )


def lasted(found: Iterable[Period], now: datetime) -> float:
    """Seconds in all between the first begin and the last end."""
    spans = list(found)
    if not spans:
        return 0.0
    return max(0.0, ((spans[-1].ends or now) - spans[0].begins).total_seconds())
