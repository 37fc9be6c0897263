"""Row 6: the agent is killed between Terraform's end and the moment when its result is known to have been taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.oracle import journal_of
from tests.faults.scene import CANARY, Scene, a_scene
from tests.system.scenes import becomes

REPORTED = "SELECT count(*) FROM assignment WHERE result_id IS NOT NULL"


async def same_result(scene: Scene, task: int) -> None:
    """The task ended as its apply did, under the id that the dead agent had given the result, and all of it is there."""
    shown = await scene.server.until(task, "succeeded")
    assert (shown["outcome"], shown["exit_code"], shown["reason"]) == ("applied", 0, None)
    count = "SELECT count(*) FROM assignment a WHERE phase = 'apply' AND result_id = concat(a.id, chr(58), 'succeeded')"
    assert await scene.oracle.count(count) == 1
    workspace = await scene.call("GET", "/workspaces/w")
    assert (workspace["state_serial"], workspace["lock"], workspace["state_uncertain"]) == (1, None, False)
    text = (await scene.oracle.log(task)).decode()
    assert text.count("Apply complete! Resources: 1 added") == 1
    assert len(scene.oracle.events("apply")) == 1
    await becomes(lambda: not list((scene.root / "agents" / "first" / "tasks").iterdir()))


async def an_apply_about_to_end(scene: Scene) -> int:
    scene.acts(apply=scene.waiting)
    task = await scene.confirmed_apply()
    await scene.runs("apply")
    return task


@pytest.mark.parametrize("lost", ["the result", "its answer"])
@pytest.mark.slow_fault
async def test_row_06_a_result_that_may_not_have_been_heard_is_told_again(
    tmp_path: Path, database_url: str, lost: str
) -> None:
    """6, between exit and PUT, and between the PUT's answer and the end of the journal's entry: the same result_id."""
    async with a_scene(tmp_path, database_url) as scene:
        async with scene.agent() as agent:
            task = await an_apply_about_to_end(scene)
            if lost == "the result":
                scene.proxy.answer(503, path="/status", method="PUT")
            else:
                scene.proxy.cut_answer("/status", method="PUT", times=1000)
            scene.go()
            await agent.says("the result was not taken yet")
            heard = await scene.oracle.count(REPORTED)
            assert heard == (1 if lost == "the result" else 2)  # that of the plan is one
            assert len(journal_of(agent.data_dir)) == 1
            await agent.kill()
        scene.proxy.passes()
        async with scene.agent():
            await same_result(scene, task)


@pytest.mark.slow_fault
async def test_row_06_a_log_that_was_not_sent_to_its_end_is_sent_when_the_state_is_stored_already(
    tmp_path: Path, database_url: str
) -> None:
    """6, after the state was pushed and before the log's end."""
    async with a_scene(tmp_path, database_url) as scene:
        async with scene.agent() as agent:
            task = await an_apply_about_to_end(scene)
            scene.proxy.answer(503, path="/logs/chunk", method="POST")
            scene.go()
            await becomes(lambda: ("POST", f"/api/v1/agents/tasks/{task}/state") in scene.proxy.seen)
            await agent.says("a piece of a log was not taken yet")
            await scene.oracle.until_count("SELECT count(*) FROM state_version")
            await agent.kill()
        assert (await scene.shown(task))["status"] == "running"
        scene.proxy.passes()
        async with scene.agent():
            await same_result(scene, task)
            assert CANARY not in (await scene.oracle.log(task)).decode()


async def test_row_06_a_plan_whose_result_was_not_heard_is_not_made_again(tmp_path: Path, database_url: str) -> None:
    """6, a plan: it is stored, so only its result has to be told."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(plan=scene.waiting)
        async with scene.agent() as agent:
            task = await scene.server.task("w", "plan")
            await scene.runs("plan")
            scene.proxy.answer(503, path="/status", method="PUT")
            scene.go()
            await agent.says("the result was not taken yet")
            await agent.kill()
        scene.proxy.passes()
        async with scene.agent():
            shown = await scene.server.until(task, "succeeded")
            assert (shown["attempt"], shown["outcome"]) == (1, "planned")
            assert len(scene.oracle.events("plan")) == 1
            await becomes(lambda: not list((agent.data_dir / "tasks").iterdir()))
