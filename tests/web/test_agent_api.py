"""The agent API: what each token may do, orders without a control channel, the claim and its secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec

from iac.domain.agent_tokens import make_token
from iac.domain.messages import LiveSubscribe, RunTaskOrder
from iac.web.app import api_of
from iac.web.platform import Platform
from tests.fakes.scripted_agent import ScriptedAgent, held
from tests.harness.agents import a_pool, an_agent
from tests.harness.server import TOKEN, running_server
from tests.web.agent_scene import QUICK, a_scene, error

OPERATIONS = {operation.name: operation for operation in api_of(cast(Platform, None)).operations}


# Who one is


async def test_every_operation_takes_exactly_its_own_kind_of_token(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        tokens = {
            "user": TOKEN,
            "pool": scene.agent.pool_token,
            "session": scene.agent.session,
            "task": order.task_token,
        }
        places = {"agent": scene.agent.id, "task_id": str(order.task_id), "ws": "w", "pool": "pool"}
        for operation in OPERATIONS.values():
            if not operation.guarded:
                continue
            path = operation.path.replace("<int(max=9223372036854775807):task_id>", "<task_id>")
            for name, value in places.items():
                path = path.replace(f"<{name}>", value)
            if "<" in path:
                continue
            for kind, token in tokens.items():
                if kind in operation.auth.split("_or_"):
                    continue
                response = await scene.server.client.request(
                    operation.method, path, headers={"Authorization": f"Bearer {token}"}
                )
                # After ten bad tokens of agents from one address the answer is 429.
                assert response.status_code in (401, 429), f"{operation.name} takes a {kind} token: {response.text}"
                assert error(response)["code"] in ("unauthenticated", "rate_limited")


async def test_a_good_token_gets_in_while_bad_ones_are_tried_from_the_same_address(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        codes = set()
        for number in range(12):
            path = f"/agents/{scene.agent.id}/tasks/pending"
            response = await scene.agent.http.get(f"/api/v1{path}", headers={"Authorization": f"Bearer iacs_{number}"})
            codes.add(response.status_code)
        assert codes == {401, 429}
        assert int(response.headers["Retry-After"]) >= 1
        await scene.agent.call("GET", path, scene.agent.session)


async def test_registering_again_with_the_secret_is_the_same_agent(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = ScriptedAgent(server.client, await a_pool(server))
        body = {"name": "a", "instance_id": "instance-1", "boot_id": "boot-123"}
        first = await agent.call("POST", "/agents/register", agent.pool_token, json=body, expect=201)
        assert first.headers["Cache-Control"] == "no-store"
        made = first.json()
        again = {**body, "instance_secret": made["instance_secret"], "agent_id": made["agent_id"]}
        second = await agent.call("POST", "/agents/register", agent.pool_token, json=again, expect=200)
        assert (second.json()["agent_id"], second.json()["instance_secret"]) == (made["agent_id"], None)
        other = {**body, "instance_id": "instance-2"}
        refused = await agent.call("POST", "/agents/register", agent.pool_token, json=other, expect=409)
        assert error(refused)["code"] == "name_in_use"
        old = {**body, "protocol_versions": [0]}
        refused = await agent.call("POST", "/agents/register", agent.pool_token, json=old, expect=426)
        assert (error(refused)["code"], error(refused)["min"], error(refused)["max"]) == ("upgrade_required", 1, 1)


async def test_newcomers_are_let_in_one_after_the_other_and_known_agents_at_once(
    tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = ScriptedAgent(server.client, await a_pool(server, kind="k8s"))
        made = []
        for number in range(20):
            made.append(await agent.register(instance_id=f"instance-{number}"))
        body = {"name": "agent", "instance_id": "instance-21", "boot_id": agent.boot}
        refused = await agent.call("POST", "/agents/register", agent.pool_token, json=body, expect=429)
        assert (error(refused)["code"], int(refused.headers["Retry-After"]) >= 1) == ("rate_limited", True)
        guessed = {**body, "instance_secret": make_token("instance", b"x" * 32)}
        await agent.call("POST", "/agents/register", agent.pool_token, json=guessed, expect=429)
        for number, known in enumerate(made):
            await agent.register(instance_id=f"instance-{number}", instance_secret=known.instance_secret)


async def test_a_session_is_renewed_by_itself_or_by_the_secret(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        assert agent.registered is not None
        path, body = f"/agents/{agent.id}/session", {"boot_id": agent.boot}
        fresh = (await agent.call("POST", path, agent.session, json=body)).json()["session_token"]
        for token in (fresh, agent.session):  # the old one goes on for a while
            await agent.call("GET", f"/agents/{agent.id}", token)
        with_secret = {**body, "instance_secret": agent.registered.instance_secret}
        await agent.call("POST", path, agent.pool_token, json=with_secret)
        await agent.call("POST", path, agent.pool_token, json=body, expect=401)


async def test_an_agent_sees_and_ends_itself_only(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        agent = await an_agent(server)
        other = ScriptedAgent(server.client, agent.pool_token, name="other")
        await other.register()
        for method, path, body in (
            ("GET", "", None),
            ("DELETE", "", None),
            ("GET", "/tasks/pending", None),
            ("POST", "/session", {"boot_id": "boot-123"}),
            ("POST", "/heartbeat", msgspec.to_builtins(agent.heartbeat())),
        ):
            response = await agent.call(method, f"/agents/{other.id}{path}", agent.session, json=body, expect=403)
            assert error(response)["code"] == "wrong_scope"
        foreign = msgspec.to_builtins(other.heartbeat())
        await agent.call("POST", f"/agents/{agent.id}/heartbeat", agent.session, json=foreign, expect=403)
        await agent.call("DELETE", f"/agents/{agent.id}", agent.session, expect=204)
        await agent.call("GET", f"/agents/{agent.id}", agent.session, expect=401)
        assert (await server.call("GET", f"/api/v1/agents/{agent.id}"))["status"] == "retired"


async def test_an_agent_with_tasks_is_retired_by_force_only(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        path = f"/api/v1/agents/{scene.agent.id}"
        assert (await scene.server.client.delete(path)).status_code == 409
        await scene.server.call("DELETE", path, params={"force": "true"}, expect=204)
        assert (await scene.link.closed())[0] == 4403
        assert (await scene.task(order))["status"] == "cancelling"
        response = await scene.agent.log(order, b"late", expect=409)
        assert error(response)["code"] == "fenced"


# Without a control channel


async def test_an_agent_that_only_speaks_http_gets_orders_and_cancellations(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, times=QUICK) as server:
        agent = await an_agent(server)

        async def beat(*tasks: Any) -> dict[str, Any]:
            body = msgspec.to_builtins(agent.heartbeat(*tasks))
            answer = await agent.call("POST", f"/agents/{agent.id}/heartbeat", agent.session, json=body)
            found: dict[str, Any] = answer.json()
            return found

        async def pending() -> dict[str, Any]:
            answer = await agent.call("GET", f"/agents/{agent.id}/tasks/pending", agent.session)
            assert answer.headers["Cache-Control"] == "no-store"
            found: dict[str, Any] = answer.json()
            return found

        await beat()
        assert await pending() == {"tasks": [], "cancel": []}
        task = await server.task("w", "plan")
        await server.until(task, "assigned")
        order = msgspec.convert((await pending())["tasks"][0], RunTaskOrder)
        assert (order.task_id, order.action) == (task, "plan")
        await agent.claim(order)
        assert (await beat(held(order)))["leases"] == [{"task_id": task, "fence": order.fence}]
        assert (await pending())["tasks"] == []
        await server.call("POST", f"/api/v1/tasks/{task}/cancel", json={})
        assert [each["fence"] for each in (await pending())["cancel"]] == [order.fence]
        assert [each["fence"] for each in (await beat(held(order)))["cancel"]] == [order.fence]
        answer = await agent.log(order, b"stopping\n")
        assert answer.headers["X-IAC-Task-Status"] == "cancelling"
        await agent.status(order, "cancelled", log=b"stopping\n")
        assert (await server.call("GET", f"/api/v1/tasks/{task}"))["status"] == "cancelled"


# The claim


async def test_the_claim_can_be_repeated_and_is_counted(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        assert (await scene.task(order))["status"] == "assigned"
        bodies = {(await scene.agent.task(order, "GET", "/data")).content for _ in range(5)}
        assert len(bodies) == 1
        assert (await scene.task(order))["status"] == "running"
        response = await scene.agent.task(order, "GET", "/data", expect=410)
        assert error(response)["code"] == "data_expired"
        assert (await scene.task(order))["status"] == "running"


async def test_secrets_are_in_the_data_and_nowhere_else(tmp_path: Path, database_url: str) -> None:
    canary = "canary-3f0c8a52"
    async with a_scene(tmp_path, database_url) as scene:
        variable = {"key": "password", "value": canary, "sensitive": True}
        await scene.server.call("POST", "/api/v1/workspaces/w/variables", json=variable)
        order = await scene.ordered()
        pending = await scene.agent.call("GET", f"/agents/{scene.agent.id}/tasks/pending", scene.agent.session)
        assert canary not in pending.text
        assert canary not in str(msgspec.to_builtins(order))
        data = await scene.agent.claim(order)
        assert canary in data.sensitive_values
        assert [variable.value for variable in data.bundle.variables] == [canary]
        shown = await scene.server.client.get(f"/api/v1/tasks/{order.task_id}")
        assert canary not in shown.text


async def test_a_task_token_is_good_for_its_own_task_only(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order, other = await scene.ordered(), await scene.ordered()
        for method, path in (("GET", "/data"), ("GET", "/logs/chunk")):
            url = f"/agents/tasks/{other.task_id}{path}"
            response = await scene.agent.call(method, url, order.task_token, expect=403)
            assert error(response)["code"] == "wrong_scope"
        assert (await scene.task(other))["status"] == "assigned"


async def test_a_pool_that_may_not_serve_the_workspace_any_more_gets_no_data(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.server.call("DELETE", "/api/v1/agent-pools/pool/workspaces/w")
        response = await scene.agent.task(order, "GET", "/data", expect=403)
        assert error(response)["code"] == "wrong_scope"
        assert (await scene.task(order))["status"] == "assigned"  # the claim was undone


async def test_a_task_that_was_cancelled_first_cannot_be_claimed(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.server.call("POST", f"/api/v1/tasks/{order.task_id}/cancel", json={})
        refusals = [
            await scene.agent.task(order, "GET", "/data", expect=409),
            await scene.agent.log(order, b"x", expect=409),
            await scene.agent.status(order, "failed", expect=409),
        ]
        assert [error(refusal)["code"] for refusal in refusals] == ["already_final", "fenced", "fenced"]
        assert refusals[0].headers["X-IAC-Task-Status"] == "cancelled"
        assert (await scene.task(order))["status"] == "cancelled"


async def test_every_answer_tells_the_status_the_time_and_the_pace(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        answers = [
            await scene.agent.task(order, "GET", "/data"),
            await scene.agent.log(order, b"x"),
            await scene.agent.log(order, b"x", offset=9, expect=409),
            await scene.agent.task(order, "PUT", "/status", json={"status": "running", "stage": "init"}),
            await scene.agent.task(order, "GET", "/logs/chunk"),
        ]
        for answer in answers:
            assert answer.headers["X-IAC-Task-Status"] == "running"
            assert answer.headers["X-IAC-Server-Time"].endswith("+00:00")
            assert float(answer.headers["X-IAC-Log-Interval-S"]) == 30


async def test_a_watched_log_is_asked_for_more_often(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        async with scene.server.client.stream("GET", f"/api/v1/tasks/{order.task_id}/logs/stream") as stream:
            paces: list[float] = []
            async for line in stream.aiter_lines():
                if line.startswith("event: ") and not paces:
                    answer = await scene.agent.log(order, b"x")
                    paces.append(float(answer.headers["X-IAC-Log-Interval-S"]))
                    await scene.agent.status(order, "failed", log=b"x")
            assert paces == [1]
        await scene.link.get(LiveSubscribe, fence=order.fence)
