"""The server as its own process with a client: what a kill, a signal, and memory mean can only be seen from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio

from iac.settings import ServerSettings
from tests.harness.server import PATIENT, TOKEN, RunningServer

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Killable:
    """`python -m iac.server`, running, and a client of it."""

    process: trio.Process
    server: RunningServer
    log_file: Path

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """As a crash would: nothing of it runs on, nothing was told."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self, within: float = PATIENT) -> int:
        with trio.fail_after(within):
            return await self.process.wait()

    def memory(self, field: str = "VmHWM") -> int:
        """Bytes: the most it has ever had in memory (VmHWM), or has now (VmRSS)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        [line] = [line for line in lines if line.startswith(f"{field}:")]
        return int(line.split()[1]) * 1024

    def told(self) -> list[dict[str, Any]]:
        """The program's own log so far."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]


def processes_of(data_dir: Path, *, shims: bool = False) -> list[int]:
    """Every process that runs for a task of this server, however far it went away from it; their shims too, if asked for."""
    place = f"{data_dir.absolute()}/tasks/".encode()
    found = []
    for name in os.listdir("/proc"):
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes() if name.isdigit() else b""
            arguments = Path(f"/proc/{name}/cmdline").read_bytes() if name.isdigit() else b""
        except OSError:
            continue
        of_a_task = any(entry.startswith(b"TMPDIR=" + place) for entry in environment.split(b"\0"))
        if of_a_task or (shims and b"shim.py" in arguments and place in arguments):
            found.append(int(name))
    return found


def shifted(clock_off: float) -> list[str]:
    """What goes before a module's name to have it run where the wall clock is ahead by so much."""
    return ["tests.harness.shifted", str(clock_off)] if clock_off else []


@asynccontextmanager
async def killable_server(
    root: Path,
    database_url: str | None,
    *,
    env: Mapping[str, str] | None = None,
    program: str = "iac.server",
    clock_off: float = 0.0,
) -> AsyncIterator[Killable]:
    """The module `program`, started and answering; killed when the body ends. Its data are in `root`/data. Its host's wall
    clock is `clock_off` seconds ahead.
    """
    root.mkdir(parents=True, exist_ok=True)
    log_file = root / f"server-{len(list(root.glob('server-*')))}.log"
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT),
        "IAC_BIND": "127.0.0.1:0",
        "IAC_DATA_DIR": str(root / "data"),
        "IAC_ADMIN_TOKEN": TOKEN,
        "IAC_LOG_FORMAT": "json",
        **(env or {}),
    }
    if database_url is not None:
        given["IAC_DATABASE_URL"] = database_url
    with log_file.open("wb") as output:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", *shifted(clock_off), program],
            env=given,
            cwd=root,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = await _url(process, log_file)
        settings = ServerSettings(data_dir=root / "data")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            yield Killable(process, RunningServer(url, client, settings, trio.Event(), trio.Event()), log_file)
    except BaseException:
        # A test that fails must not leave a Terraform that waits for ever; one that goes on wants it to live.
        for pid in processes_of(root / "data"):
            os.kill(pid, signal.SIGKILL)
        raise
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _url(process: trio.Process, log_file: Path) -> str:
    with trio.fail_after(PATIENT):
        while True:
            for line in log_file.read_text().splitlines():
                if '"url"' in line:
                    return str(json.loads(line)["url"])
            assert process.returncode is None, log_file.read_text()
            await trio.sleep(0.02)
