"""Every status met by every event, and the moves one by one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, get_args

import pytest
from msgspec.structs import asdict

from iac.domain.decision import Effect
from iac.domain.lifecycle import (
    Assign,
    Cancel,
    Claim,
    Confirm,
    Discard,
    Event,
    Heard,
    Lose,
    Queue,
    QueueTimeout,
    Report,
    Resolve,
    Unassign,
    decide,
)
from iac.domain.records import FINAL, Confirmation, Status, Task
from iac.errors import AlreadyFinal, Conflict, Fenced, IllegalTransition, PlanStale
from tests.domain.builders import NOW, a_result, a_task

LATER = NOW + timedelta(minutes=1)
FENCE = 7
STATUSES: tuple[Status, ...] = get_args(Status)


def standing(status: Status, phase: str = "plan", **facts: object) -> Task:
    """A task as it really looks in that status."""
    held = status in ("assigned", "running", "cancelling", "lost")
    known: dict[str, Any] = {"status": status, "phase": phase, "fence": FENCE if held else 0, "attempt": int(held)}
    if held:
        known |= {"agent_id": "local", "assignment_id": "asg-1", "assigned_at": NOW}
    if held and status != "assigned":
        known |= {"claimed_at": NOW, "started_at": NOW}
    if status == "planned" or phase == "apply":
        known |= {"plan_digest": "p1", "has_changes": True, "planned_at": NOW}
    if status == "cancelling":
        known |= {"cancel_id": "can-1", "cancel_reason": "user", "cancel_by": "ann", "cancel_requested_at": NOW}
    if status in FINAL:
        known |= {"finished_at": NOW}
    return a_task(**{**known, **facts})


EVENTS: dict[str, Event] = {
    "queue": Queue(),
    "assign": Assign(agent_id="local", assignment_id="asg-2", fence=FENCE + 1),
    "queue_timeout": QueueTimeout(after=timedelta(hours=24)),
    "claim": Claim(fence=FENCE),
    "unassign": Unassign(fence=FENCE),
    "cancel": Cancel(cancel_id="can-2", reason="user", by="bob"),
    "discard": Discard(by="bob"),
    "confirm": Confirm(by="bob", comment="", plan_digest="p1"),
    "planned": Report(fence=FENCE, result=a_result(status="planned")),
    "succeeded": Report(fence=FENCE, result=a_result(status="succeeded")),
    "failed": Report(fence=FENCE, result=a_result(status="failed", reason="exit")),
    "cancelled": Report(fence=FENCE, result=a_result(status="cancelled")),
    "unsafe": Report(fence=FENCE, result=a_result(status="failed", state_safe=False)),
    "lose": Lose(fence=FENCE, reason="agent_lost", detail="gone"),
    "heard": Heard(fence=FENCE),
    "resolve": Resolve(by="bob", comment="looked", fence=FENCE + 1, unlock=True),
}
FENCED_ONES = {"claim", "unassign", "planned", "succeeded", "failed", "cancelled", "unsafe", "lose", "heard"}

ALLOWED: dict[tuple[str, str], dict[str, str]] = {
    # (status, phase): {event: the status afterwards}. Whatever is not here is refused.
    ("pending", "plan"): {"queue": "queued", "cancel": "cancelled"},
    ("pending", "apply"): {"queue": "queued", "cancel": "cancelled"},
    ("queued", "plan"): {"assign": "assigned", "queue_timeout": "failed", "cancel": "cancelled"},
    ("queued", "apply"): {"assign": "assigned", "queue_timeout": "failed", "cancel": "cancelled"},
    ("assigned", "plan"): {"claim": "running", "unassign": "queued", "cancel": "cancelled"},
    ("assigned", "apply"): {"claim": "running", "unassign": "queued", "cancel": "cancelled"},
    ("running", "plan"): {
        "claim": "running",
        "cancel": "cancelling",
        "planned": "planned",
        "failed": "failed",
        "cancelled": "failed",
        "unsafe": "failed",
        "lose": "queued",
        "heard": "running",
    },
    ("running", "apply"): {
        "claim": "running",
        "cancel": "cancelling",
        "succeeded": "succeeded",
        "failed": "failed",
        "cancelled": "failed",
        "unsafe": "lost",
        "lose": "lost",
        "heard": "running",
    },
    ("planned", "plan"): {"cancel": "cancelled", "discard": "cancelled", "confirm": "queued"},
    ("cancelling", "plan"): {
        "claim": "cancelling",
        "cancel": "cancelling",
        "planned": "cancelled",
        "failed": "failed",
        "cancelled": "cancelled",
        "unsafe": "failed",
        "lose": "cancelled",
        "heard": "cancelling",
    },
    ("cancelling", "apply"): {
        "claim": "cancelling",
        "cancel": "cancelling",
        "succeeded": "succeeded",
        "failed": "failed",
        "cancelled": "cancelled",
        "unsafe": "lost",
        "lose": "lost",
        "heard": "cancelling",
    },
    ("lost", "apply"): {
        "cancel": "lost",
        "succeeded": "succeeded",
        "failed": "failed",
        "cancelled": "failed",
        "unsafe": "lost",
        "heard": "running",
        "resolve": "failed",
    },
    ("cancelled", "apply"): {},
    ("succeeded", "apply"): {},
    ("failed", "apply"): {},
}


def has_changes(task: Task) -> Task:
    """The plan's facts are on the row before its result comes."""
    return a_task(**{**asdict(task), "plan_digest": "p1", "has_changes": True})


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(("status", "phase"), ALLOWED)
def test_every_event_in_every_status_does_what_the_table_says(status: Status, phase: str, event: str) -> None:
    task = has_changes(standing(status, phase))
    wanted = ALLOWED[status, phase].get(event)
    if wanted is not None:
        assert decide(task, EVENTS[event], LATER).task.status == wanted
        return
    with pytest.raises(Conflict) as refused:
        decide(task, EVENTS[event], LATER)
    assert refused.value.extras.get("status", status) == status


