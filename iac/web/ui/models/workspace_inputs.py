"""A workspace's variables and the resource blocks that the platform keeps for it: their lists, and their forms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from iac.domain.records import Resource, Variable, Workspace
from iac.web.ui.models.parts import Asked, Part, Parts, Sure
from iac.web.ui.models.values import printable
from iac.web.ui.models.workspace import FILE, Rights, WorkspaceView, frame_of, path_of

SHOWN_VALUE = 400
"""Characters of a value that a list shows."""


class VariableRow(msgspec.Struct, frozen=True, kw_only=True):
    """`value` is None where it is sensitive; `cut` says that there is more of it."""

    key: str
    environment: bool
    hcl: bool
    sensitive: bool
    value: str | None
    cut: bool
    description: str
    updated: datetime
    edit: str
    may_change: bool


class Nothing(msgspec.Struct, frozen=True):
    path: str
    may_change: bool


class WorkspaceVariables(WorkspaceView, frozen=True, kw_only=True):
    rows: Parts
    number: int
    number_secret: int


def workspace_variables(workspace: Workspace, found: Sequence[Variable], rights: Rights) -> WorkspaceVariables:
    frame: dict[str, Any] = frame_of(workspace, rights, "/variables")
    path, may = f"{path_of(workspace.name)}/variables", frame["workspace"].rights.write
    rows: tuple[Part, ...] = tuple(Part(each.id, f"{FILE}:variable", _variable(each, path, may)) for each in found)
    if not rows:
        rows = (Part("no-variables", f"{FILE}:no_variables", Nothing(path, may)),)
    return WorkspaceVariables(
        rows=Parts("variables", rows),
        number=len(found),
        number_secret=sum(each.sensitive for each in found),
        **frame,
    )


def _variable(each: Variable, path: str, may_change: bool) -> VariableRow:
    value = each.value
    return VariableRow(
        key=each.key,
        environment=each.category == "environment",
        hcl=each.hcl,
        sensitive=each.sensitive,
        value=None if value is None else printable(value[:SHOWN_VALUE]),
        cut=value is not None and len(value) > SHOWN_VALUE,
        description=each.description,
        updated=each.updated_at,
        edit=f"{path}/{each.id}",
        may_change=may_change,
    )


class VariableSheet(Asked, frozen=True, kw_only=True):
    """`known` is the variable that is changed, None for a new one."""

    known: Variable | None
    remove: str = ""


def variable_sheet(workspace: Workspace, known: Variable | None, *, bare: bool) -> VariableSheet:
    path = f"{path_of(workspace.name)}/variables"
    return VariableSheet(
        title="New variable" if known is None else f"Variable {known.key}",
        back=path,
        back_words=f"Variables of {workspace.name}",
        action=path if known is None else f"{path}/{known.id}",
        remove="" if known is None else f"{path}/{known.id}/delete",
        bare=bare,
        known=known,
    )


def drop_variable_sheet(workspace: Workspace, known: Variable, *, bare: bool) -> Sure:
    path = f"{path_of(workspace.name)}/variables"
    return Sure(
        title=f"Delete {known.key}",
        back=path,
        back_words=f"Variables of {workspace.name}",
        action=f"{path}/{known.id}/delete",
        bare=bare,
        says="It is gone at once, and nobody can bring its value back. Tasks that are there already keep theirs.",
        does="Delete variable",
    )


class ResourceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A block; `body` is its arguments as JSON, made readable."""

    address: str
    data: bool
    body: str
    version: int
    updated: datetime
    edit: str
    may_change: bool


class WorkspaceResources(WorkspaceView, frozen=True, kw_only=True):
    rows: Parts
    number: int


def workspace_resources(workspace: Workspace, found: Sequence[Resource], rights: Rights) -> WorkspaceResources:
    frame: dict[str, Any] = frame_of(workspace, rights, "/resources")
    path, may = f"{path_of(workspace.name)}/resources", frame["workspace"].rights.write
    rows: tuple[Part, ...] = tuple(Part(each.id, f"{FILE}:resource", _resource(each, path, may)) for each in found)
    if not rows:
        rows = (Part("no-resources", f"{FILE}:no_resources", Nothing(path, may)),)
    return WorkspaceResources(rows=Parts("resources", rows), number=len(found), **frame)


def _resource(each: Resource, path: str, may_change: bool) -> ResourceRow:
    return ResourceRow(
        address=address_of(each),
        data=each.mode == "data",
        body=printable(readable(each.body)),
        version=each.version,
        updated=each.updated_at,
        edit=f"{path}/{each.id}",
        may_change=may_change,
    )


def address_of(resource: Resource) -> str:
    return f"{'data.' if resource.mode == 'data' else ''}{resource.type}.{resource.name}"


def readable(body: Mapping[str, Any]) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False)


class ResourceSheet(Asked, frozen=True, kw_only=True):
    known: Resource | None
    body: str
    remove: str = ""


def resource_sheet(workspace: Workspace, known: Resource | None, *, bare: bool) -> ResourceSheet:
    path = f"{path_of(workspace.name)}/resources"
    return ResourceSheet(
        title="New resource block" if known is None else address_of(known),
        back=path,
        back_words=f"Resources of {workspace.name}",
        action=path if known is None else f"{path}/{known.id}",
        remove="" if known is None else f"{path}/{known.id}/delete",
        bare=bare,
        known=known,
        body="{\n  \n}" if known is None else readable(known.body),
    )


def drop_resource_sheet(workspace: Workspace, known: Resource, *, bare: bool) -> Sure:
    path = f"{path_of(workspace.name)}/resources"
    return Sure(
        title=f"Remove {address_of(known)}",
        back=path,
        back_words=f"Resources of {workspace.name}",
        action=f"{path}/{known.id}/delete",
        bare=bare,
        says="The block goes from the configuration of every run; the next apply destroys what it made.",
        does="Remove block",
    )
