"""Who answers for each task that is not over: one decision for all of them. Pure: time is an argument.

    pending               whoever holds its workspace: a task that is answered for itself, or a human with a lock
    queued                the dispatcher, until the queue's time is over
    assigned              its runner, until it falls silent or the time for the claim is over
    running, cancelling   its runner, while it is heard, or runs here
    planned, lost         a human, who is told what there is to do; a lost one's runner, too, if it is heard again

`fate` is total. A task has an owner, or an event that moves it on now; there is no third.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from iac.domain.lifecycle import Event, Lose, Queue, QueueTimeout, Unassign
from iac.domain.records import LOCAL, Task, Workspace
from iac.domain.scheduling import DECIDES_ON_PLAN, RESOLVES, UNLOCKS

QUEUE_TIMEOUT = timedelta(hours=24)
SERVER_RESTARTED, RUNNER_LOST, AGENT_LOST = "server_restarted", "runner_lost", "agent_lost"
CUT_OFF = "The server ended while Terraform was running."
NOT_REPORTED = "The server ran it, and could not report how it ended."


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to bring the task on. `name` is a task's, a runner's or a person's; `until` is when somebody else will have to;
    `actions` is what a human may do.
    """

    kind: Literal["dispatcher", "task", "runner", "human"]
    name: str = ""
    until: datetime | None = None
    actions: tuple[str, ...] = ()


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is known beside a task's row, as of one look. Assignments are named by their fences.

    `now` is by the clock that wrote the rows. `holders` are the workspaces of pending tasks, `open` the ids of all that is
    not over. `here`: runs in this process, or is being collected by it. `missing`: the server has it by its row, and it was
    not here at the look before either. `silent`: its agent was not heard for `lost_after` seconds. `unclaimed`: nobody
    fetched its data in time.
    """

    now: datetime
    open: frozenset[int] = frozenset()
    holders: Mapping[str, Workspace] = {}
    here: frozenset[int] = frozenset()
    missing: frozenset[int] = frozenset()
    silent: frozenset[int] = frozenset()
    unclaimed: frozenset[int] = frozenset()
    lost_after: float = 0.0
    restarted: bool = False
    """The server has just begun: what is missing was cut off by its end."""


def fate(task: Task, seen: Seen) -> Owner | Event:
    """Who answers for the task, or what has to happen to it because nobody does. Not for one that is over."""
    match task.status:
        case "pending":
            return _of_pending(task, seen)
        case "queued":
            until = (task.queued_at or task.created_at) + QUEUE_TIMEOUT
            return QueueTimeout(after=QUEUE_TIMEOUT) if seen.now >= until else Owner(kind="dispatcher", until=until)
        case "assigned":
            idle = task.fence in seen.silent | seen.unclaimed or _gone_from_here(task, seen)
            return Unassign(fence=task.fence) if idle else _runner_of(task)
        case "running" | "cancelling":
            return _of_running(task, seen)
        case "planned":
            return Owner(kind="human", actions=DECIDES_ON_PLAN)
        case "lost":
            return Owner(kind="human", actions=RESOLVES)
        case _:
            raise ValueError(f"Task {task.id} is {task.status}: nobody has to answer for it any more.")


def overdue(tasks: Iterable[Task], seen: Seen) -> list[tuple[Task, Event]]:
    """What has to happen to those of them that nobody answers for."""
    judged = ((task, fate(task, seen)) for task in tasks)
    return [(task, found) for task, found in judged if isinstance(found, Event)]


def held_here(tasks: Iterable[Task]) -> frozenset[int]:
    """The assignments that the server itself has to work on, by their rows."""
    return frozenset(task.fence for task in tasks if task.agent_id == LOCAL and _has_runner(task))


def held_by_agents(tasks: Iterable[Task]) -> list[Task]:
    """The tasks that some agent has to work on, by their rows."""
    return [task for task in tasks if task.agent_id not in (None, LOCAL) and _has_runner(task)]


def _has_runner(task: Task) -> bool:
    return task.status in ("assigned", "running", "cancelling")


def _of_pending(task: Task, seen: Seen) -> Owner | Event:
    holder = seen.holders.get(task.workspace_id)
    lock = None if holder is None else holder.lock
    if lock is None or not task.takes_lock:
        return Queue()  # whoever went away last did not call it
    if lock.kind == "task" and lock.owner.isdecimal() and int(lock.owner) in seen.open:
        return Owner(kind="task", name=lock.owner)
    return Owner(kind="human", name="" if lock.kind == "task" else lock.owner, actions=UNLOCKS)


def _of_running(task: Task, seen: Seen) -> Owner | Event:
    if task.fence in seen.silent:
        detail = f"Agent {task.agent_id} was not heard of for {seen.lost_after:g} s."
        return Lose(fence=task.fence, reason=AGENT_LOST, detail=detail)
    if not _gone_from_here(task, seen):
        return _runner_of(task)
    if seen.restarted:
        return Lose(fence=task.fence, reason=SERVER_RESTARTED, detail=CUT_OFF)
    return Lose(fence=task.fence, reason=RUNNER_LOST, detail=NOT_REPORTED)


def _gone_from_here(task: Task, seen: Seen) -> bool:
    return task.agent_id == LOCAL and task.fence in seen.missing and task.fence not in seen.here


def _runner_of(task: Task) -> Owner:
    return Owner(kind="runner", name=task.agent_id or "")
