"""What a server needs before an agent can do anything: a pool, its token, a workspace that the pool may serve."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fakes.scripted_agent import ScriptedAgent
from tests.harness.server import RunningServer

MAIN = {"main.tf": 'resource "terraform_data" "a" {}'}


async def a_pool(server: RunningServer, name: str = "pool", **settings: object) -> str:
    """The token of a new pool."""
    await server.call("POST", "/api/v1/agent-pools", json={"name": name, **settings})
    made = await server.call("POST", f"/api/v1/agent-pools/{name}/tokens", json={"name": "t"})
    return str(made["token"])


async def a_workspace(
    server: RunningServer, name: str = "w", pool: str = "pool", files: Mapping[str, str] = MAIN, **settings: object
) -> str:
    """A workspace whose tasks run in the pool."""
    workspace = await server.workspace(name, files, **settings)
    await server.call("PUT", f"/api/v1/agent-pools/{pool}/workspaces/{name}")
    await server.call("PATCH", f"/api/v1/workspaces/{name}", json={"execution_mode": "agent", "pool_id": pool})
    return workspace


async def an_agent(server: RunningServer, name: str = "agent") -> ScriptedAgent:
    """A registered agent of a new pool that may serve the workspace `w`."""
    token = await a_pool(server)
    await a_workspace(server)
    agent = ScriptedAgent(server.client, token, name=name)
    await agent.register()
    return agent
