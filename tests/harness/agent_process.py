"""The agent as its own process, with the times of tests.harness.scaled; to be killed by its pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.harness.killable import PROJECT, processes_of, shifted
from tests.harness.scaled import as_environment
from tests.harness.server import PATIENT


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """An agent that was started; its data are in `data_dir`, what it says in `log_file`."""

    process: trio.Process
    data_dir: Path
    log_file: Path

    @property
    def said(self) -> str:
        return self.log_file.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """As a crash would; what it started lives on."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """As an operator would; its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self, within: float = PATIENT) -> int:
        with trio.fail_after(within):
            return await self.process.wait()

    async def says(self, text: str, times: int = 1) -> None:
        """Until this was in its log so often."""
        with trio.fail_after(PATIENT):
            while self.said.count(text) < times:  # noqa: ASYNC110 - another process writes it
                await trio.sleep(0.02)


@asynccontextmanager
async def agent_process(
    root: Path,
    endpoint: str,
    token: str,
    *,
    path: str,
    name: str = "first",
    data_dir: Path | None = None,
    times: Mapping[str, float] | None = None,
    env: Mapping[str, str] | None = None,
    program: str = "tests.harness.scaled_agent",
    clock_off: float = 0.0,
) -> AsyncIterator[AgentProcess]:
    """The module `program`, started; killed when the body ends if it still runs. `path` is where it looks for terraform. Its
    host's wall clock is `clock_off` seconds ahead.
    """
    root.mkdir(parents=True, exist_ok=True)
    data_dir = data_dir or root / name
    log_file = root / f"{name}-{len(list(root.glob(f'{name}-*.log')))}.log"
    given = {
        "PATH": path,
        "PYTHONPATH": str(PROJECT),
        "IAC_API_ENDPOINT": endpoint,
        "IAC_AGENT_TOKEN": token,
        "IAC_AGENT_NAME": name,
        "IAC_DATA_DIR": str(data_dir),
        "IAC_DRAIN_SECONDS": "10",
        **as_environment(times or {}),
        **(env or {}),
    }
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
        yield AgentProcess(process, data_dir, log_file)
    except BaseException:
        for pid in processes_of(data_dir):
            os.kill(pid, signal.SIGKILL)
        raise
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
