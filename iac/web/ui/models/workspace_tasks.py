"""The list of a workspace's tasks: filtered by how they are, searched, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from iac.domain.records import Status, Task, Workspace
from iac.web.ui.models.listing import Counter, NoRows, Ways, address, counter_part, ways_part
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
        return address(base, self, **{"before": 0, **changes})


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
        rows = (Part("no-tasks", f"{FILE}:no_fitting", NoRows(query.narrowed, base)),)
    older = query.href(base, before=shown[-1].id) if len(found) > PAGE else ""
    return WorkspaceTasks(
        query=query,
        groups=Parts("groups", tuple(_groups(query, counts, base))),
        rows=Parts("rows", rows),
        ways=ways_part(Ways(older, query.href(base) if query.before else "")),
        address=query.href(base, before=query.before),
        **frame_of(workspace, rights, "/tasks"),  # type: ignore[arg-type]  # the fields of WorkspaceView
    )


def _groups(query: TasksQuery, counts: Mapping[str, int], base: str) -> list[Part]:
    made = []
    for group, (label, statuses) in GROUPS.items():
        number = sum(counts.get(status, 0) for status in statuses) if statuses else sum(counts.values())
        on = query.state == group
        href = query.href(base, state="" if on else group)
        made.append(counter_part(group or "all", Counter(label=label, number=number, href=href, on=on)))
    return made
