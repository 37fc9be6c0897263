"""Agents: who registered, their sessions, and what is known of each. Whether one is online is derived when it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iac.domain.messages import Heartbeat
from iac.domain.records import AgentRecord
from iac.errors import Conflict, NotFound
from iac.store import assignments, audit, pools
from iac.store.database import Connection, Row

COLUMNS = f"""
    a.id, a.pool_id, p.name AS pool_name, p.apply_exclusivity, a.pool_token_id, k.revoke_mode AS token_revoked, a.name,
    a.approved, a.boot_id, a.conn_epoch, a.version, a.os, a.arch, a.capabilities, a.plan_limit, a.draining,
    COALESCE({pools.THERE}, false) AS online,
    a.cpu_usage, a.mem_usage, a.disk_free, a.ip, a.registered_at, a.last_seen_at, a.retired_at, a.clock_ahead_s
"""
FROM = "FROM agent a JOIN agent_pool p ON p.id = a.pool_id LEFT JOIN pool_token k ON k.id = a.pool_token_id"


def from_row(row: Row) -> AgentRecord:
    return AgentRecord(**{**row, "capabilities": tuple(row["capabilities"])})


async def get(c: Connection, agent_id: str) -> AgentRecord:
    """A retired one too. Raises NotFound."""
    row = await c.first(f"SELECT {COLUMNS} {FROM} WHERE a.id = :id", id=agent_id)
    if row is None:
        raise unknown(agent_id)
    return from_row(row)


async def page_of_pool(
    c: Connection, pool: str, *, limit: int, after: str | None, name: str | None = None
) -> list[AgentRecord]:
    """The pool's agents but for retired ones, by name, those after the agent with the id `after`.

    Raises NotFound, Invalid.
    """
    return await _page(c, (await pools.get(c, pool)).id, limit, after, name)


async def page_all(c: Connection, *, limit: int, after: str | None, name: str | None = None) -> list[AgentRecord]:
    """Likewise of all pools; with `name` only those that are called so."""
    return await _page(c, None, limit, after, name)


async def _page(
    c: Connection, pool_id: str | None, limit: int, after: str | None, name: str | None
) -> list[AgentRecord]:
    if after is not None and not await c.value("SELECT true FROM agent WHERE id = :id", id=after):
        raise pools.bad_cursor()
    rows = await c.all(
        f"""SELECT {COLUMNS} {FROM} WHERE a.retired_at IS NULL
            AND (CAST(:pool_id AS text) IS NULL OR a.pool_id = :pool_id)
            AND (CAST(:name AS text) IS NULL OR a.name = :name)
            AND (CAST(:after AS text) IS NULL OR (a.name, a.id) > (SELECT name, id FROM agent WHERE id = :after))
            ORDER BY a.name, a.id LIMIT :limit""",
        pool_id=pool_id,
        name=name,
        after=after,
        limit=limit,
    )
    return [from_row(row) for row in rows]


async def names_of(c: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The names of these agents and pools, by id, the retired ones' too."""
    rows = await c.all(
        "SELECT id, name FROM agent WHERE id = ANY(:ids) UNION ALL SELECT id, name FROM agent_pool WHERE id = ANY(:ids)",
        ids=list(ids),
    )
    return {row["id"]: row["name"] for row in rows}


async def seen(c: Connection, beats: Mapping[str, Heartbeat]) -> None:
    """The agents were heard, and this is how they do. What they say of draining is their own: that of an admin stays."""
    ordered = sorted(beats.items())
    await c.run(
        """UPDATE agent a SET last_seen_at = now(), cpu_usage = b.cpu, mem_usage = b.mem, disk_free = b.disk,
                              plan_limit = b.plans
           FROM unnest(CAST(:ids AS text[]), CAST(:cpu AS float8[]), CAST(:mem AS float8[]), CAST(:disk AS bigint[]),
                       CAST(:plans AS int[])) AS b (id, cpu, mem, disk, plans)
           WHERE a.id = b.id AND a.retired_at IS NULL""",
        ids=[agent_id for agent_id, _ in ordered],
        cpu=[min(max(beat.cpu_usage, 0.0), 1.0) for _, beat in ordered],
        mem=[min(max(beat.mem_usage, 0.0), 1.0) for _, beat in ordered],
        disk=[max(0, min(beat.disk_free, 2**63 - 1)) for _, beat in ordered],
        plans=[max(1, min(beat.plan_limit, 1000)) for _, beat in ordered],
    )


async def left(c: Connection, agent_id: str) -> None:
    """It said goodbye. Whatever is heard of it after this makes it be there again."""
    await c.run("UPDATE agent SET left_at = now() WHERE id = :id AND retired_at IS NULL", id=agent_id)


async def set_draining(c: Connection, agent_id: str, draining: bool, *, by: str, reason: str = "") -> AgentRecord:
    """Whether it gets nothing new. Raises NotFound."""
    before = await _held(c, agent_id)
    if before.draining != draining:
        await c.run("UPDATE agent SET draining = :draining WHERE id = :id", id=agent_id, draining=draining)
        await audit.note(c, by, "agent.drain" if draining else "agent.undrain", agent_id, reason=reason)
    return await get(c, agent_id)


async def approve(c: Connection, agent_id: str, *, by: str) -> AgentRecord:
    """Lets it work; twice is no error. Raises NotFound."""
    before = await _held(c, agent_id)
    if not before.approved:
        await c.run("UPDATE agent SET approved = true WHERE id = :id", id=agent_id)
        await audit.note(c, by, "agent.approve", agent_id, pool=before.pool_id, name=before.name)
    return await get(c, agent_id)


async def retire(c: Connection, agent_id: str, *, force: bool, by: str) -> None:
    """The agent is gone for good: its sessions end and its name is free. With `force` even while it has tasks: what those
    still send is only kept apart. Twice is no error.

    Raises NotFound, Conflict (agent_busy).
    """
    agent = await get(c, agent_id)
    await pools.hold(c, agent.pool_id)
    live = await assignments.live_of(c, agent_id)
    if live and not force:
        raise Conflict(
            f"Agent {agent.name} still has task(s) {', '.join(str(each.task_id) for each in live)}; drain it first, or "
            "delete it with force.",
            code="agent_busy",
            tasks=[each.task_id for each in live],
        )
    for each in live:
        await assignments.set_scope(c, each.fence, "quarantine")
    if await end(c, agent_id):
        await audit.note(c, by, "agent.delete", agent_id, pool=agent.pool_id, name=agent.name, force=force)


async def end(c: Connection, agent_id: str) -> bool:
    """It is no agent any more, and has no session. Whether it was one."""
    ended = await c.value(
        "UPDATE agent SET retired_at = now() WHERE id = :id AND retired_at IS NULL RETURNING true", id=agent_id
    )
    await c.run("DELETE FROM agent_session WHERE agent_id = :id", id=agent_id)
    return bool(ended)


async def _held(c: Connection, agent_id: str) -> AgentRecord:
    """One that is not retired, its row locked."""
    await c.run("SELECT 1 FROM agent WHERE id = :id FOR NO KEY UPDATE", id=agent_id)
    agent = await get(c, agent_id)
    if agent.retired_at is not None:
        raise unknown(agent_id)
    return agent


def unknown(agent_id: str) -> NotFound:
    return NotFound(f"There is no agent {agent_id!r}.", kind="agent")
