"""What the system tests stage: configurations that wait for the test, stand-ins with manners, a look at the machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from iac.executor.leftovers import alive, start_time_of
from tests.fakes.fake_terraform import install, ledger_of
from tests.harness.killable import processes_of
from tests.harness.pauses import pauses
from tests.harness.server import PATIENT, RunningServer

ONE = 'resource "terraform_data" "a" {\n  input = "x"\n}\n'


@dataclass(frozen=True)
class Gate:
    """An apply that says when it is there, and waits to be let on."""

    root: Path

    @property
    def ready(self) -> Path:
        return self.root / "ready"

    @property
    def go(self) -> Path:
        return self.root / "go"

    def main(self, *, then: str = "true", first: bool = True) -> dict[str, str]:
        """Two resources: `first` is done at once, `second` runs until the gate opens, and `then` something more."""
        self.root.mkdir(parents=True, exist_ok=True)
        command = f"touch {self.ready}; while [ ! -e {self.go} ]; do sleep 0.05; done; {then}"
        depends = "  depends_on = [terraform_data.first]\n" if first else ""
        return {
            "main.tf": ('resource "terraform_data" "first" {}\n' if first else "")
            + f'resource "terraform_data" "second" {{\n{depends}  provisioner "local-exec" {{\n'
            f"    command = {json.dumps(command)}\n  }}\n}}\n"
        }

    async def reached(self) -> None:
        await exists(self.ready)

    def open(self) -> None:
        self.go.touch()


@dataclass(frozen=True)
class Stage:
    """A stand-in for Terraform on the PATH of a server; its manners may be changed between two tasks."""

    root: Path

    def set(self, **commands: Mapping[str, Any]) -> Stage:
        install(self.root / "bin", {"ledger": str(self.root / "ledger"), "commands": commands})
        return self

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.root / 'bin'}:/usr/bin:/bin"}

    def events(self, command: str) -> list[str]:
        return [entry["event"] for entry in ledger_of(self.root / "ledger") if entry["command"] == command]


async def exists(path: Path) -> None:
    await becomes(path.exists)


async def becomes(true: Callable[[], bool]) -> None:
    """Wait for something outside of this process, of which no event tells."""
    waits = pauses(0.01, 0.05)
    with trio.fail_after(PATIENT):
        while not true():  # noqa: ASYNC110
            await trio.sleep(next(waits))


async def cancel(
    server: RunningServer, task: int, *, force: bool = False, confirm: bool = False, expect: int = 200
) -> Any:
    body = {"force": force, "confirm": confirm}
    return await server.call("POST", f"/api/v1/tasks/{task}/cancel", json=body, expect=expect)


async def lock_of(server: RunningServer, workspace: str) -> Any:
    return (await server.call("GET", f"/api/v1/workspaces/{workspace}"))["lock"]


async def wait_of(server: RunningServer, task: int, code: str) -> dict[str, Any]:
    """Why the task waits, as soon as it is this."""
    waits = pauses()
    with trio.fail_after(PATIENT):
        while True:
            shown = await server.call("GET", f"/api/v1/tasks/{task}")
            if shown["wait"] is not None and shown["wait"]["code"] == code:
                wait: dict[str, Any] = shown["wait"]
                return wait
            await trio.sleep(next(waits))


async def state_of(server: RunningServer, workspace: str) -> dict[str, Any]:
    """The current state's content."""
    found: dict[str, Any] = await server.call("GET", f"/api/v1/workspaces/{workspace}/state-versions/current/download")
    return found


def statuses(state: dict[str, Any]) -> dict[str, str | None]:
    """Of each resource's only instance: None or "tainted"."""
    return {resource["name"]: resource["instances"][0].get("status") for resource in state["resources"]}


def runs(pid: int) -> bool:
    """Whether the process still does anything: a zombie only waits for somebody to ask how it ended."""
    return alive(pid, start_time_of(pid) or 0)


async def all_cleared(data_dir: Path) -> None:
    """No work directory is left, and nobody who worked in one."""
    tasks = data_dir / "tasks"
    await becomes(lambda: not tasks.exists() or not any(tasks.iterdir()))
    assert processes_of(data_dir) == []
