"""The server goes away and comes back, and nobody who watches loses or doubles a byte."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from tests.cli.running import CommandLine, in_background, read_until
from tests.fakes.fake_terraform import install
from tests.harness.server import PATIENT, RunningServer, running_server

FLOOD = 600_000
"""Bytes: more than the server tells in one event."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def occupy(server: RunningServer, programs: Path) -> None:
    """A plan that does not end keeps every apply in the queue."""
    ready = programs.with_name("ready")
    install(programs, {"commands": {"plan": {"sleep": "forever", "ready_file": str(ready)}}})
    await server.workspace("other", {"main.tf": ""})
    await server.task("other", "plan")
    await until_as_long(ready, 0)


async def until_as_long(path: Path, size: int) -> None:
    with trio.fail_after(PATIENT):
        while not path.exists() or path.stat().st_size < size:  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.02)


async def test_watchers_survive_a_restart_of_the_server(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    programs, bind = tmp_path / "bin", f"127.0.0.1:{free_port()}"
    env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    server_again = partial(running_server, tmp_path / "data", database_url, env=env, bind=bind)
    iac = iac.but(url=f"http://{bind}", workspace="w")
    applied, followed = tmp_path / "applied", tmp_path / "followed"
    with ExitStack() as processes:
        async with server_again() as server:
            await occupy(server, programs)
            install(programs, {"commands": {"plan": {"flood_bytes": FLOOD}}})
            await server.workspace("w", {"main.tf": ""})
            apply = ("run", "apply", "--auto-approve", "--no-upload")
            run = processes.enter_context(in_background(iac, *apply, out=applied))
            await trio.to_thread.run_sync(read_until, run.stderr, b"waits: An apply runs alone")
            task = (await server.call("GET", "/api/v1/workspaces/w/tasks"))["items"][0]["id"]
            follow = ("task", "logs", str(task), "--follow", "--raw")
            logs = processes.enter_context(in_background(iac, *follow, out=followed))
            await until_as_long(followed, len(await server.log(task)))
            assert applied.stat().st_size >= FLOOD
        async with server_again() as server:
            await trio.to_thread.run_sync(read_until, logs.stderr, b"Lost the connection")
            assert await trio.to_thread.run_sync(run.wait) == 0
            assert await trio.to_thread.run_sync(logs.wait) == 0
            assert followed.read_bytes() == await server.log(task)
    told = applied.read_text()
    assert told.count("x" * 79) == FLOOD // 80
    assert told.count("Apply complete!") == 1
