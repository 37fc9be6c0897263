"""Pools of agents: who may join, whom they serve, and the agents that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec
from msgspec import UNSET

from iac.domain import bodies, pool_bodies
from iac.domain.ids import is_name
from iac.domain.records import AgentRecord, Phase, RevokeMode
from iac.domain.registration import networks_of
from iac.errors import Invalid, NotFound
from iac.store import agents, assignments, pools, tokens
from iac.store.database import Connection
from iac.web import views
from iac.web.platform import Platform
from iac.web.routing import Api, Call, NoQuery

POOLS = "/api/v1/agent-pools"
AGENTS = "/api/v1/agents"
TAG = "Agents"
Found = tuple[AgentRecord, Mapping[int, Phase]]
"""An agent and the tasks that it runs."""


class PageQuery(msgspec.Struct, frozen=True):
    """`cursor` from the page before."""

    limit: bodies.Limit = 50
    cursor: str | None = None


class AgentQuery(PageQuery, frozen=True):
    """`pool` is an id or a name, `name` the whole name of an agent; `cursor` from the page before."""

    pool: str | None = None
    name: str | None = None


class RevokeQuery(msgspec.Struct, frozen=True):
    """`soft`: the token's agents finish what they have. `hard`: their sessions end at once."""

    mode: RevokeMode = "soft"


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""
    _pools(api, platform)
    _tokens(api, platform)
    _workspaces(api, platform)
    _lists_of_agents(api, platform)
    _agents(api, platform)


def _pools(api: Api, platform: Platform) -> None:
    @api.operation(
        "GET", POOLS, "List pools by name", tag=TAG, right="read", query=PageQuery, answer=pool_bodies.PoolPage
    )
    async def list_pools(call: Call[None, PageQuery]) -> pool_bodies.PoolPage:
        limit = call.query.limit
        found = await platform.read(pools.page, limit=limit + 1, after=call.query.cursor)
        return pool_bodies.PoolPage(
            items=[views.pool(record) for record in found[:limit]],
            next_cursor=found[limit - 1].id if len(found) > limit else None,
        )

    @api.operation(
        "POST", POOLS, "Create a pool of agents", tag=TAG, right="admin", status=201,
        body=pool_bodies.PoolCreate, answer=pool_bodies.PoolView, conflicts=("name_in_use",),
    )  # fmt: skip
    async def create_pool(call: Call[pool_bodies.PoolCreate, NoQuery]) -> pool_bodies.PoolView:
        check_name(call.body.name)
        given = {**msgspec.structs.asdict(call.body), "networks": networks_of(call.body.networks)}
        return views.pool(await platform.write(pools.create, given, by=call.by))

    @api.operation("GET", f"{POOLS}/<pool>", "Show a pool", tag=TAG, right="read", answer=pool_bodies.PoolView)
    async def show_pool(call: Call[None, NoQuery]) -> pool_bodies.PoolView:
        return views.pool(await platform.read(pools.get, call.path["pool"]))

    @api.operation(
        "PATCH", f"{POOLS}/<pool>", "Change a pool's settings", tag=TAG, right="admin",
        body=pool_bodies.PoolChange, answer=pool_bodies.PoolView, conflicts=("name_in_use",),
    )  # fmt: skip
    async def change_pool(call: Call[pool_bodies.PoolChange, NoQuery]) -> pool_bodies.PoolView:
        given = {name: value for name, value in msgspec.structs.asdict(call.body).items() if value is not UNSET}
        if "name" in given:
            check_name(given["name"])
        if "networks" in given:
            given["networks"] = networks_of(given["networks"])
        return views.pool(await platform.write(pools.change, call.path["pool"], given, by=call.by))

    @api.operation(
        "DELETE", f"{POOLS}/<pool>", "Delete a pool with its tokens and the agents that are gone", tag=TAG, right="admin",
        status=204, conflicts=("pool_in_use", "agents_online"),
    )  # fmt: skip
    async def delete_pool(call: Call[None, NoQuery]) -> None:
        await platform.write(pools.delete, call.path["pool"], by=call.by)

    @api.operation(
        "GET", f"{POOLS}/<pool>/demand", "What waits and runs in a pool, and the slots there are", tag=TAG, right="read",
        answer=pool_bodies.DemandView,
    )  # fmt: skip
    async def show_demand(call: Call[None, NoQuery]) -> pool_bodies.DemandView:
        return views.demand(await platform.read(pools.demand, call.path["pool"]))


