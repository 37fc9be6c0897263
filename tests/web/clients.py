"""A server in a thread of its own, and clients that hold every answer against what the route table declares."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias

import asyncpg
import httpx
import trio

from iac.web.routing import JSON
from tests.harness.server import PATIENT, TOKEN, RunningServer, running_server
from tests.web.requests_of import BY_NAME, check, fresh, operation_of

Json: TypeAlias = Any
"""What is decoded, and what httpx makes a request of."""
ROLES = ("viewer", "operator", "admin")
REAL = ">= 1.5, < 9"
"""The real Terraform of this machine; the fake ones are of version 9.9."""
PLAIN, STUCK_PLAN, STUCK_APPLY, SILENT = "9.9.1", "9.9.2", "9.9.3", "9.9.4"
"""Versions of the fake Terraform: one does what it is told, the others plan, apply, or tell their version for ever."""
BEGUN = "it has begun, and would hear a signal"
"""What those that plan or apply for ever say first."""
NOBODY = "nobody"
"""A pool without agents."""
OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Event:
    """One event of a task's stream; `data` is decoded, a log's bytes too."""

    name: str
    data: dict[str, Any]
    id: int | None

    @property
    def bytes(self) -> bytes:
        return base64.b64decode(self.data["data"])


class Client:
    """One token's view of the server. Paths are given without `/api/v1`."""

    def __init__(self, url: str, token: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def send(self, method: str, path: str, **request: Json) -> httpx.Response:
        """The answer, checked against what is declared."""
        url = path if path in ("/healthz", "/readyz") else f"/api/v1{path}"
        response = self.http.request(method, url, **request)
        operation = operation_of(method, response.request.url.path)
        if operation is not None:
            check(response, operation)
        return response

    def call(self, method: str, path: str, status: int = 200, code: str | None = None, **request: Json) -> Json:
        """The decoded answer; of an error what is inside `error`."""
        response = self.send(method, path, **request)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text[:2000]}"
        if status < 400:
            is_json = response.headers["Content-Type"] == JSON and response.content
            return response.json() if is_json else response.content
        error = response.json()["error"]
        assert code is None or error["code"] == code, error
        return error

    def get(self, path: str, status: int = 200, **request: Json) -> Json:
        return self.call("GET", path, status, **request)

    def post(self, path: str, status: int = 200, **request: Json) -> Json:
        return self.call("POST", path, status, **request)

    def put(self, path: str, status: int = 200, **request: Json) -> Json:
        return self.call("PUT", path, status, **request)

    def patch(self, path: str, status: int = 200, **request: Json) -> Json:
        return self.call("PATCH", path, status, **request)

    def delete(self, path: str, status: int = 204, **request: Json) -> Json:
        return self.call("DELETE", path, status, **request)

    def workspace(self, files: Mapping[str, str] | None = None, **settings: object) -> str:
        """The name of a new workspace, with a configuration if `files` are given."""
        name = str(settings.pop("name", None) or fresh("w"))
        by_agents = settings.pop("execution_mode", "local") == "agent"
        self.post("/workspaces", 201, json={"name": name, "terraform_version": REAL, **settings})
        if by_agents:
            self.to_agents(name)
        if files is not None:
            self.put(f"/workspaces/{name}/configuration", json={"files": dict(files)})
        return name

    def to_agents(self, workspace: str) -> None:
        """Gives the workspace to a pool that has no agents: whatever is asked of it waits. Needs an admin."""
        self.send("POST", "/agent-pools", json={"name": NOBODY})
        self.put(f"/agent-pools/{NOBODY}/workspaces/{workspace}")
        self.patch(f"/workspaces/{workspace}", json={"execution_mode": "agent", "pool_id": NOBODY})

    def task(self, workspace: str, action: str, **more: object) -> int:
        made = self.post(f"/workspaces/{workspace}/tasks", 201, json={"action": action, **more})
        return int(made["id"])

    def events(
        self, task_id: int, *, offset: int = 0, last_event_id: int | None = None
    ) -> Generator[Event, None, None]:
        """The task's stream; close the iterator to leave it early."""
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        url = f"/api/v1/tasks/{task_id}/logs/stream"
        with self.http.stream("GET", url, params={"offset": offset}, headers=headers) as response:
            assert response.status_code == 200
            check(response, BY_NAME["stream_log"])
            yield from _events(response.iter_lines())

    def until(self, task_id: int, *statuses: str) -> dict[str, Any]:
        """The task, as soon as its stream tells one of these statuses."""
        stream = self.events(task_id)
        for event in stream:
            if event.name != "log" and event.data["status"] in statuses:
                stream.close()
                task: dict[str, Any] = self.get(f"/tasks/{task_id}")
                return task
        raise AssertionError(f"never {statuses}: {self.get(f'/tasks/{task_id}')}\n{self.log(task_id).decode()}")

    def until_stuck(self, task_id: int) -> None:
        """Returns when the fake Terraform of this task says that it has begun."""
        stream = self.events(task_id)
        seen = b""
        for event in stream:
            seen += event.bytes if event.name == "log" else b""
            if BEGUN.encode() in seen:
                stream.close()
                return
        raise AssertionError(seen)

    def waiting(self, task_id: int, code: str) -> dict[str, Any]:
        """The task, once it says that it waits for this; why one waits is told by no event."""
        deadline = monotonic() + PATIENT
        while True:
            task: dict[str, Any] = self.get(f"/tasks/{task_id}")
            if task["wait"] is not None and task["wait"]["code"] == code:
                return task
            assert monotonic() < deadline, task

    def log(self, task_id: int) -> bytes:
        """The whole log as it is stored now."""
        data = b""
        while part := self.get(f"/tasks/{task_id}/logs", params={"offset": len(data)}):
            data += part
        return data

    def pages(self, path: str, **params: Json) -> Iterator[dict[str, Any]]:
        """Every page of a list."""
        cursor: str | None = None
        while True:
            page = self.get(path, params={**params, **({"cursor": cursor} if cursor is not None else {})})
            yield page
            cursor = page["next_cursor"]
            if cursor is None:
                return


