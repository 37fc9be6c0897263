"""The list of tasks: its rows, its filters, and the addresses that each of them leads to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, get_args
from urllib.parse import quote

import msgspec

from iac.domain.records import Action, Status, Task
from iac.domain.scheduling import Wait
from iac.domain.work import PlanFacts
from iac.web.ui.models.listing import Counter, NoRows, address, counter_part, pages_of, pages_part, require_page
from iac.web.ui.models.parts import Part, Parts, View
from iac.web.ui.models.task_page import where
from iac.web.ui.models.timeline import took
from iac.web.ui.models.words import ACTIONS, Badge, Counts, plan_counts, task_badge

PATH = "/tasks"
FILE = "tasks.html"
PAGE = 50
Group = Literal["attention", "running", "waiting", "failed", "succeeded", "cancelled"]
GROUPS: Mapping[Group, tuple[Badge, tuple[Status, ...]]] = {
    "attention": (Badge("Needs you", "warn", "hand"), ("planned", "lost")),
    "running": (Badge("Running", "busy", "spinner"), ("assigned", "running", "cancelling")),
    "waiting": (Badge("Waiting", "calm", "clock"), ("pending", "queued")),
    "failed": (Badge("Failed", "bad", "cross"), ("failed",)),
    "succeeded": (Badge("Succeeded", "good", "check"), ("succeeded",)),
    "cancelled": (Badge("Cancelled", "calm", "slash"), ("cancelled",)),
}


class TasksQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the address says: `q` is searched for in messages, workspaces' names and people's."""

    q: str = ""
    state: Group | Literal[""] = ""
    action: Action | Literal[""] = ""
    workspace: str = ""
    page: int = 1

    def __post_init__(self) -> None:
        require_page(self.page)

    def href(self, **changes: object) -> str:
        """The address of the same list with this changed; changing anything but the page begins at the first one."""
        return address(PATH, self, **{"page": 1, **changes})

    @property
    def statuses(self) -> tuple[Status, ...]:
        return GROUPS[self.state][1] if self.state else ()

    @property
    def narrowed(self) -> bool:
        return bool(self.q or self.state or self.action or self.workspace)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One task. `since` is when it began to run, or to wait, where it goes on; else `took` says how long it ran."""

    id: int
    action: str
    message: str
    workspace: str
    workspace_href: str
    badge: Badge
    note: str
    counts: Counts | None
    where: str
    agent: bool
    by: str
    created: datetime
    since: datetime | None
    took: str


class Tasks(View, frozen=True, kw_only=True):
    query: TasksQuery
    counters: Parts
    rows: Parts
    pages: Parts
    actions: tuple[tuple[str, str], ...]


def tasks(
    query: TasksQuery,
    found: Sequence[Task],
    counts: Mapping[Status, int],
    *,
    names: Mapping[str, str],
    plans: Mapping[int, PlanFacts],
    waits: Mapping[int, Wait],
) -> Tasks:
    parts = tuple(
        Part(
            f"task-{each.id}",
            f"{FILE}:row",
            row(each, names, plans.get(each.plan_task_id or each.id), waits.get(each.id)),
        )
        for each in found
    )
    if not parts:
        parts = (Part("no-tasks", f"{FILE}:nothing", NoRows(query.narrowed, PATH)),)
    total = sum(counts.get(status, 0) for status in query.statuses) if query.state else sum(counts.values())
    return Tasks(
        title="Tasks",
        address=query.href(page=query.page),
        query=query,
        counters=Parts("counters", tuple(_counters(query, counts))),
        rows=Parts("rows", parts),
        pages=pages_part(pages_of(PATH, query, "task", page=query.page, size=PAGE, total=total, shown=len(found))),
        actions=tuple((action, ACTIONS[action]) for action in get_args(Action)),
    )


def row(task: Task, names: Mapping[str, str], plan: PlanFacts | None, wait: Wait | None) -> Row:
    goes_on = task.status in ("pending", "queued", "assigned", "running", "cancelling", "planned", "lost")
    began = task.started_at or task.created_at
    note = wait.message if wait is not None else task.detail or ""
    return Row(
        id=task.id,
        action=ACTIONS[task.action],
        message=task.message,
        workspace=task.workspace_name,
        workspace_href=f"/workspaces/{quote(task.workspace_name, safe='')}",
        badge=task_badge(task.status, task.phase, task.action, task.outcome, has_changes=task.has_changes),
        note=note if task.status in ("pending", "queued", "failed", "lost") else "",
        counts=None if plan is None or not plan.has_changes else plan_counts(plan.summary),
        where=where(task, names),
        agent=task.execution_mode == "agent",
        by=task.created_by,
        created=task.created_at,
        since=began if goes_on else None,
        took=took((task.finished_at - began).total_seconds()) if task.finished_at is not None else "",
    )


def _counters(query: TasksQuery, counts: Mapping[Status, int]) -> list[Part]:
    everything = Counter(label="All", number=sum(counts.values()), href=query.href(state=""), on=not query.state)
    found = [counter_part("all", everything)]
    for group, (badge, statuses) in GROUPS.items():
        on = query.state == group
        number = sum(counts.get(status, 0) for status in statuses)
        href = query.href(state="" if on else group)
        shown = Counter(label=badge.word, badge=badge, number=number, href=href, on=on)
        found.append(counter_part(group, shown))
    return found
