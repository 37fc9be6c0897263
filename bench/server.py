"""A server as its operators run it: a process of its own, with a data directory and a database of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from iac.cli.client import ApiClient

READY_WITHIN = 60.0
STOP_WITHIN = 30.0
LOOK_EVERY = 0.02


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, and a client that is its admin."""

    url: str
    token: str
    client: ApiClient
    data_dir: Path
    pid: int

    def wait_until_idle(self) -> None:
        """Until the last task's directory is gone: cleaning up must not slow down what is measured next."""
        directory, deadline = self.data_dir / "tasks", time.monotonic() + READY_WITHIN
        while directory.is_dir() and any(directory.iterdir()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{directory} does not become empty")
            time.sleep(LOOK_EVERY)  # noqa: TID251 - there is no loop in this program


@contextmanager
def running_server(directory: Path) -> Iterator[Server]:
    """Started with the settings that everybody gets, stopped when the body ends. Raises RuntimeError with its log."""
    port, token = _free_port(), secrets.token_urlsafe(32)
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "IAC_BIND": f"127.0.0.1:{port}",
        "IAC_DATA_DIR": str(directory / "server"),
        "IAC_ADMIN_TOKEN": token,
    }
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "iac.server"], env=env, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        with ApiClient(url, token) as client:
            _wait_until_ready(url, process, log)
            yield Server(url, token, client, directory / "server", process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(LOOK_EVERY)  # noqa: TID251 - there is no loop in this program
    raise RuntimeError(f"The server did not become ready:\n{log.read_text(errors='replace')[-3000:]}")
