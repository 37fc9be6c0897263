"""A host with an agent on it: `python -m iac.agent` in a process of its own, and the Terraform that it finds there."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench import stand_in
from bench.pool import API, Pool
from bench.server import LOOK_EVERY, Server
from iac.domain.pool_bodies import PoolView
from iac.executor.binaries import Binary

T = TypeVar("T")
PATIENT = 120.0


@dataclass(frozen=True, slots=True)
class Host:
    """`place` is where the Terraform on it leaves its notes (see bench.stand_in)."""

    pid: int
    place: Path

    def noted(self, name: str) -> float:
        """What it noted under this name, as soon as it has; the note is taken away."""
        path = self.place / name
        until(path.exists)
        value = float(path.read_text())
        path.unlink()
        return value


@contextmanager
def running_agent(server: Server, pool: Pool, directory: Path, terraform: Binary, manner: str) -> Iterator[Host]:
    """An agent that is connected, with a Terraform of these manners; stopped when the body ends."""
    place = directory / "notes"
    place.mkdir(parents=True)
    _install(directory / "terraform" / terraform.version, place, terraform, manner)
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "IAC_API_ENDPOINT": server.url,
        "IAC_AGENT_TOKEN": pool.token,
        "IAC_AGENT_NAME": "host",
        "IAC_DATA_DIR": str(directory / "agent"),
        "IAC_TERRAFORM_DIR": str(directory / "terraform"),
    }
    with (directory / "agent.log").open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "iac.agent"], env=env, stdout=output, stderr=output)
    try:
        until(lambda: server.client.call("GET", f"{API}/{pool.id}", into=PoolView).agents_online > 0)
        yield Host(process.pid, place)
    finally:
        process.terminate()
        process.wait()


def until(condition: Callable[[], bool]) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + PATIENT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the benchmark waits for does not come")
        time.sleep(LOOK_EVERY)  # noqa: TID251 - there is no loop in this program


def _install(directory: Path, place: Path, terraform: Binary, manner: str) -> None:
    directory.mkdir(parents=True)
    command = [sys.executable, "-I", "-S", stand_in.__file__, manner, str(place), shlex.join(terraform.argv)]
    program = directory / "terraform"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    program.chmod(0o755)
