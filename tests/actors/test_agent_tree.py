"""What the whole agent does with tasks, against a platform in memory."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import trio
import trio.testing
from quart import Response

from iac.actors.agent_tree import Orders, run_agent
from iac.agent_settings import AgentSettings
from iac.domain.messages import (
    CancelAck,
    CancelTaskOrder,
    Goodbye,
    Heartbeat,
    Hello,
    RunTaskOrder,
    TaskAccepted,
    TaskFinished,
    TaskFinishedAck,
    TaskRejected,
)
from iac.web.errors import error_body
from tests.actors.agent_trees import TIMES, an_agent, exists
from tests.fakes.agent_api import serving
from tests.fakes.agent_platform import PATIENT, AgentApi
from tests.fakes.fake_terraform import ledger_of


async def test_a_plan_is_run_and_reported_and_its_slot_given_back(tmp_path: Path) -> None:
    scenario = {"commands": {"plan": {"sleep": 0.5}}}
    async with serving() as api, an_agent(api, tmp_path, scenario=scenario) as agent:
        hello = await api.until_heard(Hello)
        assert (hello.agent_id, hello.conn_seq, hello.plan_limit) == (agent.agent_id, 1, 3)
        await api.until(lambda: api.connected)
        made = api.offer()
        await api.until_heard(TaskAccepted, fence=made.order.fence)
        finished = await api.until_heard(TaskFinished, fence=made.order.fence)
        assert made.result is not None
        assert made.result.status == "planned"
        assert finished.result_id == made.result.result_id
        assert made.plan is not None
        assert made.result.log is not None
        assert made.result.log.length == len(made.log)
        assert made.boot_id == hello.boot_id
        assert "planning" in made.stages
        busy = api.of(Heartbeat, status="busy")[0]
        assert busy.plan_running == 1
        assert busy.current_tasks == (made.order.task_id,)
        await api.until(lambda: api.of(Heartbeat)[-1].tasks == ())
        assert not any((tmp_path / "agent" / "tasks").iterdir())


async def test_an_apply_stores_its_state_before_its_result(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path):
        await api.until(lambda: api.connected)
        planned = api.offer()
        await api.until_heard(TaskFinished, fence=planned.order.fence)
        applied = api.apply_of(planned)
        await api.until_heard(TaskFinished, fence=applied.order.fence)
        assert applied.result is not None
        assert (applied.result.status, applied.result.outcome) == ("succeeded", "applied")
        assert len(applied.states) == 1
        paths = [path.rsplit("/", 1)[1] for method, path in api.requests if f"/{applied.order.task_id}/" in path]
        assert paths.index("state") < len(paths) - 1 - paths[::-1].index("status")


async def test_a_cancelled_plan_tells_each_stage_of_its_end(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    scenario = {"commands": {"plan": {"sleep": "forever", "ready_file": str(ready)}}}
    async with serving() as api, an_agent(api, tmp_path, scenario=scenario):
        await api.until(lambda: api.connected)
        made = api.offer()
        await exists(ready)
        api.cancel(made)
        await api.until_heard(TaskFinished, fence=made.order.fence)
        assert made.result is not None
        assert made.result.status == "cancelled"
        stages = [ack.stage for ack in api.of(CancelAck, cancel_id=f"can-{made.order.fence}")]
        assert stages[0] == "received"
        assert "sigterm" in stages
        assert stages[-1] == "exited"
        assert b"was cancelled" in made.log


async def test_an_order_that_comes_three_times_is_run_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with serving() as api, an_agent(api, tmp_path, scenario={"ledger": str(ledger)}):
        await api.until(lambda: api.connected)
        made = api.offer()
        api.say(made.order)
        api.say(made.order)
        await api.until_heard(TaskFinished, fence=made.order.fence)
        await api.until(lambda: api.of(Heartbeat)[-1].tasks == ())
        api.say(made.order)
        rejected = await api.until_heard(TaskRejected, fence=made.order.fence)
        assert rejected.reason == "already_done"
        plans = [entry for entry in ledger_of(ledger) if entry["event"] == "start" and "plan" in entry["argv"]]
        assert len(plans) == 1
        assert made.claims == 1


async def test_a_cancellation_that_overtakes_its_order_prevents_it(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path):
        await api.until(lambda: api.connected)
        api.say(CancelTaskOrder(task_id=1, fence=101, cancel_id="can-1"))
        await api.until_heard(CancelAck, fence=101, stage="not_running")
        made = api.offer()
        assert (await api.until_heard(TaskRejected, fence=made.order.fence)).reason == "stale_fence"
        assert made.claims == 0


async def test_a_new_token_in_a_repeated_order_is_used(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path):
        await api.until(lambda: api.connected)
        held = tmp_path / "agent" / "tasks"
        made = api.offer(announce=False)
        stale = RunTaskOrder(**{**{f: getattr(made.order, f) for f in made.order.__struct_fields__}, "task_token": "x"})
        api.fail("GET", "/data", lambda: Response(b"<html>", status=502), times=2)
        api.say(stale)
        await api.until(lambda: api.requests.count(("GET", "/api/v1/agents/tasks/1/data")) == 1)
        api.say(made.order)
        await api.until_heard(TaskFinished, fence=made.order.fence)
        assert made.result is not None
        assert made.result.status == "planned"
        assert not any(held.iterdir())


async def test_a_lost_connection_costs_a_running_task_nothing(tmp_path: Path) -> None:
    ready, go_on = tmp_path / "ready", 0.6
    scenario = {"commands": {"plan": {"sleep": go_on, "ready_file": str(ready)}}}
    async with serving() as api, an_agent(api, tmp_path, scenario=scenario):
        await api.until(lambda: api.connected)
        made = api.offer()
        await exists(ready)
        api.hang_up(1011)
        hello = await api.until_heard(Hello, conn_seq=2)
        assert [(held.task_id, held.fence) for held in hello.tasks] == [(made.order.task_id, made.order.fence)]
        await api.until_heard(TaskFinished, fence=made.order.fence)
        assert made.claims == 1


async def test_an_end_is_told_until_it_is_confirmed(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path, times=replace(TIMES, ack_within=60.0)):
        await api.until(lambda: api.connected)
        api.mute = True
        made = api.offer()
        await api.until(lambda: len(api.of(TaskFinished, fence=made.order.fence)) >= 3)
        assert api.of(Heartbeat)[-1].tasks[0].stage == "finished"
        assert api.of(Heartbeat)[-1].plan_running == 0
        api.say(TaskFinishedAck(task_id=made.order.task_id, fence=made.order.fence))
        await api.until(lambda: api.of(Heartbeat)[-1].tasks == ())


async def test_without_a_control_channel_tasks_come_over_https(tmp_path: Path) -> None:
    api = AgentApi()
    api.refuse_channel = lambda: Response(status=502)
    ready = tmp_path / "ready"
    scenario = {"commands": {"plan": {"sleep": "forever", "ready_file": str(ready)}}}
    async with serving(api), an_agent(api, tmp_path, scenario=scenario):
        made = api.offer(announce=False)
        await exists(ready)
        api.cancel(made, announce=False)
        await api.until(lambda: made.result)
        assert made.result is not None
        assert made.result.status == "cancelled"
        await api.until(lambda: api.of(Heartbeat)[-1].tasks == ())
        assert not api.of(Hello)


async def test_polling_ends_when_the_channel_opens(tmp_path: Path) -> None:
    api = AgentApi()
    api.refuse_channel = lambda: Response(status=502)
    async with serving(api), an_agent(api, tmp_path) as agent:
        pending = ("GET", f"/api/v1/agents/{agent.agent_id}/tasks/pending")
        await api.until(lambda: pending in api.requests)
        api.refuse_channel = None
        await api.until_heard(Hello)
        asked = api.requests.count(pending)
        beats = len(api.of(Heartbeat))
        await api.until(lambda: len(api.of(Heartbeat)) > beats + 3)
        assert api.requests.count(pending) <= asked + 1


async def test_a_cancellation_comes_in_the_answers_too(tmp_path: Path) -> None:
    # From the claim on, every answer says it; no frame on the channel does.
    scenario = {"commands": {"plan": {"flood_bytes": 4096, "sleep": "forever"}}}
    async with serving() as api, an_agent(api, tmp_path, scenario=scenario):
        await api.until(lambda: api.connected)
        api.headers["X-IAC-Task-Status"] = "cancelling"
        made = api.offer()
        await api.until(lambda: made.result)
        assert made.result is not None
        assert made.result.status == "cancelled"


async def test_a_plan_whose_lease_is_over_stops_itself(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    api = AgentApi()
    api.welcome["lease_s"] = 1.0
    scenario = {"commands": {"plan": {"sleep": "forever", "ready_file": str(ready)}}}
    async with serving(api), an_agent(api, tmp_path, scenario=scenario):
        await api.until(lambda: api.connected)
        made = api.offer()
        await exists(ready)
        api.mute = True
        await api.until(lambda: made.result)
        assert made.result is not None
        assert (made.result.status, made.result.reason) == ("failed", "lease_expired")


async def test_a_task_over_its_time_limit_fails(tmp_path: Path) -> None:
    scenario = {"commands": {"plan": {"sleep": "forever"}}}
    async with serving() as api, an_agent(api, tmp_path, scenario=scenario):
        await api.until(lambda: api.connected)
        made = api.offer(timeout_s=0.5)
        await api.until(lambda: made.result)
        assert made.result is not None
        assert (made.result.status, made.result.reason) == ("failed", "timeout")


async def test_a_stopped_agent_lets_its_task_finish_and_says_goodbye(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    scenario = {"commands": {"plan": {"sleep": 0.5, "ready_file": str(ready)}}}
    async with serving() as api, an_agent(api, tmp_path, scenario=scenario) as agent:
        await api.until(lambda: api.connected)
        made = api.offer()
        await exists(ready)
        agent.orders.stop.set()
        await api.until_heard(Heartbeat, status="draining")
        refused = api.offer()
        assert (await api.until_heard(TaskRejected, fence=refused.order.fence)).reason == "draining"
        goodbye = await api.until_heard(Goodbye)
        assert goodbye.running == ()
        assert made.result is not None
        assert made.result.status == "planned"
        assert api.heard.index(goodbye) > api.heard.index(api.of(TaskFinished, fence=made.order.fence)[0])
        with trio.fail_after(PATIENT):
            await agent.ended.wait()


async def test_a_task_that_outlasts_the_drain_is_stopped(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    scenario = {"commands": {"plan": {"sleep": "forever", "ready_file": str(ready)}}}
    async with serving() as api, an_agent(api, tmp_path, scenario=scenario, drain_seconds=1) as agent:
        await api.until(lambda: api.connected)
        made = api.offer()
        await exists(ready)
        agent.orders.stop.set()
        with trio.fail_after(PATIENT):
            await agent.ended.wait()
        assert made.result is not None
        assert (made.result.status, made.result.reason) == ("cancelled", "agent_drained")


async def test_a_cancelled_agent_stops_its_task_and_still_reports_it(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    scenario = {"commands": {"plan": {"sleep": "forever", "ready_file": str(ready)}}}
    async with serving() as api:
        with trio.fail_after(PATIENT):
            async with an_agent(api, tmp_path, scenario=scenario) as agent:
                await api.until(lambda: api.connected)
                made = api.offer()
                await exists(ready)
                agent.scope.cancel()
        assert made.result is not None
        assert made.result.status == "cancelled"


async def test_a_claim_that_the_server_takes_back_frees_the_slot(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path):
        await api.until(lambda: api.connected)
        made = api.offer(announce=False)
        made.status = "failed"
        api.say(made.order)
        finished = await api.until_heard(TaskFinished, fence=made.order.fence)
        assert finished.result_id == ""
        await api.until(lambda: api.of(Heartbeat)[-1].tasks == ())
        assert made.result is None


async def test_data_that_is_not_given_out_any_more_fails_the_task(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path):
        await api.until(lambda: api.connected)
        body = error_body("data_expired", "read too often", retryable=False, extras={})
        api.fail("GET", "/data", lambda: Response(body, status=410, content_type="application/json"))
        made = api.offer()
        await api.until(lambda: made.result)
        assert made.result is not None
        assert (made.result.status, made.result.reason) == ("failed", "data_expired")


async def test_an_agent_whose_server_is_away_can_be_stopped(tmp_path: Path) -> None:
    orders = Orders()
    settings = AgentSettings(endpoint="http://localhost:1", token="t", name="a", data_dir=tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + PATIENT
        nursery.start_soon(partial(run_agent, settings, {}, orders=orders, times=TIMES))
        await trio.testing.wait_all_tasks_blocked(0.01)
        orders.stop.set()
    assert not nursery.cancel_scope.cancelled_caught
