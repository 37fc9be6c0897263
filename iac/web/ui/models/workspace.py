"""A workspace's page: the head that all its tabs share, and its overview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

import msgspec

from iac.domain.records import Configuration, StateVersion, Status, Task, Workspace
from iac.domain.scheduling import Wait
from iac.domain.work import PlanFacts
from iac.web.ui.models.parts import Part, Parts, View
from iac.web.ui.models.task_rows import Beside, TaskRow, task_rows
from iac.web.ui.models.words import many

FILE = "workspace.html"
LATEST = 6
"""How many of the last tasks the overview shows."""
_URGENCY: Mapping[Status, int] = {"lost": 0, "planned": 0, "running": 1, "cancelling": 1, "assigned": 1}
"""What somebody has to decide about comes first, what waits last."""
_TABS = (
    ("", "Overview"),
    ("/tasks", "Tasks"),
    ("/variables", "Variables"),
    ("/resources", "Resources"),
    ("/configuration", "Configuration"),
    ("/state", "State"),
    ("/settings", "Settings"),
)


class Rights(msgspec.Struct, frozen=True):
    """What the person may do here; buttons of what is not allowed are not there."""

    write: bool
    run: bool
    state: bool
    force_unlock: bool
    admin: bool


class LockShown(msgspec.Struct, frozen=True):
    """Who holds the workspace; `task` is the number of the task if one does."""

    owner: str
    task: int | None
    reason: str
    since: datetime


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What stands above the tabs."""

    id: str
    name: str
    path: str
    description: str
    place: str
    agent: bool
    version: str
    auto_apply: bool
    tags: tuple[str, ...]
    lock: LockShown | None
    uncertain: bool
    configured: bool
    rights: Rights


class Tab(msgspec.Struct, frozen=True):
    words: str
    href: str


class WorkspaceView(View, frozen=True, kw_only=True):
    """Base of the tabs. `here` is the address of the tab that is shown."""

    head: Parts
    workspace: Head
    tabs: tuple[Tab, ...]
    here: str


def path_of(workspace: str) -> str:
    return f"/workspaces/{quote(workspace, safe='')}"


def frame_of(workspace: Workspace, rights: Rights, tab: str, *, configured: bool = True) -> dict[str, object]:
    """The fields that all tabs share; `tab` is the end of its address."""
    head, path = head_of(workspace, rights, configured=configured), path_of(workspace.name)
    words = dict(_TABS)[tab]
    return {
        "title": workspace.name if not tab else f"{words} · {workspace.name}",
        "head": Parts("workspace-head", (Part("workspace-head-shown", f"{FILE}:head", head),)),
        "workspace": head,
        "tabs": tuple(Tab(name, path + end) for end, name in _TABS),
        "here": path + tab,
    }


def head_of(workspace: Workspace, rights: Rights, *, configured: bool = True) -> Head:
    lock = workspace.lock
    shown = None
    if lock is not None:
        task = int(lock.owner) if lock.kind == "task" and lock.owner.isdecimal() else None
        shown = LockShown(lock.owner, task, lock.reason, lock.since)
    engine = "" if workspace.engine == "terraform" else "OpenTofu "
    return Head(
        id=workspace.id,
        name=workspace.name,
        path=path_of(workspace.name),
        description=workspace.description,
        place="This server" if workspace.execution_mode == "local" else workspace.pool_name or "No pool",
        agent=workspace.execution_mode == "agent",
        version=f"{engine}{workspace.terraform_version}",
        auto_apply=workspace.auto_apply,
        tags=tuple(f"{key}={value}" if value else key for key, value in sorted(workspace.tags.items())),
        lock=shown,
        uncertain=workspace.state_uncertain,
        configured=workspace.configuration_id is not None and configured,
        rights=rights,
    )


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that the overview is made from."""

    workspace: Workspace
    latest: Sequence[Task]
    open: Sequence[Task]
    plans: Mapping[int, PlanFacts]
    names: Mapping[str, str]
    state: StateVersion | None
    configuration: Configuration | None
    variables: int
    total: int


class NowShown(msgspec.Struct, frozen=True):
    """What goes on: tasks that are not over. `path` is where one asks for one."""

    rows: tuple[TaskRow, ...]
    configured: bool
    path: str
    command: str
    may_write: bool


class StateShown(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    serial: int | None
    resources: str
    size: str
    version: str
    by: str
    task: int | None
    at: datetime | None
    apart: int


class InputsShown(msgspec.Struct, frozen=True, kw_only=True):
    """What its next task would be made from."""

    path: str
    files: str
    message: str
    by: str
    at: datetime | None
    variables: str
    name: str


class WorkspaceOverview(WorkspaceView, frozen=True, kw_only=True):
    now: Parts
    latest: Parts
    beside: Parts
    total: int


def workspace_overview(facts: Facts, waits: Mapping[int, Wait], rights: Rights) -> WorkspaceOverview:
    workspace = facts.workspace
    beside = Beside(plans=facts.plans, waits=waits, names=facts.names)
    path = path_of(workspace.name)
    open_ones = sorted(facts.open, key=lambda task: (_URGENCY.get(task.status, 2), task.id))
    going = NowShown(
        rows=task_rows(open_ones, beside),
        configured=workspace.configuration_id is not None,
        path=path,
        command=f"iac run plan -w {quoted_for_shell(workspace.name)}",
        may_write=rights.write,
    )
    over = [task for task in facts.latest if task.final][:LATEST]
    rows: tuple[Part, ...] = tuple(Part(f"task-{row.id}", f"{FILE}:row", row) for row in task_rows(over, beside))
    if not rows:
        rows = (Part("no-tasks", f"{FILE}:no_tasks", going),)
    return WorkspaceOverview(
        now=Parts("now", (Part("now-shown", f"{FILE}:now", going),)),
        latest=Parts("latest", rows),
        beside=Parts(
            "beside",
            (
                Part("state-card", f"{FILE}:state_card", _state(facts, path)),
                Part("inputs-card", f"{FILE}:inputs_card", _inputs(facts, path)),
            ),
        ),
        total=facts.total,
        **frame_of(workspace, rights, ""),  # type: ignore[arg-type]  # the fields of WorkspaceView
    )


def _state(facts: Facts, path: str) -> StateShown:
    state = facts.state
    return StateShown(
        path=f"{path}/state",
        serial=None if state is None else state.serial,
        resources="" if state is None else many(state.resource_count, "resource"),
        size="" if state is None else size_of(state.size),
        version="" if state is None else state.terraform_version,
        by="" if state is None else state.created_by,
        task=None if state is None else state.task_id,
        at=None if state is None else state.created_at,
        apart=facts.workspace.states_apart,
    )


def _inputs(facts: Facts, path: str) -> InputsShown:
    held = facts.configuration
    return InputsShown(
        path=path,
        files="" if held is None else many(len(held.files), "file"),
        message="" if held is None else held.message,
        by="" if held is None else held.created_by,
        at=None if held is None else held.created_at,
        variables=many(facts.variables, "variable"),
        name=facts.workspace.name,
    )


def quoted_for_shell(name: str) -> str:
    """A workspace's name as one word of a command."""
    return f"'{name}'" if " " in name else name


def size_of(number: int) -> str:
    """`512 B`, `12.3 KiB`, `4.0 MiB`."""
    if number < 1024:
        return f"{number} B"
    for unit, size in (("KiB", 1024), ("MiB", 1024**2), ("GiB", 1024**3)):
        if number < size * 1024 or unit == "GiB":
            return f"{number / size:.1f} {unit}"
    return ""
