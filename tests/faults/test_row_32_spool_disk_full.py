"""Row 32: the agent's disk for raw logs is full, a real one. It is larger than the 10 MiB of a log that are read ahead."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fakes.terraform.output import chapter
from tests.faults.scene import a_scene
from tests.harness.tmpfs import fill, small_disk
from tests.system.scenes import becomes, exists

MIB = 1024 * 1024
CHAPTERS, SIZE = 18, 2 * MIB


def a_state(serial: int) -> bytes:
    body = {"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": "lin-1"}
    outputs = {"o": {"value": "x" * 300_000, "type": "string", "sensitive": False}}
    return json.dumps({**body, "outputs": outputs, "resources": []}).encode()


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


@pytest.mark.slow_fault
async def test_row_32_a_full_spool_gives_up_the_middle_of_a_log_says_so_and_keeps_room_for_a_state(
    tmp_path: Path, database_url: str
) -> None:
    """32: the server takes no log, the log is larger than the disk, and at last somebody else fills what is left."""
    agents = tmp_path / "agents" / "first"
    agents.mkdir(parents=True, mode=0o700)
    chapters = [
        {"seed": number, "bytes": SIZE, "reached": f"{tmp_path}/reached-{number}", "go": f"{tmp_path}/go-{number}"}
        for number in range(CHAPTERS)
    ]
    with small_disk(agents / "tasks", kilobytes=32 * 1024) as disk:
        async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
            state = a_state(1)
            scene.acts(apply={"chapters": chapters, "dump_state": state.decode(), "exit": 1, **scene.waiting})
            task = await scene.confirmed_apply()
            await scene.runs("apply")
            scene.proxy.answer(503, path="/logs/chunk", method="POST")
            for number in range(CHAPTERS):
                await exists(tmp_path / f"reached-{number}")
                await becomes(lambda: free(disk) >= SIZE // 4)
                (tmp_path / f"go-{number}").touch()
            await agent.says("the spool is full: raw log is given up")
            fill(disk)
            scene.go()
            await scene.oracle.until_count("SELECT count(*) FROM state_version")
            (disk / "filler").unlink()
            scene.proxy.passes()
            shown = await scene.finished(task)
            assert (shown["status"], shown["exit_code"]) == ("failed", 1)
            current = await scene.server.client.get("/api/v1/workspaces/w/state-versions/current/download")
            assert current.content == state
            text = await scene.oracle.log(task)
            assert chapter(0, SIZE)[:1000] in text
            assert b"bytes dropped: spool full]" in text
            assert (await scene.call("GET", "/workspaces/w"))["lock"] is None
            scene.acts()
            await scene.server.until(await scene.server.task("w", "plan"), "succeeded")
            assert agent.process.returncode is None
