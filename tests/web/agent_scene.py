"""A server with one connected agent, for tests of what agents may do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from iac.domain.agent_session import Times
from iac.domain.messages import RunTaskOrder
from tests.fakes.scripted_agent import Link, ScriptedAgent
from tests.harness.agents import an_agent
from tests.harness.server import RunningServer, running_server

QUICK = Times(look=0.1, tick=0.05)


@dataclass(frozen=True)
class Scene:
    """A server with an agent that is connected."""

    server: RunningServer
    agent: ScriptedAgent
    link: Link

    async def ordered(self, action: str = "plan", workspace: str = "w", **asked: object) -> RunTaskOrder:
        task = await self.server.task(workspace, action, **asked)
        return await self.link.get(RunTaskOrder, task_id=task)

    async def applying(self) -> RunTaskOrder:
        """The claimed order of an apply."""
        order = await self.ordered("plan_and_apply", auto_apply=True)
        await self.agent.plan(order, await self.agent.claim(order))
        await self.agent.status(order, "planned")
        order = await self.link.get(RunTaskOrder, task_id=order.task_id, action="apply")
        await self.agent.claim(order)
        return order

    async def task(self, order: RunTaskOrder) -> dict[str, Any]:
        shown: dict[str, Any] = await self.server.call("GET", f"/api/v1/tasks/{order.task_id}")
        return shown

    async def log_state(self, order: RunTaskOrder) -> str:
        """How the task's last log stands, as its readers are told."""
        response = await self.server.client.get(f"/api/v1/tasks/{order.task_id}/logs", params={"limit": 1})
        return str(response.headers["X-IAC-Log-State"])


@asynccontextmanager
async def a_scene(tmp_path: Path, database_url: str, **settings: Any) -> AsyncIterator[Scene]:
    async with running_server(tmp_path / "data", database_url, times=QUICK, **settings) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            yield Scene(server, agent, link)


def error(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    return found


def a_state(serial: int, lineage: str = "lin-1") -> bytes:
    body = {"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": lineage}
    return json.dumps({**body, "outputs": {}, "resources": []}).encode()
