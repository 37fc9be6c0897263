"""The server of the demo: found again or told apart after whatever ended the last demo."""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from demo.processes import LOOK_EVERY, DemoFailed, environment, private, start, stop

PREFERRED_PORT = 8080
READY_WITHIN = 60.0
IN_USE = 75
"""The server's exit code when another one uses the data directory."""


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of the demo. It may be deleted whenever no demo runs."""

    root: Path

    @property
    def token_file(self) -> Path:
        return self.root / "admin-token"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    @property
    def pid_file(self) -> Path:
        return self.root / "server.pid"

    @property
    def agent_dir(self) -> Path:
        return self.root / "agent"

    @property
    def agent_token_file(self) -> Path:
        return self.root / "agent-token"

    @property
    def agent_log(self) -> Path:
        return self.root / "agent.log"

    def token(self) -> str:
        """The admin's token, made at the first start; nobody but the owner of the directory can read it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(self.token_file, "x", opener=private) as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        return self.token_file.read_text().strip()


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running_server(place: Place, env: Mapping[str, str]) -> Iterator[Server]:
    """Started, ready, and stopped when the body ends. Raises DemoFailed."""
    port = _free_port()
    place.token()
    settings = {
        "IAC_BIND": f"127.0.0.1:{port}",
        "IAC_DATA_DIR": str(place.root.absolute() / "server"),
        "IAC_ADMIN_TOKEN_FILE": str(place.token_file.absolute()),
    }
    process = start("iac.server", environment(env, settings), place.log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process, place)
        place.pid_file.write_text(f"{process.pid}\n")
        yield Server(url, process)
    finally:
        stop(process)
        if process.returncode != IN_USE:
            place.pid_file.unlink(missing_ok=True)


def _free_port() -> int:
    for wanted in (PREFERRED_PORT, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", wanted))
            return int(probe.getsockname()[1])
    raise DemoFailed("No TCP port on 127.0.0.1 is free.")


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], place: Place) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if (code := process.poll()) is not None:
            raise _did_not_start(code, place)
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5).is_success:
                return
        time.sleep(LOOK_EVERY)  # noqa: TID251 - this program has its one thread to itself
    raise DemoFailed(f"The server was not ready within {READY_WITHIN:g} s.", place.log)


def _did_not_start(code: int, place: Place) -> DemoFailed:
    if code != IN_USE:
        return DemoFailed(f"The server did not start (exit code {code}).", place.log)
    with suppress(OSError):
        pid = place.pid_file.read_text().strip()
        return DemoFailed(f"The server of an earlier demo still runs. Stop it with `kill {pid}`, then try again.")
    return DemoFailed(
        f"Another server uses {place.root.absolute()}. Stop it, or set IAC_DEMO_DIR to another directory."
    )
