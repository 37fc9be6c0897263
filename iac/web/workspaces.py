"""Workspaces and their lock."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from iac.domain import bodies
from iac.domain.archives import checked_path
from iac.domain.assembly import assemble
from iac.domain.ids import is_name
from iac.domain.versions import Constraint
from iac.errors import Forbidden, Invalid
from iac.store import tasks, workspaces
from iac.store.database import Connection
from iac.web import views
from iac.web.auth import may
from iac.web.paging import cut
from iac.web.platform import Platform
from iac.web.routing import Api, Call, NoQuery

WS = "/api/v1/workspaces"
TAG = "Workspaces"


class WorkspaceQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`search` in name and description; `tag` as `key` or `key=value`; `cursor` from the page before."""

    limit: bodies.Limit = 50
    cursor: str | None = None
    search: str | None = None
    locked: bool | None = None
    tag: str | None = None


class DeleteQuery(msgspec.Struct, frozen=True):
    """`force` deletes although there are still resources in the state."""

    force: bool = False


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""
    _settings(api, platform)
    _lock(api, platform)


def _settings(api: Api, platform: Platform) -> None:

    @api.operation(
        "GET", WS, "List workspaces by name", tag=TAG, right="read",
        query=WorkspaceQuery, answer=bodies.WorkspacePage,
    )  # fmt: skip
    async def list_workspaces(call: Call[None, WorkspaceQuery]) -> bodies.WorkspacePage:
        q = call.query
        found = await platform.read(
            workspaces.page, limit=q.limit + 1, after=q.cursor, search=q.search, locked=q.locked, tag=q.tag
        )
        page, cursor = cut(found, q.limit, lambda record: record.name)
        return bodies.WorkspacePage(items=[views.workspace(record) for record in page], next_cursor=cursor)

    @api.operation(
        "POST", WS, "Create a workspace", tag=TAG, right="write", status=201,
        body=bodies.WorkspaceCreate, answer=bodies.WorkspaceView, conflicts=("name_in_use", "pool_not_allowed"),
    )  # fmt: skip
    async def create_workspace(call: Call[bodies.WorkspaceCreate, NoQuery]) -> bodies.WorkspaceView:
        values = checked(msgspec.structs.asdict(call.body))
        return views.workspace(await platform.write(workspaces.create, values, by=call.by))

    @api.operation(
        "GET", f"{WS}/<ws>", "Show a workspace, by id or name", tag=TAG, right="read", answer=bodies.WorkspaceView
    )
    async def show_workspace(call: Call[None, NoQuery]) -> bodies.WorkspaceView:
        return views.workspace(await platform.read(workspaces.get, call.path["ws"]))

    @api.operation(
        "PATCH", f"{WS}/<ws>", "Change a workspace's settings", tag=TAG, right="write",
        body=bodies.WorkspaceChange, answer=bodies.WorkspaceView, conflicts=("name_in_use", "pool_not_allowed"),
    )  # fmt: skip
    async def change_workspace(call: Call[bodies.WorkspaceChange, NoQuery]) -> bodies.WorkspaceView:
        given = {name: value for name, value in msgspec.structs.asdict(call.body).items() if value is not UNSET}
        values = checked(given)
        return views.workspace(await platform.write(workspaces.change, call.path["ws"], values, by=call.by))

    @api.operation(
        "DELETE", f"{WS}/<ws>", "Delete a workspace with all that belongs to it", tag=TAG, right="write", status=204,
        query=DeleteQuery, conflicts=("workspace_locked", "workspace_busy", "workspace_not_empty"),
    )  # fmt: skip
    async def delete_workspace(call: Call[None, DeleteQuery]) -> None:
        await platform.write(workspaces.delete, call.path["ws"], force=call.query.force, by=call.by)


def _lock(api: Api, platform: Platform) -> None:
    @api.operation(
        "POST", f"{WS}/<ws>/lock", "Lock a workspace: nothing that may change its state starts", tag=TAG, right="run",
        body=bodies.LockRequest, answer=bodies.WorkspaceView, conflicts=("workspace_locked",),
    )  # fmt: skip
    async def lock_workspace(call: Call[bodies.LockRequest, NoQuery]) -> bodies.WorkspaceView:
        reason = call.body.reason or "locked by hand"
        held = await platform.write(workspaces.lock_for_user, call.path["ws"], user=call.by, reason=reason)
        return views.workspace(held, with_token=True)

    @api.operation(
        "POST", f"{WS}/<ws>/unlock", "Release a lock; `force` releases anybody's and is a right of its own",
        tag=TAG, right="run", body=bodies.UnlockRequest, answer=bodies.WorkspaceView,
        conflicts=("not_locked", "workspace_locked"),
    )  # fmt: skip
    async def unlock_workspace(call: Call[bodies.UnlockRequest, NoQuery]) -> bodies.WorkspaceView:
        force = call.body.force
        if force and call.caller is not None and not may(call.caller, "force_unlock"):
            raise Forbidden("Releasing somebody else's lock needs the right 'force_unlock'.", right="force_unlock")
        released = await platform.write(_unlock, call.path["ws"], user=call.by, token=call.body.token, force=force)
        return views.workspace(released)


async def _unlock(c: Connection, workspace: str, *, user: str, token: str | None, force: bool) -> Any:  # noqa: ANN401
    released = await workspaces.unlock_for_user(c, workspace, user=user, token=token, force=force)
    await tasks.advance(c, released.id)
    return await workspaces.get(c, released.id)


def _check_version(text: str) -> None:
    try:
        Constraint.parse(text)
    except Invalid as refused:
        raise Invalid(refused.message, path="$.terraform_version") from None


def checked(values: dict[str, Any]) -> dict[str, Any]:
    """What the types alone cannot say. Raises Invalid with the path."""
    if "name" in values and not is_name(values["name"]):
        raise Invalid(
            "A workspace's name is 1 to 90 letters, digits, blanks, `.`, `_` and `-`, begins and ends with a letter or "
            "digit, and does not look like an id.",
            path="$.name",
        )
    if "terraform_version" in values:
        _check_version(values["terraform_version"])
    if values.get("working_directory"):
        values["working_directory"] = checked_path(values["working_directory"], 400)
    if values.get("provider_config"):
        assemble(None, values["provider_config"], (), ())
    return values
