"""What holds whatever happens to a task, in whatever order: events at random, with fences that are right, old or new."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, get_args

from hypothesis import event as count
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from iac.domain.decision import Decision, Effect
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
from iac.domain.records import Action, Task
from iac.domain.reporting import MAX_ATTEMPTS
from iac.domain.work import Result, ResultStatus
from iac.errors import Conflict
from tests.domain.builders import NOW, a_task
from tests.harness.thoroughness import examples

Step = tuple[str, int, bool]
"""What happens, how far the fence is off (0: the present one), and a flag that the event may use."""
KINDS = (
    *("queue", "assign", "queue_timeout", "claim", "unassign", "cancel", "discard", "confirm", "lose", "heard"),
    *("resolve", "stored_plan", *get_args(ResultStatus)),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from([0, 0, 0, 0, 0, -1, 1]), st.booleans()), min_size=1, max_size=40
)
GUIDED = st.lists(
    st.sampled_from(
        [
            ["queue", "assign", "claim"],
            ["assign", "claim"],
            ["stored_plan", "planned"],
            ["stored_plan", "cancel", "planned"],
            ["confirm", "assign", "claim"],
            ["lose", "assign", "claim"],
            ["lose", "heard"],
            ["cancel", "cancelled"],
            ["succeeded"],
            ["cancelled"],
            ["resolve"],
        ]
    ),
    max_size=12,
).map(lambda runs: [(kind, 0, False) for run in runs for kind in run])
"""Random single steps rarely get far; these stumble along the usual paths."""
LOCKING: tuple[Action, ...] = ("apply", "plan_and_apply", "destroy", "refresh_only")


def event_of(step: Step, number: int, task: Task) -> Event:
    kind, off, flag = step
    fence = task.fence + off
    makers: dict[str, Callable[[], Event]] = {
        "queue": Queue,
        "assign": lambda: Assign(agent_id="local", assignment_id=f"asg-{number}", fence=task.fence + 1 + off),
        "queue_timeout": lambda: QueueTimeout(after=timedelta(hours=1)),
        "claim": lambda: Claim(fence=fence),
        "unassign": lambda: Unassign(fence=fence),
        "cancel": lambda: Cancel(cancel_id=f"can-{number}", reason="user", by="bob", force=flag),
        "discard": lambda: Discard(by="bob"),
        "confirm": lambda: Confirm(by="bob", comment="", plan_digest="p1" if off == 0 else "p0"),
        "lose": lambda: Lose(fence=fence, reason="agent_lost", detail="gone", retry=not flag),
        "heard": lambda: Heard(fence=fence),
        "resolve": lambda: Resolve(by="bob", comment="", fence=task.fence + 1 + off, unlock=flag),
    }
    if kind in makers:
        return makers[kind]()
    status: Any = kind
    result = Result(result_id=f"r-{task.fence}-{kind}", status=status, state_safe=not flag)
    return Report(fence=fence, result=result)


class Life:
    """A task, what happened to it so far, and the checks after each step."""

    def __init__(self, action: Action, *, auto_apply: bool) -> None:
        phase = "apply" if action == "apply" else "plan"
        facts = {"plan_digest": "p1", "has_changes": True} if phase == "apply" else {}
        self.task = a_task(action=action, phase=phase, auto_apply=auto_apply, **facts)
        self.locked = self.task.takes_lock
        self.apply_claimed = False
        self.now: datetime = NOW

    def step(self, step: Step, number: int) -> None:
        self.now += timedelta(seconds=1)
        if step[0] == "stored_plan":
            self._store_plan(has_changes=not step[2])
            return
        event = event_of(step, number, self.task)
        before = self.task
        try:
            decision = decide(before, event, self.now)
        except Conflict:
            return
        self._check(before, event, decision)
        self.task = decision.task
        self._repeat(event, decision)

    def _store_plan(self, *, has_changes: bool) -> None:
        """What the store does beside the lifecycle: the plan's facts are noted while its phase runs."""
        if self.task.phase == "plan" and self.task.status in ("running", "cancelling"):
            self.task = replace(self.task, plan_digest="p1", has_changes=has_changes)

    def _check(self, before: Task, event: Event, decision: Decision) -> None:
        task, effects = decision.task, decision.effects
        if before.final:
            assert task == before, "what is final never changes"
            assert effects == ()
        assert task.fence >= before.fence, "a fence only grows"
        assert task.fence > before.fence or task.attempt <= before.attempt, "each attempt has a fence of its own"
        assert task.attempt <= MAX_ATTEMPTS
        self.apply_claimed = self.apply_claimed or (task.phase == "apply" and task.claimed_at is not None)
        assert not (self.apply_claimed and task.status in ("queued", "assigned")), "a claimed apply runs once"
        if task.status == "planned":
            assert (task.agent_id, task.assignment_id) == (None, None), "what waits for a person holds no runner"
        if task.phase == "apply" and before.phase == "plan":
            assert task.confirmation is not None
            assert task.confirmation.plan_digest == task.plan_digest
        if task.status in ("pending", "queued", "assigned", "planned"):
            assert task.cancel_id is None, "nobody's wish to stop is overheard"
        if task.status == "cancelled" and not before.final:
            assert task.cancel_id is not None or isinstance(event, Discard), "nothing is cancelled that nobody wanted"
        assert task.final == (task.finished_at is not None)
        self._check_lock(before, decision)

    def _check_lock(self, before: Task, decision: Decision) -> None:
        if not self.task.takes_lock:
            assert not set(decision.effects) & {Effect.RELEASE_LOCK, Effect.HOLD_LOCK}
            return
        decided = [effect for effect in decision.effects if effect in (Effect.RELEASE_LOCK, Effect.HOLD_LOCK)]
        if decision.task.final and not before.final:
            assert len(decided) == 1, "an end says what becomes of the lock"
        if not decision.task.final:
            assert Effect.RELEASE_LOCK not in decided, "only an end gives the workspace back"

    def _repeat(self, event: Event, first: Decision) -> None:
        try:
            again = decide(first.task, event, self.now + timedelta(seconds=1))
        except Conflict:
            assert not isinstance(event, Report), "a runner that did not hear the answer may ask again"
            return
        assert again.task == first.task, "a repetition changes nothing"
        assert Effect.RELEASE_LOCK not in again.effects


@given(st.sampled_from(get_args(Action)), st.booleans(), STEPS | GUIDED)
@example("plan_and_apply", False, [(k, 0, False) for k in ("queue", "assign", "claim", "stored_plan", "planned")])
@settings(max_examples=examples(1000), deadline=None)
def test_no_order_of_events_breaks_a_task(action: Action, auto_apply: bool, steps: list[Step]) -> None:
    life = Life(action, auto_apply=auto_apply)
    for number, step in enumerate(steps):
        life.step(step, number)
    count(life.task.status)


@given(st.sampled_from(LOCKING), st.booleans(), GUIDED)
@settings(max_examples=examples(300), deadline=None)
def test_a_task_that_lives_can_always_be_ended_by_a_person(action: Action, auto_apply: bool, steps: list[Step]) -> None:
    life = Life(action, auto_apply=auto_apply)
    for number, step in enumerate(steps):
        life.step(step, number)
    # Cancel it, let its runner answer or be given up, resolve what is left.
    for number, kind in enumerate(("cancel", "cancelled", "lose", "resolve"), start=len(steps)):
        life.step((kind, 0, False), number)
    assert life.task.final
