"""A whole server inside a test: real sockets, real PostgreSQL, real processes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

from iac.domain.agent_session import Times
from iac.domain.ladder import Ladder
from iac.domain.limits import Defaults, Limits
from iac.executor.run import ExecutorPolicy
from iac.server import run_server
from iac.settings import ServerSettings
from tests.harness.pauses import pauses

TOKEN = "admin-token-of-the-tests"
PATIENT = 150.0
"""Seconds after which a test that waits for a thing gives up."""
QUICK = ExecutorPolicy(
    plan_ladder=Ladder(grace=1.0, second=0.5), apply_ladder=Ladder(grace=2.0, second=0.5), log_interval=0.02
)


def limits_of(policy: ExecutorPolicy) -> Defaults:
    """The server says how patient executors are, and in tests that is what the policy says. Hours for all the rest."""
    return Defaults(
        plan=Limits(timeout_s=7200, grace_s=policy.plan_ladder.grace),
        apply=Limits(timeout_s=7200, grace_s=policy.apply_ladder.grace),
    )


def environment() -> dict[str, str]:
    """What the server sees of the machine: enough to find programs."""
    return {"PATH": os.environ["PATH"]}


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers, with a client that is its admin."""

    url: str
    client: httpx.AsyncClient
    settings: ServerSettings
    stop: trio.Event
    hurry: trio.Event

    async def call(self, method: str, path: str, *, expect: int | None = None, **request: Any) -> Any:
        """The decoded answer; without `expect` any 2xx will do."""
        response = await self.client.request(method, path, **request)
        wanted = response.is_success if expect is None else response.status_code == expect
        assert wanted, f"{method} {path}: {response.status_code} {response.text[:2000]}"
        if response.headers.get("content-type", "").startswith("application/json") and response.content:
            return response.json()
        return response.content

    async def workspace(self, name: str = "w", files: Mapping[str, str] | None = None, **settings: object) -> str:
        """The id of a new workspace, with a configuration if `files` are given."""
        made = await self.call("POST", "/api/v1/workspaces", json={"name": name, **settings})
        if files is not None:
            await self.call("PUT", f"/api/v1/workspaces/{name}/configuration", json={"files": dict(files)})
        return str(made["id"])

    async def task(self, workspace: str, action: str, **more: object) -> int:
        made = await self.call("POST", f"/api/v1/workspaces/{workspace}/tasks", json={"action": action, **more})
        return int(made["id"])

    async def until(self, task_id: int, *statuses: str) -> dict[str, Any]:
        """The task, as soon as it has one of these statuses; every change of it is an event of its log stream."""
        waits = pauses()
        with trio.fail_after(PATIENT):
            while True:
                task: dict[str, Any] = await self.call("GET", f"/api/v1/tasks/{task_id}")
                if task["status"] in statuses:
                    return task
                assert task["status"] not in ("failed", "cancelled", "succeeded"), task
                await trio.sleep(next(waits))

    async def log(self, task_id: int) -> bytes:
        """The whole log as it is stored now."""
        data, offset = b"", 0
        while True:
            response = await self.client.get(f"/api/v1/tasks/{task_id}/logs", params={"offset": offset})
            assert response.status_code == 200, response.text
            data += response.content
            offset = int(response.headers["X-IAC-Next-Offset"])
            if not response.content:
                return data


@asynccontextmanager
async def running_server(
    data_dir: Path,
    database_url: str | None,
    *,
    policy: ExecutorPolicy = QUICK,
    times: Times | None = None,
    env: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[RunningServer]:
    """A server on a port of its own; stopped, in a hurry, when the body ends."""
    usual = {"bind": "127.0.0.1:0", "data_dir": data_dir, "database_url": database_url, "admin_token": TOKEN}
    chosen = ServerSettings(**{**usual, "limits": limits_of(policy), **settings})
    stop, hurry = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        run = partial(
            run_server,
            chosen,
            environment() if env is None else env,
            stop=stop,
            hurry=hurry,
            policy=policy,
            times=times,
        )
        urls: list[str] = await nursery.start(run)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        try:
            async with httpx.AsyncClient(base_url=urls[0], headers=headers, timeout=30) as client:
                yield RunningServer(urls[0], client, chosen, stop, hurry)
        finally:
            stop.set()
            hurry.set()
