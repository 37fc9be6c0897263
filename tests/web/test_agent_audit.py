"""What the audit tells of an agent and its tasks, and that no secret is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from iac.domain.messages import CancelAck, CancelTaskOrder
from iac.store import audit_chain
from iac.store.database import open_database
from tests.fakes.scripted_agent import ScriptedAgent, held, refusal
from tests.harness.agents import a_pool, a_workspace
from tests.harness.server import PATIENT, RunningServer, running_server
from tests.web.agent_scene import a_scene, a_state


async def audited(server: RunningServer, subject: str | None = None) -> list[dict[str, Any]]:
    """Oldest first."""
    query = {"limit": 200, **({} if subject is None else {"subject": subject})}
    found: list[dict[str, Any]] = (await server.call("GET", "/api/v1/audit", params=query))["items"]
    return found[::-1]


async def test_an_apply_with_all_that_becomes_of_it(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.applying()
        await scene.server.call("POST", f"/api/v1/tasks/{order.task_id}/cancel", json={})
        wanted = await scene.link.get(CancelTaskOrder)
        for stage in ("received", "received", "sigterm"):
            await scene.link.say(ack(wanted, stage))
        await scene.link.beat(held(order))
        await scene.agent.state(order, a_state(1))
        await scene.agent.status(order, "failed", state_safe=False, reason="agent_crashed")
        await scene.server.call("POST", f"/api/v1/tasks/{order.task_id}/resolve", json={"unlock": True})
        found = await audited(scene.server, f"task-{order.task_id}")
        told = [entry["verb"] for entry in found]
        assert told == [
            "task.create", "task.assign", "task.data", "task.assign", "task.data", "task.cancel",
            "task.stopping", "task.stopping", "task.resolve",
        ]  # fmt: skip
        data = [entry for entry in found if entry["verb"] == "task.data"][-1]
        assert (data["actor"], data["facts"]["ip"], data["facts"]["fence"]) == (
            scene.agent.id,
            "127.0.0.1",
            order.fence,
        )
        cancel = found[told.index("task.cancel")]
        assert (cancel["facts"]["cancel_id"], cancel["facts"]["force"]) == (wanted.cancel_id, False)
        stages = [entry["facts"]["stage"] for entry in found if entry["verb"] == "task.stopping"]
        assert stages == ["received", "sigterm"]
        [state] = [each for each in await audited(scene.server, order.workspace_id) if each["verb"] == "state.push"]
        assert (state["facts"]["verdict"], state["facts"]["serial"]) == ("current", 1)
        whole = str(await audited(scene.server))
        for secret in (order.task_token, scene.agent.session, scene.agent.pool_token):
            assert secret not in whole


def ack(wanted: CancelTaskOrder, stage: Any) -> CancelAck:
    return CancelAck(task_id=wanted.task_id, fence=wanted.fence, cancel_id=wanted.cancel_id, stage=stage)


async def test_what_an_agent_accepts_and_refuses(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        for _ in range(2):
            await scene.link.accept(order)
        await scene.link.beat(held(order))
        told = [entry["verb"] for entry in await audited(scene.server, f"task-{order.task_id}")]
        assert told == ["task.create", "task.assign", "task.accept"]
        order = await scene.ordered()
        await scene.link.say(refusal(order))
        await scene.server.until(order.task_id, "queued")
        await scene.link.beat()
        told = [entry["verb"] for entry in await audited(scene.server, f"task-{order.task_id}")]
        assert told == ["task.create", "task.assign", "task.unassign", "task.reject"]


async def test_who_is_turned_away_is_counted_and_written_down(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        token = await a_pool(server)
        agent = ScriptedAgent(server.client, token)
        for _ in range(3):
            await agent.call("GET", "/agents/agent-0000000000000000", "iacs_guess", expect=401)
        with trio.fail_after(PATIENT):
            while not (found := await audited(server, "127.0.0.1")):  # noqa: ASYNC110 - the keeper writes it at its next look
                await trio.sleep(0.05)
        assert {entry["verb"] for entry in found} == {"token.refused"}
        assert {entry["facts"]["path"] for entry in found} == {"/api/v1/agents/agent-0000000000000000"}
        assert sum(entry["facts"]["times"] for entry in found) <= 3


async def test_a_server_seals_what_it_wrote(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        await a_pool(server)
        await a_workspace(server)
        async with open_database(database_url, pool_size=1) as database:
            with trio.fail_after(PATIENT):
                while await database.tx(audit_chain.seal):  # noqa: ASYNC110 - another one that seals is no trouble
                    await trio.sleep(0.05)
            assert await database.read(audit_chain.broken_at) is None
