"""The list of pools, and the form that makes a new one or changes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from iac.domain.pool_bodies import PoolChange, PoolCreate
from iac.domain.records import Exclusivity, NamePolicy, PoolKind
from iac.domain.registration import networks_of
from iac.errors import Invalid
from iac.store import pool_pages, pools
from iac.web.platform import Platform
from iac.web.pools import check_name
from iac.web.routing import NoQuery
from iac.web.ui import answers
from iac.web.ui.models.pool_list import PoolList, pool_list
from iac.web.ui.models.pool_words import PATH, pool_path
from iac.web.ui.models.sheets import PoolSheet, pool_sheet
from iac.web.ui.pages import Done, PageCall, Ui

T = TypeVar("T")


class PoolsQuery(msgspec.Struct, frozen=True):
    """`after` is the id of the pool that the page comes after."""

    after: str = ""


class PoolForm(msgspec.Struct, frozen=True, kw_only=True):
    """What the form asks; `networks` has one a line, `max_agents` may be empty."""

    name: str = ""
    kind: PoolKind = "static"
    description: str = ""
    require_approval: bool = False
    name_policy: NamePolicy | Literal[""] = ""
    apply_exclusivity: Exclusivity = "agent"
    networks: str = ""
    max_agents: str = ""


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the pages and deeds on the table."""

    @ui.page(PATH, "agents/pools.html", nav="Agents", query=PoolsQuery, topics=("agents", "tasks", "workspaces"))
    async def list_pools_page(call: PageCall[PoolsQuery]) -> PoolList:
        found = await platform.read(pool_pages.pools_situation, call.query.after or None)
        return pool_list(
            found.pools,
            most=pool_pages.MOST_POOLS,
            glances=found.glances,
            open_tasks=found.open,
            waits={task.id: wait for task in found.open if (wait := platform.dispatcher.wait_of(task)) is not None},
            newcomers=found.newcomers,
            allowed=found.allowed,
            may_admin=call.me.may("admin"),
            after=call.query.after,
        )

    @ui.page(f"{PATH}/new-pool", "agents/pool_sheet.html", right="admin")
    async def show_new_pool(call: PageCall[NoQuery]) -> PoolSheet:
        return pool_sheet(None, bare=answers.asked_by_script())

    @ui.page(f"{PATH}/pools/<pool>/settings", "agents/pool_sheet.html", right="admin")
    async def show_pool_settings(call: PageCall[NoQuery]) -> PoolSheet:
        return pool_sheet(await platform.read(pools.get, call.path["pool"]), bare=answers.asked_by_script())

    @ui.deed(f"{PATH}/pools", "admin", form=PoolForm)
    async def make_pool(call: PageCall[PoolForm]) -> Done:
        form = call.query
        values = {**_settings(form), "kind": form.kind, "name_policy": form.name_policy or None}
        checked = _as(PoolCreate, values)
        given = {**msgspec.structs.asdict(checked), "networks": networks_of(checked.networks)}
        made = await platform.write(pools.create, given, by=call.me.name)
        path = pool_path(made.name)
        return Done(says=f"Pool {made.name} is there.", location=path, back=path)

    @ui.deed(f"{PATH}/pools/<pool>/settings", "admin", form=PoolForm)
    async def change_pool_settings(call: PageCall[PoolForm]) -> Done:
        form, held = call.query, await platform.read(pools.get, call.path["pool"])
        values = {**_settings(form), "name_policy": form.name_policy or held.name_policy}
        _as(PoolChange, values)
        values["networks"] = networks_of(values["networks"])
        known = {name: value for name, value in values.items() if value != getattr(held, name)}
        changed = await platform.write(pools.change, held.id, known, by=call.me.name)
        path = pool_path(changed.name)
        return Done(says="The settings are saved.", location=path, back=path)


def _settings(form: PoolForm) -> dict[str, Any]:
    """Raises Invalid."""
    check_name(form.name)
    most = form.max_agents.strip()
    if most and not (most.isascii() and most.isdecimal()):
        raise Invalid("A number of agents, or nothing for any number.", path="$.max_agents")
    return {
        "name": form.name,
        "description": form.description,
        "require_approval": form.require_approval,
        "apply_exclusivity": form.apply_exclusivity,
        "networks": tuple(line.strip() for line in form.networks.splitlines() if line.strip()),
        "max_agents": int(most[:9]) if most else None,
    }


def _as(kind: type[T], values: Mapping[str, Any]) -> T:
    """The values as the API would take them. Raises Invalid with the field."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `")
        raise Invalid(reason, path=place.rstrip("`") or "$") from None
