"""Two agents plan for two workspaces at the same time while the server is killed and comes back: nothing is lost."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from iac.store import logs
from iac.store.database import open_database
from tests.fakes.fake_terraform import install, ledger_of
from tests.fakes.terraform.output import chapter
from tests.harness.agents import a_pool, a_workspace
from tests.harness.killable import PROJECT, killable_server
from tests.harness.server import PATIENT, RunningServer
from tests.system.scenes import exists

CHAPTER = 300_000
CHAPTERS = ("before", "while it is away", "after")


@dataclass(frozen=True)
class Author:
    """An agent's process with a Terraform of its own that tells a story in chapters, each when it is told to."""

    root: Path
    seed: int

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    def reached(self, number: int) -> Path:
        return self.root / f"reached-{number}"

    def go_on(self, number: int) -> None:
        (self.root / f"go-{number}").touch()

    @property
    def story(self) -> bytes:
        return b"".join(chapter(self.seed + number, CHAPTER) for number in range(len(CHAPTERS)))

    def install(self) -> Path:
        told = [
            {
                "seed": self.seed + number,
                "bytes": CHAPTER,
                "reached": str(self.reached(number)),
                "go": str(self.root / f"go-{number}"),
            }
            for number in range(len(CHAPTERS))
        ]
        scenario = {"version": "1.11.4", "ledger": str(self.ledger), "commands": {"plan": {"chapters": told}}}
        return install(self.root / "bin", scenario)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def at_work(author: Author, url: str, token: str) -> AsyncIterator[trio.Process]:
    """The agent, killed at the end if it still runs."""
    binary = author.install()
    env = {
        "PATH": f"{binary.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "IAC_API_ENDPOINT": url,
        "IAC_AGENT_TOKEN": token,
        "IAC_AGENT_NAME": author.root.name,
        "IAC_DATA_DIR": str(author.root / "data"),
    }
    with (author.root / "agent.log").open("wb") as output:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "iac.agent"], env=env, stdout=output, stderr=subprocess.STDOUT, cwd=author.root
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def told_by_terraform(log: bytes) -> bytes:
    """What the story's own lines are, without the stage marks and what Terraform says besides."""
    return b"".join(line for line in log.splitlines(keepends=True) if line.startswith(b"ch"))


async def is_whole(server: RunningServer, database_url: str, task: int, author: Author) -> None:
    """The same sha256 at the generator, in the store, and in the download."""
    download = await server.log(task)
    assert hashlib.sha256(told_by_terraform(download)).digest() == hashlib.sha256(author.story).digest()
    async with open_database(database_url) as database:
        [stream] = await database.read(logs.streams, task)
    assert (stream.state, stream.length) == ("complete", len(download))
    assert stream.sha256 == hashlib.sha256(download).hexdigest()


async def test_two_agents_go_on_while_the_server_is_killed_and_nothing_is_lost(
    tmp_path: Path, database_url: str
) -> None:
    bind = {"IAC_BIND": f"127.0.0.1:{free_port()}", "IAC_LOCAL_EXECUTOR": "off"}
    authors = [Author(tmp_path / "one", 100), Author(tmp_path / "two", 200)]
    async with AsyncExitStack() as agents:
        async with killable_server(tmp_path / "server", database_url, env=bind) as program:
            server = program.server
            processes = []
            for author in authors:
                author.root.mkdir()
                name = author.root.name
                token = await a_pool(server, f"pool-{name}")
                await a_workspace(server, f"w-{name}", f"pool-{name}")
                processes.append(await agents.enter_async_context(at_work(author, server.url, token)))
            tasks = [await server.task(f"w-{author.root.name}", "plan") for author in authors]
            for author in authors:
                await exists(author.reached(0))
            await program.kill()
        for author in authors:  # a chapter that nobody can be told now
            author.go_on(0)
        for author in authors:
            await exists(author.reached(1))
        async with killable_server(tmp_path / "server", database_url, env=bind) as program:
            server = program.server
            for author in authors:
                author.go_on(1)
                await exists(author.reached(2))
                author.go_on(2)
            with trio.fail_after(PATIENT):
                for task, author in zip(tasks, authors, strict=True):
                    done = await server.until(task, "succeeded", "failed")
                    assert (done["status"], done["attempt"]) == ("succeeded", 1), done
                    await is_whole(server, database_url, task, author)
                    plans = [line for line in ledger_of(author.ledger) if line["command"] == "plan"]
                    assert [line["event"] for line in plans] == ["start", "stop"]
            assert all(process.returncode is None for process in processes)
