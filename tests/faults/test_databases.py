"""Row 17: PostgreSQL is restarted in immediate mode under running tasks, once and again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from iac.domain.records import FINAL
from tests.faults.scene import STRAIGHT, Message, Scene, a_scene, noting
from tests.harness.agent_process import AgentProcess
from tests.harness.postgres import OwnCluster, own_cluster
from tests.harness.server import PATIENT
from tests.system.scenes import becomes

LINES = [f"line {number} of it" for number in range(2000)]


@pytest.fixture
def cluster() -> Iterator[OwnCluster]:
    with own_cluster() as own:
        yield own


async def crashes(cluster: OwnCluster) -> None:
    await trio.to_thread.run_sync(cluster.crash)


async def starts(cluster: OwnCluster) -> None:
    await trio.to_thread.run_sync(cluster.start)


@asynccontextmanager
async def both(
    tmp_path: Path, cluster: OwnCluster, **times: float
) -> AsyncIterator[tuple[Scene, AgentProcess, list[str]]]:
    """A scene with an agent, and the workspaces of which one is its, and one the server's own."""
    async with a_scene(tmp_path, cluster.url, times=times) as scene, scene.agent() as agent:
        places = ["w", await scene.locally()]
        try:
            yield scene, agent, places
        except BaseException:
            with trio.CancelScope(shield=True):  # a server without its database takes long to end
                await starts(cluster)
            raise


async def answered(scene: Scene, path: str) -> dict[str, Any]:
    """The answer, as soon as the database can give one; until then it is said that it cannot."""
    with trio.fail_after(PATIENT):
        while True:
            response = await scene.server.client.get(f"/api/v1{path}")
            if response.status_code == 200:
                found: dict[str, Any] = response.json()
                return found
            assert (response.status_code, response.json()["error"]["code"]) == (503, "db_unavailable"), response.text
            assert response.headers["Retry-After"] == "2"
            await trio.sleep(0.05)


async def ended(scene: Scene, task: int) -> dict[str, Any]:
    with trio.fail_after(PATIENT):
        while (shown := await answered(scene, f"/tasks/{task}"))["status"] not in FINAL:  # noqa: ASYNC110
            await trio.sleep(0.05)
    return shown


async def went_straight(scene: Scene, task: int) -> None:
    """The plan has succeeded as if nothing had been, and its log is whole."""
    done = await ended(scene, task)
    assert (done["status"], done["attempt"]) == ("succeeded", 1)
    assert await scene.oracle.moves(task) == STRAIGHT
    text = (await scene.oracle.log(task)).decode()
    assert [line for line in text.splitlines() if line in LINES] == LINES


def acks(heard: list[Message]) -> list[dict[str, Any]]:
    return [message["payload"] for message in heard]


async def test_row_17_an_outage_is_said_to_be_one_and_what_ended_in_it_is_reported_afterwards(
    tmp_path: Path, cluster: OwnCluster
) -> None:
    heard: list[Message] = []
    async with both(tmp_path, cluster) as (scene, _, places):
        scene.acts(plan={"lines": LINES, **scene.waiting})
        scene.proxy.down.rewrite(noting(heard, "heartbeat_ack"))
        tasks = [await scene.server.task(place, "plan") for place in places]
        await scene.runs("plan", 2)

        await crashes(cluster)
        response = await scene.server.client.get(f"/api/v1/tasks/{tasks[0]}")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
        assert (await scene.server.client.get("/readyz")).status_code == 503
        await becomes(lambda: any(ack["degraded"] for ack in acks(heard)))
        leases = [lease["task_id"] for ack in acks(heard) if ack["degraded"] for lease in ack["leases"]]
        assert set(leases) == {tasks[0]}, "an agent keeps what it has meanwhile"
        scene.go()
        await becomes(lambda: len(scene.oracle.events("plan", "stop")) == 2)
        await starts(cluster)

        for task in tasks:
            await went_straight(scene, task)
        heard.clear()
        await becomes(lambda: any(not ack["degraded"] for ack in acks(heard)))


@pytest.mark.slow_fault
async def test_row_17_nobody_is_lost_by_an_outage_longer_than_all_leases(tmp_path: Path, cluster: OwnCluster) -> None:
    times = {"lease": 8.0, "lost_after": 12.0, "claim_within": 12.0}
    async with both(tmp_path, cluster, **times) as (scene, _, places):
        scene.acts(plan={"lines": LINES, **scene.waiting})
        tasks = [await scene.server.task(place, "plan") for place in places]
        await scene.runs("plan", 2)

        await crashes(cluster)
        await trio.sleep(times["lost_after"] + 1.0)
        await starts(cluster)
        assert [(await answered(scene, f"/tasks/{task}"))["status"] for task in tasks] == ["running", "running"]
        scene.go()

        for task in tasks:
            await went_straight(scene, task)


@pytest.mark.slow_fault
async def test_row_17_again_and_again_in_the_middle_of_applies_with_logs_and_states(
    tmp_path: Path, cluster: OwnCluster
) -> None:
    async with both(tmp_path, cluster) as (scene, _, places):
        slowly = {"lines": LINES, "delay_per_line": 0.001}
        scene.acts(plan=slowly, apply={**slowly, **scene.waiting})
        tasks = [await scene.server.task(place, "plan_and_apply", auto_apply=True) for place in places]
        await scene.runs("plan", 2)
        for _ in range(2):
            await crashes(cluster)
            await starts(cluster)
            await answered(scene, f"/tasks/{tasks[0]}")
        await scene.runs("apply", 2)
        await crashes(cluster)
        scene.go()
        await becomes(lambda: len(scene.oracle.events("apply", "stop")) == 2)
        await starts(cluster)

        for task, place in zip(tasks, places, strict=True):
            done = await ended(scene, task)
            assert (done["status"], done["outcome"]) == ("succeeded", "applied"), done
            assert (await answered(scene, f"/workspaces/{place}"))["state_serial"] == 1
            text = (await scene.oracle.log(task)).decode()
            assert [line for line in text.splitlines() if line in LINES] == LINES + LINES
        assert len(scene.oracle.events("apply")) == 2
