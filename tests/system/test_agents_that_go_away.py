"""Agents vanish and come back, servers restart: plans are tried again, applies never, and nobody loses what goes on."""

from __future__ import annotations

from pathlib import Path

import trio

from iac.domain.agent_session import Times
from iac.domain.messages import Abandon, CancelTaskOrder, RunTaskOrder
from tests.fakes.scripted_agent import ScriptedAgent, held
from tests.harness.agents import an_agent
from tests.harness.server import running_server
from tests.system.agents_at_work import FAST, a_state, beating, claimed_apply, status

# Agents that go away


async def test_an_unclaimed_order_of_a_silent_agent_goes_to_another(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, times=FAST) as server:
        first = await an_agent(server, "first")
        second = ScriptedAgent(server.client, first.pool_token, name="second")
        await second.register()
        async with first.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await link.accept(order)
        async with second.connected() as link:
            await link.hello()
            async with beating(second, link):
                again = await link.get(RunTaskOrder, task_id=task)
                assert (again.fence > order.fence, again.attempt) == (True, 1)


async def test_a_plan_of_a_lost_agent_is_tried_once_more_elsewhere(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, times=FAST) as server:
        first = await an_agent(server, "first")
        second = ScriptedAgent(server.client, first.pool_token, name="second")
        await second.register()
        async with first.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await first.claim(order)
        async with second.connected() as link:
            await link.hello()
            async with beating(second, link):
                again = await link.get(RunTaskOrder, task_id=task)
            assert again.attempt == 2
            await second.claim(again)
            async with first.connected() as back:
                await back.hello(held(order))
                await back.get(Abandon, fence=order.fence, mode="kill")
            await first.status(order, "planned", expect=409)
        # The second agent is lost as well: there is no third attempt.
        assert (await server.until(task, "failed"))["reason"] == "agent_lost"


async def test_a_lost_apply_is_never_handed_out_again_and_goes_on_when_its_agent_is_back(
    tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url, times=FAST) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            order = await claimed_apply(server, agent, link)
        assert (await server.until(order.task_id, "lost"))["reason"] == "agent_lost"
        workspace = await server.call("GET", "/api/v1/workspaces/w")
        assert (workspace["state_uncertain"], workspace["lock"]["kind"]) == (True, "task")
        async with agent.connected() as link:
            welcome = await link.hello(held(order, "apply"))
            assert [verdict.do for verdict in welcome.decisions] == ["continue"]
            async with beating(agent, link, order):
                await server.until(order.task_id, "running")
                await agent.state(order, a_state(1), expect=201)
                await agent.status(order, "succeeded", outcome="applied")
        assert await status(server, order) == "succeeded"
        workspace = await server.call("GET", "/api/v1/workspaces/w")
        assert (workspace["state_uncertain"], workspace["lock"]) == (False, None)


async def test_a_late_result_of_a_lost_apply_counts(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, times=FAST) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            order = await claimed_apply(server, agent, link)
        await server.until(order.task_id, "lost")
        await agent.log(order, b"late\n")
        await agent.state(order, a_state(1), expect=201)
        await agent.status(order, "succeeded", outcome="applied", log=b"late\n")
        assert await status(server, order) == "succeeded"


async def test_an_agent_that_lost_its_records_loses_its_apply_at_once(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, times=Times(settle=0)) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            order = await claimed_apply(server, agent, link)
        async with agent.connected() as link:
            await link.hello(boot_id="boot-after-the-loss")
            assert (await server.until(order.task_id, "lost"))["reason"] == "agent_has_no_record"


async def test_after_a_human_resolved_it_the_agent_is_told_to_stop(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, times=FAST) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            order = await claimed_apply(server, agent, link)
        await server.until(order.task_id, "lost")
        await server.call("POST", f"/api/v1/tasks/{order.task_id}/resolve", json={"unlock": True})
        async with agent.connected() as link:
            await link.hello(held(order, "apply"))
            await link.get(Abandon, fence=order.fence, mode="stop_and_report")


# Servers that go away


async def test_a_restart_of_the_server_changes_nothing_for_what_runs(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, times=FAST) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            order = await claimed_apply(server, agent, link)
    async with running_server(tmp_path / "data", database_url, times=FAST) as server:
        agent.use(server.client)
        async with agent.connected() as link:
            welcome = await link.hello(held(order, "apply"))
            assert [verdict.do for verdict in welcome.decisions] == ["continue"]
            async with beating(agent, link, order):
                await trio.sleep(1.2 * FAST.lost_after)  # longer than any lease of the old server
                assert await status(server, order) == "running"
            await agent.state(order, a_state(1), expect=201)
            await agent.status(order, "succeeded", outcome="applied")


async def test_an_order_that_a_restart_swallowed_is_given_again_with_a_new_token(
    tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
    async with running_server(tmp_path / "data", database_url) as server:
        agent.use(server.client)
        async with agent.connected() as link:
            await link.hello()
            again = await link.get(RunTaskOrder, task_id=task)
            assert (again.fence, again.task_token != order.task_token) == (order.fence, True)
            for each in (again, order):  # either token is good for the same assignment
                await agent.claim(each)


async def test_a_cancellation_survives_a_restart(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await agent.claim(order)
        await server.call("POST", f"/api/v1/tasks/{task}/cancel", json={})
    async with running_server(tmp_path / "data", database_url) as server:
        agent.use(server.client)
        async with agent.connected() as link:
            await link.hello(held(order))
            asked = await link.get(CancelTaskOrder, fence=order.fence)
            assert asked.reason == "user"