def test_the_table_has_every_status() -> None:
    assert {status for status, _ in ALLOWED} == set(STATUSES)


@pytest.mark.parametrize("status", sorted(FINAL))
@pytest.mark.parametrize("event", sorted(EVENTS.keys() - FENCED_ONES))
def test_a_task_that_is_over_says_so_to_everybody(status: Status, event: str) -> None:
    with pytest.raises(AlreadyFinal):
        decide(standing(status), EVENTS[event], LATER)


@pytest.mark.parametrize("event", sorted(FENCED_ONES))
@pytest.mark.parametrize("status", ["assigned", "running", "cancelling", "lost"])
def test_a_runner_whose_assignment_was_taken_away_is_fenced(status: Status, event: str) -> None:
    with pytest.raises(Fenced):
        decide(standing(status, "apply", fence=FENCE + 5), EVENTS[event], LATER)


@pytest.mark.parametrize("fence", [FENCE, FENCE - 1])
def test_an_assignment_needs_a_fence_above_the_present_one(fence: int) -> None:
    queued = standing("queued", fence=FENCE)
    with pytest.raises(Fenced):
        decide(queued, Assign(agent_id="local", assignment_id="asg-2", fence=fence), LATER)
    with pytest.raises(Fenced):
        decide(standing("lost", "apply"), Resolve(by="bob", comment="", fence=fence, unlock=True), LATER)


def test_an_assignment_counts_an_attempt_and_giving_it_back_takes_it_off() -> None:
    assigned = decide(standing("queued"), EVENTS["assign"], LATER).task
    assert (assigned.attempt, assigned.agent_id, assigned.fence, assigned.assigned_at) == (1, "local", 8, LATER)
    back = decide(assigned, Unassign(fence=8), LATER).task
    assert (back.status, back.attempt, back.agent_id, back.assignment_id) == ("queued", 0, None, None)


