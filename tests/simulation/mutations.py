"""The product without one of its guards. Each has to be caught: a simulation that finds nothing proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from iac.domain import lifecycle
from iac.domain.agent_session import Times
from iac.domain.agent_state import AgentState
from iac.domain.lifecycle import Claim, Decision, Lose
from iac.domain.logs import Append, Gap
from iac.domain.records import Task
from tests.simulation import rows

Mutation = Callable[[pytest.MonkeyPatch], Times]


def _nothing(*_args: object, **_facts: object) -> None: ...


def no_fence(patch: pytest.MonkeyPatch) -> Times:
    """Whoever had a task once may still claim and report it."""
    patch.setattr(lifecycle, "_same_fence", _nothing)
    return Times()


def no_claim(patch: pytest.MonkeyPatch) -> Times:
    """The claim does not mark the task: it can be taken back and handed out although somebody has begun it."""

    def claim(task: Task, event: Claim, _now: object) -> Decision:
        lifecycle._same_fence(task, event.fence)
        return Decision(task)

    patch.setattr(lifecycle, "_claim", claim)
    return Times()


def no_lease(patch: pytest.MonkeyPatch) -> Times:
    """An agent that lost its server goes on planning."""
    patch.setattr(AgentState, "_expired", lambda *_: False)
    return Times()


def lost_too_soon(patch: pytest.MonkeyPatch) -> Times:
    """The server gives up before the agent does."""
    return Times(lost_after=60.0)


def applies_run_again(patch: pytest.MonkeyPatch) -> Times:
    """A lost apply is handed out again, as a plan would be."""
    lose = lifecycle._lose

    def again(task: Task, event: Lose, now: Any) -> Decision:
        decided = lose(task, event, now)
        if decided.task.status != "lost":
            return decided
        fields = {"status": "queued", "agent_id": None, "assignment_id": None, "claimed_at": None}
        return Decision(replace(decided.task, **fields))

    patch.setattr(lifecycle, "_lose", again)
    return Times()


def logs_are_overwritten(patch: pytest.MonkeyPatch) -> Times:
    """A chunk is written where it says, and what lies behind it is cut: fine, until a late copy comes."""

    def accept(length: int, offset: int, data_len: int, *, closed: bool, limit: int) -> object:
        return Gap(length) if offset > length else Append(0)

    patch.setattr(rows, "accept", accept)
    return Times()


def orders_are_not_known_again(patch: pytest.MonkeyPatch) -> Times:
    """An order that comes twice is started twice."""
    run = AgentState._run

    def forgetful(self: AgentState, order: Any, now: float, disk_free: int) -> Any:
        self._held.pop(order.fence, None)
        return run(self, order, now, disk_free)

    patch.setattr(AgentState, "_run", forgetful)
    return Times()


MUTATIONS: tuple[Mutation, ...] = (
    no_fence,
    no_claim,
    no_lease,
    lost_too_soon,
    applies_run_again,
    logs_are_overwritten,
    orders_are_not_known_again,
)
