"""Rows 1, 2, 60: the agent is killed with SIGKILL; what it started is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.scene import Scene, a_scene
from tests.harness.agent_process import AgentProcess
from tests.harness.killable import processes_of
from tests.system.scenes import Gate, becomes, state_of, statuses

CUT_OFF = "The agent ended while it ran the task."
REAL = {"PATH": "/usr/bin:/bin"}
"""Without a stand-in on it, Terraform comes from the wheel."""


async def nobody_works_for(agent: AgentProcess) -> None:
    """Until the shims of a dead agent, and what they watched, have ended."""
    await becomes(lambda: not processes_of(agent.data_dir, shims=True))


async def test_row_01_a_plan_whose_agent_is_back_at_once_is_killed_and_tried_again(
    tmp_path: Path, database_url: str
) -> None:
    """1, restart at once: the first copy is dead before the second begins, and its log is kept."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(plan={"lines": ["as far as it came"], **scene.waiting})
        async with scene.agent() as agent:
            task = await scene.server.task("w", "plan")
            await scene.runs("plan")
            await agent.kill()
        async with scene.agent():
            await scene.runs("plan", 2)
            scene.go()
            assert (await scene.server.until(task, "succeeded"))["attempt"] == 2
        text = (await scene.oracle.log(task)).decode()
        assert (text.count("as far as it came"), text.count(CUT_OFF)) == (2, 1)


@pytest.mark.slow_fault
async def test_row_01_a_plan_is_stopped_by_its_shim_when_the_lease_ends_before_its_agent_is_back(
    tmp_path: Path, database_url: str
) -> None:
    """1, restart after 3 leases: the shim has stopped the plan long before, and the server still waits."""
    async with a_scene(tmp_path, database_url, times={"lease": 4.0}) as scene:
        scene.acts(plan=scene.waiting)
        async with scene.agent() as agent:
            task = await scene.server.task("w", "plan")
            await scene.runs("plan")
            await agent.kill()
        await nobody_works_for(agent)
        assert len(scene.oracle.events("plan", "sigterm")) == 1
        assert (await scene.shown(task))["status"] == "running"
        async with scene.agent():
            await scene.runs("plan", 2)
            scene.go()
            assert (await scene.server.until(task, "succeeded"))["attempt"] == 2


@pytest.mark.slow_fault
async def test_row_01_another_agent_takes_the_plan_of_one_that_stays_dead(tmp_path: Path, database_url: str) -> None:
    """1, attempt 2 elsewhere: the first copy is dead by then; when its agent returns, its words are late."""
    async with a_scene(tmp_path, database_url, times={"lease": 4.0, "lost_after": 10.0}) as scene:
        scene.acts(plan=scene.waiting)
        async with scene.agent() as agent:
            task = await scene.server.task("w", "plan")
            await scene.runs("plan")
            await agent.kill()
        async with scene.agent("second"):
            await scene.runs("plan", 2)
            assert len(scene.oracle.events("plan", "stop")) == 1
            async with scene.agent() as agent:
                await agent.says("connected")
                scene.go()
                shown = await scene.server.until(task, "succeeded")
                assert (shown["attempt"], shown["agent_name"]) == (2, "second")


async def an_apply_cut_off(scene: Scene, gate: Gate) -> int:
    """A task whose agent was killed while the real Terraform applies."""
    await scene.call("PUT", "/workspaces/w/configuration", json={"files": gate.main(then="echo the last word")})
    async with scene.agent(env=REAL) as agent:
        task = await scene.confirmed_apply()
        await gate.reached()
        await agent.kill()
    return task


async def applied_well(scene: Scene, task: int) -> None:
    """State and log are what Terraform made, and nothing is locked."""
    shown = await scene.server.until(task, "succeeded")
    assert (shown["outcome"], shown["exit_code"]) == ("applied", 0)
    assert statuses(await state_of(scene.server, "w")) == {"first": None, "second": None}
    text = (await scene.oracle.log(task)).decode()
    assert "the last word" in text
    assert text.count("Apply complete! Resources: 2 added") == 1
    workspace = await scene.call("GET", "/workspaces/w")
    assert (workspace["lock"], workspace["state_uncertain"]) == (None, False)


async def test_row_02_an_apply_goes_on_without_its_agent_and_is_taken_up_again(
    tmp_path: Path, database_url: str
) -> None:
    """2, restart while Terraform applies: Terraform does not notice; its agent attaches to it again."""
    async with a_scene(tmp_path, database_url) as scene:
        gate = Gate(tmp_path / "gate")
        task = await an_apply_cut_off(scene, gate)
        async with scene.agent(env=REAL) as agent:
            await agent.says("connected")
            assert (await scene.shown(task))["status"] == "running"
            gate.open()
            await applied_well(scene, task)


async def test_row_02_what_an_apply_came_to_without_its_agent_is_read_from_what_the_shim_saw(
    tmp_path: Path, database_url: str
) -> None:
    """2, restart after Terraform's exit: exit code, state and log are on the disk."""
    async with a_scene(tmp_path, database_url) as scene:
        gate = Gate(tmp_path / "gate")
        task = await an_apply_cut_off(scene, gate)
        gate.open()
        await becomes(lambda: not processes_of(tmp_path / "agents" / "first", shims=True))
        assert (await scene.shown(task))["status"] == "running"
        async with scene.agent(env=REAL):
            await applied_well(scene, task)