def _events(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "event" in fields:
                number = fields.get("id")
                yield Event(
                    fields["event"],
                    json.loads(fields["data"]),
                    None if number is None else int(number.partition(":")[0]),
                )
            fields = {}


@dataclass(frozen=True)
class Served:
    """A server that runs in another thread."""

    running: RunningServer
    token: trio.lowlevel.TrioToken
    database_url: str
    admin: Client
    operator: Client
    viewer: Client

    @property
    def url(self) -> str:
        return self.running.url

    def of(self, role: str) -> Client:
        client: Client = getattr(self, role)
        return client

    def in_loop(self, event: trio.Event) -> None:
        """Sets an event of the server's."""
        self.token.run_sync_soon(event.set)

    def sql(self, statement: str, *values: object) -> None:
        """Puts the database into a condition that would take a crash, or a year, to come to by itself."""

        self.rows(statement, *values)

    def rows(self, statement: str, *values: object) -> list[Any]:
        """What the database has."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.database_url)
            try:
                return list(await connection.fetch(statement, *values))
            finally:
                await connection.close()

        return asyncio.run(run())


@contextmanager
def served(data_dir: Path, database_url: str, **settings: Json) -> Iterator[Served]:
    """A server in a thread, and a client for each role."""
    started: Future[tuple[RunningServer, trio.lowlevel.TrioToken, trio.Event]] = Future()

    async def main() -> None:
        async with running_server(data_dir, database_url, **settings) as server:
            enough = trio.Event()
            started.set_result((server, trio.lowlevel.current_trio_token(), enough))
            await enough.wait()

    with ThreadPoolExecutor(1) as threads:
        ended: Future[Any] = threads.submit(trio.run, main)
        wait((started, ended), PATIENT, FIRST_COMPLETED)
        if ended.done():
            ended.result()
        server, token, enough = started.result()
        clients = _clients(server.url)
        try:
            yield Served(server, token, database_url, **clients)
        finally:
            for client in clients.values():
                client.http.close()
            token.run_sync_soon(enough.set)
            ended.result(PATIENT)


def _clients(url: str) -> dict[str, Client]:
    admin = Client(url, TOKEN)
    tokens = {role: admin.post("/tokens", 201, json={"name": role, "role": role})["token"] for role in ROLES[:2]}
    return {"admin": admin, **{role: Client(url, token) for role, token in tokens.items()}}
