"""Records of what is seen at a glance: many rows put together, for lists and overviews. Made from rows, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from iac.domain.records import Action, ExecutionMode, LockKind, Outcome, Phase, Record, Status, Task

Condition = Literal["attention", "failed", "running", "waiting", "idle", "new"]
"""How a workspace is, in one word. Exactly one is true: the first that applies, in this order but that a new task after a
failure counts as what it is. `attention`: somebody has to decide something; `new`: nothing was ever run.
"""

WorkspaceSort = Literal["name", "-name", "state", "-state", "resources", "-resources", "changed", "-changed"]
"""By what the list of workspaces is sorted; `-`: backwards."""


class LastTask(Record, frozen=True, kw_only=True):
    """The task that says how a workspace is: the one that asks for somebody, runs or waits, else the last one."""

    id: int
    action: Action
    phase: Phase
    status: Status
    outcome: Outcome | None
    has_changes: bool | None
    created_by: str
    at: datetime


class WorkspaceGlance(Record, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    execution_mode: ExecutionMode
    pool_name: str | None
    tags: Mapping[str, str]
    lock_kind: LockKind | None
    lock_owner: str | None
    lock_reason: str | None
    locked_at: datetime | None
    resource_count: int | None
    state_uncertain: bool
    condition: Condition
    last: LastTask | None
    changed_at: datetime


class PoolGlance(Record, frozen=True, kw_only=True):
    """A pool's agents, counted by what they can do now; each of them is in one count. Slots are those of `online` ones."""

    id: str
    name: str
    online: int
    draining: int
    unapproved: int
    offline: int
    slots: int
    oldest_beat: datetime | None
    cpu_usage: float | None
    mem_usage: float | None


class Stint(Record, frozen=True, kw_only=True):
    """One hand-out of a task to an agent. `current`: no later one has replaced it, so how the task is says how it went."""

    task: Task
    phase: Phase
    attempt: int
    begun_at: datetime
    ended_at: datetime | None
    current: bool


class Newcomer(Record, frozen=True, kw_only=True):
    """An agent that registered and waits for an admin's approval."""

    id: str
    name: str
    pool_name: str
    registered_at: datetime


class HourOutcomes(Record, frozen=True, kw_only=True):
    """How the tasks ended that ended in the hour that begins at `hour`."""

    hour: datetime
    succeeded: int
    failed: int
    cancelled: int


class Advance(Record, frozen=True, kw_only=True):
    """How far an apply is: resources done, and those that it is about."""

    done: int
    total: int
