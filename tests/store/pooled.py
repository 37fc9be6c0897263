"""Pools with agents in them, to begin a story with."""

from __future__ import annotations

from typing import Any

from iac.domain.agent_bodies import Register, Registered
from iac.domain.records import AuditEntry, Pool, PoolToken, Task, Workspace
from iac.store import assignments, audit, pools, registering, workspaces
from iac.store.database import Connection, Database
from tests.store import given


async def a_pool(database: Database, name: str = "p", **settings: Any) -> Pool:
    return await database.tx(pools.create, {"name": name, "kind": "static", **settings}, by="ann")


async def a_token(database: Database, pool: str = "p") -> PoolToken:
    record, _ = await database.tx(pools.create_token, pool, "token", "ann")
    return record


def a_register(name: str = "web", number: int = 1, **facts: Any) -> Register:
    """`number` tells instances apart, and their processes."""
    usual: dict[str, Any] = {"name": name, "instance_id": f"instance-{number}", "boot_id": f"boot-of-{number}"}
    return Register(**{**usual, **facts})


async def an_agent(
    database: Database, token: PoolToken, name: str = "web", number: int = 1, **facts: Any
) -> Registered:
    return await database.tx(registering.register, a_register(name, number, **facts), token, "10.0.0.1")


async def a_served_workspace(database: Database, name: str = "w", pool: str = "p") -> Workspace:
    """One that the pool allows and that points at the pool."""
    made = await given.a_workspace(database, name)
    await database.tx(pools.allow, pool, made.id, by="ann")
    return await database.tx(workspaces.change, made.id, {"execution_mode": "agent", "pool_id": pool}, by="ann")


async def handed_out(database: Database, task: Task, agent_id: str) -> tuple[Task, str]:
    """The task, assigned to the agent, and its token."""
    assignment_id = f"asg-{task.id}-{task.fence}-{task.attempt}"

    return await database.tx(assignments.hand_out, task.id, agent_id, assignment_id)


async def silent(database: Database, agent_id: str, seconds: float) -> None:
    """As if the agent was last heard that long ago."""

    async def put_back(c: Connection) -> None:
        await c.run(
            """UPDATE agent SET last_seen_at = now() - make_interval(secs => :seconds),
               registered_at = LEAST(registered_at, now() - make_interval(secs => :seconds)) WHERE id = :id""",
            id=agent_id,
            seconds=seconds,
        )

    await database.tx(put_back)


async def verbs(database: Database, subject: str) -> list[str]:
    """What was done to it, newest first."""
    return [entry.verb for entry in await trail(database, subject)]


async def trail(database: Database, subject: str) -> list[AuditEntry]:
    return await database.tx(audit.page, limit=100, before=None, subject=subject)


async def execute(database: Database, sql: str, **values: object) -> None:
    """Puts the tables into a condition that would take a year to come to by itself."""

    async def run(c: Connection) -> None:
        await c.run(sql, **values)

    await database.tx(run)
