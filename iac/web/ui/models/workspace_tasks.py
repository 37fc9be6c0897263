"""The list of a workspace's tasks: filtered by how they are, searched, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlencode

import msgspec

from iac.domain.records import Status, Task, Workspace
from iac.web.ui.models.parts import Part, Parts
from iac.web.ui.models.task_rows import Beside, task_rows
from iac.web.ui.models.workspace import FILE, Rights, WorkspaceView, frame_of, path_of

PAGE = 30
Group = Literal["", "asks", "open", "failed", "succeeded", "cancelled"]
GROUPS: Mapping[Group, tuple[str, tuple[Status, ...]]] = {
    "": ("All", ()),
    "asks": ("Needs you", ("planned", "lost")),
    "open": ("Not over", ("pending", "queued", "assigned", "running", "cancelling")),
    "failed": ("Failed", ("failed",)),
    "succeeded": ("Succeeded", ("succeeded",)),
    "cancelled": ("Cancelled", ("cancelled",)),
}


class TasksQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`q` is searched for in messages and people's names; `before` is the task that the page comes after."""

    q: str = ""
    state: Group = ""
    before: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.before < 2**63:
            raise ValueError("`before` is not a task's number")

    @property
    def statuses(self) -> tuple[Status, ...]:
        return GROUPS[self.state][1]

    @property
    def narrowed(self) -> bool:
        return bool(self.q or self.state)

    def href(self, base: str, **changes: object) -> str:
        changed = msgspec.structs.replace(self, **{"before": 0, **changes})
        said = {name: str(value) for name, value in msgspec.to_builtins(changed).items()}
        return f"{base}?{urlencode(said)}" if said else base


class GroupShown(msgspec.Struct, frozen=True):
    """A counter that filters, or stops filtering when it is on."""

    label: str
    number: int
    href: str
    on: bool


class Nothing(msgspec.Struct, frozen=True):
    narrowed: bool
    path: str


class Way(msgspec.Struct, frozen=True):
    """Where older tasks are, and the newest ones; empty where there are none."""

    older: str
    newest: str


class WorkspaceTasks(WorkspaceView, frozen=True, kw_only=True):
    query: TasksQuery
    groups: Parts
    rows: Parts
    ways: Parts


def workspace_tasks(
    workspace: Workspace,
    query: TasksQuery,
    found: Sequence[Task],
    counts: Mapping[str, int],
    beside: Beside,
    *,
    rights: Rights,
) -> WorkspaceTasks:
    """`found` are a page's tasks, and one more if there are more."""
    base = f"{path_of(workspace.name)}/tasks"
    shown = found[:PAGE]
    rows: tuple[Part, ...] = tuple(Part(f"task-{row.id}", f"{FILE}:row", row) for row in task_rows(shown, beside))
    if not rows:
        rows = (Part("no-tasks", f"{FILE}:no_fitting", Nothing(query.narrowed, base)),)
    older = query.href(base, before=shown[-1].id) if len(found) > PAGE else ""
    way = Way(older, query.href(base) if query.before else "")
    return WorkspaceTasks(
        query=query,
        groups=Parts("groups", tuple(_groups(query, counts, base))),
        rows=Parts("rows", rows),
        ways=Parts("ways", (Part("ways-shown", f"{FILE}:ways", way),)),
        address=query.href(base, before=query.before),
        **frame_of(workspace, rights, "/tasks"),  # type: ignore[arg-type]  # the fields of WorkspaceView
    )


def _groups(query: TasksQuery, counts: Mapping[str, int], base: str) -> list[Part]:
    made = []
    for group, (label, statuses) in GROUPS.items():
        number = sum(counts.get(status, 0) for status in statuses) if statuses else sum(counts.values())
        on = query.state == group
        href = query.href(base, state="" if on else group)
        made.append(Part(f"group-{group or 'all'}", f"{FILE}:group", GroupShown(label, number, href, on)))
    return made
