"""Rows 7 and 8: Terraform is killed by somebody, or by the kernel, or it panics."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import Scene, a_scene
from tests.harness import control_groups
from tests.system.scenes import becomes, exists, runs

MIB = 1024 * 1024


def a_state(serial: int) -> bytes:
    body = {"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": "lin-1"}
    return json.dumps({**body, "outputs": {}, "resources": []}).encode()


def working_apply(scene: Scene) -> tuple[int, Path]:
    """The pid of the apply that runs, and its work directory."""
    [entry] = scene.oracle.events("apply")
    [place] = (scene.root / "agents").glob(f"*/tasks/{entry['run']}")
    return int(entry["pid"]), place


async def stored(scene: Scene) -> bytes:
    response = await scene.server.client.get("/api/v1/workspaces/w/state-versions/current/download")
    assert response.status_code == 200, response.text
    return response.content


async def is_unlocked(scene: Scene) -> None:
    workspace = await scene.call("GET", "/workspaces/w")
    assert (workspace["lock"], workspace["state_uncertain"]) == (None, False)


async def test_row_07_an_apply_that_somebody_kills_has_failed_and_what_it_did_is_stored(
    tmp_path: Path, database_url: str
) -> None:
    """7, kill -9: signal 9, reason `killed`; the state from the disk is pushed, descendants are reaped."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent():
        child = {"kind": "double_fork", "pid_file": str(tmp_path / "child")}
        scene.acts(apply={"children": [child], **scene.waiting})
        task = await scene.confirmed_apply()
        await scene.runs("apply")
        await exists(tmp_path / "child")
        pid, place = working_apply(scene)
        (place / "state" / "terraform.tfstate").write_bytes(a_state(7))
        os.kill(pid, signal.SIGKILL)
        shown = await scene.finished(task)
        assert (shown["status"], shown["reason"], shown["signal"]) == ("failed", "killed", signal.SIGKILL)
        assert "ended by signal 9, by something else on the host" in shown["detail"]
        assert await stored(scene) == a_state(7)
        assert not runs(int((tmp_path / "child").read_text()))
        await is_unlocked(scene)


@pytest.mark.slow_fault
async def test_row_07_an_apply_that_is_killed_while_its_agent_is_dead_ends_in_the_same_way(
    tmp_path: Path, database_url: str
) -> None:
    """7 after 2: only the shim has seen it."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(apply=scene.waiting)
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            await scene.runs("apply")
            pid, place = working_apply(scene)
            await agent.kill()
        (place / "state" / "terraform.tfstate").write_bytes(a_state(7))
        os.kill(pid, signal.SIGKILL)
        async with scene.agent():
            shown = await scene.finished(task)
            assert (shown["status"], shown["reason"], shown["signal"]) == ("failed", "killed", signal.SIGKILL)
            assert await stored(scene) == a_state(7)
            await is_unlocked(scene)


@pytest.mark.slow_fault
async def test_row_07_when_memory_runs_out_the_kernel_takes_terraform_and_the_task_says_so(
    tmp_path: Path, database_url: str
) -> None:
    """7, out of memory: the kernel's own counter makes it `killed_oom`; the agent and the shim live on."""
    with control_groups.memory(256 * MIB) as group:
        async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
            control_groups.put_into(group, agent.process.pid)
            scene.acts(plan={"eat_bytes": 1024 * MIB})
            task = await scene.server.task("w", "plan")
            shown = await scene.finished(task)
            assert (shown["status"], shown["reason"], shown["signal"]) == ("failed", "killed_oom", signal.SIGKILL)
            assert "memory had run out" in shown["detail"]
            scene.acts()
            await scene.server.until(await scene.server.task("w", "plan"), "succeeded")


@pytest.mark.parametrize("code", [2, pytest.param(11, marks=pytest.mark.slow_fault)])
@pytest.mark.parametrize("command", [pytest.param("plan", marks=pytest.mark.slow_fault), "apply"])
async def test_row_08_a_panic_is_a_failure_and_its_text_is_in_the_log(
    tmp_path: Path, database_url: str, command: str, code: int
) -> None:
    """8: exit 2, which from a plan would mean "there are changes", and exit 11."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent():
        manners: dict[str, Any] = {command: {"crash": code}}
        scene.acts(**manners)
        task = await scene.confirmed_apply()
        shown = await scene.finished(task)
        assert (shown["status"], shown["reason"]) == ("failed", f"{command}_failed")
        assert shown["exit_code"] == code
        assert b"panic: runtime error: invalid memory address" in await scene.oracle.log(task)
        assert (len(scene.oracle.events("plan")), len(scene.oracle.events("apply"))) == (1, command == "apply")
        await is_unlocked(scene)
        await becomes(lambda: not list((tmp_path / "agents" / "first" / "tasks").iterdir()))
