"""Crowds of agents (see bench.crowd), started beside a benchmark and listened to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import trio

from bench.crowd import Members, Told, What
from bench.pool import Pool
from bench.server import Server

PATIENT = 300.0
"""Seconds after which a benchmark does not wait any longer for anything."""
PIECE = 256 * 1024


class Crowd:
    """What the agents told, and how many of them are connected."""

    def __init__(self) -> None:
        self.connected = 0
        self._told: dict[tuple[What, int], float] = {}
        self._last: dict[What, float] = {}
        self._counts: dict[What, int] = {}
        self._heard = trio.Event()
        self._processes: list[trio.Process] = []

    async def at(self, what: What, task: int) -> float:
        """When it happened to this task, as soon as it has."""
        with trio.fail_after(PATIENT):
            while (what, task) not in self._told:
                await self._heard.wait()
        return self._told[what, task]

    async def until(self, what: What, count: int) -> float:
        """When it has happened so often: the time of the last."""
        with trio.fail_after(PATIENT):
            while self._counts.get(what, 0) < count:
                await self._heard.wait()
        return self._last[what]

    def count(self, what: What) -> int:
        return self._counts.get(what, 0)

    async def release(self) -> None:
        """Lets the stubs end what they hold."""
        for process in self._processes:
            assert process.stdin is not None
            await process.stdin.send_all(b"release\n")

    async def listen(self, process: trio.Process) -> None:
        """Hears one of its processes until it ends."""
        self._processes.append(process)
        assert process.stdout is not None
        rest = b""
        async for piece in process.stdout:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._hear(msgspec.json.decode(line, type=Told))
            heard, self._heard = self._heard, trio.Event()
            heard.set()

    def _hear(self, told: Told) -> None:
        self._told[told.what, told.task] = told.at
        self._last[told.what] = max(told.at, self._last.get(told.what, 0.0))
        self._counts[told.what] = self._counts.get(told.what, 0) + 1


@asynccontextmanager
async def crowd(
    server: Server, pool: Pool, names: Sequence[str], place: Path, *, processes: int, hold: bool = False
) -> AsyncIterator[Crowd]:
    """Enrolled agents, spread over so many processes; ended with the body."""
    gathered = Crowd()
    async with trio.open_nursery() as nursery:
        for share in (names[number::processes] for number in range(processes)):
            members = Members(server.url, pool.token, str(place), list(share), hold)
            start = partial(
                trio.run_process,  # noqa: TID251 - this is no Terraform
                [sys.executable, "-m", "bench.crowd"],
                env={"PATH": os.environ.get("PATH", os.defpath)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                check=False,
            )
            process: trio.Process = await nursery.start(start)
            nursery.start_soon(gathered.listen, process)
            assert process.stdin is not None
            await process.stdin.send_all(msgspec.json.encode(members) + b"\n")
        yield gathered
        nursery.cancel_scope.cancel()
