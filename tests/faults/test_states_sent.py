"""Rows 40, 55, 56: states that do not count, or are too large, are kept all the same, and somebody is told."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults import scene as faults
from tests.faults.test_lost_applies import alerts, checkpointed, partway, until_apart, versions, workspace
from tests.web.agent_scene import a_scene, a_state, error

EXIT_REFUSED = 3
MIB = 1024 * 1024


async def shut_out(scene: faults.Scene, how: str) -> None:
    """The agent has no business here any more."""
    if how == "revoke":
        [token] = (await scene.call("GET", "/agent-pools/pool/tokens"))["items"]
        await scene.call("DELETE", f"/agent-pools/pool/tokens/{token['id']}", params={"mode": "hard"})
    else:
        [agent] = (await scene.call("GET", "/agents"))["items"]
        await scene.call("DELETE", f"/agents/{agent['id']}", params={"force": "true"})


@pytest.mark.parametrize("how", ["revoke", pytest.param("delete", marks=pytest.mark.slow_fault)])
async def test_row_40_an_agent_that_is_shut_out_stops_its_apply_and_its_state_is_only_kept_apart(
    tmp_path: Path, database_url: str, how: str
) -> None:
    """40: close 4403, the ladder, exit 3; the state is quarantined, the workspace stays locked, a human decides."""
    async with faults.a_scene(tmp_path, database_url, times={"lost_after": 2.0}) as scene, scene.agent() as agent:
        scene.acts(apply=partway(scene))
        task = await scene.confirmed_apply()
        await checkpointed(scene, task)
        await shut_out(scene, how)
        assert await agent.ended() == EXIT_REFUSED
        assert scene.oracle.events("apply", "sigterm")
        await until_apart(scene, 1)
        [kept] = await versions(scene, verdict="quarantined")
        assert (kept["serial"], kept["task_id"]) == (2, task)
        held = await workspace(scene)
        assert held["state_serial"] is None
        assert {alert["reason"] for alert in await alerts(scene, task)} == {"revoked"}
        await scene.server.until(task, "lost")
        assert held["lock"]["owner"] == str(task)
        [file] = (agent.data_dir / "tasks").glob("*/state/terraform.tfstate")
        assert json.loads(file.read_text())["serial"] == 2
        scene.oracle.unheard.add(agent.data_dir)
        await scene.call("POST", f"/tasks/{task}/resolve", json={"unlock": True})
        assert (await workspace(scene))["states_apart"] == 1


@pytest.mark.parametrize(
    ("sent", "answer", "why"),
    [
        (a_state(4), 202, "serial_too_low"),
        (a_state(5).replace(b"1.11.4", b"1.11.3"), 202, "serial_taken"),
        (a_state(6, "lin-2"), 202, "lineage_differs"),
        (a_state(5), 200, None),
    ],
)
async def test_row_55_a_state_that_is_stale_is_kept_apart_and_one_that_is_known_is_a_duplicate(
    tmp_path: Path, database_url: str, sent: bytes, answer: int, why: str | None
) -> None:
    """55: crafted pushes; the current state is never touched, whatever came is stored, and the audit says why."""
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.applying()
        await scene.agent.state(order, a_state(5), expect=201)
        found = (await scene.agent.state(order, sent, expect=answer)).json()
        assert found["verdict"] == ("quarantined" if why else "duplicate")
        again = (await scene.agent.state(order, sent, expect=200)).json()
        assert again["verdict"] == "duplicate"
        held = await scene.server.call("GET", "/api/v1/workspaces/w")
        assert (held["state_serial"], held["states_apart"]) == (5, 1 if why else 0)
        items = (await scene.server.call("GET", "/api/v1/audit", params={"subject": held["id"]}))["items"]
        pushes = [entry["facts"] for entry in items if entry["verb"] == "state.push"]
        assert [fact["reason"] for fact in pushes] == ([why] if why else []) + [None]
        if why:
            kept = await _apart(scene.server)
            path = f"/api/v1/workspaces/w/state-versions/{kept['id']}/download"
            assert (await scene.server.client.get(path)).content == sent


async def _apart(server: Any) -> dict[str, Any]:
    params = {"verdict": "quarantined"}
    [kept] = (await server.call("GET", "/api/v1/workspaces/w/state-versions", params=params))["items"]
    found: dict[str, Any] = kept
    return found


async def test_row_56_a_state_over_the_limit_is_refused_with_the_limit(tmp_path: Path, database_url: str) -> None:
    """56, the server: 413 for a body over 128 MiB, and for a state that becomes more than 256 MiB when it is unpacked."""
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.applying()
        url = f"/api/v1/agents/tasks/{order.task_id}/state"
        headers = {"Authorization": f"Bearer {order.task_token}", "Content-Type": "application/json"}

        async def too_much() -> Any:
            for _ in range(129):
                yield b"x" * MIB

        refused = await scene.server.client.post(url, content=too_much(), headers=headers)
        assert (refused.status_code, error(refused)["limit"]) == (413, 128 * MIB)
        bomb = a_state(1)[:-1] + b" " * (257 * MIB) + b"}"
        large = await scene.agent.state(order, bomb, expect=413)
        assert error(large)["code"] == "state_too_large"
        await scene.agent.state(order, a_state(1), expect=201)


@pytest.mark.slow_fault
async def test_row_56_a_state_over_the_limit_stays_on_the_disk_and_the_task_is_lost(
    tmp_path: Path, database_url: str
) -> None:
    """56, the agent: it is told 413, says so aloud, keeps the directory; the workspace stays locked until a human looked."""
    async with faults.a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
        go = {"until": str(tmp_path / "go"), "no_state": True}
        scene.acts(apply=go)
        task = await scene.confirmed_apply()
        await scene.runs("apply")
        [place] = (agent.data_dir / "tasks").glob("*/state")
        noise = base64.b64encode(os.urandom(98 * MIB)).decode()  # of which gzip makes hardly less
        body = {**json.loads(a_state(1)), "check_results": noise}
        (place / "terraform.tfstate").write_text(json.dumps(body))
        scene.go()
        shown = await scene.server.until(task, "lost")
        assert shown["reason"] == "state_not_stored"
        assert (place / "terraform.tfstate").stat().st_size > 130 * MIB
        assert "the state of an apply was not stored" in agent.said
        assert "the state was NOT stored" in (await scene.oracle.log(task)).decode()
        held = await workspace(scene)
        assert (held["lock"]["owner"], held["state_uncertain"]) == (str(task), True)
        scene.oracle.unheard.add(agent.data_dir)