def test_a_cancel_before_the_claim_ends_the_task_and_tells_the_runner() -> None:
    decision = decide(standing("assigned"), EVENTS["cancel"], LATER)
    assert decision.task.status == "cancelled"
    assert set(decision.effects) == {Effect.RELEASE_LOCK, Effect.STOP}


def test_the_first_cancel_stands_and_only_force_adds_to_it() -> None:
    first = decide(standing("running"), EVENTS["cancel"], NOW).task
    again = decide(first, Cancel(cancel_id="can-3", reason="user", by="eve"), LATER)
    assert again.task == first
    assert again.effects == ()
    forced = decide(first, Cancel(cancel_id="can-4", reason="user", by="eve", force=True), LATER)
    assert (forced.task.cancel_id, forced.task.cancel_force, forced.task.cancel_by) == ("can-2", True, "bob")
    assert forced.effects == (Effect.STOP,)
    assert decide(forced.task, Cancel(cancel_id="can-5", reason="user", by="eve", force=True), LATER).effects == ()


def test_a_cancel_of_a_lost_apply_is_kept_for_when_its_runner_is_back() -> None:
    asked = decide(standing("lost", "apply"), EVENTS["cancel"], LATER)
    assert (asked.task.status, asked.effects) == ("lost", (Effect.STOP,))
    back = decide(asked.task, EVENTS["heard"], LATER)
    assert (back.task.status, back.effects) == ("cancelling", (Effect.STOP,))


def test_a_confirmation_is_data_and_starts_the_apply_with_nothing_held() -> None:
    decision = decide(standing("planned", agent_id="local"), EVENTS["confirm"], LATER)
    task = decision.task
    assert (task.status, task.phase, task.agent_id, task.attempt) == ("queued", "apply", None, 0)
    assert task.confirmation == Confirmation(by="bob", at=LATER, comment="", plan_digest="p1")
    assert decision.effects == ()


def test_another_plan_than_the_one_that_was_looked_at_cannot_be_confirmed() -> None:
    with pytest.raises(PlanStale):
        decide(standing("planned"), Confirm(by="bob", comment="", plan_digest="p0"), LATER)


@pytest.mark.parametrize("action", ["plan", "plan_and_apply", "destroy", "refresh_only"])
def test_a_plan_without_changes_is_the_end(action: str) -> None:
    task = standing("running", action=action, plan_digest="p1", has_changes=False)
    decision = decide(task, EVENTS["planned"], LATER)
    assert (decision.task.status, decision.task.outcome) == ("succeeded", "planned_and_finished")
    assert decision.effects == (() if action == "plan" else (Effect.RELEASE_LOCK,))


def test_a_plain_plan_with_changes_is_the_end_too() -> None:
    task = standing("running", action="plan", plan_digest="p1", has_changes=True)
    decision = decide(task, EVENTS["planned"], LATER)
    assert (decision.task.status, decision.task.outcome, decision.effects) == ("succeeded", "planned", ())


def test_auto_apply_confirms_the_very_plan_that_was_made() -> None:
    task = standing("running", auto_apply=True, plan_digest="p9", has_changes=True)
    applied = decide(task, EVENTS["planned"], LATER).task
    assert (applied.status, applied.phase) == ("queued", "apply")
    assert applied.confirmation is not None
    assert (applied.confirmation.by, applied.confirmation.plan_digest) == ("auto-apply", "p9")


def test_a_plan_that_was_asked_to_stop_is_not_applied_even_if_it_was_made() -> None:
    task = standing("cancelling", auto_apply=True, plan_digest="p9", has_changes=True)
    decision = decide(task, EVENTS["planned"], LATER)
    assert (decision.task.status, decision.task.reason) == ("cancelled", "user")
    assert decision.effects == (Effect.RELEASE_LOCK,)


