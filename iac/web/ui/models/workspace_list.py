"""The list of workspaces: its rows, its filters, and the addresses that each of them leads to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, get_args
from urllib.parse import quote

import msgspec

from iac.domain.glances import Condition, WorkspaceGlance, WorkspaceSort
from iac.web.ui.models.listing import Counter, NoRows, address, counter_part, pages_of, pages_part, require_page
from iac.web.ui.models.parts import Part, Parts, View
from iac.web.ui.models.words import ACTIONS, CONDITIONS, Badge, task_badge

PATH = "/workspaces"
FILE = "workspaces.html"
PAGE = 50
COLUMNS: tuple[tuple[str, str], ...] = (
    ("name", "Workspace"),
    ("state", "State"),
    ("", "Runs on"),
    ("resources", "Resources"),
    ("changed", "Last change"),
)


class WorkspacesQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the address says: `q` is searched for in names and descriptions."""

    q: str = ""
    state: Condition | Literal[""] = ""
    mode: Literal["", "local", "agent"] = ""
    pool: str = ""
    tag: str = ""
    locked: Literal["", "yes"] = ""
    sort: WorkspaceSort = "name"
    page: int = 1

    def __post_init__(self) -> None:
        require_page(self.page)

    def href(self, **changes: object) -> str:
        """The address of the same list with this changed; changing anything but the page begins at the first one."""
        return address(PATH, self, **{"page": 1, **changes})

    @property
    def narrowed(self) -> bool:
        return bool(self.q or self.state or self.mode or self.pool or self.tag or self.locked)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One workspace."""

    id: str
    name: str
    href: str
    description: str
    badge: Badge
    says: str
    """What the badge is about: `Plan and apply #12`."""
    task: int | None
    place: str
    agent: bool
    resources: int | None
    changed: datetime
    by: str
    tags: tuple[str, ...]
    locked: str
    """Who locked it and why; empty when nobody did."""
    uncertain: bool


class Column(msgspec.Struct, frozen=True):
    """A column's head. `order` is what aria-sort says; without an `href` it cannot be sorted by."""

    label: str
    href: str
    order: Literal["none", "ascending", "descending"]


class Workspaces(View, frozen=True, kw_only=True):
    query: WorkspacesQuery
    counters: Parts
    rows: Parts
    pages: Parts
    columns: tuple[Column, ...]
    pools: tuple[str, ...]
    tags: tuple[str, ...]
    may_create: bool


def workspaces(
    query: WorkspacesQuery,
    found: Sequence[WorkspaceGlance],
    counts: Mapping[Condition, int],
    *,
    pools: Sequence[str],
    tags: Sequence[str],
    may_create: bool,
) -> Workspaces:
    rows = tuple(Part(each.id, f"{FILE}:row", row(each)) for each in found)
    if not rows:
        rows = (Part("no-workspaces", f"{FILE}:nothing", NoRows(query.narrowed, PATH)),)
    total = counts.get(query.state, 0) if query.state else sum(counts.values())
    return Workspaces(
        title="Workspaces",
        address=query.href(page=query.page),
        query=query,
        counters=Parts("counters", tuple(_counters(query, counts))),
        rows=Parts("rows", rows),
        pages=pages_part(pages_of(PATH, query, "workspace", page=query.page, size=PAGE, total=total, shown=len(found))),
        columns=tuple(_column(query, key, label) for key, label in COLUMNS),
        pools=_with(query.pool, pools),
        tags=_with(query.tag, tags),
        may_create=may_create,
    )


def row(each: WorkspaceGlance) -> Row:
    badge, says, last = CONDITIONS[each.condition], "", each.last
    if last is not None:
        badge = task_badge(last.status, last.phase, last.action, last.outcome, has_changes=last.has_changes)
        says = f"{ACTIONS[last.action]} #{last.id}"
    locked = ""
    if each.lock_kind == "user":
        locked = f"{each.lock_owner}: {each.lock_reason}" if each.lock_reason else str(each.lock_owner)
    return Row(
        id=each.id,
        name=each.name,
        href=f"{PATH}/{quote(each.name, safe='')}",
        description=each.description,
        badge=badge,
        says=says,
        task=None if last is None else last.id,
        place="This server" if each.execution_mode == "local" else each.pool_name or "No pool",
        agent=each.execution_mode == "agent",
        resources=each.resource_count,
        changed=each.changed_at,
        by="" if last is None else last.created_by,
        tags=tuple(f"{key}={value}" if value else key for key, value in sorted(each.tags.items())),
        locked=locked,
        uncertain=each.state_uncertain,
    )


def _counters(query: WorkspacesQuery, counts: Mapping[Condition, int]) -> list[Part]:
    entries = [Counter(label="All", number=sum(counts.values()), href=query.href(state=""), on=not query.state)]
    for condition in get_args(Condition):
        on, badge = query.state == condition, CONDITIONS[condition]
        href = query.href(state="" if on else condition)
        entries.append(Counter(label=badge.word, badge=badge, number=counts.get(condition, 0), href=href, on=on))
    names = ("all", *get_args(Condition))
    return [counter_part(name, each) for name, each in zip(names, entries, strict=True)]


def _column(query: WorkspacesQuery, key: str, label: str) -> Column:
    if not key:
        return Column(label, "", "none")
    now = {key: "ascending", f"-{key}": "descending"}.get(query.sort, "none")
    first = f"-{key}" if key in ("changed", "resources") else key
    other = {"ascending": f"-{key}", "descending": key, "none": first}[now]
    changes: dict[str, Any] = {"sort": other}
    return Column(label, query.href(**changes), now)  # type: ignore[arg-type]  # one of the three words


def _with(chosen: str, offered: Sequence[str]) -> tuple[str, ...]:
    """What can be chosen; what is chosen is among it even if nothing has it any more."""
    return tuple(offered) if not chosen or chosen in offered else (chosen, *offered)
