"""The tab of the settings, and what its forms do: change, lock, unlock, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from iac.domain.limits import LONGEST_GRACE, LONGEST_TIMEOUT
from iac.domain.records import Engine, ExecutionMode, Workspace
from iac.errors import Conflict, Forbidden, Invalid
from iac.store import pools, tasks, workspaces
from iac.store.database import Connection
from iac.web.platform import Platform
from iac.web.routing import NoQuery
from iac.web.ui.models.workspace import path_of
from iac.web.ui.models.workspace_settings import (
    LIMITS,
    PoolChoice,
    WorkspaceSettings,
    seal_of,
    seconds_of,
    tags_of,
    workspace_settings,
)
from iac.web.ui.pages import Done, PageCall, Ui
from iac.web.ui.workspace import WS, current_state, rights_of
from iac.web.ui.workspace_inputs import arguments, short, unix
from iac.web.workspaces import checked

SETTINGS = f"{WS}/settings"
MOST_POOLS = 200
LONGEST = {"name": 90, "terraform_version": 100, "working_directory": 400}


class General(msgspec.Struct, frozen=True):
    """`seen` tells which settings the form was made from; `tags` has one a line."""

    name: str
    description: str = ""
    tags: str = ""
    seen: str = ""


class Execution(msgspec.Struct, frozen=True):
    execution_mode: ExecutionMode
    pool_id: str = ""
    engine: Engine = "terraform"
    terraform_version: str = "latest"
    working_directory: str = ""
    auto_apply: bool = False
    provider_config: str = ""
    seen: str = ""


class LimitsForm(msgspec.Struct, frozen=True):
    """Times as people write them; empty for the server's."""

    plan_timeout_s: str = ""
    apply_timeout_s: str = ""
    plan_grace_s: str = ""
    apply_grace_s: str = ""
    seen: str = ""


class LockForm(msgspec.Struct, frozen=True):
    reason: str = ""


class UnlockForm(msgspec.Struct, frozen=True):
    force: bool = False


