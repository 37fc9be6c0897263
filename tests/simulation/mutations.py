"""The product without one of its guards. Each has to be caught: a simulation that finds nothing proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from iac.domain import agent_reports, lifecycle, reporting, state_verdicts
from iac.domain.agent_session import AgentSession, Times
from iac.domain.agent_state import AgentState
from iac.domain.decision import Decision, Effect, same_fence, strand
from iac.domain.holding import Past
from iac.domain.lifecycle import Claim
from iac.domain.logs import Append, Gap
from iac.domain.records import Task
from iac.domain.reporting import lose
from iac.domain.state_verdicts import Verdict
from tests.simulation import rows
from tests.simulation.agent import Agent
from tests.simulation.host import Host
from tests.simulation.story import TIMES

Mutation = Callable[[pytest.MonkeyPatch], Times]


def _nothing(*_args: object, **_facts: object) -> None: ...


def _instead(patch: pytest.MonkeyPatch, guard: str, other: Callable[..., None]) -> None:
    """For a guard of the lifecycle, wherever it stands."""
    for module in (lifecycle, reporting):
        patch.setattr(module, guard, other)


def no_fence(patch: pytest.MonkeyPatch) -> Times:
    """Whoever had a task once may still claim and report it."""
    _instead(patch, "same_fence", _nothing)
    return TIMES


def no_claim(patch: pytest.MonkeyPatch) -> Times:
    """The claim does not mark the task: it can be taken back and handed out although somebody has begun it."""

    def claim(task: Task, event: Claim, _now: object) -> Decision:
        same_fence(task, event.fence)
        return Decision(task)

    patch.setattr(lifecycle, "_claim", claim)
    return TIMES


def no_lease(patch: pytest.MonkeyPatch) -> Times:
    """An agent that lost its server goes on planning."""
    patch.setattr(AgentState, "_expired", lambda *_: False)
    return TIMES


def lost_too_soon(patch: pytest.MonkeyPatch) -> Times:
    """The server gives up before the agent does."""
    return replace(TIMES, lost_after=60.0)


def applies_run_again(patch: pytest.MonkeyPatch) -> Times:
    """A lost apply is handed out again, as a plan would be."""

    def again(*facts: Any, **more: Any) -> Decision:
        decided = lose(*facts, **more)
        if decided.task.status != "lost":
            return decided
        fields = {"status": "queued", "agent_id": None, "assignment_id": None, "claimed_at": None}
        return Decision(replace(decided.task, **fields))

    patch.setattr(lifecycle, "lose", again)
    return TIMES


def logs_are_overwritten(patch: pytest.MonkeyPatch) -> Times:
    """A chunk is written where it says, and what lies behind it is cut: fine, until a late copy comes."""

    def accept(length: int, offset: int, data_len: int, *, closed: bool, limit: int) -> object:
        return Gap(length) if offset > length else Append(0)

    patch.setattr(rows, "accept", accept)
    return TIMES


def orders_are_not_known_again(patch: pytest.MonkeyPatch) -> Times:
    """An order that comes twice is started twice."""
    run = AgentState._run

    def forgetful(self: AgentState, order: Any, now: float, disk_free: int) -> Any:
        self._held.pop(order.fence, None)
        return run(self, order, now, disk_free)

    patch.setattr(AgentState, "_run", forgetful)
    return TIMES


def the_shim_holds_no_dead_mans_handle(patch: pytest.MonkeyPatch) -> Times:
    """A plan whose agent was killed goes on for as long as it likes."""
    patch.setattr(Host, "prolong", _nothing)
    return TIMES


def starts_without_a_lease(patch: pytest.MonkeyPatch) -> Times:
    """Data that come when the lease is over are good enough to begin."""
    patch.setattr(AgentState, "may_start", lambda *_: True)
    return TIMES


def lists_are_believed_at_once(patch: pytest.MonkeyPatch) -> Times:
    """What is missing in a list that was on its way when the task was claimed is gone."""
    patch.setattr(AgentSession, "_surely", lambda *_, **_facts: True)
    return TIMES


def accepts_before_it_is_written_down(patch: pytest.MonkeyPatch) -> Times:
    """An agent that is started again knows nothing of what it had."""
    patch.setattr(Host, "note", _nothing)
    return TIMES


def cancellations_are_forgotten(patch: pytest.MonkeyPatch) -> Times:
    """A cancellation that overtakes its order leaves no tombstone."""
    patch.setattr(Past, "remember", _nothing)
    return TIMES


def the_lost_stay_lost(patch: pytest.MonkeyPatch) -> Times:
    """That the same fence is heard again changes nothing."""
    patch.setattr(lifecycle, "_heard", lambda task, _event: Decision(task))
    return TIMES


def a_lost_apply_lets_go(patch: pytest.MonkeyPatch) -> Times:
    """The workspace is free although nobody knows what was done to it."""

    def let_go(*facts: Any) -> Decision:
        return Decision(strand(*facts).task, (Effect.RELEASE_LOCK,))

    patch.setattr(reporting, "strand", let_go)
    return TIMES


def the_end_is_not_the_end(patch: pytest.MonkeyPatch) -> Times:
    """Whatever is asked may be done in any status."""
    _instead(patch, "need", _nothing)
    return TIMES


def old_words_count(patch: pytest.MonkeyPatch) -> Times:
    """That an assignment was never begun is believed although it was ordered again, and begun, since this was said."""
    patch.setattr(agent_reports, "is_outdated", lambda *_, **_facts: False)
    return TIMES


def tries_for_ever(patch: pytest.MonkeyPatch) -> Times:
    """A plan that kills every agent gets another one."""
    patch.setattr(reporting, "MAX_ATTEMPTS", 99)
    return TIMES


def abandoned_states_count(patch: pytest.MonkeyPatch) -> Times:
    """A state of an apply that was declared over becomes the current one."""
    patch.setattr(state_verdicts, "_from_stranger", _nothing)
    return TIMES


def states_are_overwritten(patch: pytest.MonkeyPatch) -> Times:
    """The newest state that comes is the current one, whatever its serial."""
    patch.setattr(state_verdicts, "_in_line", lambda _, push: Verdict("checkpoint" if push.partial else "current"))
    return TIMES


def checkpoints_count(patch: pytest.MonkeyPatch) -> Times:
    """What an apply that still runs has written so far is the current state."""
    in_line = state_verdicts._in_line
    patch.setattr(state_verdicts, "_in_line", lambda current, push: in_line(current, replace(push, partial=False)))
    return TIMES


def late_checkpoints_count(patch: pytest.MonkeyPatch) -> Times:
    """A checkpoint that was overtaken by a newer state of its apply is kept beside it."""
    patch.setattr(state_verdicts, "_is_overtaken", lambda _: False)
    return TIMES


def a_state_is_stored_after_the_result(patch: pytest.MonkeyPatch) -> Times:
    """The task has ended, and its workspace is free, before what it did is known."""
    patch.setattr(Agent, "_carry_state", lambda self, job: self._report(job, job.ends_as))
    return TIMES


MUTATIONS: tuple[Mutation, ...] = (
    no_fence,
    no_claim,
    no_lease,
    lost_too_soon,
    the_shim_holds_no_dead_mans_handle,
    starts_without_a_lease,
    lists_are_believed_at_once,
    orders_are_not_known_again,
    accepts_before_it_is_written_down,
    cancellations_are_forgotten,
    applies_run_again,
    the_lost_stay_lost,
    a_lost_apply_lets_go,
    the_end_is_not_the_end,
    old_words_count,
    tries_for_ever,
    logs_are_overwritten,
    abandoned_states_count,
    states_are_overwritten,
    checkpoints_count,
    late_checkpoints_count,
    a_state_is_stored_after_the_result,
)
