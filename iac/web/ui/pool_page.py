"""The page of a pool, and what is done there: whom it may serve, and its end."""

from __future__ import annotations

import msgspec

from iac.errors import Invalid
from iac.store import pool_pages, pools, workspaces
from iac.web.platform import Platform
from iac.web.pools import agent_view
from iac.web.routing import NoQuery
from iac.web.ui import answers
from iac.web.ui.models.parts import Leave, Sure
from iac.web.ui.models.pool_page import PoolPage, pool_page
from iac.web.ui.models.pool_words import PATH, pool_path
from iac.web.ui.models.sheets import PoolAsked, about_pool, disallow_sheet
from iac.web.ui.pages import Done, PageCall, Ui

POOL = f"{PATH}/pools/<pool>"


class PoolQuery(msgspec.Struct, frozen=True):
    """`after` is the id of the agent that the page comes after."""

    after: str = ""


class AllowForm(msgspec.Struct, frozen=True):
    workspace: str = ""
    leave: str = ""


class DeleteForm(msgspec.Struct, frozen=True):
    typed: str = ""


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the pages and deeds on the table."""
    _page(ui, platform)
    _allowances(ui, platform)
    _end(ui, platform)


def _page(ui: Ui, platform: Platform) -> None:
    @ui.page(POOL, "agents/pool.html", query=PoolQuery, topics=("agents", "tasks", "workspaces"))
    async def show_pool_page(call: PageCall[PoolQuery]) -> PoolPage:
        may_admin, after = call.me.may("admin"), call.query.after
        found = await platform.read(
            pool_pages.pool_situation, call.path["pool"], after=after or None, with_tokens=may_admin
        )
        return pool_page(
            found.pool,
            found.glance,
            agents=[agent_view(platform, (each, found.running.get(each.id, {}))) for each in found.agents],
            most_agents=pool_pages.MOST_AGENTS,
            unsent={each.id: platform.fleet.unsent_of(each.id) for each in found.agents},
            open_tasks=found.open,
            waits={task.id: wait for task in found.open if (wait := platform.dispatcher.wait_of(task)) is not None},
            allowed=found.allowed,
            most_allowed=pool_pages.MOST_ALLOWED,
            tokens=found.tokens,
            holders=found.holders,
            may_admin=may_admin,
            after=after,
            now=found.now,
        )


def _allowances(ui: Ui, platform: Platform) -> None:
    @ui.page(f"{POOL}/workspaces/new", "agents/allow.html", right="admin")
    async def show_allow(call: PageCall[NoQuery]) -> PoolAsked:
        pool = await platform.read(pools.get, call.path["pool"])
        choices = await platform.read(pool_pages.not_allowed, pool.id)
        title = f"Allow {pool.name} a workspace"
        return about_pool(title, pool, "workspaces", bare=answers.asked_by_script(), choices=choices)

    @ui.deed(f"{POOL}/workspaces", "admin", form=AllowForm)
    async def allow_pool_workspace(call: PageCall[AllowForm]) -> Done:
        name, back = call.query.workspace.strip(), pool_path(call.path["pool"])
        if not name:
            raise Invalid("Choose a workspace.", path="$.workspace")
        made = await platform.write(pools.allow, call.path["pool"], name, by=call.me.name)
        says = f"It may serve {made.workspace_name}."
        if not made.in_use:
            says += " The workspace has to choose it, too: in its settings."
        return Done(says=says, back=back, location=back if call.query.leave else None)

    @ui.page(f"{POOL}/workspaces/<ws>/disallow", "sure.html", right="admin")
    async def show_disallow(call: PageCall[NoQuery]) -> Sure:
        pool = await platform.read(pools.get, call.path["pool"])
        held = await platform.read(workspaces.get, call.path["ws"])
        return disallow_sheet(pool, held, bare=answers.asked_by_script())

    @ui.deed(f"{POOL}/workspaces/<ws>/disallow", "admin", form=Leave)
    async def disallow_pool_workspace(call: PageCall[Leave]) -> Done:
        back = pool_path(call.path["pool"])
        await platform.write(pools.disallow, call.path["pool"], call.path["ws"], by=call.me.name)
        return Done(says="The pool may not serve it any more.", back=back, location=back if call.query.leave else None)


def _end(ui: Ui, platform: Platform) -> None:
    @ui.page(f"{POOL}/delete", "agents/delete_pool.html", right="admin")
    async def show_delete_pool(call: PageCall[NoQuery]) -> PoolAsked:
        pool = await platform.read(pools.get, call.path["pool"])
        return about_pool(f"Delete {pool.name}", pool, "delete", bare=answers.asked_by_script())

    @ui.deed(f"{POOL}/delete", "admin", form=DeleteForm)
    async def delete_pool_typed(call: PageCall[DeleteForm]) -> Done:
        pool = await platform.read(pools.get, call.path["pool"])
        if call.query.typed != pool.name:
            raise Invalid(f"Type the pool's name, {pool.name}, to delete it.", path="$.typed")
        await platform.write(pools.delete, pool.id, by=call.me.name)
        return Done(says=f"Pool {pool.name} is deleted.", location=PATH, back=PATH)
