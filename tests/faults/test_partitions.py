"""Rows 19 to 22: the network carries nothing any more, and nobody is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.scene import STRAIGHT, a_scene
from tests.harness.scaled import NOTICES
from tests.system.scenes import becomes

UNHEARD = "answered no heartbeat"
"""What an agent says when it has noticed."""


async def test_row_19_a_partition_shorter_than_the_lease_changes_nothing(tmp_path: Path, database_url: str) -> None:
    """19, 30 s: nothing happens to the plan; the agent connects again."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent(times=NOTICES) as agent:
        scene.acts(plan=scene.waiting)
        task = await scene.server.task("w", "plan")
        await scene.runs("plan")
        scene.proxy.blackhole()
        await agent.says(UNHEARD)
        scene.proxy.passes()
        await agent.says("connected", 2)
        scene.go()
        assert (await scene.server.until(task, "succeeded"))["attempt"] == 1
        assert await scene.oracle.moves(task) == STRAIGHT


@pytest.mark.slow_fault
async def test_row_19_a_plan_fences_itself_when_the_partition_outlasts_its_lease(
    tmp_path: Path, database_url: str
) -> None:
    """19, 90 s: the plan self-fences; the server has not given up, and makes the second attempt when it hears of it."""
    async with a_scene(tmp_path, database_url, times={"lease": 4.0}) as scene, scene.agent(times=NOTICES):
        scene.acts(plan=scene.waiting)
        task = await scene.server.task("w", "plan")
        await scene.runs("plan")
        scene.proxy.blackhole()
        await becomes(lambda: len(scene.oracle.events("plan", "stop")) == 1)
        assert scene.oracle.events("plan", "sigterm")
        assert (await scene.shown(task))["status"] == "running"
        scene.go()
        scene.proxy.passes()
        assert (await scene.server.until(task, "succeeded"))["attempt"] == 2
        assert len(scene.oracle.events("plan")) == 2


@pytest.mark.slow_fault
async def test_row_19_a_plan_that_is_given_up_runs_elsewhere_and_never_twice_at_once(
    tmp_path: Path, database_url: str
) -> None:
    """19, 10 min, a plan: the second attempt runs on another agent; the first copy is dead by then, its words late."""
    async with (
        a_scene(tmp_path, database_url, times={"lease": 5.0, "lost_after": 12.0}) as scene,
        scene.agent(times=NOTICES) as first,
    ):
        scene.acts(plan=scene.waiting)
        task = await scene.server.task("w", "plan")
        await scene.runs("plan")
        scene.proxy.blackhole()
        async with scene.agent("second", direct=True):
            await scene.runs("plan", 2)
            scene.proxy.passes()
            await first.says("connected", 2)
            scene.go()
            shown = await scene.server.until(task, "succeeded")
            assert (shown["attempt"], shown["agent_name"]) == (2, "second")


@pytest.mark.parametrize("when", ["after", "while"])
@pytest.mark.slow_fault
async def test_row_19_a_lost_apply_keeps_its_lock_and_goes_on_when_it_is_heard_again(
    tmp_path: Path, database_url: str, when: str
) -> None:
    """19, 10 min, an apply: lost, then T15 (it ends `after` the partition) or T16 (it ended meanwhile, `while`)."""
    async with a_scene(tmp_path, database_url, times={"lost_after": 2.0}) as scene, scene.agent(times=NOTICES):
        scene.acts(apply=scene.waiting)
        task = await scene.confirmed_apply()
        await scene.runs("apply")
        scene.proxy.blackhole()
        assert (await scene.server.until(task, "lost"))["reason"] == "agent_lost"
        workspace = await scene.call("GET", "/workspaces/w")
        assert (workspace["lock"]["kind"], workspace["state_uncertain"]) == ("task", True)
        if when == "while":
            scene.go()
            await becomes(lambda: len(scene.oracle.events("apply", "stop")) == 1)
        scene.proxy.passes()
        if when == "after":
            await scene.server.until(task, "running")
            scene.go()
        assert (await scene.server.until(task, "succeeded"))["outcome"] == "applied"
        workspace = await scene.call("GET", "/workspaces/w")
        assert (workspace["lock"], workspace["state_uncertain"], workspace["state_serial"]) == (None, False, 1)
        assert not scene.oracle.events("apply", "sigterm")


@pytest.mark.parametrize("way", ["up", pytest.param("down", marks=pytest.mark.slow_fault)])
async def test_rows_20_and_21_one_way_that_is_lost_ends_the_connection_and_nothing_else(
    tmp_path: Path, database_url: str, way: str
) -> None:
    """20 (`up`) and 21 (`down`): no answers to heartbeats, so the agent connects again; nothing happens to the plan."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent(times=NOTICES) as agent:
        scene.acts(plan=scene.waiting)
        task = await scene.server.task("w", "plan")
        await scene.runs("plan")
        {"up": scene.proxy.up, "down": scene.proxy.down}[way].blackhole()
        await agent.says(UNHEARD)
        scene.proxy.passes()
        await agent.says("connected", 2)
        scene.go()
        assert (await scene.server.until(task, "succeeded"))["attempt"] == 1
        assert await scene.oracle.moves(task) == STRAIGHT


async def test_row_22_a_forgotten_connection_is_found_out_by_its_silence(tmp_path: Path, database_url: str) -> None:
    """22: a NAT drops the idle connection without a word; the agent finds out, and what was wanted meanwhile reaches it."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent(times=NOTICES) as agent:
        scene.acts(plan=scene.waiting)
        task = await scene.server.task("w", "plan")
        await scene.runs("plan")
        scene.proxy.forget()
        await scene.cancel(task)
        await agent.says(UNHEARD)
        await agent.says("connected", 2)
        await becomes(lambda: len(scene.oracle.events("plan", "sigterm")) == 1)
        assert (await scene.finished(task))["status"] == "cancelled"