class DeleteForm(msgspec.Struct, frozen=True):
    typed: str = ""
    force: bool = False


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the page and deeds on the table."""
    _settings(ui, platform)
    _lock(ui, platform)


def _settings(ui: Ui, platform: Platform) -> None:
    @ui.page(SETTINGS, "workspace/settings.html", topics=("workspaces",))
    async def show_settings(call: PageCall[NoQuery]) -> WorkspaceSettings:
        held, known, resources = await platform.read(_found, call.path["ws"])
        return workspace_settings(held, known, resources, usual=platform.dispatcher.limits, rights=rights_of(call.me))

    @ui.deed(f"{SETTINGS}/general", "write", form=General)
    async def change_general(call: PageCall[General]) -> Done:
        form = call.query
        require_lengths(form)
        values: dict[str, Any] = {
            "name": form.name,
            "description": short(unix(form.description)),
            "tags": tags_of(form.tags),
        }
        changed = await platform.write(_change, call.path["ws"], checked_each(values), seen=form.seen, by=call.me.name)
        back = f"{path_of(changed.name)}/settings"
        return Done(says="The settings are saved.", location=back, back=back)

    @ui.deed(f"{SETTINGS}/execution", "write", form=Execution)
    async def change_execution(call: PageCall[Execution]) -> Done:
        form = call.query
        require_lengths(form)
        values: dict[str, Any] = {
            "execution_mode": form.execution_mode,
            "pool_id": form.pool_id or None,
            "engine": form.engine,
            "terraform_version": form.terraform_version,
            "working_directory": form.working_directory.strip(),
            "auto_apply": form.auto_apply,
            "provider_config": _provider_config(form.provider_config),
        }
        changed = await platform.write(_change, call.path["ws"], checked_each(values), seen=form.seen, by=call.me.name)
        back = f"{path_of(changed.name)}/settings"
        return Done(says="The settings are saved.", location=back, back=back)

    @ui.deed(f"{SETTINGS}/limits", "write", form=LimitsForm)
    async def change_limits(call: PageCall[LimitsForm]) -> Done:
        values: dict[str, Any] = {
            field: seconds_of(
                getattr(call.query, field), field, LONGEST_TIMEOUT if "timeout" in field else LONGEST_GRACE
            )
            for field in LIMITS
        }
        changed = await platform.write(_change, call.path["ws"], values, seen=call.query.seen, by=call.me.name)
        back = f"{path_of(changed.name)}/settings"
        return Done(
            says="The limits are saved. They hold for what is handed out from now on.", location=back, back=back
        )

    @ui.deed(f"{WS}/delete", "write", form=DeleteForm)
    async def delete_workspace_typed(call: PageCall[DeleteForm]) -> Done:
        held = await platform.read(workspaces.get, call.path["ws"])
        if call.query.typed != held.name:
            raise Invalid(f"Type the workspace's name, {held.name}, to delete it.", path="$.typed")
        await platform.write(workspaces.delete, held.id, force=call.query.force, by=call.me.name)
        return Done(says=f"Workspace {held.name} is deleted.", location="/workspaces", back="/workspaces")


def _lock(ui: Ui, platform: Platform) -> None:
    @ui.deed(f"{WS}/lock", "run", form=LockForm)
    async def lock_workspace_by_hand(call: PageCall[LockForm]) -> Done:
        reason = call.query.reason.strip()
        if not reason or len(reason) > 1000:
            raise Invalid("Say why, in up to 1,000 characters: whoever waits for it reads this.", path="$.reason")
        held = await platform.write(workspaces.lock_for_user, call.path["ws"], user=call.me.name, reason=reason)
        return Done(says=f"{held.name} is locked.", back=path_of(held.name))

    @ui.deed(f"{WS}/unlock", "run", form=UnlockForm)
    async def unlock_workspace_by_hand(call: PageCall[UnlockForm]) -> Done:
        force = call.query.force
        if force and not call.me.may("force_unlock"):
            raise Forbidden("Releasing somebody else's lock needs the right 'force_unlock'.", right="force_unlock")
        held = await platform.write(_unlock, call.path["ws"], user=call.me.name, force=force)
        return Done(says=f"{held.name} is unlocked.", back=path_of(held.name))


async def _unlock(c: Connection, workspace: str, *, user: str, force: bool) -> Workspace:
    released = await workspaces.unlock_for_user(c, workspace, user=user, token=None, force=force)
    await tasks.advance(c, released.id)
    return released


async def _change(c: Connection, key: str, values: Mapping[str, Any], *, seen: str, by: str) -> Workspace:
    """Raises Conflict (version_differs) when the settings are not those that the form was made from."""
    held = await workspaces.hold(c, key)
    if seen and seen != seal_of(held):
        raise Conflict(
            "Somebody changed these settings while you had them open. Load the page again to see them, and make your "
            "change there; nothing of yours was saved.",
            code="version_differs",
        )
    known = {name: value for name, value in values.items() if value != getattr(held, name)}
    return await workspaces.change(c, held.id, known, by=by) if known else held


def _provider_config(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return None
    try:
        return arguments(text)
    except Invalid as refused:
        raise Invalid(refused.message, path="$.provider_config") from None


def require_lengths(form: msgspec.Struct) -> None:
    """Raises Invalid for a field that is too long."""
    for name, longest in LONGEST.items():
        if len(getattr(form, name, "")) > longest:
            raise Invalid(f"At most {longest} characters.", path=f"$.{name}")


def checked_each(values: Mapping[str, Any]) -> dict[str, Any]:
    """One field after the other, so that what is wrong is told beside its own."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        try:
            found |= checked({name: value})
        except Invalid as refused:
            raise Invalid(refused.message, path=f"$.{name}") from None
    return found


async def _found(c: Connection, key: str) -> tuple[Workspace, list[PoolChoice], int]:
    held = await workspaces.get(c, key)
    known, allowing = [], await pools.allowing(c, held.id)
    for pool in await pools.page(c, limit=MOST_POOLS, after=None):
        allowed = pool.id in allowing
        online = f"{pool.agents_online} of {pool.agents} online"
        known.append(
            PoolChoice(pool.id, f"{pool.name} ({online}{'' if allowed else ', does not allow this workspace'})")
        )
    current = await current_state(c, held)
    return held, known, 0 if current is None else current.resource_count
