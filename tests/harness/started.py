"""The server as its operator starts it: `python -m iac.server`, its environment, its output, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.abc

ROOT = Path(__file__).parent.parent.parent
PATIENT = 150.0
"""Seconds after which a program that neither serves nor ends fails the test."""


@dataclass
class Program:
    """A process, all that it wrote so far, and where it serves."""

    process: trio.Process
    out: bytearray = field(default_factory=bytearray)
    log: bytearray = field(default_factory=bytearray)
    url: str = ""
    serving: trio.Event = field(default_factory=trio.Event)

    @property
    def output(self) -> str:
        return (self.out + self.log).decode()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.decode().splitlines() if line.startswith("{")]

    async def ended(self) -> int:
        with trio.fail_after(PATIENT):
            return await self.process.wait()


def environment(**settings: str) -> dict[str, str]:
    """Nothing of this process' environment but where programs are; a port of its own; a log that can be read."""
    return {"PATH": os.environ["PATH"], "IAC_BIND": "127.0.0.1:0", "IAC_LOG_FORMAT": "json", **settings}


@asynccontextmanager
async def running_program(
    settings: Mapping[str, str], *, argv: tuple[str, ...] = (sys.executable, "-m", "iac.server"), **options: object
) -> AsyncIterator[Program]:
    """The program, once it serves; ended by SIGTERM with the body, if it has not ended before.

    Fails the test when it ends instead of serving.
    """
    async with trio.open_nursery() as nursery:
        start = partial(
            trio.lowlevel.open_process,
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(**settings),
            **{"cwd": ROOT, **options},
        )
        program = Program(await start())
        nursery.start_soon(_read, program.process.stdout, program.out, None)
        nursery.start_soon(_read, program.process.stderr, program.log, program)
        try:
            with trio.fail_after(PATIENT):
                await program.serving.wait()
            assert program.url, f"it ended before it served:\n{program.output}"
            yield program
        finally:
            with trio.CancelScope(shield=True):
                await _end(program)


async def _read(stream: trio.abc.ReceiveStream | None, into: bytearray, program: Program | None) -> None:
    assert stream is not None
    async for chunk in stream:
        into += chunk
        if program is not None and not program.url:
            served = [record for record in _whole_records(into) if record["message"] == "serving"]
            if served:
                program.url = served[0]["url"]
                program.serving.set()
    if program is not None:
        program.serving.set()


def _whole_records(log: bytearray) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.decode().split("\n")[:-1] if line.startswith("{")]


async def _end(program: Program) -> None:
    if program.process.returncode is None:
        program.process.terminate()
    with trio.move_on_after(PATIENT) as late:
        await program.process.wait()
    if late.cancelled_caught:
        program.process.kill()
        await program.process.wait()
        raise AssertionError(f"it did not end when it was told to:\n{program.output}")


@dataclass(frozen=True)
class FailedStart:
    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """What stands below the log, for the one who started it."""
        return self.err.rstrip("\n").rpartition("\n")[2]


async def failed_start(
    settings: Mapping[str, str], *, argv: tuple[str, ...] = (sys.executable, "-m", "iac.server"), **options: object
) -> FailedStart:
    """How the program ended that cannot start."""
    chosen: dict[str, Any] = {"cwd": ROOT, **options}
    with trio.fail_after(PATIENT):
        done = await trio.run_process(  # noqa: TID251 - no Terraform is behind this one
            argv,
            env=environment(**settings),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            **chosen,
        )
    return FailedStart(done.returncode, done.stdout.decode(), done.stderr.decode())
