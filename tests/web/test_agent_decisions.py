"""What is decided about agents reaches them at once: retired, revoked, drained."""

from __future__ import annotations

from pathlib import Path

from iac.domain.agent_session import Times
from iac.domain.messages import (
    CancelTaskOrder,
    Drain,
    RunTaskOrder,
    Undrain,
)
from tests.fakes.scripted_agent import held
from tests.harness.agents import an_agent
from tests.harness.server import RunningServer
from tests.web.test_agent_control import refused, served

BLIND = Times(look=3600)
"""The lease keeper never looks: what reaches an agent comes from where it was decided."""


async def test_a_retired_agent_is_closed_4403_at_once(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url, BLIND) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            await server.call("DELETE", f"/api/v1/agents/{agent.id}")
            assert await link.closed() == (4403, "revoked")
        assert (await refused(agent))[0] == 401


async def test_a_hard_revoked_pool_token_ends_its_agents_channels_at_once(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url, BLIND) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await agent.claim(order)
            await revoke(server, "hard")
            assert (await link.get(CancelTaskOrder, task_id=task)).reason == "revoked"
            assert await link.closed() == (4403, "revoked")
        assert (await server.until(task, "cancelling"))["cancel"]["reason"] == "revoked"
        assert (await refused(agent))[0] == 401


async def test_a_softly_revoked_pool_token_drains_its_agents_at_once(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url, BLIND) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await agent.claim(order)
            await revoke(server, "soft")
            assert (await link.get(Drain)).mode == "finish"
            ack = await link.beat(held(order))
            assert ([lease.fence for lease in ack.leases], ack.cancel, ack.drain) == ([order.fence], (), True)
            await agent.status(order, "failed")  # what it has it may end
        async with agent.connected() as link:
            assert (await link.hello()).drain


async def revoke(server: RunningServer, mode: str) -> None:
    path = "/api/v1/agent-pools/pool/tokens"
    token = (await server.call("GET", path))["items"][0]["id"]
    await server.call("DELETE", f"{path}/{token}", params={"mode": mode})


async def test_an_agent_is_told_at_once_to_drain_and_to_go_on(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url, BLIND) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            await server.call("POST", f"/api/v1/agents/{agent.id}/drain", json={})
            await link.get(Drain)
            assert (await link.beat()).drain
            task = await server.task("w", "plan")
            await server.call("POST", f"/api/v1/agents/{agent.id}/undrain", json={})
            await link.get(Undrain)
            await link.get(RunTaskOrder, task_id=task)
