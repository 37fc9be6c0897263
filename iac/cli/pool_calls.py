"""The calls about pools and agents; `iac.cli.client.ApiClient` has them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from iac.cli.transport import Transport
from iac.domain import pool_bodies
from iac.domain.records import RevokeMode

POOLS = "/api/v1/agent-pools"
AGENTS = "/api/v1/agents"
PAGE = 200
P = TypeVar("P", pool_bodies.PoolPage, pool_bodies.AllowancePage, pool_bodies.AgentPage)


class PoolCalls(Transport):
    """Pools are named by id or name, agents by id."""

    def pools(self) -> Iterator[pool_bodies.PoolView]:
        """All of them, by name, page after page."""
        for page in self._pages(POOLS, pool_bodies.PoolPage):
            yield from page.items

    def pool(self, pool: str) -> pool_bodies.PoolView:
        return self.call("GET", _pool(pool), into=pool_bodies.PoolView)

    def create_pool(self, body: pool_bodies.PoolCreate) -> pool_bodies.PoolView:
        return self.call("POST", POOLS, into=pool_bodies.PoolView, body=body)

    def change_pool(self, pool: str, body: pool_bodies.PoolChange) -> pool_bodies.PoolView:
        return self.call("PATCH", _pool(pool), into=pool_bodies.PoolView, body=body)

    def delete_pool(self, pool: str) -> None:
        self.delete(_pool(pool))

    def pool_demand(self, pool: str) -> pool_bodies.DemandView:
        return self.call("GET", _pool(pool, "demand"), into=pool_bodies.DemandView)

    # Which workspaces a pool may serve.

    def allowances(self, pool: str) -> Iterator[pool_bodies.AllowanceView]:
        """All of them, by the workspaces' names, page after page."""
        for page in self._pages(_pool(pool, "workspaces"), pool_bodies.AllowancePage):
            yield from page.items

    def allow_workspace(self, pool: str, ws: str) -> pool_bodies.AllowanceView:
        return self.call("PUT", _pool(pool, "workspaces", ws), into=pool_bodies.AllowanceView)

    def disallow_workspace(self, pool: str, ws: str) -> None:
        self.delete(_pool(pool, "workspaces", ws))

    # Tokens with which agents register.

    def pool_tokens(self, pool: str) -> list[pool_bodies.PoolTokenView]:
        return self.call("GET", _pool(pool, "tokens"), into=pool_bodies.PoolTokenList).items

    def create_pool_token(self, pool: str, body: pool_bodies.PoolTokenCreate) -> pool_bodies.PoolTokenView:
        return self.call("POST", _pool(pool, "tokens"), into=pool_bodies.PoolTokenView, body=body)

    def rotate_pool_token(
        self, pool: str, token_id: str, body: pool_bodies.PoolTokenRotate
    ) -> pool_bodies.PoolTokenView:
        path = _pool(pool, "tokens", token_id, "rotate")
        return self.call("POST", path, into=pool_bodies.PoolTokenView, body=body)

    def revoke_pool_token(self, pool: str, token_id: str, mode: RevokeMode) -> None:
        self.delete(_pool(pool, "tokens", token_id), params={"mode": mode})

    # Agents.

    def agents(self, *, pool: str | None = None, name: str | None = None) -> Iterator[pool_bodies.AgentView]:
        """Those that are not retired, by name, page after page."""
        for page in self._pages(AGENTS, pool_bodies.AgentPage, pool=pool, name=name):
            yield from page.items

    def agent(self, agent_id: str) -> pool_bodies.AgentView:
        return self.call("GET", _agent(agent_id), into=pool_bodies.AgentView)

    def drain_agent(self, agent_id: str, reason: str = "") -> pool_bodies.AgentView:
        return self._decide_agent(agent_id, "drain", reason)

    def undrain_agent(self, agent_id: str, reason: str = "") -> pool_bodies.AgentView:
        return self._decide_agent(agent_id, "undrain", reason)

    def _pages(self, path: str, page: type[P], **filters: str | None) -> Iterator[P]:
        params: dict[str, Any] = {"limit": PAGE, **{key: value for key, value in filters.items() if value is not None}}
        while True:
            found = self.call("GET", path, into=page, params=params)
            yield found
            if found.next_cursor is None:
                return
            params["cursor"] = found.next_cursor

    def _decide_agent(self, agent_id: str, what: Literal["drain", "undrain"], reason: str) -> pool_bodies.AgentView:
        body = pool_bodies.ReasonRequest(reason=reason)
        return self.call("POST", _agent(agent_id, what), into=pool_bodies.AgentView, body=body)

    def approve_agent(self, agent_id: str) -> pool_bodies.AgentView:
        return self.call("POST", _agent(agent_id, "approve"), into=pool_bodies.AgentView)

    def delete_agent(self, agent_id: str, *, force: bool = False) -> None:
        self.delete(_agent(agent_id), params={"force": str(force).lower()})


def _pool(pool: str, *rest: str) -> str:
    return "/".join([POOLS, *(quote(part, safe="") for part in (pool, *rest))])


def _agent(agent_id: str, *rest: str) -> str:
    return "/".join([AGENTS, *(quote(part, safe="") for part in (agent_id, *rest))])