def _tokens(api: Api, platform: Platform) -> None:
    path = f"{POOLS}/<pool>/tokens"

    @api.operation("GET", path, "List a pool's tokens", tag=TAG, right="admin", answer=pool_bodies.PoolTokenList)
    async def list_pool_tokens(call: Call[None, NoQuery]) -> pool_bodies.PoolTokenList:
        found = await platform.read(pools.tokens, call.path["pool"])
        return pool_bodies.PoolTokenList(items=[views.pool_token(record) for record in found])

    @api.operation(
        "POST", path, "Create a token that registers agents in the pool; it is shown once", tag=TAG, right="admin",
        status=201, body=pool_bodies.PoolTokenCreate, answer=pool_bodies.PoolTokenView,
    )  # fmt: skip
    async def create_pool_token(call: Call[pool_bodies.PoolTokenCreate, NoQuery]) -> pool_bodies.PoolTokenView:
        lifetime = _seconds(call.body.expires_in_s)
        expires_at = None if lifetime is None else await platform.read(tokens.now) + lifetime
        record, token = await platform.write(pools.create_token, call.path["pool"], call.body.name, call.by, expires_at)
        return views.pool_token(record, token)

    @api.operation(
        "DELETE", f"{path}/<token_id>", "Revoke a pool token, softly or hard", tag=TAG, right="admin", status=204,
        query=RevokeQuery,
    )  # fmt: skip
    async def revoke_pool_token(call: Call[None, RevokeQuery]) -> None:
        await platform.write(
            pools.revoke_token, call.path["pool"], call.path["token_id"], mode=call.query.mode, by=call.by
        )
        await platform.fleet.reconsider()

    @api.operation(
        "POST", f"{path}/<token_id>/rotate", "Replace a pool token; the old one stays good for a while", tag=TAG,
        right="admin", status=201, body=pool_bodies.PoolTokenRotate, answer=pool_bodies.PoolTokenView,
        conflicts=("token_revoked", "token_replaced"),
    )  # fmt: skip
    async def rotate_pool_token(call: Call[pool_bodies.PoolTokenRotate, NoQuery]) -> pool_bodies.PoolTokenView:
        record, token = await platform.write(
            pools.rotate_token,
            call.path["pool"],
            call.path["token_id"],
            by=call.by,
            overlap=timedelta(seconds=call.body.overlap_s),
            lifetime=_seconds(call.body.expires_in_s),
        )
        return views.pool_token(record, token)


def _workspaces(api: Api, platform: Platform) -> None:
    path = f"{POOLS}/<pool>/workspaces"

    @api.operation(
        "GET", path, "List the workspaces that a pool may serve", tag=TAG, right="read", query=PageQuery,
        answer=pool_bodies.AllowancePage,
    )  # fmt: skip
    async def list_pool_workspaces(call: Call[None, PageQuery]) -> pool_bodies.AllowancePage:
        limit = call.query.limit
        found = await platform.read(pools.allowed, call.path["pool"], limit=limit + 1, after=call.query.cursor)
        return pool_bodies.AllowancePage(
            items=[views.allowance(record) for record in found[:limit]],
            next_cursor=found[limit - 1].workspace_id if len(found) > limit else None,
        )

    @api.operation(
        "PUT", f"{path}/<ws>", "Allow a pool to serve a workspace", tag=TAG, right="admin",
        answer=pool_bodies.AllowanceView,
    )  # fmt: skip
    async def allow_workspace(call: Call[None, NoQuery]) -> pool_bodies.AllowanceView:
        return views.allowance(await platform.write(pools.allow, call.path["pool"], call.path["ws"], by=call.by))

    @api.operation(
        "DELETE", f"{path}/<ws>", "Do not let a pool serve a workspace any more", tag=TAG, right="admin", status=204
    )
    async def disallow_workspace(call: Call[None, NoQuery]) -> None:
        await platform.write(pools.disallow, call.path["pool"], call.path["ws"], by=call.by)


