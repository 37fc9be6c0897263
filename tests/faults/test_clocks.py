"""Rows 16 and 44: a server that stands still, and wall clocks that are wrong. Neither costs anybody a task."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from iac.store.database import Connection
from tests.faults.scene import STRAIGHT, KillableScene, a_killable_scene
from tests.harness.server import PATIENT

HOUR = 3600.0
STAMPS = {
    "task": ("created_at", "queued_at", "assigned_at", "claimed_at", "started_at"),
    "agent": ("registered_at", "last_seen_at"),
    "assignment": ("created_at", "accepted_at", "first_read_at"),
}


async def both_run(scene: KillableScene) -> list[int]:
    """A plan on the agent and one of the server's own, at work until `go`."""
    scene.acts(plan=scene.waiting)
    tasks = [await scene.server.task(place, "plan") for place in ("w", await scene.locally())]
    await scene.runs("plan", 2)
    return tasks


async def end_well(scene: KillableScene, tasks: list[int]) -> None:
    scene.go()
    for task in tasks:
        assert (await scene.server.until(task, "succeeded"))["attempt"] == 1
        assert await scene.oracle.moves(task) == STRAIGHT


@pytest.mark.slow_fault
async def test_row_16_a_server_that_stood_still_for_longer_than_all_leases_loses_nobody(
    tmp_path: Path, database_url: str
) -> None:
    times = {"lost_after": 6.0, "claim_within": 6.0, "offline": 5.0, "suspect": 5.0}
    async with a_killable_scene(tmp_path, database_url, times=times) as scene, scene.agent():
        tasks = await both_run(scene)
        scene.program.signal(signal.SIGSTOP)
        await trio.sleep(times["lost_after"] + 2.0)
        scene.program.signal(signal.SIGCONT)
        await told(scene, "the server stood still")
        await end_well(scene, tasks)


async def told(scene: KillableScene, text: str) -> None:
    """Until the server has said this."""
    with trio.fail_after(PATIENT):
        while text not in scene.program.log_file.read_text():  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.02)


@pytest.mark.parametrize("ahead", [HOUR, pytest.param(-HOUR, marks=pytest.mark.slow_fault)], ids=["ahead", "behind"])
async def test_row_44_wall_clocks_that_are_wrong_have_no_effect_and_are_shown(
    tmp_path: Path, database_url: str, ahead: float
) -> None:
    """The server's host and the agent's are wrong in opposite ways, and the database's is right."""
    times = {"lost_after": 20.0, "lease": 15.0}
    async with (
        a_killable_scene(tmp_path, database_url, times=times, clock_off=-ahead) as scene,
        scene.agent(clock_off=ahead) as agent,
    ):
        await agent.says("connected")
        [shown] = (await scene.call("GET", "/agents"))["items"]
        assert abs(shown["clock_ahead_s"] - ahead) < PATIENT
        assert shown["online"]
        asked = {"name": "short", "role": "viewer", "expires_in_s": 900}
        headers = {"Authorization": f"Bearer {(await scene.call('POST', '/tokens', json=asked))['token']}"}
        assert (await scene.call("GET", "/me", headers=headers))["name"] == "short", "good for what it was made for"
        await end_well(scene, await both_run(scene))


@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["back", "forward"])
@pytest.mark.slow_fault
async def test_row_44_a_step_of_the_databases_clock_costs_no_running_task(
    tmp_path: Path, database_url: str, by: float
) -> None:
    """Every time in the rows is off by an hour at once, as after a step of the clock that wrote them."""
    async with a_killable_scene(tmp_path, database_url) as scene, scene.agent():
        tasks = await both_run(scene)
        await scene.oracle.database.tx(_step, by)
        await scene.program.kill()
        await scene.restart()
        scene.go()
        done = await scene.server.until(tasks[0], "succeeded")
        assert done["attempt"] == 1
        assert await scene.oracle.moves(tasks[0]) == STRAIGHT
        assert (await scene.server.until(tasks[1], "succeeded"))["attempt"] == 2, "its server was killed"


async def _step(c: Connection, by: float) -> None:
    for table, names in STAMPS.items():
        changes = ", ".join(f"{name} = {name} + make_interval(secs => :by)" for name in names)
        await c.run(f"UPDATE {table} SET {changes}", by=by)  # noqa: S608
