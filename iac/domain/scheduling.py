"""Who runs what next, and why the others wait: one pure function over tasks, runners and the time.

Plans share a runner's plan slots. An apply is exclusive there: it starts when nothing else runs, and while it runs nothing
else starts. So that a stream of plans cannot starve it, the runner that the oldest waiting apply is meant for takes no
new plans until it runs empty. (A pool of agents may choose otherwise: one apply beside the plans.) Of several runners that
could take a task, the one with the least to do does. Between workspaces: priority first, one class higher for each ten
minutes of waiting, then round-robin, then age.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from iac.domain.records import Task, Workspace

NO_RUNNER = "no_runner"
"""The wait of a task that nothing that is there could ever run; for agents `pool_waits` knows more."""
DECIDES_ON_PLAN, RESOLVES, UNLOCKS = ("confirm", "discard"), ("resolve",), ("unlock",)
"""What a human may do about a task that waits for one."""
AGEING = timedelta(minutes=10)
"""A task that waited this long counts as one class higher."""


class Runner(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can run tasks, and what it is running.

    `workspaces` are those that it may serve, None for all; `avoids` are tasks that it refused a moment ago. `exclusive`:
    an apply runs alone there.
    """

    id: str
    execution_mode: str
    plan_limit: int
    plans: frozenset[int] = frozenset()
    applies: frozenset[int] = frozenset()
    draining: bool = False
    pool_id: str | None = None
    workspaces: frozenset[str] | None = None
    avoids: frozenset[int] = frozenset()
    exclusive: bool = True

    def suits(self, task: Task) -> bool:
        """Whether it may run this task at all."""
        return (
            self.execution_mode == task.execution_mode
            and self.pool_id == task.pool_id
            and (self.workspaces is None or task.workspace_id in self.workspaces)
        )


class Assignment(msgspec.Struct, frozen=True):
    task_id: int
    runner_id: str


class Wait(msgspec.Struct, frozen=True):
    """Why a task does not run: a word for programs, a sentence for people, and its place among the waiting. `actions` are
    what a human may do about it; where there are none, it goes on by itself.
    """

    code: str
    message: str
    position: int | None = None
    actions: tuple[str, ...] = ()


class Schedule(msgspec.Struct, frozen=True):
    assignments: tuple[Assignment, ...]
    waits: Mapping[int, Wait]


def schedule(
    tasks: Sequence[Task],
    runners: Sequence[Runner],
    now: datetime,
    *,
    holders: Mapping[str, Workspace],
    served: Mapping[str, datetime],
) -> Schedule:
    """What to hand out now, and why each of the other waiting tasks waits.

    `tasks` are all that are not over; `holders` the workspaces of pending tasks (their locks); `served` says when each
    workspace last got a runner, for the round-robin.
    """
    free = {runner.id: _Slots(runner) for runner in runners}
    queued = _in_order([task for task in tasks if task.status == "queued"], now, served)
    assignments: list[Assignment] = []
    waits: dict[int, Wait] = {}
    for task in queued:
        able = [slots for slots in free.values() if slots.runner.suits(task)]
        chosen = min((slots for slots in able if slots.takes(task)), key=_load, default=None)
        if chosen is not None:
            chosen.add(task)
            assignments.append(Assignment(task.id, chosen.runner.id))
            continue
        if task.phase == "apply":
            _reserve(able, task)
        waits[task.id] = _why_queued(task, able, len(waits) + 1)
    waits.update(_pending(tasks, holders))
    return Schedule(tuple(assignments), waits)


