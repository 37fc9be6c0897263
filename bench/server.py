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
from typing import TypeVar

import httpx
import msgspec

READY_WITHIN = 60.0
STOP_WITHIN = 30.0
LOOK_EVERY = 0.02
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, and a client that is its admin."""

    url: str
    token: str
    client: httpx.Client
    data_dir: Path

    def call(self, method: str, path: str, answer: type[T], body: object = None) -> T:
        """The decoded answer. Raises httpx.HTTPStatusError."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        response = self.client.request(method, path, content=content, headers=headers)
        response.raise_for_status()
        return msgspec.json.decode(response.content, type=answer)

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
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=120) as client:
            _wait_until_ready(client, process, log)
            yield Server(url, token, client, directory / "server")
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


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(LOOK_EVERY)  # noqa: TID251 - there is no loop in this program
    raise RuntimeError(f"The server did not become ready:\n{log.read_text(errors='replace')[-3000:]}")
