"""Whatever happened, in whatever order: each task that is not over has an owner who lives, or is moved on now."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

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
from iac.domain.reconciling import QUEUE_TIMEOUT, Owner, Seen, fate, held_by_agents, held_here, overdue
from iac.domain.records import FINAL, LOCAL, Lock, Status, Task
from iac.domain.work import Result
from iac.errors import Conflict
from tests.domain.builders import NOW, a_lock, a_result, a_task, a_workspace
from tests.harness.thoroughness import examples

HUMAN: dict[str, Event] = {
    "confirm": Confirm(by="ann", comment="", plan_digest="p1"),
    "discard": Discard(by="ann"),
    "resolve": Resolve(by="ann", comment="", fence=10**6, unlock=True),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("assign", "assign", "claim", "claim", "report", "planned", "planned", "cancel", "confirm", "discard"),
                *("vanish", "unheard", "back", "resolve", "lock", "unlock", "unlock unsaid", "look", "restart", "days"),
            ]
        ),
        st.integers(0, 4),
        st.booleans(),
    ),
    max_size=60,
)
WORKSPACES = ("ws-a", "ws-b")


@dataclass
class World:
    """Some tasks in two workspaces, moved by the product's lifecycle; runners that come and go, and what is seen of them."""

    tasks: dict[int, Task] = field(default_factory=dict)
    locks: dict[str, Lock] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)
    """The fences of assignments whose runner lives and is known to."""
    gone: set[int] = field(default_factory=set)
    """Those whose runner is known to be gone."""
    now: datetime = NOW
    restarted: bool = False
    fences: count[int] = field(default_factory=lambda: count(1))

    def create(self, number: int, action: Any, mode: Any, *, auto: bool) -> None:
        facts = {"plan_digest": "p1", "has_changes": True, "phase": "apply"} if action == "apply" else {}
        workspace = WORKSPACES[number % 2]
        self.tasks[number] = a_task(
            id=number, workspace_id=workspace, action=action, execution_mode=mode, auto_apply=auto, **facts
        )
        self.advance(workspace)

    def seen(self) -> Seen:
        open_ = [task for task in self.tasks.values() if not task.final]
        here = frozenset(self.alive) & held_here(open_)
        return Seen(
            now=self.now,
            open=frozenset(task.id for task in open_),
            holders={name: a_workspace(id=name, lock=self.locks.get(name)) for name in WORKSPACES},
            here=here,
            missing=held_here(open_) & frozenset(self.gone),
            silent=frozenset(task.fence for task in held_by_agents(open_)) & frozenset(self.gone),
            lost_after=120.0,
            restarted=self.restarted,
        )

    # What happens

    def move(self, task: Task, event: Event) -> bool:
        """As the store does it: what the lifecycle refuses changes nothing."""
        try:
            decision = decide(task, event, self.now)
        except Conflict:
            return False
        changed, self.tasks[task.id] = decision.task != task, decision.task
        lock = self.locks.get(task.workspace_id)
        if Effect.RELEASE_LOCK in decision.effects:
            if lock is not None and lock.owner == str(task.id):
                del self.locks[task.workspace_id]
            self.advance(task.workspace_id)
        return changed

    def advance(self, workspace: str) -> None:
        for task in list(self.tasks.values()):
            if (task.workspace_id, task.status) != (workspace, "pending"):
                continue
            if task.takes_lock and workspace in self.locks:
                continue
            if task.takes_lock:
                self.locks[workspace] = a_lock(kind="task", owner=str(task.id))
            self.tasks[task.id] = decide(task, Queue(), self.now).task

    def reconcile(self) -> int:
        """How many tasks were moved on."""
        moved = 0
        for task, event in overdue([task for task in self.tasks.values() if not task.final], self.seen()):
            if self.tasks[task.id] is not task:
                continue  # an event before this one has moved it
            if isinstance(event, Queue):
                self.advance(task.workspace_id)
                moved += self.tasks[task.id].status == "queued"
            else:
                moved += self.move(task, event)
        return moved

    def step(self, kind: str, number: int, flag: bool) -> None:
        task = self.tasks[number % len(self.tasks)]
        fence = task.fence
        match kind:
            case "assign":
                fence = next(self.fences)
                agent = LOCAL if task.execution_mode == "local" else "agent-a"
                if self.move(task, Assign(agent_id=agent, assignment_id=f"asg-{fence}", fence=fence)):
                    self.alive.add(fence)
            case "claim":
                self.move(task, Claim(fence=fence))
            case "report" | "planned":
                status = "planned" if kind == "planned" else ("succeeded" if task.phase == "apply" else "failed")
                if kind == "planned" and task.phase == "plan" and task.status in ("running", "cancelling"):
                    task = self.tasks[task.id] = replace(task, plan_digest="p1", has_changes=True)
                result: Result = a_result(
                    result_id=f"r-{fence}", status=status, state_safe=flag or task.phase == "plan"
                )
                self.move(task, Report(fence=fence, result=result))
            case "cancel":
                self.move(task, Cancel(cancel_id="can", reason="user", by="ann", force=flag))
            case "confirm" | "discard":
                self.move(task, HUMAN[kind])
            case "resolve":
                self.move(task, Resolve(by="ann", comment="", fence=next(self.fences), unlock=flag))
            case "vanish" | "unheard":
                self.alive.discard(fence)
                if kind == "vanish":
                    self.gone.add(fence)
            case "back":
                self.gone.discard(fence)
                self.alive.add(fence)
                self.move(task, Heard(fence=fence))
            case "lock":
                self.locks.setdefault(task.workspace_id, a_lock(owner="bob"))
            case "unlock" | "unlock unsaid":
                lock = self.locks.get(task.workspace_id)
                if lock is not None and lock.kind == "user":
                    del self.locks[task.workspace_id]
                    if kind == "unlock":
                        self.advance(task.workspace_id)
            case "restart":
                self.restarted = True
                for each in self.tasks.values():
                    if each.agent_id == LOCAL:
                        self.alive.discard(each.fence)
                        self.gone.add(each.fence)
            case "days":
                self.now += timedelta(hours=25)
            case _:
                self.reconcile()

    # What is looked at

    def check(self) -> None:
        seen = self.seen()
        for task in self.tasks.values():
            if not task.final:
                self.check_one(task, seen)

    def check_one(self, task: Task, seen: Seen) -> None:
        found = fate(task, seen)
        if isinstance(found, Event):
            decided = decide(task, found, self.now)
            assert decided.task != task, "an event that moves it on"
            return
        lives = {
            "dispatcher": lambda: task.status == "queued" and found.until is not None and found.until > self.now,
            "task": lambda: self.tasks[int(found.name)].status not in ("pending", *FINAL),
            "runner": lambda: task.fence not in self.gone or task.fence in self.alive,
            "human": lambda: self.can_act(task, found),
        }
        assert lives[found.kind](), f"{task.status}: {found}"

    def can_act(self, task: Task, owner: Owner) -> bool:
        """Whether every action that a human is told of can be done, and there is one."""
        for action in owner.actions:
            if action == "unlock":
                assert task.workspace_id in self.locks
            else:
                decide(task, HUMAN[action], self.now)
        return bool(owner.actions)


