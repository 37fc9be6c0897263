"""Rows 9 to 12 and 62: Terraform that does not end, or not alone, and processes that are none of ours."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from iac.domain.ladder import Ladder, LadderStep
from iac.executor.leftovers import start_time_of
from iac.executor.process import PidRecord
from tests.executor.bench import Bench
from tests.faults.scene import Message, Scene, a_scene, noting, stages_of
from tests.harness.killable import processes_of
from tests.harness.scaled import POLICY
from tests.system.scenes import becomes, exists, runs

LIMIT = 6
"""Seconds that a phase may take here; what comes before its Terraform takes less, even on a busy machine."""
HANGING = {"sleep": "forever"}
DEAF = {"sleep": "forever", "ignore_sigterm": -1}
MANY = [{"kind": "background"}, {"kind": "setsid"}, {"kind": "double_fork"}]


SINCE_CLAIM = "SELECT CAST(extract(epoch FROM cancel_requested_at - claimed_at) * 1000 AS bigint) AS count FROM task"
"""Milliseconds between the claim of the only task and its stop."""


@asynccontextmanager
async def an_agent_or_the_server(scene: Scene, runner: str) -> AsyncIterator[str]:
    """The name of a workspace whose tasks are run there."""
    if runner == "server":
        yield await scene.locally()
        return
    async with scene.agent():
        yield "w"


@pytest.mark.parametrize("runner", ["agent", "server"])
async def test_row_09_the_very_first_command_may_hang(tmp_path: Path, database_url: str, runner: str) -> None:
    """9: already `init` is stopped, and the task has failed with its time limit as the reason."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(init=HANGING)
        async with an_agent_or_the_server(scene, runner) as workspace:
            await scene.call("PATCH", f"/workspaces/{workspace}", json={"plan_timeout_s": 1})
            ended = await scene.finished(await scene.server.task(workspace, "plan"))
        assert (ended["status"], ended["reason"], ended["cancel"]["by"]) == ("failed", "timeout", "runner")
        assert await scene.oracle.count(SINCE_CLAIM) >= 1000


@pytest.mark.slow_fault
@pytest.mark.parametrize("runner", ["agent", "server"])
@pytest.mark.parametrize("phase", ["plan", "apply"])
async def test_row_09_a_terraform_that_hangs_is_stopped_when_its_time_is_over(
    tmp_path: Path, database_url: str, runner: str, phase: str
) -> None:
    """9: the same ladder, of the runner's own accord; the task has failed, its state is stored, the workspace is free."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(**{phase: HANGING})
        async with an_agent_or_the_server(scene, runner) as workspace:
            await scene.call("PATCH", f"/workspaces/{workspace}", json={f"{phase}_timeout_s": LIMIT})
            task = await scene.server.task(workspace, "plan_and_apply", auto_apply=True)
            ended = await scene.finished(task)
        assert (ended["status"], ended["reason"], ended["timeout_s"]) == ("failed", "timeout", LIMIT)
        cancel = ended["cancel"]
        assert (cancel["reason"], cancel["by"], stages_of(cancel)) == (
            "timeout",
            "runner",
            ["received", "sigterm", "exited"],
        )
        assert await scene.oracle.count(SINCE_CLAIM) >= LIMIT * 1000, "it counts from the claim"
        assert scene.oracle.events(phase, "sigterm")
        assert (await scene.call("GET", f"/workspaces/{workspace}"))["lock"] is None
        assert ("cancelling", "failed") in await scene.oracle.moves(task)


async def test_row_10_each_step_comes_after_exactly_its_time(tmp_path: Path) -> None:
    """10: by the ladder's own instants; none is early, and what comes after SIGKILL is the end."""
    ladder = Ladder(grace=0.7, second=0.4)
    bench = Bench(tmp_path, **DEAF)
    facts = await bench.run_and_cancel(bench.ready, ladder=ladder)
    assert facts.steps == [LadderStep.FIRST_SIGTERM, LadderStep.SECOND_SIGTERM, LadderStep.SIGKILL]
    first, second, kill = facts.stepped_at
    assert second - first >= ladder.grace
    assert kill - second >= ladder.second
    assert bench.events() == ["start", "sigterm", "sigterm"]
    assert bench.nobody_left()


async def test_row_10_who_ignores_sigterm_is_killed_and_each_step_is_announced(
    tmp_path: Path, database_url: str
) -> None:
    """10: step 2, step 3; at each the agent says when the next one is due, and the platform shows it."""
    told: list[Message] = []
    ladder = POLICY.plan_ladder
    async with a_scene(tmp_path, database_url) as scene:
        scene.proxy.up.rewrite(noting(told, "cancel_ack"))
        scene.acts(plan=DEAF)
        async with scene.agent():
            task = await scene.server.task("w", "plan")
            await scene.runs("plan")
            await scene.cancel(task)
            stopping = await scene.reaches(task, "sigterm")
            assert stopping["kill_at"] > stopping["next_step_at"] > stopping["requested_at"]
            ended = await scene.finished(task)
            await becomes(lambda: told[-1]["payload"]["stage"] == "exited")
        assert (ended["status"], ended["signal"]) == ("cancelled", 9)
        assert stages_of(ended["cancel"]) == ["received", "sigterm", "sigterm2", "sigkill", "exited"]
        spans = {each["payload"]["stage"]: each["payload"] for each in reversed(told)}  # as it was told first
        assert spans["sigterm"]["next_s"] == pytest.approx(ladder.grace, abs=1e-6)
        assert spans["sigterm"]["kill_s"] == pytest.approx(ladder.grace + ladder.second, abs=1e-6)
        assert spans["sigterm2"]["next_s"] == pytest.approx(ladder.second, abs=1e-6)
        assert len(scene.oracle.events("plan", "sigterm")) == 2


