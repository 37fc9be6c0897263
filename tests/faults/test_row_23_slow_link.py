"""Row 23: a link of 64 kbit/s. What matters gets through it; who watches sees less."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.terraform.output import chapter
from tests.faults.scene import a_scene
from tests.system.scenes import becomes
from tests.web.browsers import watching

RATE = 8000.0
LOG = 60_000
UNHEARD = "answered no heartbeat"


async def test_row_23_a_slow_link_delays_the_log_and_nothing_else(tmp_path: Path, database_url: str) -> None:
    """A log that takes many seconds is on its way, live and in chunks; heartbeats are answered all the while, a cancel
    arrives before the log does, and in the end the log is whole.
    """
    times = {"heartbeat": 1.0, "suspect": 15.0, "offline": 20.0, "lost_after": 60.0}
    async with (
        a_scene(tmp_path, database_url, times=times) as scene,
        scene.agent(
            times={"ack_within": 25.0, "connect_within": 10.0, "welcome_within": 10.0, "answer_within": 60.0}
        ) as agent,
    ):
        reached, go = tmp_path / "reached", tmp_path / "told"
        first = {"seed": 1, "bytes": LOG, "reached": str(reached), "go": str(go)}
        scene.acts(plan={"chapters": [first], "sleep": "forever"})
        await agent.says("connected")
        for way in (scene.proxy.up, scene.proxy.down):
            way.rate(RATE)
        task = await scene.server.task("w", "plan")
        async with watching(scene.server.url, task) as browser:
            await becomes(reached.exists)
            go.touch()
            await browser.next()
            await scene.cancel(task)
            await becomes(lambda: bool(scene.oracle.events("plan", "sigterm")))
            so_far = len(await scene.server.log(task))
            assert so_far < LOG, "the cancel did not wait for the log"
            await browser.until_event("end")
            assert (await scene.finished(task))["status"] == "cancelled"
            log = await scene.server.log(task)
            assert chapter(1, LOG) in log
            assert browser.log == log
        assert UNHEARD not in agent.said
        assert "no control channel" not in agent.said
