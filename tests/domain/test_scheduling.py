"""Who runs next and why the others wait: cases in a table, and what holds in any crowd and over time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iac.domain.records import Task, Workspace
from iac.domain.scheduling import AGEING, Runner, Schedule, Wait, schedule, why
from tests.domain.builders import NOW, a_lock, a_task, a_workspace
from tests.harness.thoroughness import examples

SECOND = timedelta(seconds=1)


def queued(number: int, phase: str = "plan", workspace: str | None = None, *, ago: float = 0, **facts: object) -> Task:
    """A queued task that has waited `ago` minutes."""
    workspace = workspace or f"ws-{number}"
    at = NOW - timedelta(minutes=ago)
    return a_task(id=number, phase=phase, status="queued", workspace_id=workspace, queued_at=at, **facts)


def runner(
    name: str = "local",
    limit: int = 2,
    *,
    plans: Collection[int] = (),
    applies: Collection[int] = (),
    draining: bool = False,
) -> Runner:
    return Runner(
        id=name,
        execution_mode="local",
        plan_limit=limit,
        plans=frozenset(plans),
        applies=frozenset(applies),
        draining=draining,
    )


def decided(
    tasks: list[Task],
    *runners: Runner,
    holders: Mapping[str, Workspace] | None = None,
    served: Mapping[str, datetime] | None = None,
) -> Schedule:
    return schedule(tasks, runners, NOW, holders=holders or {}, served=served or {})


def order(found: Schedule) -> list[int]:
    return [assignment.task_id for assignment in found.assignments]


@pytest.mark.parametrize(
    ("tasks", "runners", "started", "waits"),
    [
        ([queued(1), queued(2), queued(3)], [runner()], [1, 2], {3: "no_free_slot"}),
        ([queued(1)], [], [], {1: "no_runner"}),
        ([queued(1, execution_mode="agent")], [runner()], [], {1: "no_runner"}),
        ([queued(1), queued(2, "apply")], [runner(draining=True)], [], {1: "draining", 2: "draining"}),
        ([queued(1, "apply")], [runner()], [1], {}),
        ([queued(1, "apply")], [runner(plans={9})], [], {1: "plans_running"}),
        ([queued(1, "apply")], [runner(applies={9})], [], {1: "apply_running"}),
        ([queued(1)], [runner(applies={9})], [], {1: "apply_running"}),
        ([queued(1, "apply"), queued(2)], [runner()], [1], {2: "apply_running"}),
        ([queued(1, "apply"), queued(2, "apply")], [runner()], [1], {2: "apply_running"}),
        ([queued(1, "apply", ago=1), queued(2)], [runner(plans={9})], [], {1: "plans_running", 2: "apply_next"}),
        ([queued(1), queued(2, "apply")], [runner(limit=1)], [1], {2: "plans_running"}),
        ([queued(1, "apply", ago=1), queued(2)], [runner("a", plans={9}), runner("b")], [1, 2], {}),
        ([queued(1, "apply", ago=1), queued(2)], [runner("a", plans={8, 9}), runner("b", plans={7})], [], {}),
    ],
)
def test_what_starts_and_why_the_rest_waits(
    tasks: list[Task], runners: list[Runner], started: list[int], waits: dict[int, str]
) -> None:
    found = decided(tasks, *runners)
    assert order(found) == started
    if waits:
        assert {number: wait.code for number, wait in found.waits.items()} == waits


def test_an_apply_waits_for_the_runner_that_will_be_empty_first() -> None:
    full, nearly = runner("full", 3, plans={7, 8}), runner("nearly", 3, plans={9})
    found = decided([queued(1, "apply", ago=1), queued(2)], full, nearly)
    # The plan goes where the apply will not: the emptiest runner is kept for that.
    assert [(a.task_id, a.runner_id) for a in found.assignments] == [(2, "full")]
    assert found.waits[1].code == "plans_running"


def test_an_apply_that_starts_in_the_same_look_is_the_reason_of_those_after_it() -> None:
    found = decided([queued(1, "apply", ago=1), queued(2)], runner())
    assert found.waits[2] == Wait("apply_running", "Task 1 is being applied, and an apply runs alone.", 1)


def test_places_count_those_who_wait_and_not_those_who_go() -> None:
    found = decided([queued(number) for number in range(1, 6)], runner(limit=2))
    assert {number: wait.position for number, wait in found.waits.items()} == {3: 1, 4: 2, 5: 3}


def test_a_higher_priority_goes_first_and_ten_minutes_of_waiting_count_as_one() -> None:
    assert order(decided([queued(1), queued(2, priority=1)], runner(limit=1))) == [2]
    just, not_yet = queued(1, ago=10), queued(1, ago=9.99)
    fresh = queued(2, priority=1)
    assert order(decided([not_yet, fresh], runner(limit=1))) == [2]
    assert order(decided([just, fresh], runner(limit=1))) == [1]


def test_workspaces_take_turns_the_least_recently_served_first() -> None:
    crowd = [queued(1, workspace="big"), queued(2, workspace="big"), queued(3, workspace="small")]
    served = {"big": NOW - SECOND, "small": NOW - 2 * SECOND}
    assert order(decided(crowd, runner(limit=3), served=served)) == [3, 1, 2]
    assert order(decided(crowd, runner(limit=2))) == [1, 3]


def test_a_pending_task_is_told_who_is_in_its_way() -> None:
    tasks = [a_task(id=1, workspace_id="w1"), a_task(id=2, workspace_id="w2"), a_task(id=3, workspace_id="w2")]
    tasks += [a_task(id=4, workspace_id="w3"), a_task(id=5, workspace_id="w4")]
    tasks.append(a_task(id=9, workspace_id="w1", status="running", agent_id="local"))
    holders = {
        "w4": a_workspace(lock=a_lock(kind="task", owner="8", reason="nobody knows")),
        "w1": a_workspace(lock=a_lock(kind="task", owner="9", reason="apply by bob")),
        "w2": a_workspace(lock=a_lock(owner="ann", reason="freeze")),
    }
    assert decided(tasks, runner(), holders=holders).waits == {
        1: Wait("workspace_busy", "Task 9 holds the workspace: apply by bob.", 1),
        2: Wait("workspace_locked", "ann locked the workspace: freeze.", 1, ("unlock",)),
        3: Wait("workspace_locked", "ann locked the workspace: freeze.", 2, ("unlock",)),
        4: Wait("next", "It is next in its workspace.", 1),
        5: Wait("workspace_locked", "Task 8 is over and keeps the workspace locked: nobody knows.", 1, ("unlock",)),
    }


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("planned", "needs_confirmation"),
        ("lost", "needs_resolution"),
        ("pending", "just_arrived"),
        ("queued", "just_arrived"),
        ("assigned", None),
        ("running", None),
        ("cancelling", None),
        ("succeeded", None),
    ],
)
def test_every_task_that_does_not_run_says_why(status: str, code: str | None) -> None:
    wait = why(a_task(status=status), None)
    assert (wait and wait.code) == code


def test_what_the_schedule_said_is_told_for_as_long_as_the_task_waits() -> None:
    said = Wait("no_free_slot", "All 2 plan slots are in use.", 1)
    assert why(a_task(status="queued"), said) == said
    assert why(a_task(status="running"), said) is None


MODES = st.sampled_from(["local", "agent"])
RUNNERS = st.lists(
    st.tuples(MODES, st.integers(1, 3), st.integers(0, 4), st.booleans(), st.booleans()), max_size=4
).map(lambda drawn: [_runner(number, each) for number, each in enumerate(drawn)])
TASKS = st.lists(
    st.tuples(
        st.sampled_from(["queued", "queued", "queued", "pending"]),
        st.sampled_from(["plan", "plan", "apply"]),
        st.sampled_from(["a", "b", "c"]),
        MODES,
        st.integers(-1, 2),
        st.integers(0, 40),
    ),
    max_size=15,
).map(lambda drawn: [_task(number, each) for number, each in enumerate(drawn, start=1)])


def _runner(number: int, drawn: tuple[str, int, int, bool, bool]) -> Runner:
    mode, limit, plans, applying, draining = drawn
    held = frozenset() if applying else frozenset(range(1000 * (number + 1), 1000 * (number + 1) + plans))
    applies = frozenset({1000 * (number + 1) + 500}) if applying else frozenset()
    return Runner(
        id=f"r{number}", execution_mode=mode, plan_limit=limit, plans=held, applies=applies, draining=draining
    )


def _task(number: int, drawn: tuple[str, str, str, str, int, int]) -> Task:
    status, phase, workspace, mode, priority, minutes = drawn
    at = NOW - timedelta(minutes=minutes)
    return a_task(
        id=number,
        status=status,
        phase=phase,
        workspace_id=workspace,
        execution_mode=mode,
        priority=priority,
        queued_at=at if status == "queued" else None,
        created_at=at,
    )


@given(TASKS, RUNNERS)
@settings(max_examples=examples(400), deadline=None)
def test_in_any_crowd_limits_hold_and_everybody_has_a_reason(tasks: list[Task], runners: list[Runner]) -> None:
    found = schedule(tasks, runners, NOW, holders={}, served={})
    by_id = {task.id: task for task in tasks}
    started = set(order(found))
    assert len(started) == len(found.assignments), "nothing is handed out twice"
    assert started | set(found.waits) == set(by_id), "what does not start has a reason"
    assert not started & set(found.waits)
    for each in runners:
        mine = [by_id[a.task_id] for a in found.assignments if a.runner_id == each.id]
        applies, plans = [t for t in mine if t.phase == "apply"], [t for t in mine if t.phase == "plan"]
        assert not (mine and each.draining)
        assert all(task.execution_mode == each.execution_mode for task in mine)
        assert not plans or len(each.plans) + len(plans) <= each.plan_limit
        if applies:
            assert (len(mine), len(each.plans), len(each.applies)) == (1, 0, 0), "an apply runs alone"
        assert not (mine and each.applies)
    for wait in found.waits.values():
        assert wait.code
        assert wait.message.endswith(".")
        assert wait.position is not None
    places = [found.waits[task.id].position for task in tasks if task.status == "queued" and task.id in found.waits]
    assert sorted(places, key=int) == list(range(1, len(places) + 1))  # type: ignore[arg-type]


@given(TASKS, RUNNERS, st.randoms())
def test_the_order_in_which_tasks_are_given_decides_nothing(
    tasks: list[Task], runners: list[Runner], chance: random.Random
) -> None:
    one_way = schedule(tasks, runners, NOW, holders={}, served={})
    waiting = [task for task in tasks if task.status == "queued"]
    chance.shuffle(waiting)
    another = schedule(waiting, runners, NOW, holders={}, served={})
    assert another.assignments == one_way.assignments
    assert all(one_way.waits[number] == wait for number, wait in another.waits.items())


class Farm:
    """One runner over time: every second it looks, starts what it may, and ends what is done."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now = NOW
        self.tasks: dict[int, Task] = {}
        self.ends: dict[int, datetime] = {}
        self.served: dict[str, datetime] = {}
        self.started: list[Task] = []

    def add(self, workspace: str, phase: str = "plan", **facts: object) -> Task:
        number = len(self.tasks) + len(self.started) + 1
        task = a_task(
            id=number,
            status="queued",
            phase=phase,
            workspace_id=workspace,
            queued_at=self.now,
            created_at=self.now,
            **facts,
        )
        self.tasks[number] = task
        return task

    def waiting(self, workspace: str) -> int:
        return sum(task.workspace_id == workspace for task in self.tasks.values())

    def second(self, *, lasts: int = 1) -> None:
        self.ends = {number: end for number, end in self.ends.items() if end > self.now}
        running = {task.id: task for task in self.started if task.id in self.ends}
        here = Runner(
            id="local",
            execution_mode="local",
            plan_limit=self.limit,
            plans=frozenset(n for n, task in running.items() if task.phase == "plan"),
            applies=frozenset(n for n, task in running.items() if task.phase == "apply"),
        )
        found = schedule(list(self.tasks.values()), [here], self.now, holders={}, served=self.served)
        for place, assignment in enumerate(found.assignments):
            task = self.tasks.pop(assignment.task_id)
            self.started.append(task)
            self.ends[task.id] = self.now + timedelta(seconds=lasts)
            self.served[task.workspace_id] = self.now + timedelta(milliseconds=place)
        self.now += SECOND


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2))
@settings(max_examples=examples(25), deadline=None)
def test_an_endless_stream_of_plans_does_not_starve_an_apply(limit: int, crowd: int, lasts: int, priority: int) -> None:
    farm = Farm(limit)
    for workspace in range(crowd):
        farm.add(f"busy-{workspace}")
    apply = farm.add("quiet", "apply")
    fresh = 0
    patience = AGEING * (priority + 1) + timedelta(seconds=2 * lasts + 2)
    while apply not in farm.started:
        farm.second(lasts=lasts)
        while sum(task.phase == "plan" for task in farm.tasks.values()) < limit + 1:
            fresh += 1
            # Every other one from a workspace that nobody has seen before, which goes before those that were served.
            farm.add(f"busy-{fresh % crowd}" if fresh % 2 else f"new-{fresh}", priority=priority)
        assert farm.now - NOW <= patience, "the apply starves"


@given(st.integers(1, 4), st.integers(2, 4), st.data())
@settings(max_examples=examples(60), deadline=None)
def test_workspaces_get_equal_shares_however_many_tasks_each_has(limit: int, crowd: int, data: st.DataObject) -> None:
    farm = Farm(limit)
    for workspace in range(crowd):
        for _ in range(data.draw(st.integers(20, 60))):
            farm.add(f"w{workspace}")
    for _ in range(20 // limit):
        farm.second()
    shares = Counter(task.workspace_id for task in farm.started)
    assert len(shares) == crowd
    assert max(shares.values()) - min(shares.values()) <= 1


def test_a_task_waits_longer_only_for_those_who_were_there_before_or_matter_more() -> None:
    farm = Farm(1)
    old = farm.add("old")
    for number in range(5):
        farm.add(f"new-{number}", priority=1)
    while farm.tasks:
        farm.second()
    assert farm.started[-1] == old
