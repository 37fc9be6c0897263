"""Rows to begin a story of the store with."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from iac.domain.lifecycle import Assign, Cancel, Claim, Confirm, Event, Lose, Report
from iac.domain.records import Action, Task, Workspace
from iac.domain.work import PlanFacts, Result, RunTask, SavedPlan
from iac.store import configurations, creation, plans, tasks, workspaces
from iac.store.creation import NewTask
from iac.store.database import Connection, Database
from iac.store.sealing import Keyring
from iac.store.statefiles import Packed, pack

KEYS = Keyring("the-master-key-of-these-tests")
RUNNER = "local"


async def a_workspace(database: Database, name: str = "w", *, empty: bool = False, **settings: object) -> Workspace:
    """A workspace with a configuration, unless `empty`."""
    made = await database.tx(workspaces.create, {"name": name, **settings}, by="ann")
    if not empty:
        await a_configuration(database, made.id, b"one")
    return await database.tx(workspaces.get, made.id)


async def a_configuration(database: Database, workspace_id: str, archive: bytes) -> str:
    """The digest of a configuration that is now the workspace's."""
    digest = hashlib.sha256(archive).hexdigest()
    made = await database.tx(
        configurations.put,
        workspace_id,
        kind="archive",
        digest=digest,
        archive=archive,
        source=None,
        files=["main.tf"],
        message="",
        by="ann",
    )
    return made.digest


async def a_task(database: Database, workspace: str, action: Action = "plan_and_apply", **asked: object) -> Task:
    chosen: dict[str, Any] = {"action": action, **asked}
    return await database.tx(creation.create, KEYS, workspace, NewTask(**chosen), by="ann")


async def moved(database: Database, task: Task, event: Event) -> Task:
    return (await database.tx(tasks.move, task.id, event)).task


async def assigned(database: Database, task: Task) -> Task:
    return await database.tx(tasks.assign, task.id, agent_id=RUNNER, assignment_id=f"asg-{task.id}-{task.fence}")


async def running(database: Database, task: Task) -> Task:
    held = await assigned(database, task)
    return await moved(database, held, Claim(fence=held.fence))


async def another_assignment(database: Database, task: Task) -> Task:
    """The same task, running under a new assignment."""
    return await running(database, await moved(database, task, a_loss(task)))


def a_plan(task: Task, *, has_changes: bool = True, serial: int | None = None, lineage: str | None = None) -> SavedPlan:
    file = b"plan of " + str(task.id).encode()
    facts = PlanFacts(
        digest=hashlib.sha256(file).hexdigest(),
        bundle_digest=task.bundle_digest,
        serial=serial,
        lineage=lineage,
        terraform_version="1.11.4",
        has_changes=has_changes,
        summary={"add": int(has_changes)},
    )
    return SavedPlan(facts=facts, file=file, json=b'{"a": "b"}', lock_hcl=None)


async def with_plan(database: Database, task: Task, **facts: object) -> Task:
    """A running task whose plan is stored and reported: planned, or over if it is a plain plan."""

    plan: dict[str, Any] = dict(facts)

    async def store(c: Connection) -> None:
        await plans.save(c, KEYS, task.id, task.fence, a_plan(task, **plan), planned=[])

    await database.tx(store)
    result = Result(result_id=f"r-{task.fence}", status="planned")
    return await moved(database, task, Report(fence=task.fence, result=result))


async def planned(database: Database, workspace: str, action: Action = "plan_and_apply", **plan: object) -> Task:
    return await with_plan(database, await running(database, await a_task(database, workspace, action)), **plan)


async def applying(database: Database, workspace: str) -> Task:
    """A task whose apply was claimed."""
    found = await database.tx(workspaces.get, workspace)
    task = await planned(database, workspace, serial=found.current_serial, lineage=found.lineage)
    event = Confirm(by="bob", comment="", plan_digest=str(task.plan_digest))
    return await running(database, await moved(database, task, event))


async def ended(database: Database, task: Task, status: str = "succeeded", **facts: object) -> Task:
    chosen: dict[str, Any] = {"result_id": f"r-{task.fence}-{status}", "status": status, **facts}
    result = Result(**chosen)
    return await moved(database, task, Report(fence=task.fence, result=result))


def an_order(task: Task, **facts: object) -> RunTask:
    usual: dict[str, Any] = {
        "task_id": task.id,
        "workspace_id": task.workspace_id,
        "action": task.phase,
        "assignment_id": task.assignment_id or "",
        "fence": task.fence,
        "attempt": task.attempt,
    }
    chosen: dict[str, Any] = {**usual, **facts}
    return RunTask(**chosen)


def a_state(serial: int, lineage: str = "lin-1", **more: object) -> bytes:
    """A state file as Terraform writes it."""
    body = {
        "version": 4,
        "terraform_version": "1.11.4",
        "serial": serial,
        "lineage": lineage,
        "outputs": {},
        "resources": [],
        "check_results": None,
        **more,
    }
    return json.dumps(body, indent=2).encode() + b"\n"


def packed(data: bytes) -> Packed:
    """A state as it goes into the store."""
    return pack(KEYS, data)


def a_cancel(number: int = 1, *, force: bool = False) -> Cancel:
    return Cancel(cancel_id=f"can-{number}", reason="user", by="bob", force=force)


def a_loss(task: Task) -> Lose:
    return Lose(fence=task.fence, reason="runner_lost", detail="gone")


def an_assignment(fence: int) -> Assign:
    return Assign(agent_id=RUNNER, assignment_id=f"asg-{fence}", fence=fence)


async def scalar(database: Database, sql: str, **values: object) -> Any:
    """One value, straight from the tables."""

    async def ask(c: Connection) -> Any:
        return await c.value(sql, **values)

    return await database.tx(ask)