def _lists_of_agents(api: Api, platform: Platform) -> None:
    async def page(pool: str | None, q: PageQuery, name: str | None = None) -> pool_bodies.AgentPage:
        found = await platform.read(_page, pool, limit=q.limit + 1, after=q.cursor, name=name)
        return pool_bodies.AgentPage(
            items=[agent_view(platform, each) for each in found[: q.limit]],
            next_cursor=found[q.limit - 1][0].id if len(found) > q.limit else None,
        )

    @api.operation(
        "GET", f"{POOLS}/<pool>/agents", "List a pool's agents by name", tag=TAG, right="read", query=PageQuery,
        answer=pool_bodies.AgentPage,
    )  # fmt: skip
    async def list_pool_agents(call: Call[None, PageQuery]) -> pool_bodies.AgentPage:
        return await page(call.path["pool"], call.query)

    @api.operation(
        "GET", AGENTS, "List agents by name", tag=TAG, right="read", query=AgentQuery, answer=pool_bodies.AgentPage
    )
    async def list_agents(call: Call[None, AgentQuery]) -> pool_bodies.AgentPage:
        try:
            return await page(call.query.pool, call.query, call.query.name)
        except NotFound as unknown:
            raise Invalid(unknown.message, path="$.pool", kind="pool") from None


def _agents(api: Api, platform: Platform) -> None:
    def view(found: Found) -> pool_bodies.AgentView:
        return agent_view(platform, found)

    async def drain(call: Call[pool_bodies.ReasonRequest, NoQuery], draining: bool) -> pool_bodies.AgentView:
        agent_id, reason = call.path["agent"], call.body.reason
        return view(await set_draining(platform, agent_id, draining, by=call.by, reason=reason))

    @api.operation(
        "POST", f"{AGENTS}/<agent>/drain", "Give an agent nothing new; what it runs goes on", tag=TAG, right="admin",
        body=pool_bodies.ReasonRequest, answer=pool_bodies.AgentView,
    )  # fmt: skip
    async def drain_agent(call: Call[pool_bodies.ReasonRequest, NoQuery]) -> pool_bodies.AgentView:
        return await drain(call, True)

    @api.operation(
        "POST", f"{AGENTS}/<agent>/undrain", "Give an agent new tasks again", tag=TAG, right="admin",
        body=pool_bodies.ReasonRequest, answer=pool_bodies.AgentView,
    )  # fmt: skip
    async def undrain_agent(call: Call[pool_bodies.ReasonRequest, NoQuery]) -> pool_bodies.AgentView:
        return await drain(call, False)

    @api.operation(
        "POST", f"{AGENTS}/<agent>/approve", "Let an agent work that waits for its approval", tag=TAG, right="admin",
        answer=pool_bodies.AgentView,
    )  # fmt: skip
    async def approve_agent(call: Call[None, NoQuery]) -> pool_bodies.AgentView:
        return view(await platform.write(_approve, call.path["agent"], by=call.by))


async def set_draining(platform: Platform, agent_id: str, draining: bool, *, by: str, reason: str = "") -> Found:
    """Whether the agent gets nothing new; it is told at once. Raises NotFound."""
    found = await platform.database.tx(_set_draining, agent_id, draining, by=by, reason=reason)
    await platform.fleet.reconsider([found[0].id])  # before the dispatcher gives it something
    platform.dispatcher.wake()
    platform.news.anything()
    return found


def agent_view(platform: Platform, found: Found) -> pool_bodies.AgentView:
    record, running = found
    return views.agent(record, running, leaving=platform.fleet.is_leaving(record.id))


async def agent_with_tasks(c: Connection, agent_id: str) -> Found:
    """An agent as `agent_view` shows it. Raises NotFound."""
    return (await _with_tasks(c, [await agents.get(c, agent_id)]))[0]


async def _with_tasks(c: Connection, records: Sequence[AgentRecord]) -> list[Found]:
    running = await assignments.tasks_of(c, [record.id for record in records])
    return [(record, running.get(record.id, {})) for record in records]


async def _page(c: Connection, pool: str | None, *, limit: int, after: str | None, name: str | None) -> list[Found]:
    if pool is None:
        return await _with_tasks(c, await agents.page_all(c, limit=limit, after=after, name=name))
    return await _with_tasks(c, await agents.page_of_pool(c, pool, limit=limit, after=after, name=name))


async def _set_draining(c: Connection, agent_id: str, draining: bool, *, by: str, reason: str) -> Found:
    await agents.set_draining(c, agent_id, draining, by=by, reason=reason)
    return await agent_with_tasks(c, agent_id)


async def _approve(c: Connection, agent_id: str, *, by: str) -> Found:
    await agents.approve(c, agent_id, by=by)
    return await agent_with_tasks(c, agent_id)


def _seconds(number: int | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)


def check_name(name: str) -> None:
    """Whether a pool may be called so. Raises Invalid."""
    if not is_name(name):
        raise Invalid(
            "A pool's name is 1 to 90 letters, digits, blanks, `.`, `_` and `-`, begins and ends with a letter or digit, "
            "and does not look like an id.",
            path="$.name",
        )
