"""The tab of the state: what there is now, its history, one version, and two of them compared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec

from iac.domain.records import StateVersion, Workspace
from iac.web.ui.models.parts import Part, Parts, View
from iac.web.ui.models.state_difference import ObjectChange, StateDifference
from iac.web.ui.models.state_tree import Leaf, StateTree
from iac.web.ui.models.values import printable
from iac.web.ui.models.words import Badge, many
from iac.web.ui.models.workspace import FILE, Rights, WorkspaceView, frame_of, path_of, quoted_for_shell, size_of

PAGE = 20
_VERDICTS = {
    "current": Badge("Current", "good", "check"),
    "superseded": Badge("Earlier", "calm", "clock"),
    "quarantined": Badge("Kept apart", "warn", "warning"),
    "checkpoint": Badge("Checkpoint", "calm", "dash"),
}
UNREADABLE = -1
"""The serial of what was sent as a state and is none."""


class StateQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`q` and `all` are about the tree; `before` is the version that the page of the history comes after."""

    q: str = ""
    all: Literal["", "yes"] = ""
    before: str = ""


class CompareQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Two versions, by id, serial or `current`."""

    before: str = ""
    after: str = "current"
    all: Literal["", "yes"] = ""


class VersionShown(msgspec.Struct, frozen=True, kw_only=True):
    """One version. `compare` is the address of its comparison with the current one, empty for that one itself."""

    id: str
    serial: str
    badge: Badge
    reason: str
    origin: str
    task: int | None
    resources: str
    size: str
    version: str
    lineage: str
    sha256: str
    at: datetime
    href: str
    compare: str
    download: str
    rollback: str
    promote: str
    """Where to roll back to it, and where to make it current though it was kept apart; empty where one cannot."""
    promoted: datetime | None


class Choice(msgspec.Struct, frozen=True):
    value: str
    words: str


class WorkspaceState(WorkspaceView, frozen=True, kw_only=True):
    """`problem` says why there is no tree."""

    history: Parts
    tree: StateTree | None
    current: VersionShown | None
    problem: str
    choices: tuple[Choice, ...]
    older: str
    newest: str
    upload: str


class StateVersionPage(WorkspaceView, frozen=True, kw_only=True):
    version: VersionShown
    tree: StateTree | None
    problem: str
    current_serial: int | None
    other_lineage: bool


class ComparePage(WorkspaceView, frozen=True, kw_only=True):
    before: VersionShown
    after: VersionShown
    difference: StateDifference | None
    problem: str
    swap: str
    whole: str


class ObjectPage(View, frozen=True, kw_only=True):
    """One object of a state. `bare`: only its lines, for a page that has the rest."""

    back: str
    leaf: Leaf
    bare: bool


class ObjectChangePage(View, frozen=True, kw_only=True):
    back: str
    change: ObjectChange
    bare: bool


def workspace_state(
    workspace: Workspace,
    query: StateQuery,
    found: Sequence[StateVersion],
    current: StateVersion | None,
    tree: StateTree | None,
    *,
    problem: str,
    rights: Rights,
) -> WorkspaceState:
    """`found` are a page's versions, and one more if there are more."""
    frame: dict[str, Any] = frame_of(workspace, rights, "/state")
    base = state_path(workspace)
    rows: tuple[Part, ...] = tuple(
        Part(each.id, f"{FILE}:state_version", version_shown(workspace, each)) for each in found[:PAGE]
    )
    return WorkspaceState(
        history=Parts("history", rows),
        tree=tree,
        current=None if current is None else version_shown(workspace, current),
        problem=problem,
        choices=_choices(found[:PAGE]),
        older=f"{base}?{urlencode({'before': found[PAGE - 1].id})}" if len(found) > PAGE else "",
        newest=base if query.before else "",
        upload=f"iac state push -w {quoted_for_shell(workspace.name)} terraform.tfstate",
        **frame,
    )


def state_version_page(
    workspace: Workspace, version: StateVersion, tree: StateTree | None, *, problem: str, rights: Rights
) -> StateVersionPage:
    frame: dict[str, Any] = frame_of(workspace, rights, "/state")
    frame["title"] = f"State {_serial(version)} · {workspace.name}"
    shown = version_shown(workspace, version)
    return StateVersionPage(
        version=shown,
        tree=tree,
        problem=problem,
        current_serial=workspace.current_serial,
        other_lineage=workspace.lineage is not None and workspace.lineage != version.lineage,
        **frame,
    )


def compare_page(
    workspace: Workspace,
    before: StateVersion,
    after: StateVersion,
    difference: StateDifference | None,
    *,
    problem: str,
    rights: Rights,
) -> ComparePage:
    frame: dict[str, Any] = frame_of(workspace, rights, "/state")
    frame["title"] = f"State {_serial(before)} and {_serial(after)} · {workspace.name}"
    return ComparePage(
        before=version_shown(workspace, before),
        after=version_shown(workspace, after),
        difference=difference,
        problem=problem,
        swap=compare_path(workspace, after.id, before.id),
        whole=f"{compare_path(workspace, before.id, after.id)}&all=yes",
        **frame,
    )


def version_shown(workspace: Workspace, version: StateVersion) -> VersionShown:
    base = state_path(workspace)
    is_current = version.verdict == "current"
    unreadable = version.serial == UNREADABLE
    apart = version.verdict in ("quarantined", "checkpoint") and not unreadable
    return VersionShown(
        id=version.id,
        serial=_serial(version),
        badge=_VERDICTS[version.verdict],
        reason=version.reason or "",
        origin=_origin(version),
        task=version.task_id,
        resources="" if unreadable else many(version.resource_count, "resource"),
        size=size_of(version.size),
        version=version.terraform_version,
        lineage=printable(version.lineage),
        sha256=version.sha256,
        at=version.created_at,
        href=f"{base}/{version.id}",
        compare="" if is_current or unreadable else compare_path(workspace, version.id, "current"),
        download=f"/api/v1/workspaces/{workspace.id}/state-versions/{version.id}/download",
        rollback=f"{base}/{version.id}/rollback" if version.verdict == "superseded" else "",
        promote=f"{base}/{version.id}/promote" if apart and version.promoted_at is None else "",
        promoted=version.promoted_at,
    )


def state_path(workspace: Workspace) -> str:
    return f"{path_of(workspace.name)}/state"


def compare_path(workspace: Workspace, before: str, after: str) -> str:
    return f"{state_path(workspace)}/compare?{urlencode({'before': before, 'after': after})}"


def _serial(version: StateVersion) -> str:
    return "no serial" if version.serial == UNREADABLE else f"#{version.serial}"


def _origin(version: StateVersion) -> str:
    if version.rollback_of is not None:
        return f"rolled back to #{version.rollback_of} by {version.created_by}"
    if version.promotion_of is not None:
        return f"made current by {version.created_by}, after it had been kept apart"
    return "" if version.task_id is not None else f"uploaded by {version.created_by}"


def _choices(found: Sequence[StateVersion]) -> tuple[Choice, ...]:
    readable = [each for each in found if each.serial != UNREADABLE]
    return tuple(
        Choice(each.id, f"{_serial(each)} · {_VERDICTS[each.verdict].word.lower()} · {each.created_at:%Y-%m-%d %H:%M}")
        for each in readable
    )
