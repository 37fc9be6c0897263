"""Tasks go to agents over the control channel, and come back as plans, states and logs."""

from __future__ import annotations

from pathlib import Path

from iac.domain.messages import Abandon, CancelAck, CancelTaskOrder, RunTaskOrder, TaskFinishedAck
from tests.fakes.scripted_agent import ScriptedAgent, held, refusal
from tests.harness.agents import a_pool, a_workspace, an_agent
from tests.harness.server import running_server
from tests.system.agents_at_work import FAST, a_state, beating, claimed_apply, status, waits


async def test_plan_and_apply_by_an_agent(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan_and_apply")
            order = await link.get(RunTaskOrder, task_id=task)
            await link.accept(order)
            data = await agent.claim(order)
            assert (data.task.id, data.task.action, data.workspace.name) == (task, "plan", "w")
            await agent.log(order, b"planning\n")
            await agent.plan(order, data)
            answer = await agent.status(order, "planned", log=b"planning\n")
            assert answer.json() == {"status": "planned", "final": True}
            await link.finish(order)
            await link.get(TaskFinishedAck, task_id=task, verdict="accepted")
            await server.call("POST", f"/api/v1/tasks/{task}/confirm", json={})
            order = await link.get(RunTaskOrder, task_id=task, action="apply")
            data = await agent.claim(order)
            assert data.plan is not None
            assert data.plan.file == b"the plan of task " + str(task).encode()
            assert (await agent.state(order, a_state(1), expect=201)).json()["verdict"] == "current"
            assert (await agent.status(order, "succeeded", outcome="applied")).json()["status"] == "succeeded"
        assert await server.log(task) == b"planning\n"
        assert (await server.call("GET", "/api/v1/workspaces/w"))["lock"] is None
        assert (await server.call("GET", "/api/v1/workspaces/w/state-versions/current"))["serial"] == 1


async def test_a_task_waits_for_an_agent_and_says_so(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        task = await server.task("w", "plan")
        await waits(server, task, "no_agent_online")
        async with agent.connected() as link:
            await link.hello()
            await link.get(RunTaskOrder, task_id=task)


async def test_an_agent_serves_only_the_workspaces_of_its_pool(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        await a_pool(server, "other")
        await a_workspace(server, "foreign", "other")
        async with agent.connected() as link:
            await link.hello()
            foreign = await server.task("foreign", "plan")
            await waits(server, foreign, "no_agent_online")
            await server.call("DELETE", "/api/v1/agent-pools/pool/workspaces/w")
            ours = await server.task("w", "plan")
            await waits(server, ours, "pool_not_allowed")
            await server.call("PUT", "/api/v1/agent-pools/pool/workspaces/w")
            await link.get(RunTaskOrder, task_id=ours)


async def test_a_task_whose_agents_wait_for_approval_says_so(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        token = await a_pool(server, require_approval=True)
        await a_workspace(server)
        task = await server.task("w", "plan")
        await waits(server, task, "no_agent_online")
        await ScriptedAgent(server.client, token, name="new").register()
        await waits(server, task, "agents_not_approved")


async def test_tasks_are_spread_over_agents_up_to_their_limits(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        first = await an_agent(server, "first")
        second = ScriptedAgent(server.client, first.pool_token, name="second")
        await second.register()
        async with first.connected() as one, second.connected() as two:
            await one.hello(plan_limit=2)
            await two.hello(plan_limit=1)
            tasks = [await server.task("w", "plan") for _ in range(4)]
            await waits(server, tasks[3], "no_free_slot")
            shown = [await server.call("GET", f"/api/v1/tasks/{task}") for task in tasks[:3]]
            assert sorted(task["agent_id"] for task in shown) == sorted([first.id, first.id, second.id])


async def test_an_apply_runs_alone_on_its_agent(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            order = await claimed_apply(server, agent, link)
            plan = await server.task("w", "plan")
            await waits(server, plan, "apply_running")
            await link.beat(held(order, "apply"))
            await agent.status(order, "succeeded", outcome="applied")
            await waits(server, plan, "apply_running")  # the agent still clears away
            await link.finish(order)
            await link.get(RunTaskOrder, task_id=plan)


async def test_a_pool_may_let_plans_run_beside_an_apply(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        await server.call("PATCH", "/api/v1/agent-pools/pool", json={"apply_exclusivity": "slot"})
        async with agent.connected() as link:
            assert not (await link.hello()).apply_alone
            await claimed_apply(server, agent, link)
            plan = await server.task("w", "plan")
            await link.get(RunTaskOrder, task_id=plan)


async def test_a_refused_task_is_offered_to_another_agent(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        first = await an_agent(server, "first")
        second = ScriptedAgent(server.client, first.pool_token, name="second")
        await second.register()
        async with first.connected() as one:
            await one.hello()
            task = await server.task("w", "plan")
            order = await one.get(RunTaskOrder, task_id=task)
            await one.say(refusal(order, "disk_low"))
            await waits(server, task, "refused")
            async with second.connected() as two:
                await two.hello()
                again = await two.get(RunTaskOrder, task_id=task)
                assert (again.fence > order.fence, again.attempt) == (True, 1)
                await first.task(order, "GET", "/data", expect=409)
                await second.claim(again)


async def test_an_order_is_repeated_until_it_is_answered(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, times=FAST) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            orders = [await link.get(RunTaskOrder, task_id=task) for _ in range(3)]
            assert len({(order.fence, order.task_token) for order in orders}) == 1
            await link.accept(orders[0])
            await agent.claim(orders[0])


# Cancellation


async def test_a_cancellation_reaches_the_agent_and_is_repeated_until_it_is_answered(
    tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url, times=FAST) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await agent.claim(order)
            async with beating(agent, link, order):
                await server.call("POST", f"/api/v1/tasks/{task}/cancel", json={})
                asked = [await link.get(CancelTaskOrder, fence=order.fence) for _ in range(3)]
                assert len({each.cancel_id for each in asked}) == 1
                ack = CancelAck(task_id=task, fence=order.fence, cancel_id=asked[0].cancel_id, stage="received")
                await link.say(ack)
                await server.call("POST", f"/api/v1/tasks/{task}/cancel", json={"force": True})
                assert (await link.get(CancelTaskOrder, force=True)).cancel_id == asked[0].cancel_id
                await agent.status(order, "cancelled")
            assert await status(server, order) == "cancelled"


async def test_an_unclaimed_task_is_cancelled_at_once_and_its_agent_told(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await server.call("POST", f"/api/v1/tasks/{task}/cancel", json={})
            assert await status(server, order) == "cancelled"
            await link.get(CancelTaskOrder, fence=order.fence)
            await link.say(agent.heartbeat(held(order)))
            await link.get(Abandon, fence=order.fence, mode="kill")


async def test_a_cancellation_waits_for_an_agent_that_is_away(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await agent.claim(order)
        await server.call("POST", f"/api/v1/tasks/{task}/cancel", json={})
        async with agent.connected() as link:
            welcome = await link.hello(held(order))
            assert [(verdict.fence, verdict.do) for verdict in welcome.decisions] == [(order.fence, "cancel")]
