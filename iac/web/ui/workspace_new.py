"""A new workspace: its form, and its beginning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from iac.domain.records import Engine, ExecutionMode, Workspace
from iac.errors import Forbidden, Invalid
from iac.store import pools, workspaces
from iac.store.database import Connection
from iac.web.platform import Platform
from iac.web.routing import NoQuery
from iac.web.ui import answers
from iac.web.ui.models.workspace import path_of
from iac.web.ui.models.workspace_list import PATH
from iac.web.ui.models.workspace_new import NEW, NewSheet, new_sheet
from iac.web.ui.models.workspace_settings import tags_of
from iac.web.ui.pages import Done, PageCall, Ui
from iac.web.ui.workspace_inputs import short, unix
from iac.web.ui.workspace_list import MOST_POOLS
from iac.web.ui.workspace_settings import checked_each, require_lengths


class NewWorkspace(msgspec.Struct, frozen=True):
    """What the form asks; `tags` has one a line."""

    name: str
    description: str = ""
    execution_mode: ExecutionMode = "local"
    pool_id: str = ""
    engine: Engine = "terraform"
    terraform_version: str = "latest"
    tags: str = ""
    working_directory: str = ""
    auto_apply: bool = False


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the page and its deed on the table."""

    @ui.page(NEW, "workspace/new.html", right="write")
    async def show_new_workspace(call: PageCall[NoQuery]) -> NewSheet:
        known = await platform.read(pools.page, limit=MOST_POOLS, after=None)
        return new_sheet(known, may_allow=call.me.may("admin"), bare=answers.asked_by_script())

    @ui.deed(PATH, "write", form=NewWorkspace)
    async def make_workspace(call: PageCall[NewWorkspace]) -> Done:
        form, pool = call.query, ""
        require_lengths(form)
        if form.execution_mode == "agent":
            pool = form.pool_id
            if not pool:
                raise Invalid("Choose a pool.", path="$.pool_id")
            if not call.me.may("admin"):
                raise Forbidden("Allowing a pool to serve it needs the right 'admin'.", right="admin")
        values: dict[str, Any] = {
            "name": form.name,
            "description": short(unix(form.description)),
            "engine": form.engine,
            "terraform_version": form.terraform_version,
            "tags": tags_of(form.tags),
            "working_directory": form.working_directory.strip(),
            "auto_apply": form.auto_apply,
        }
        made = await platform.write(_make, checked_each(values), pool, by=call.me.name)
        path = path_of(made.name)
        return Done(says=f"Workspace {made.name} is there.", location=path, back=path)


async def _make(c: Connection, values: Mapping[str, Any], pool: str, *, by: str) -> Workspace:
    """With a pool, that is allowed to serve it, which can only be said of a workspace that is there."""
    made = await workspaces.create(c, values, by=by)
    if not pool:
        return made
    await pools.allow(c, pool, made.id, by=by)
    return await workspaces.change(c, made.id, {"execution_mode": "agent", "pool_id": pool}, by=by)
