"""What a task went through, as periods."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from iac.domain.steps import TaskStep, lasted, periods

T0 = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def step(second: float, status: Any, stage: str | None = None, phase: Any = "plan", attempt: int = 1) -> TaskStep:
    return TaskStep(at=T0 + timedelta(seconds=second), phase=phase, status=status, stage=stage, attempt=attempt)


def told(*steps: TaskStep) -> list[tuple[str, str | None, float | None, bool]]:
    return [
        (
            each.status,
            each.stage,
            None if each.ends is None else (each.ends - each.begins).total_seconds(),
            each.stopping,
        )
        for each in periods(steps)
    ]


def test_a_plan_from_its_queue_to_its_decision() -> None:
    assert told(
        step(0, "pending", attempt=0),
        step(1, "queued", attempt=0),
        step(5, "assigned"),
        step(6, "running"),
        step(6.5, "running", "init"),
        step(8, "running", "planning"),
        step(10, "planned"),
    ) == [
        ("pending", None, 1, False),
        ("queued", None, 4, False),
        ("assigned", None, 1, False),
        ("running", "init", 2, False),
        ("running", "planning", 2, False),
        ("planned", None, None, False),
    ]


def test_a_stage_that_was_stopped_is_one_period() -> None:
    assert told(step(0, "running", "applying"), step(3, "cancelling", "applying"), step(9, "cancelled")) == [
        ("running", "applying", 9, True),
        ("cancelled", None, 0, False),
    ]


def test_another_attempt_is_another_period() -> None:
    found = periods([step(0, "running", "init"), step(1, "running", "init", attempt=2)])
    assert [each.attempt for each in found] == [1, 2]


def test_all_of_it_lasted_from_the_first_begin_to_the_last_end_or_now() -> None:
    assert lasted(periods([step(0, "queued"), step(4, "running")]), T0 + timedelta(seconds=10)) == 10
    assert lasted([], T0) == 0


def test_a_task_of_before_steps_were_written_down_has_no_periods() -> None:
    assert periods([]) == []
