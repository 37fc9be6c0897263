"""Rows 45, 57, 58: the agent's machine is suspended, or has no processor time, no descriptors, no processes left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import trio

from tests.faults.scene import STRAIGHT, Message, Scene, a_scene, noting
from tests.harness import control_groups
from tests.harness.agent_process import AgentProcess
from tests.harness.killable import processes_of
from tests.harness.server import PATIENT
from tests.system.scenes import becomes

REFUSED = "an order could not be written down"
REASONS = ("process_start_error", "host_error", "unavailable")
"""What a task may fail with whose Terraform could not be started."""


def suspend(agent: AgentProcess) -> list[int]:
    """The agent, its shims and what they run stand still, as they do with their machine; their pids."""
    pids = [*processes_of(agent.data_dir, shims=True), agent.process.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def wake(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow_fault
async def test_row_45_a_plan_that_slept_longer_than_its_lease_is_killed_at_wake_and_its_words_are_late(
    tmp_path: Path, database_url: str
) -> None:
    """45, a plan: the server had moved on, the second attempt is under way elsewhere."""
    async with (
        a_scene(tmp_path, database_url, times={"lease": 4.0, "lost_after": 8.0}) as scene,
        scene.agent() as first,
    ):
        scene.acts(plan=scene.waiting)
        task = await scene.server.task("w", "plan")
        await scene.runs("plan")
        asleep = suspend(first)
        async with scene.agent("second"):
            await scene.runs("plan", 2)
            [before, _] = scene.oracle.events("plan")
            wake(asleep)
            await becomes(lambda: any(each["run"] == before["run"] for each in scene.oracle.events("plan", "stop")))
            assert scene.oracle.events("plan", "sigterm")[0]["run"] == before["run"]
            scene.go()
            shown = await scene.server.until(task, "succeeded")
            assert (shown["attempt"], shown["agent_name"]) == (2, "second")


async def test_row_45_an_apply_that_slept_goes_on_and_is_taken_up_again(tmp_path: Path, database_url: str) -> None:
    """45, an apply: lost meanwhile, then the same fence is heard again; nobody signals Terraform."""
    async with (
        a_scene(tmp_path, database_url, times={"lease": 1.0, "lost_after": 2.0}) as scene,
        scene.agent() as agent,
    ):
        scene.acts(apply=scene.waiting)
        task = await scene.confirmed_apply()
        await scene.runs("apply")
        asleep = suspend(agent)
        assert (await scene.server.until(task, "lost"))["reason"] == "agent_lost"
        wake(asleep)
        await scene.server.until(task, "running")
        scene.go()
        assert (await scene.server.until(task, "succeeded"))["outcome"] == "applied"
        assert scene.oracle.events("apply", "sigterm") == []
        workspace = await scene.call("GET", "/workspaces/w")
        assert (workspace["lock"], workspace["state_uncertain"], workspace["state_serial"]) == (None, False, 1)


@contextmanager
def hardly_any_processor(pid: int) -> Iterator[None]:
    """For this process and all that it starts: a tenth of one, or what many busy others leave."""
    with ExitStack() as stack:
        try:
            group = stack.enter_context(control_groups.cpu(0.1))
        except pytest.skip.Exception:
            for _ in range(4 * (os.cpu_count() or 1)):
                busy = stack.enter_context(subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]))
                stack.callback(busy.kill)
        else:
            control_groups.put_into(group, pid)
        yield


async def test_row_57_an_agent_whose_terraform_takes_all_the_processor_time_goes_on_being_heard(
    tmp_path: Path, database_url: str
) -> None:
    """57: heartbeats come and are answered, nobody is lost, the plan ends in its first attempt."""
    beats: list[Message] = []
    async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
        await agent.says("connected")
        scene.proxy.up.rewrite(noting(beats, "heartbeat"))
        scene.acts(plan={"busy": 4, **scene.waiting})
        with hardly_any_processor(agent.process.pid):
            task = await scene.server.task("w", "plan")
            await scene.runs("plan")
            began = len(beats)
            await becomes(lambda: len(beats) >= began + 8)
            [shown] = (await scene.call("GET", "/agents"))["items"]
            assert shown["status"] == "online"
            assert (await scene.shown(task))["status"] == "running"
            scene.go()
            await becomes(lambda: len(scene.oracle.events("plan", "stop")) == 1)
        await scene.server.until(task, "succeeded")
        assert await scene.oracle.moves(task) == STRAIGHT
        assert agent.said.count("connected  agent=") == 1


async def one_that_cannot_start(scene: Scene, agent: AgentProcess) -> int:
    """A task that was refused, or that failed because nothing could be started for it; or one that still waits, because its
    agent has not even a descriptor to connect with.
    """
    task = await scene.server.task("w", "plan")
    with trio.move_on_after(PATIENT / 4):
        while REFUSED not in agent.said:
            shown = await scene.shown(task)
            if shown["status"] == "failed":
                assert shown["reason"] in REASONS, shown
                break
            assert shown["status"] in ("queued", "assigned", "running"), shown
            await trio.sleep(0.02)
    return task


async def next_one_runs(scene: Scene, agent: AgentProcess, before: int) -> None:
    """What was refused is taken now, and so is a new one."""
    if (await scene.shown(before))["status"] != "failed":
        await scene.server.until(before, "succeeded")
    await scene.server.until(await scene.server.task("w", "plan"), "succeeded")
    assert agent.process.returncode is None


@pytest.mark.parametrize("left", [0, 4])
async def test_row_58_an_agent_without_descriptors_refuses_or_fails_a_task_and_lives(
    tmp_path: Path, database_url: str, left: int
) -> None:
    """58, EMFILE: when there are descriptors again, the next task is run."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
        await agent.says("connected")
        pid = agent.process.pid
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + left, usual[1]))
        task = await one_that_cannot_start(scene, agent)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        await next_one_runs(scene, agent, task)


async def test_row_58_an_agent_that_may_start_no_process_refuses_or_fails_a_task_and_lives(
    tmp_path: Path, database_url: str
) -> None:
    """58, no forks: neither processes nor threads; when there are some again, the next task is run."""
    with control_groups.processes() as group:
        async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
            await agent.says("connected")
            control_groups.put_into(group, agent.process.pid)
            control_groups.no_more_processes(group)
            task = await one_that_cannot_start(scene, agent)
            control_groups.as_many_as_you_like(group)
            await next_one_runs(scene, agent, task)