@pytest.mark.parametrize("how", ["ends", pytest.param("is_cancelled", marks=pytest.mark.slow_fault)])
async def test_row_11_nobody_that_terraform_left_behind_lives_on(tmp_path: Path, database_url: str, how: str) -> None:
    """11: children in the background, in sessions of their own, without a parent: gone with the end, whatever that is."""
    children = [{**each, "pid_file": str(tmp_path / f"{each['kind']}.pid")} for each in MANY]
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(apply={"children": children, **(scene.waiting if how == "ends" else DEAF)})
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            for each in children:
                await exists(Path(each["pid_file"]))
            await scene.runs("apply")
            assert len(processes_of(agent.data_dir)) >= 4
            scene.go()
            if how == "is_cancelled":
                await scene.cancel(task)
            assert (await scene.finished(task))["status"] == ("succeeded" if how == "ends" else "cancelled")
            await becomes(lambda: processes_of(agent.data_dir) == [])


BACKGROUND = """
resource "terraform_data" "a" {
  provisioner "local-exec" {
    command = "touch %s; sleep 600 &"
  }
}
"""
"""Terraform waits for whoever has the provisioner's output open, long after the provisioner itself has ended."""


@pytest.mark.slow_fault
@pytest.mark.parametrize("how", ["is_cancelled", "times_out"])
async def test_row_12_a_child_that_keeps_the_output_open_does_not_keep_the_task(
    tmp_path: Path, database_url: str, how: str
) -> None:
    """12, the real Terraform: a cancel ends it, and so does the time limit."""
    ready = tmp_path / "ready"
    async with a_scene(tmp_path, database_url) as scene, scene.agent(env={"PATH": os.environ["PATH"]}) as agent:
        await scene.call("PUT", "/workspaces/w/configuration", json={"files": {"main.tf": BACKGROUND % ready}})
        if how == "times_out":
            await scene.call("PATCH", "/workspaces/w", json={"apply_timeout_s": 20})
        task = await scene.confirmed_apply()
        await exists(ready)
        if how == "is_cancelled":
            await scene.cancel(task)
        ended = await scene.finished(task)
        wanted = ("cancelled", "user") if how == "is_cancelled" else ("failed", "timeout")
        assert (ended["status"], ended["reason"]) == wanted
        await becomes(lambda: processes_of(agent.data_dir) == [])


@pytest.mark.slow_fault
async def test_row_12_what_stays_in_the_background_is_gone_when_the_time_is_over(
    tmp_path: Path, database_url: str
) -> None:
    """12, the stand-in: it waits for its child; the time limit bounds both."""
    child = {"kind": "background", "pid_file": str(tmp_path / "child.pid")}
    async with a_scene(tmp_path, database_url) as scene, scene.agent():
        await scene.call("PATCH", "/workspaces/w", json={"apply_timeout_s": LIMIT})
        scene.acts(apply={"children": [child], **DEAF})
        task = await scene.confirmed_apply()
        await exists(tmp_path / "child.pid")
        pid = int((tmp_path / "child.pid").read_text())
        assert (await scene.finished(task))["reason"] == "timeout"
        await becomes(lambda: not runs(pid))


async def test_row_62_a_pid_that_somebody_else_has_by_now_gets_no_signal(tmp_path: Path, database_url: str) -> None:
    """62: the start time is another one, so it is not our Terraform: the agent neither waits for it nor signals it."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(apply=HANGING)
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            await scene.runs("apply")
            await agent.kill()
        for pid in processes_of(agent.data_dir, shims=True):
            os.kill(pid, 9)
        await becomes(lambda: processes_of(agent.data_dir, shims=True) == [])
        stranger = await trio.lowlevel.open_process(["/bin/sleep", "600"], start_new_session=True)
        try:
            _claims_that_it_is(stranger.pid, *agent.data_dir.glob("tasks/*-*/*.pid"))
            async with scene.agent():
                await scene.cancel(task)
                lost = await scene.server.until(task, "lost")
                assert lost["reason"] == "agent_crashed"
                assert stranger.poll() is None, "it was none of ours"
        finally:
            stranger.kill()
            await stranger.wait()


def _claims_that_it_is(pid: int, *files: Path) -> None:
    """The pid files name this process, and a start time that was another's."""
    assert {file.name for file in files} == {"terraform.pid", "shim.pid"}
    for file in files:
        record = msgspec.json.decode(file.read_bytes(), type=PidRecord)
        assert record.start_time != start_time_of(pid)
        content: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(record, pid=pid))
        file.write_bytes(msgspec.json.encode(content))