@pytest.mark.parametrize("auto_apply", [False, True])
@pytest.mark.parametrize("status", ["running", "cancelling", "lost"])
def test_an_apply_that_calls_itself_planned_is_not_run_again(status: Status, auto_apply: bool) -> None:
    with pytest.raises(IllegalTransition):
        decide(standing(status, "apply", auto_apply=auto_apply), EVENTS["planned"], LATER)


def test_an_apply_that_was_done_has_succeeded_even_if_it_was_asked_to_stop() -> None:
    decision = decide(standing("cancelling", "apply"), EVENTS["succeeded"], LATER)
    assert (decision.task.status, decision.effects) == ("succeeded", (Effect.RELEASE_LOCK,))


def test_what_stopped_without_being_asked_has_failed() -> None:
    ended = decide(standing("running", "apply"), EVENTS["cancelled"], LATER).task
    assert (ended.status, ended.reason) == ("failed", "interrupted")


@pytest.mark.parametrize("event", ["lose", "unsafe"])
def test_an_apply_of_unknown_outcome_keeps_the_workspace(event: str) -> None:
    decision = decide(standing("running", "apply"), EVENTS[event], LATER)
    assert decision.task.status == "lost"
    assert decision.effects == (Effect.HOLD_LOCK, Effect.STATE_UNCERTAIN)


def test_a_plan_whose_runner_vanished_is_tried_once_more_and_then_fails() -> None:
    again = decide(standing("running"), EVENTS["lose"], LATER).task
    assert (again.status, again.attempt, again.agent_id, again.queued_at) == ("queued", 1, None, LATER)
    second = decide(decide(again, EVENTS["assign"], LATER).task, Claim(fence=8), LATER).task
    over = decide(second, Lose(fence=8, reason="agent_lost", detail="gone"), LATER)
    assert (over.task.status, over.task.reason, over.task.attempt) == ("failed", "agent_lost", 2)
    assert over.effects == (Effect.RELEASE_LOCK,)


def test_a_plan_that_may_not_be_tried_again_fails_at_once() -> None:
    event = Lose(fence=FENCE, reason="server_restarted", detail="x", retry=False)
    assert decide(standing("running"), event, LATER).task.status == "failed"


def test_the_same_result_again_changes_nothing_even_when_the_task_is_over() -> None:
    first = decide(standing("running", "apply"), EVENTS["succeeded"], NOW)
    again = decide(first.task, EVENTS["succeeded"], LATER)
    assert again.task == first.task
    assert again.effects == ()


@pytest.mark.parametrize(("unlock", "effect"), [(True, Effect.RELEASE_LOCK), (False, Effect.HOLD_LOCK)])
def test_a_resolved_apply_is_over_fenced_and_its_lock_decided(unlock: bool, effect: Effect) -> None:
    event = Resolve(by="bob", comment="looked", fence=FENCE + 1, unlock=unlock)
    decision = decide(standing("lost", "apply"), event, LATER)
    assert (decision.task.status, decision.task.fence, decision.effects) == ("failed", FENCE + 1, (effect,))
    assert decision.task.detail == "Resolved by bob: looked"


def test_a_refusal_says_where_the_task_stands_and_where_it_would_be_possible() -> None:
    with pytest.raises(IllegalTransition) as refused:
        decide(standing("running"), EVENTS["confirm"], LATER)
    assert refused.value.message == "Task 1 is running: confirm is possible only while it is planned."
    assert refused.value.extras["allowed"] == ["planned"]


def test_planned_without_a_stored_plan_is_refused() -> None:
    task = a_task(status="running", action="plan_and_apply", phase="plan", claimed_at=NOW, plan_digest=None)
    report = Report(fence=task.fence, result=a_result(status="planned"))
    with pytest.raises(IllegalTransition, match="no stored plan"):
        decide(task, report, NOW)