@given(
    kinds=st.lists(
        st.tuples(
            st.sampled_from(["plan", "plan_and_apply", "plan_and_apply", "apply"]),
            st.sampled_from(["local", "agent"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    ),
    steps=STEPS,
)
@settings(max_examples=examples(400), deadline=None)
def test_no_open_task_is_without_an_owner_who_lives(kinds: list[Any], steps: list[tuple[str, int, bool]]) -> None:
    world = World()
    for number, (action, mode, auto) in enumerate(kinds):
        world.create(number, action, mode, auto=auto)
    world.check()
    for kind, number, flag in steps:
        world.step(kind, number, flag)
        world.check()

    # And if everybody but the server is gone for good, only humans have something to do in the end.
    world.gone |= {task.fence for task in world.tasks.values() if task.fence}
    world.alive.clear()
    for _ in range(12):
        world.now += timedelta(hours=25)
        if not world.reconcile():
            break
    for task in world.tasks.values():
        if not task.final:
            found = fate(task, world.seen())
            assert isinstance(found, Owner)
            assert found.kind in ("human", "task"), f"{task.status}: {found}"


def runs(status: Status, **facts: object) -> Task:
    return a_task(**{"status": status, "fence": 7, "agent_id": "agent-a", "execution_mode": "agent", **facts})


def test_what_nobody_fetched_in_time_goes_to_others_even_from_an_agent_that_lists_it() -> None:
    assert fate(runs("assigned"), Seen(now=NOW, unclaimed=frozenset({7}))) == Unassign(fence=7)
    assert fate(runs("running"), Seen(now=NOW, unclaimed=frozenset({7}))) == Owner(kind="runner", name="agent-a")


def test_what_was_cut_off_by_the_servers_end_is_told_from_what_was_not_reported() -> None:
    task = runs("running", agent_id=LOCAL)
    for restarted, reason in ((True, "server_restarted"), (False, "runner_lost")):
        found = fate(task, Seen(now=NOW, missing=frozenset({7}), restarted=restarted))
        assert isinstance(found, Lose)
        assert (found.reason, found.retry) == (reason, True)


def test_what_is_being_collected_here_is_not_given_up() -> None:
    seen = Seen(now=NOW, here=frozenset({7}), missing=frozenset({7}), restarted=True)
    assert fate(runs("running", agent_id=LOCAL), seen) == Owner(kind="runner", name=LOCAL)


def test_the_queue_has_an_end_by_the_clock_of_the_rows() -> None:
    task = a_task(status="queued", queued_at=NOW)
    assert fate(task, Seen(now=NOW)) == Owner(kind="dispatcher", until=NOW + QUEUE_TIMEOUT)
    assert fate(task, Seen(now=NOW + QUEUE_TIMEOUT)) == QueueTimeout(after=QUEUE_TIMEOUT)


def test_a_lock_that_a_task_left_behind_is_a_humans_to_open() -> None:
    holders = {"ws-a": a_workspace(lock=a_lock(kind="task", owner="5"))}
    assert fate(a_task(), Seen(now=NOW, open=frozenset({1, 5}), holders=holders)) == Owner(kind="task", name="5")
    assert fate(a_task(), Seen(now=NOW, open=frozenset({1}), holders=holders)) == Owner(
        kind="human", actions=("unlock",)
    )


@pytest.mark.parametrize("status", sorted(FINAL))
def test_nobody_answers_for_what_is_over(status: Status) -> None:
    with pytest.raises(ValueError, match="nobody has to answer"):
        fate(a_task(status=status), Seen(now=NOW))


@pytest.mark.parametrize("status", sorted(set(get_args(Status)) - FINAL))
def test_every_open_status_has_an_owner_or_goes_on(status: Status) -> None:
    assert isinstance(fate(runs(status), Seen(now=NOW)), Owner | Event)
