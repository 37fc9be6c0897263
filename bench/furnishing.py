"""A platform that has been in use for long: 1,000 workspaces, 10,000 tasks, pools and agents, put there by a few statements.

Beside them one workspace is real: it has run Terraform, and a plan of it waits for a decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from bench.bare import configuration
from bench.phases import new_workspace
from bench.pool import database_of
from bench.server import Server
from iac.domain.archives import File, write_archive
from iac.domain.bodies import TaskCreate, TaskView, VariableCreate
from iac.store import log_files
from iac.store.database import Connection, open_database

T = TypeVar("T")
STATEMENTS = Path(__file__).parent / "furnishing.sql"
WITHIN = 120.0
"""Seconds after which putting it there is given up."""
RESOURCES, VARIABLES = 200, 40
SHOWN = "payments-prod"

_TASK = """
INSERT INTO task (workspace_id, action, phase, status, outcome, execution_mode, auto_apply, created_by, bundle_digest,
    bundle, terraform_version, started_at, finished_at)
SELECT id, 'plan', 'plan', 'succeeded', 'planned_and_finished', 'local', false, 'ci', 'd', '', '1.11.4', now(), now()
FROM workspace WHERE name = :name RETURNING id"""
_LOG = """
INSERT INTO log_stream (task_id, fence, phase, length, state, sha256, persisted, verified, closed_at)
VALUES (:task, nextval('fence'), 'plan', :length, 'complete', :sha256, :length, true, now()) RETURNING fence, created_at"""


@dataclass(frozen=True, slots=True)
class Furnished:
    """What there is to look at: a task that is over, one that waits for a decision, a pool and an agent of it."""

    done: TaskView
    planned: TaskView
    pool: str = "pool-01"
    agent: str = "agent-2"


def furnish(server: Server, *, resources: int = RESOURCES) -> Furnished:
    """Puts it there. Raises TimeoutError, RuntimeError."""
    shown = _shown(server, resources)
    trio.run(_in_database, server, _fill)
    return shown


async def _fill(c: Connection) -> None:
    await c.script(STATEMENTS.read_text(encoding="utf-8"))


def _shown(server: Server, resources: int) -> Furnished:
    new_workspace(server, SHOWN, configuration(resources))
    for number in range(VARIABLES):
        server.client.create_variable(SHOWN, VariableCreate(key=f"setting_{number:02}", value=f"value {number}"))
    done = _ended(server, TaskCreate(action="plan_and_apply", auto_apply=True), "succeeded")
    changed = configuration(resources).replace('{ name = "item', '{ size = "large", name = "item')
    files = {f"module_{number}/main.tf": File(configuration(2).encode(), executable=False) for number in range(20)}
    archive = write_archive({"main.tf": File(changed.encode(), executable=False), **files})
    server.client.upload_configuration(SHOWN, archive)
    return Furnished(done, _ended(server, TaskCreate(action="plan_and_apply"), "planned"))


def _ended(server: Server, asked: TaskCreate, status: str) -> TaskView:
    created = server.client.create_task(SHOWN, asked)
    for _ in server.client.follow_log(created.id):
        pass
    task = server.client.task(created.id)
    if task.status != status:
        raise RuntimeError(f"Task {task.id} is {task.status}: {task.reason} {task.detail}")
    return task


def task_with_log(server: Server, log: bytes) -> int:
    """A task that is over and has this log, whose bytes are put where the server keeps them."""
    task, fence, created = trio.run(_in_database, server, partial(_task_with, log))
    path = log_files.path_of(server.data_dir / "logs", log_files.Key(task, fence), created)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log)
    return task


async def _task_with(log: bytes, c: Connection) -> tuple[int, int, datetime]:
    task: int = await c.value(_TASK, name=SHOWN)
    sha256 = hashlib.sha256(log).hexdigest()
    made = await c.first(_LOG, task=task, length=len(log), sha256=sha256)
    assert made is not None
    return task, made["fence"], made["created_at"]


async def _in_database(server: Server, does: Callable[[Connection], Awaitable[T]]) -> T:
    with trio.fail_after(WITHIN):
        async with open_database(database_of(server), pool_size=1) as database:
            return await database.tx(does)
