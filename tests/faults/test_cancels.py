"""Rows 51 to 53: cancellations that come late, at the wrong moment, or twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.faults.scene import Message, Scene, a_scene, noting, stages_of
from tests.harness.scaled import NOTICES
from tests.system.scenes import becomes

UNHEARD = "answered no heartbeat"


@pytest.mark.slow_fault
async def test_row_51_a_cancel_reaches_an_apply_whose_agent_was_away(tmp_path: Path, database_url: str) -> None:
    """51: the task is being cancelled at once, nothing is said to have been done; the agent hears of it when it is back."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent(times=NOTICES) as agent:
        scene.acts(apply={"sleep": "forever"})
        task = await scene.confirmed_apply()
        await scene.runs("apply")
        scene.proxy.blackhole()
        await agent.says(UNHEARD)
        asked = await scene.cancel(task)
        assert (asked["status"], asked["cancel"]["stage"]) == ("cancelling", None)
        assert scene.oracle.events("apply", "sigterm") == []
        scene.proxy.passes()
        ended = await scene.finished(task)
        assert (ended["status"], ended["reason"]) == ("cancelled", "user")
        assert len(scene.oracle.events("apply", "sigterm")) == 1


async def test_row_51_a_plan_that_fenced_itself_meanwhile_is_cancelled(tmp_path: Path, database_url: str) -> None:
    """51: the agent is away for longer than its lease; what it stopped for that reason is not tried again."""
    async with a_scene(tmp_path, database_url, times={"lease": 4.0}) as scene, scene.agent(times=NOTICES):
        scene.acts(plan={"sleep": "forever"})
        task = await scene.server.task("w", "plan")
        await scene.runs("plan")
        scene.proxy.blackhole()
        await scene.cancel(task)
        await becomes(lambda: len(scene.oracle.events("plan", "stop")) == 1)
        assert (await scene.shown(task))["status"] == "cancelling"
        scene.proxy.passes()
        assert (await scene.finished(task))["status"] == "cancelled"
        assert len(scene.oracle.events("plan")) == 1


@pytest.mark.parametrize("times", [10, pytest.param(200, marks=pytest.mark.slow_fault)])
async def test_row_52_a_cancel_that_races_with_the_end_has_one_outcome_and_it_is_the_truth(
    tmp_path: Path, database_url: str, record_property: Callable[[str, object], None], times: int
) -> None:
    """52: at any moment around the end of an apply; exit code 0 has succeeded, another one is cancelled, and it stays so."""
    seed = random.randrange(10**6)  # noqa: S311 - a moment is no secret
    record_property("seed", seed)
    outcomes: Counter[str] = Counter()
    async with a_scene(tmp_path, database_url, times={"lease": 60.0}) as scene:
        scene.acts(apply={"sleep": 0.15})
        workspaces = ["w", await scene.locally()]
        async with scene.agent():
            async with trio.open_nursery() as nursery:
                for number, workspace in enumerate(workspaces):
                    moments = random.Random(seed + number)  # noqa: S311
                    share = range(times // len(workspaces))
                    nursery.start_soon(_race, scene, workspace, [moments.uniform(0, 0.5) for _ in share], outcomes)
    assert sum(outcomes.values()) == times // len(workspaces) * len(workspaces)
    record_property("outcomes", dict(outcomes))


async def _race(scene: Scene, workspace: str, moments: list[float], outcomes: Counter[str]) -> None:
    for moment in moments:
        task = await scene.server.task(workspace, "plan_and_apply", auto_apply=True)
        await _applies(scene, task)
        await trio.sleep(moment)  # what is tried here, not waited for
        response = await scene.server.client.post(f"/api/v1/tasks/{task}/cancel", json={})
        assert response.status_code in (200, 409)
        ended = await scene.finished(task)
        [stop] = _events(scene, task, "stop")
        truth = "succeeded" if stop["exit"] == 0 else "cancelled"
        assert (ended["status"], ended["exit_code"]) == (truth, stop["exit"])
        assert ended["cancel"] is not None or response.status_code == 409
        assert len([move for move in await scene.oracle.moves(task) if move[1] in ("succeeded", "cancelled")]) == 1
        outcomes[truth] += 1


async def _applies(scene: Scene, task: int) -> None:
    await becomes(lambda: bool(_events(scene, task, "start")))


def _events(scene: Scene, task: int, event: str) -> list[dict[str, Any]]:
    return [entry for entry in scene.oracle.events("apply", event) if entry["run"].partition("-")[0] == str(task)]


@pytest.mark.parametrize("runner", ["agent", pytest.param("server", marks=pytest.mark.slow_fault)])
async def test_row_53_cancelling_twice_is_one_cancel_and_force_jumps_once(
    tmp_path: Path, database_url: str, runner: str
) -> None:
    """53: one id; force is refused while it is too early, and for an apply that nobody confirms; then it jumps, once."""
    told: list[Message] = []
    graces = {"apply_grace_s": 600}
    async with a_scene(tmp_path, database_url, times={"force_after": 3.0}) as scene:
        scene.proxy.up.rewrite(noting(told, "cancel_ack"))
        workspace = "w" if runner == "agent" else await scene.locally()
        await scene.call("PATCH", f"/workspaces/{workspace}", json=graces)
        scene.acts(apply={"sleep": "forever", "ignore_sigterm": 1})
        async with scene.agent():
            task = await scene.server.task(workspace, "plan_and_apply", auto_apply=True)
            await scene.runs("apply")
            unasked = await scene.cancel(task, force=True, confirm=True, expect=409)
            assert unasked["error"]["code"] == "not_cancelling"
            first, again = await scene.cancel(task), await scene.cancel(task)
            assert again["cancel"]["id"] == first["cancel"]["id"]
            early = await scene.cancel(task, force=True, confirm=True, expect=409)
            assert early["error"]["code"] == "force_too_early"
            assert 0 < early["error"]["allowed_in_s"] <= 3.0
            stopping = await scene.reaches(task, "sigterm")
            assert stopping["kill_in_s"] > 500, "the workspace's own grace"
            await _may_be_forced(scene, task)
            assert (await scene.cancel(task, force=True, expect=409))["error"]["code"] == "force_unconfirmed"
            assert len(scene.oracle.events("apply", "sigterm")) == 1
            forced = await scene.cancel(task, force=True, confirm=True)
            assert (forced["cancel"]["id"], forced["cancel"]["force"]) == (first["cancel"]["id"], True)
            await scene.server.client.post(f"/api/v1/tasks/{task}/cancel", json={"force": True, "confirm": True})
            ended = await scene.finished(task)
        assert (ended["status"], ended["cancel"]["id"]) == ("cancelled", first["cancel"]["id"])
        assert stages_of(ended["cancel"])[:3] == ["received", "sigterm", "sigterm2"]
        assert len(scene.oracle.events("apply", "sigterm")) <= 2
        assert len({each["payload"]["cancel_id"] for each in told}) == (1 if runner == "agent" else 0)


async def _may_be_forced(scene: Scene, task: int) -> None:
    with trio.fail_after(30):
        while (await scene.shown(task))["cancel"]["force_in_s"] > 0:  # noqa: ASYNC110 - time alone brings it about
            await trio.sleep(0.05)
