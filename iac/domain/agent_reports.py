"""What the reason of an agent's report means for the task. Pure."""

from __future__ import annotations

from iac.domain.records import Phase
from iac.domain.work import Result

NEVER_STARTED = "never_started"
GIVEN_BACK = frozenset({"lease_expired", "agent_crashed", "runner_detached", NEVER_STARTED})
"""Why a plan that its agent reports as failed gets another attempt: nothing was wrong with the plan."""


def gives_back(phase: Phase, result: Result) -> bool:
    """Whether a plan ended by no fault of its own."""
    return phase == "plan" and result.status == "failed" and result.reason in GIVEN_BACK


def is_outdated(result: Result, *, claimed_by: str | None, told_by: str | None) -> bool:
    """Whether a program says that an assignment was never begun which it has claimed itself.

    It says so at its start, of what the one before it had. Words that were so long on their way that the assignment was
    ordered, and begun, once more must not end it.
    """
    return result.reason == NEVER_STARTED and claimed_by is not None and claimed_by == told_by
