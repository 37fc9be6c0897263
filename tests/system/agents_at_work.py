"""Agents that do something over the control channel, for stories about what happens meanwhile."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from iac.domain.agent_session import Times
from iac.domain.messages import RunTaskOrder
from tests.fakes.scripted_agent import Link, ScriptedAgent, held
from tests.harness.server import PATIENT, RunningServer

FAST = Times(
    lost_after=1.5,
    suspect=0.8,
    heartbeat=0.2,
    resend_order=0.3,
    resend_cancel=0.2,
    tick=0.05,
    look=0.1,
    settle=0,
    force_after=0.0,
)


def a_state(serial: int, lineage: str = "lin-1") -> bytes:
    body = {"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": lineage}
    return json.dumps({**body, "outputs": {}, "resources": []}).encode()


@asynccontextmanager
async def beating(agent: ScriptedAgent, link: Link, *orders: RunTaskOrder) -> AsyncIterator[None]:
    """Heartbeats that list these orders, for as long as the body runs; their answers are not waited for."""

    async def beat() -> None:
        while True:
            await link.say(agent.heartbeat(*(held(order) for order in orders)))
            await trio.sleep(FAST.heartbeat)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        yield
        nursery.cancel_scope.cancel()


async def claimed_apply(server: RunningServer, agent: ScriptedAgent, link: Link) -> RunTaskOrder:
    """An apply that the agent has fetched, in the workspace `w`."""
    task = await server.task("w", "plan_and_apply", auto_apply=True)
    order = await link.get(RunTaskOrder, task_id=task)
    await agent.plan(order, await agent.claim(order))
    await agent.status(order, "planned")
    await link.finish(order)
    order = await link.get(RunTaskOrder, task_id=task, action="apply")
    await agent.claim(order)
    return order


async def status(server: RunningServer, order: RunTaskOrder) -> str:
    return str((await server.call("GET", f"/api/v1/tasks/{order.task_id}"))["status"])


async def waits(server: RunningServer, task: int, code: str) -> None:
    """Until the task says that this is what it waits for."""
    with trio.fail_after(PATIENT):
        while True:  # why one waits is told by no event
            shown = await server.call("GET", f"/api/v1/tasks/{task}")
            if shown["wait"] is not None and shown["wait"]["code"] == code:
                return
            await trio.sleep(0.02)
