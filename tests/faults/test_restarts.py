"""Rows 13, 15, 50: the server goes away and comes back, and many agents with it."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
import trio

from iac.domain.agent_bodies import Register
from iac.executor.identity import FILE, Identity
from iac.store import pools, registering
from tests.faults.scene import STRAIGHT, KillableScene, Scene, a_killable_scene
from tests.harness.agent_process import AgentProcess
from tests.harness.server import PATIENT
from tests.system.scenes import becomes

LINES = [f"line {number} of the plan" for number in range(2000)]


async def test_row_13_a_plan_outlives_its_server(tmp_path: Path, database_url: str) -> None:
    """13, back after 10 s: the task goes on, the agent connects again, nothing is lost, no line of the log either."""
    async with a_killable_scene(tmp_path, database_url) as scene, scene.agent() as agent:
        scene.acts(plan={"lines": LINES, **scene.waiting})
        task = await scene.server.task("w", "plan")
        await scene.runs("plan")
        await scene.program.kill()
        await agent.says("no control channel")
        await scene.restart()
        await agent.says("connected", 2)
        scene.go()
        assert (await scene.server.until(task, "succeeded"))["attempt"] == 1
        assert await scene.oracle.moves(task) == STRAIGHT
        assert [line for line in (await scene.oracle.log(task)).decode().splitlines() if line in LINES] == LINES


@pytest.mark.slow_fault
async def test_row_13_what_an_apply_did_while_its_server_was_dead_is_brought_home(
    tmp_path: Path, database_url: str
) -> None:
    """13, back after 100 s: the apply ended meanwhile; its state, its log and its result come when the server does.

    The server was away for longer than it waits for a silent agent, and yet nobody is lost: leases begin anew.
    """
    times = {"lost_after": 6.0}
    async with a_killable_scene(tmp_path, database_url, times=times) as scene, scene.agent():
        scene.acts(apply={"lines": LINES, **scene.waiting})
        task = await scene.confirmed_apply()
        await scene.runs("apply")
        await scene.program.kill()
        scene.go()
        await becomes(lambda: len(scene.oracle.events("apply", "stop")) == 1)
        await trio.sleep(1.1 * times["lost_after"])
        await scene.restart()
        assert (await scene.server.until(task, "succeeded"))["outcome"] == "applied"
        assert (await scene.call("GET", "/workspaces/w"))["state_serial"] == 1
        text = (await scene.oracle.log(task)).decode()
        assert all(line in text for line in LINES)
        assert ("running", "lost") not in await scene.oracle.moves(task)


async def a_crowd_of(scene: Scene, count: int) -> Path:
    """The directory with the data directories of so many registered agents."""
    crowd, database = scene.root / "crowd", scene.oracle.database
    token = await database.tx(pools.authenticate_pool, scene.token, None)
    assert token is not None
    for number in range(count):
        place = crowd / f"agent-{number:03}"
        place.mkdir(parents=True, mode=0o700)
        body = Register(name=place.name, instance_id=f"instance-{number:024}", boot_id="boot-before-the-crowd")
        known = await database.tx(registering.register, body, token, None)
        identity = Identity(
            instance_id=body.instance_id, agent_id=known.agent_id, instance_secret=known.instance_secret
        )
        (place / FILE).write_bytes(msgspec.json.encode(identity))
        scene.oracle.work.append(place)
    return crowd


@asynccontextmanager
async def living(scene: Scene, crowd: Path, **times: float) -> AsyncIterator[AgentProcess]:
    """The crowd, all of it connected."""
    env = {"IAC_CROWD": str(crowd)}
    async with scene.agent("crowd", program="tests.harness.crowd", env=env, times=times) as process:
        await all_connected(process, crowd, 1)
        yield process


def connections(process: AgentProcess) -> dict[str, list[datetime]]:
    """When each agent was connected."""
    found: dict[str, list[datetime]] = {}
    for line in process.said.splitlines(keepends=True):
        if line.endswith("}\n") and '"message": "connected"' in line:
            told = json.loads(line)
            found.setdefault(told["agent"], []).append(datetime.fromisoformat(told["at"]))
    return found


async def all_connected(process: AgentProcess, crowd: Path, times: int) -> list[datetime]:
    """Until each agent was connected so often; when each one was for the last time."""
    with trio.fail_after(5 * PATIENT):
        while True:
            found = [each for each in connections(process).values() if len(each) >= times]
            if len(found) == len(list(crowd.iterdir())):
                return sorted(each[times - 1] for each in found)
            await trio.sleep(0.1)


async def plans_that_wait(scene: KillableScene, count: int) -> list[int]:
    scene.acts(plan=scene.waiting)
    tasks = [await scene.server.task("w", "plan") for _ in range(count)]
    await scene.runs("plan", count)
    return tasks


async def end_well(scene: KillableScene, tasks: list[int]) -> None:
    scene.go()
    for task in tasks:
        assert (await scene.server.until(task, "succeeded"))["attempt"] == 1
        assert await scene.oracle.moves(task) == STRAIGHT


@pytest.mark.slow_fault
async def test_row_15_a_deployment_is_announced_and_nothing_changes(tmp_path: Path, database_url: str) -> None:
    """15: server_shutdown, close 1012, a return that is spread out, no state change; 50 agents."""
    times = {"come_back": 1.0, "heartbeat": 1.0}
    async with a_killable_scene(tmp_path, database_url, times=times) as scene:
        crowd = await a_crowd_of(scene, 50)
        async with living(scene, crowd) as process:
            tasks = await plans_that_wait(scene, 2)
            scene.program.signal(signal.SIGTERM)
            assert await scene.program.ended() == 0
            await scene.restart()
            back = await all_connected(process, crowd, 2)
            assert process.said.count("ended with code 1012") >= 50
            assert (back[-1] - back[0]).total_seconds() > 0.2
            await end_well(scene, tasks)


@pytest.mark.slow_fault
async def test_row_50_five_hundred_agents_come_back_at_once_and_nobody_is_lost(
    tmp_path: Path, database_url: str, record_property: Callable[[str, object], None]
) -> None:
    """50: the server was killed; 500 agents are spread by jitter, nobody is lost. How long a hello took is only noted."""
    times = {"heartbeat": 10.0, "lease": 60.0, "lost_after": 120.0, "suspect": 30.0, "offline": 60.0, "settle": 30.0}
    async with a_killable_scene(tmp_path, database_url, times=times) as scene:
        crowd = await a_crowd_of(scene, 500)
        patient = {
            "ack_within": 25.0,
            "answer_within": 60.0,
            "welcome_within": 10.0,
            "connect_within": 10.0,
            "retry_most": 4.0,
            "poll_after": 60.0,
        }
        async with living(scene, crowd, **patient) as process:
            tasks = await plans_that_wait(scene, 3)
            await scene.program.kill()
            await scene.restart()
            began = datetime.now().astimezone()
            back = await all_connected(process, crowd, 2)
            seconds = sorted((each - began).total_seconds() for each in back)
            record_property("seconds until 99 of 100 agents were back", round(seconds[495], 2))
            assert (back[-1] - back[0]).total_seconds() > 0.5
            await end_well(scene, tasks)
