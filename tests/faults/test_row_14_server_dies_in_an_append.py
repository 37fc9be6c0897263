"""Row 14: the server is killed when log bytes are on its disk and not yet committed."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import trio

from iac.store import logs
from iac.store.database import Database, open_database
from iac.store.log_cache import LogCache
from tests.fakes.terraform.output import chapter
from tests.harness.agent_process import agent_process
from tests.harness.agents import a_pool, a_workspace
from tests.harness.killable import killable_server
from tests.harness.server import PATIENT
from tests.system.scenes import Stage, exists

BYTES = 6 << 20
"""More than an agent gathers before it sends."""


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def some_log(database: Database, task: int) -> None:
    """Until something of the task's log is acknowledged."""
    with trio.fail_after(PATIENT):
        while not any(stream.length for stream in await database.read(logs.streams, task)):  # noqa: ASYNC110
            await trio.sleep(0.02)


async def test_row_14_bytes_that_were_written_and_never_acknowledged_are_cut_off_and_sent_again(
    tmp_path: Path, database_url: str
) -> None:
    chapters = [
        {"seed": seed, "bytes": BYTES, "reached": str(tmp_path / f"reached-{seed}"), "go": str(tmp_path / f"go-{seed}")}
        for seed in (1, 2)
    ]
    stage = Stage(tmp_path).set(plan={"chapters": chapters})
    env = {"IAC_BIND": f"127.0.0.1:{a_free_port()}", "DIE_AT_COMMIT": str(tmp_path / "die")}
    async with open_database(database_url, pool_size=1) as database:
        async with killable_server(tmp_path, database_url, env=env, program="tests.harness.dying_server") as program:
            server = program.server
            token = await a_pool(server)
            await a_workspace(server)
            async with agent_process(tmp_path / "agents", server.url, token, path=stage.env["PATH"]):
                task = await server.task("w", "plan")
                await exists(tmp_path / "reached-1")
                await some_log(database, task)
                (tmp_path / "die").touch()
                (tmp_path / "go-1").touch()
                assert await program.ended() == -signal.SIGKILL

                [stream] = await database.read(logs.streams, task)
                file = LogCache(database, tmp_path / "data" / "logs").bytes.path(stream)
                assert file.stat().st_size > stream.length > 0, "it died where it should"

                again = killable_server(tmp_path, database_url, env=env, program="tests.harness.scaled_server")
                async with again as survivor:
                    (tmp_path / "go-2").touch()
                    await survivor.server.until(task, "succeeded")
                    log = await survivor.server.log(task)
                    for seed in (1, 2):
                        assert log.count(chapter(seed, BYTES)) == 1
                    [stream] = await database.read(logs.streams, task)
                    assert (stream.state, stream.length) == ("complete", len(log))
                    assert file.read_bytes() == log
