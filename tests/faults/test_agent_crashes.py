"""Rows 1, 2, 60: the agent is killed with SIGKILL; what it started is not. Row 63: it comes back without what it knew."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from iac.store.database import Connection
from tests.faults.scene import Scene, a_killable_scene, a_scene
from tests.harness.agent_process import AgentProcess
from tests.harness.agents import a_workspace
from tests.harness.killable import processes_of
from tests.system.scenes import Gate, becomes, state_of, statuses

CUT_OFF = "The agent ended while it ran the task."
LOST_RECORDS = "SELECT count(*) FROM audit WHERE facts->>'reason' = 'agent_has_no_record'"
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


@pytest.mark.slow_fault
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


@pytest.mark.slow_fault
async def test_row_02_what_an_apply_came_to_is_brought_home_although_the_server_was_away_as_well(
    tmp_path: Path, database_url: str
) -> None:
    """2 and 13: the agent starts again while nobody answers, and waits until somebody does."""
    async with a_killable_scene(tmp_path, database_url) as scene:
        gate = Gate(tmp_path / "gate")
        task = await an_apply_cut_off(scene, gate)
        await scene.program.kill()
        gate.open()
        async with scene.agent(env=REAL) as agent:
            await agent.says("the agent cannot register yet")
            await scene.restart()
            await applied_well(scene, task)


@pytest.mark.parametrize("agents", ["come back", pytest.param("stay dead", marks=pytest.mark.slow_fault)])
@pytest.mark.slow_fault
async def test_row_60_a_plan_that_kills_every_agent_is_tried_twice_and_never_again(
    tmp_path: Path, database_url: str, agents: str
) -> None:
    """60: at most two attempts; then it has failed, whether the agents return or not."""
    times = {} if agents == "come back" else {"lease": 2.0, "lost_after": 5.0}
    async with a_scene(tmp_path, database_url, times=times) as scene:
        scene.acts(plan={"kill_agent": True, "sleep": "forever"})
        task = await scene.server.task("w", "plan")
        for name in ("first", "first" if agents == "come back" else "second"):
            async with scene.agent(name) as agent:
                assert await agent.ended() == -signal.SIGKILL
        if agents == "stay dead":
            await scene.server.until(task, "failed")
            scene.oracle.incomplete.add(task)  # the rest of its log may still come, for a week
        async with scene.agent("third" if agents == "stay dead" else "first") as agent:
            await agent.says("connected")
            failed = await scene.finished(task)
            assert (failed["status"], failed["attempt"]) == ("failed", 2)
            assert failed["reason"] == ("agent_crashed" if agents == "come back" else "agent_lost")
            scene.acts()
            await scene.server.until(await scene.server.task("w", "plan"), "succeeded")
            assert len({entry["run"] for entry in scene.oracle.events("plan")}) == 3
        for name in ("first", "second") if agents == "stay dead" else ():
            async with scene.agent(name) as agent:  # what it has to say is late
                await becomes(lambda: not list((agent.data_dir / "tasks").iterdir()))


async def test_row_60_an_apply_that_kills_its_agent_is_started_once(tmp_path: Path, database_url: str) -> None:
    """60, an apply: it goes on, and is brought home by the next life of the agent."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(apply={"kill_agent": True})
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            assert await agent.ended() == -signal.SIGKILL
        async with scene.agent():
            assert (await scene.server.until(task, "succeeded"))["outcome"] == "applied"


@pytest.mark.slow_fault
async def test_row_63_a_plan_of_which_its_agent_knows_nothing_any_more_is_tried_again(
    tmp_path: Path, database_url: str
) -> None:
    """63, a plan: the journal is gone while it runs. The copy that nobody knows is stopped by its shim."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(plan=scene.waiting)
        async with scene.agent() as agent:
            task = await scene.server.task("w", "plan")
            await scene.runs("plan")
            await agent.kill()
        shutil.rmtree(agent.data_dir / "tasks")
        await nobody_works_for(agent)
        assert len(scene.oracle.events("plan", "sigterm")) == 1
        async with scene.agent() as agent:
            await scene.runs("plan", 2)
            assert (await scene.shown(task))["attempt"] == 2
            scene.go()
            await scene.server.until(task, "succeeded")
        assert await scene.oracle.count(LOST_RECORDS) == 1


@pytest.mark.slow_fault
async def test_row_63_an_apply_of_which_its_agent_knows_nothing_any_more_is_lost_and_stays_locked(
    tmp_path: Path, database_url: str
) -> None:
    """63, an apply: nobody runs it again, and nobody says how it ended."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(apply={"no_state": True, **scene.waiting})
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            await scene.runs("apply")
            await agent.kill()
        shutil.rmtree(agent.data_dir / "tasks")
        async with scene.agent() as agent:
            await is_lost(scene, task, "agent_has_no_record")
            scene.go()
            await nobody_works_for(agent)
            assert (await scene.shown(task))["status"] == "lost"


async def test_row_63_an_apply_whose_directory_is_removed_while_it_runs_is_lost_and_stays_locked(
    tmp_path: Path, database_url: str
) -> None:
    """63, the agent lives on: the apply says that all is well, but its state is nowhere. The next task is run."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
        scene.acts(apply={"no_state": True, **scene.waiting})
        task = await scene.confirmed_apply()
        await scene.runs("apply")
        shutil.rmtree(agent.data_dir / "tasks")
        scene.go()
        await is_lost(scene, task, "state_not_stored")
        await a_workspace(scene.server, "other")
        await scene.server.until(await scene.server.task("other", "plan"), "succeeded")


@pytest.mark.slow_fault
async def test_row_63_an_agent_that_lost_all_its_disk_is_another_one_and_what_it_had_goes_to_it(
    tmp_path: Path, database_url: str
) -> None:
    """63, identity and all: the newcomer takes the name over when the old one was silent, and the plan with it."""
    async with a_scene(tmp_path, database_url, times={"lease": 4.0, "lost_after": 8.0}) as scene:
        scene.acts(plan=scene.waiting)
        async with scene.agent() as agent:
            task = await scene.server.task("w", "plan")
            await scene.runs("plan")
            await agent.kill()
        shutil.rmtree(agent.data_dir)
        await scene.oracle.database.tx(silent_for_long)
        async with scene.agent() as agent:
            await scene.runs("plan", 2)
            scene.go()
            assert (await scene.server.until(task, "succeeded"))["attempt"] == 2
            assert len((await scene.call("GET", "/agents"))["items"]) == 1


async def silent_for_long(c: Connection) -> None:
    """A name is free when its holder was silent for a minute."""
    await c.run("UPDATE agent SET last_seen_at = now() - interval '1 hour', registered_at = now() - interval '1 hour'")


async def is_lost(scene: Scene, task: int, reason: str) -> None:
    assert (await scene.server.until(task, "lost"))["reason"] == reason
    workspace = await scene.call("GET", "/workspaces/w")
    assert (workspace["lock"]["kind"], workspace["state_uncertain"]) == ("task", True)
