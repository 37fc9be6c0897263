"""Row 34: the server's disk for logs is full, a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.terraform.output import chapter
from tests.harness.agent_process import agent_process
from tests.harness.agents import a_pool, a_workspace
from tests.harness.scaled import POLICY, SERVER
from tests.harness.server import running_server
from tests.harness.tmpfs import fill, small_disk
from tests.system.scenes import Stage, becomes, exists
from tests.web.agent_scene import a_scene, a_state, error

BYTES = 6 << 20


async def test_row_34_a_full_log_disk_acknowledges_nothing_and_stops_neither_state_nor_status(
    tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "data").mkdir()
    with small_disk(tmp_path / "data" / "logs", kilobytes=512) as disk:
        async with a_scene(tmp_path, database_url) as scene:
            agent, order = scene.agent, await scene.applying()
            await agent.log(order, b"before\n")
            fill(disk)

            full = await agent.log(order, b"x" * 8192, offset=7, expect=507)
            assert (error(full)["code"], error(full)["retryable"]) == ("storage_full", True)
            position = (await agent.task(order, "GET", "/logs/chunk")).json()
            assert position == {"next_offset": 7, "closed": False}
            assert (await agent.state(order, a_state(1), expect=201)).json()["verdict"] == "current"
            body = {"status": "running", "stage": "applying"}
            assert (await agent.task(order, "PUT", "/status", json=body)).json()["status"] == "running"
            early = await agent.status(order, "succeeded", outcome="applied", log=b"before\nafter\n", expect=409)
            assert (error(early)["code"], error(early)["next_offset"]) == ("log_incomplete", 7)

            (disk / "filler").unlink()
            await agent.log(order, b"after\n", offset=7)
            await agent.status(order, "succeeded", outcome="applied", log=b"before\nafter\n")
            assert (await scene.task(order))["status"] == "succeeded"
            assert (await scene.server.log(order.task_id)).endswith(b"before\nafter\n")


@pytest.mark.slow_fault
async def test_row_34_an_agent_waits_for_room_and_its_log_is_whole_afterwards(
    tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").mkdir()
    chapter_one = {"seed": 1, "bytes": BYTES, "reached": str(tmp_path / "reached"), "go": str(tmp_path)}
    stage = Stage(tmp_path).set(plan={"chapters": [chapter_one]})
    with small_disk(tmp_path / "data" / "logs", kilobytes=16 * 1024) as disk:
        fill(disk)
        async with running_server(tmp_path / "data", database_url, times=SERVER, policy=POLICY) as server:
            token = await a_pool(server)
            await a_workspace(server)
            async with agent_process(tmp_path / "agents", server.url, token, path=stage.env["PATH"]):
                task = await server.task("w", "plan")
                await exists(tmp_path / "reached")
                await becomes(lambda: caplog.text.count("the disk for logs is full") > 1)
                assert await server.log(task) == b""
                (disk / "filler").unlink()
                await server.until(task, "succeeded")
                log = await server.log(task)
                assert log.count(chapter(1, BYTES)) == 1