class _Slots:
    """A runner's slots while a schedule is made."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.plans = set(runner.plans)
        self.applies = set(runner.applies)
        self.reserved_for: int | None = None

    def takes(self, task: Task) -> bool:
        if self.runner.draining or task.id in self.runner.avoids:
            return False
        if not self.runner.exclusive:
            return not self.applies if task.phase == "apply" else len(self.plans) < self.runner.plan_limit
        if self.applies or self.reserved_for is not None:
            return False
        if task.phase == "apply":
            return not self.plans
        return len(self.plans) < self.runner.plan_limit

    def add(self, task: Task) -> None:
        (self.applies if task.phase == "apply" else self.plans).add(task.id)


def _load(slots: _Slots) -> tuple[int, float]:
    return len(slots.applies), len(slots.plans) / slots.runner.plan_limit


def _reserve(able: Iterable[_Slots], task: Task) -> None:
    """Keeps the emptiest usable runner free of new plans for an apply that could not start."""
    usable = [
        slots
        for slots in able
        if slots.runner.exclusive
        and not slots.runner.draining
        and slots.reserved_for is None
        and task.id not in slots.runner.avoids
    ]
    if usable:
        min(usable, key=lambda slots: (len(slots.applies), len(slots.plans))).reserved_for = task.id


def _in_order(queued: list[Task], now: datetime, served: Mapping[str, datetime]) -> list[Task]:
    """Class by class, and within a class one task of each workspace in turn, the least recently served first."""
    classes: dict[int, list[Task]] = defaultdict(list)
    for task in queued:
        classes[_class(task, now)].append(task)
    ordered = []
    for _, members in sorted(classes.items(), reverse=True):
        ordered += _round_robin(members, served)
    return ordered


def _class(task: Task, now: datetime) -> int:
    waited = now - (task.queued_at or task.created_at)
    return task.priority + int(waited / AGEING)


def _round_robin(members: list[Task], served: Mapping[str, datetime]) -> list[Task]:
    turns: dict[str, int] = defaultdict(int)
    keyed = []
    for task in sorted(members, key=_age):
        last = served.get(task.workspace_id)
        keyed.append((turns[task.workspace_id], last is not None, last or task.created_at, _age(task), task))
        turns[task.workspace_id] += 1
    return [entry[-1] for entry in sorted(keyed, key=lambda entry: entry[:-1])]


def _age(task: Task) -> tuple[datetime, int]:
    return task.queued_at or task.created_at, task.id


def _why_queued(task: Task, able: Sequence[_Slots], place: int) -> Wait:
    if not able:
        return Wait(NO_RUNNER, _nobody(task), place)
    if all(slots.runner.draining for slots in able):
        who = "Every agent that could take it" if task.execution_mode == "agent" else "The server"
        return Wait("draining", f"{who} is draining and takes nothing new.", place)
    applying = sorted(other for slots in able for other in slots.applies)
    if task.phase == "apply":
        plans = sum(len(slots.plans) for slots in able if slots.runner.exclusive)
        if applying:
            return Wait("apply_running", f"Task {applying[0]} is being applied; applies run alone.", place)
        if plans:
            return Wait("plans_running", f"An apply runs alone; {plans} running plan(s) finish first.", place)
        return Wait("refused", "The agents that could take it refused it a moment ago; they are asked again.", place)
    if applying and any(slots.applies and slots.runner.exclusive for slots in able):
        return Wait("apply_running", f"Task {applying[0]} is being applied, and an apply runs alone.", place)
    for slots in able:
        if slots.reserved_for is not None:
            return Wait("apply_next", f"The apply of task {slots.reserved_for} is next and runs alone.", place)
    if any(not slots.runner.draining and len(slots.plans) < slots.runner.plan_limit for slots in able):
        return Wait("refused", "The agents that could take it refused it a moment ago; they are asked again.", place)
    limit = sum(slots.runner.plan_limit for slots in able)
    return Wait("no_free_slot", f"All {limit} plan slots are in use.", place)


def _nobody(task: Task) -> str:
    if task.execution_mode != "agent":
        return "This server does not run Terraform itself (IAC_LOCAL_EXECUTOR is off); let agents run the workspace."
    if task.pool_id is None:
        return "The workspace has no pool of agents; choose one for it."
    return f"No agent that may serve the workspace is online in pool {task.pool_id}."


def _pending(tasks: Sequence[Task], holders: Mapping[str, Workspace]) -> dict[int, Wait]:
    waits: dict[int, Wait] = {}
    places: dict[str, int] = defaultdict(int)
    there = {str(task.id) for task in tasks}
    for task in tasks:
        if task.status != "pending":
            continue
        places[task.workspace_id] += 1
        holder = holders.get(task.workspace_id)
        lock = holder.lock if holder is not None else None
        if lock is None:
            wait = Wait("next", "It is next in its workspace.")
        elif lock.kind == "task" and lock.owner in there:
            wait = Wait("workspace_busy", f"Task {lock.owner} holds the workspace: {lock.reason}.")
        elif lock.kind == "task":
            told = f"Task {lock.owner} is over and keeps the workspace locked: {lock.reason}."
            wait = Wait("workspace_locked", told, actions=UNLOCKS)
        else:
            wait = Wait("workspace_locked", f"{lock.owner} locked the workspace: {lock.reason}.", actions=UNLOCKS)
        waits[task.id] = replace(wait, position=places[task.workspace_id])
    return waits


def why(task: Task, scheduled: Wait | None) -> Wait | None:
    """Why this task does not run; None for one that runs or is over. `scheduled` is what the last schedule said of it."""
    match task.status:
        case "planned":
            told = "The plan waits for somebody to confirm or discard it."
            return Wait("needs_confirmation", told, actions=DECIDES_ON_PLAN)
        case "lost":
            told = "Its outcome is unknown; somebody has to look and resolve it."
            return Wait("needs_resolution", told, actions=RESOLVES)
        case "pending" | "queued":
            return scheduled or Wait("just_arrived", "It is about to be looked at.")
    return None
