"""Rows 24, 25, 49: something between agent and server has ideas of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.scene import STRAIGHT, a_scene

DROPS = 7
"""As many as the server lets an agent connect again at once."""


async def test_row_24_without_websockets_an_agent_polls_and_is_cancelled_over_https(
    tmp_path: Path, database_url: str
) -> None:
    """24: polling within 60 s; a cancellation comes by what plain requests are answered."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.proxy.refuse_upgrade()
        async with scene.agent() as agent:
            done = await scene.server.task("w", "plan")
            assert (await scene.server.until(done, "succeeded"))["attempt"] == 1
            scene.acts(plan=scene.waiting)
            task = await scene.server.task("w", "plan")
            await scene.runs("plan", 2)
            await scene.cancel(task)
            assert (await scene.finished(task))["status"] == "cancelled"
            assert len(scene.oracle.events("plan", "sigterm")) == 1
            assert "connected" not in agent.said
            scene.proxy.passes()
            await agent.says("connected")


@pytest.mark.parametrize("status", [200, pytest.param(502, marks=pytest.mark.slow_fault)])
async def test_row_25_a_proxys_page_is_never_taken_for_an_answer(
    tmp_path: Path, database_url: str, status: int
) -> None:
    """25: whatever is asked is answered by a page first; it is asked again, and nothing succeeds that did not."""
    asked = ["/agents/register", "/agents/control", "/data", "/logs/chunk", "/plan", "/state"]
    async with a_scene(tmp_path, database_url) as scene:
        for path in asked:
            scene.proxy.answer(status, path=path, times=1)
        scene.proxy.answer(status, path="/status", times=3)
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            assert (await scene.server.until(task, "succeeded"))["outcome"] == "applied"
            for path in [*asked, "/status"]:
                assert sum(seen.endswith(path) for _, seen in scene.proxy.seen) >= 2, path
            assert len(scene.oracle.events("plan")) == len(scene.oracle.events("apply")) == 1
            assert "Traceback" not in agent.said


async def test_row_49_a_flapping_link_loses_nothing_and_starts_nothing_twice(tmp_path: Path, database_url: str) -> None:
    """49: the connection is reset as soon as it is there, again and again."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
        scene.acts(plan=scene.waiting)
        await agent.says("connected")
        task = await scene.server.task("w", "plan")
        await scene.runs("plan")
        for drop in range(1, DROPS + 1):
            await agent.says("connected", drop)
            scene.proxy.reset()
        await agent.says("connected", DROPS + 1)
        scene.go()
        await scene.server.until(task, "succeeded")
        assert len(scene.oracle.events("plan")) == 1
        assert await scene.oracle.moves(task) == STRAIGHT
