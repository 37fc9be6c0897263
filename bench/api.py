"""How many requests the server answers, and how fast, when sixteen clients ask as fast as they can."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from bench.bare import configuration
from bench.load import Seen
from bench.phases import new_workspace
from bench.rows import Row, at_least, at_most, noted
from bench.server import Server
from iac.domain.bodies import TaskCreate, WorkspaceCreate

CONNECTIONS = 16
IN_THE_LIST = 100


def rows(server: Server, *, seconds: float) -> list[Row]:
    """Lists of a hundred workspaces, and single tasks."""
    new_workspace(server, "api-000", configuration(1))
    for number in range(1, IN_THE_LIST):
        server.client.create_workspace(WorkspaceCreate(name=f"api-{number:03}"))
    task = server.client.create_task("api-000", TaskCreate(action="plan"))
    for _ in server.client.follow_log(task.id):
        pass
    server.wait_until_idle()
    found = []
    for name, path in (
        ("API, one task", f"/api/v1/tasks/{task.id}"),
        (f"API, list of {IN_THE_LIST} workspaces", f"/api/v1/workspaces?limit={IN_THE_LIST}&search=api-"),
    ):
        seen = _under_load(server, path, seconds)
        found += [
            at_least(300, f"{name}: requests", seen.per_second, "/s"),
            at_most(100, f"{name}: 99th percentile with {CONNECTIONS} clients", seen.percentile(99), "ms"),
            noted(f"{name}: median with {CONNECTIONS} clients", seen.percentile(50), "ms"),
        ]
    return found


def _under_load(server: Server, path: str, seconds: float) -> Seen:
    load = [sys.executable, "-m", "bench.load", server.url + path, str(CONNECTIONS), str(seconds)]
    done = subprocess.run(load, env={**os.environ, "BENCH_TOKEN": server.token}, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Seen)
