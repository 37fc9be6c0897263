"""Agents: who registered, their sessions, and what is known of each. Whether one is online is derived when it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from iac.domain.agent_bodies import Register, Registered, Session
from iac.domain.agent_tokens import kind_of, looks_like, token_hash
from iac.domain.ids import is_name
from iac.domain.messages import Heartbeat
from iac.domain.records import AgentRecord, Pool, PoolToken
from iac.domain.registration import (
    ENTROPY,
    Enrolment,
    Known,
    check_network,
    check_room,
    enrol,
    suffixed,
)
from iac.errors import Conflict, Forbidden, Invalid, NotFound
from iac.store import assignments, audit, pools
from iac.store.database import Connection, Row
from iac.store.identity import entropy, new_agent_token, new_id

SESSION_SECONDS = 3600.0
OVERLAP_SECONDS = 120.0
"""How long a session goes on after the next one was made."""
_COLUMNS = f"""
    a.id, a.pool_id, p.name AS pool_name, p.apply_exclusivity, a.pool_token_id, k.revoke_mode AS token_revoked, a.name,
    a.approved, a.boot_id, a.conn_epoch, a.version, a.os, a.arch, a.capabilities, a.plan_limit, a.draining,
    COALESCE({pools.THERE}, false) AS online,
    a.cpu_usage, a.mem_usage, a.disk_free, a.ip, a.registered_at, a.last_seen_at, a.retired_at, a.clock_ahead_s
"""
_FROM = "FROM agent a JOIN agent_pool p ON p.id = a.pool_id LEFT JOIN pool_token k ON k.id = a.pool_token_id"


def _from_row(row: Row) -> AgentRecord:
    return AgentRecord(**{**row, "capabilities": tuple(row["capabilities"])})


async def register(
    c: Connection,
    body: Register,
    pool_token: PoolToken,
    ip: str | None,
    *,
    session_s: float = SESSION_SECONDS,
    overlap_s: float = OVERLAP_SECONDS,
) -> Registered:
    """The agent that this instance is from now on, with a session. It was made, or made anew, when `instance_secret` is set.

    Raises Forbidden (pool_mismatch, instance_mismatch), Conflict (name_in_use), Invalid.
    """
    if not is_name(body.name):
        raise Invalid(
            "An agent's name is 1 to 90 letters, digits, blanks, `.`, `_` and `-`, and begins and ends with a letter or "
            "digit; set IAC_AGENT_NAME.",
            path="$.name",
        )
    pool = await pools.hold(c, pool_token.pool_id)
    if body.pool_id not in (None, "", pool.id, pool.name):
        raise Forbidden(
            f"The pool token is for another pool than {body.pool_id!r}. Use a token of that pool, or unset IAC_POOL_ID.",
            code="pool_mismatch",
        )
    check_network(ip or "", pool.networks)
    decided = await _decide(c, body, pool)
    if decided.agent_id is None and pool.max_agents is not None:
        check_room(await pools.crowd(c, pool.id, but=decided.retire), pool.max_agents)
    if decided.retire is not None:
        await _end(c, decided.retire)
        await audit.note(c, pool_token.id, "agent.takeover", decided.retire, pool=pool.id, name=body.name, ip=ip)
    agent_id, secret = await _store(c, body, pool, decided, pool_token_id=pool_token.id, ip=ip)
    await audit.note(
        c, agent_id, "agent.register", agent_id, pool=pool.id, name=decided.name, token=pool_token.id, ip=ip,
        version=body.version, again=decided.agent_id is not None,
    )  # fmt: skip
    session = await _open_session(c, agent_id, body.boot_id, session_s, overlap_s)
    now: datetime = await c.value("SELECT now()")
    return Registered(
        agent_id=agent_id,
        pool_id=pool.id,
        name=decided.name,
        session_token=session.session_token,
        session_expires_in_s=session.session_expires_in_s,
        instance_secret=secret,
        approved=bool(await c.value("SELECT approved FROM agent WHERE id = :id", id=agent_id)),
        server_time=now.isoformat(),
    )


async def _decide(c: Connection, body: Register, pool: Pool) -> Enrolment:
    names = suffixed(body.name, entropy(ENTROPY))
    rows = await c.all(
        "SELECT name FROM agent WHERE pool_id = :pool_id AND name = ANY(:names) AND retired_at IS NULL",
        pool_id=pool.id,
        names=list(names),
    )
    taken = {row["name"] for row in rows}
    return enrol(
        body.name,
        body.instance_secret,
        policy=pool.name_policy,
        require_approval=pool.require_approval,
        same=await _known(c, pool.id, "instance_id", body.instance_id),
        holder=await _known(c, pool.id, "name", body.name),
        free=[name for name in names if name not in taken],
        now=await c.value("SELECT now()"),
    )


async def _known(c: Connection, pool_id: str, column: str, value: str) -> Known | None:
    row = await c.first(
        f"""SELECT id AS agent_id, name, secret_hash, GREATEST(registered_at, last_seen_at) AS heard_at,
                   last_seen_at IS NOT NULL AS used,
                   COALESCE(left_at >= GREATEST(registered_at, last_seen_at), false) AS gone
            FROM agent WHERE pool_id = :pool_id AND {column} = :value AND retired_at IS NULL""",
        pool_id=pool_id,
        value=value,
    )
    return None if row is None else Known(**row)


async def _store(
    c: Connection, body: Register, pool: Pool, decided: Enrolment, *, pool_token_id: str, ip: str | None
) -> tuple[str, str | None]:
    """The agent's id, and its secret if it got one now."""
    facts: dict[str, Any] = {
        "name": decided.name,
        "pool_token_id": pool_token_id,
        "version": body.version,
        "os": body.os,
        "arch": body.arch,
        "capabilities": list(body.capabilities),
        "plan_limit": body.plan_limit,
        "ip": ip,
    }
    secret = new_agent_token("instance") if decided.new_secret else None
    if secret is not None:
        # Whoever has no proof is a newcomer, also where the instance is known: it is approved, or not, as one.
        facts |= {"secret_hash": token_hash(secret), "approved": not pool.require_approval}
    if decided.agent_id is not None:
        changed = ", ".join(f"{name} = :{name}" for name in facts)
        await c.run(
            f"UPDATE agent SET {changed}, registered_at = now() WHERE id = :id",
            id=decided.agent_id,
            **facts,
        )
        return decided.agent_id, secret
    facts |= {"id": new_id("agent"), "pool_id": pool.id, "instance_id": body.instance_id, "boot_id": body.boot_id}
    names, places = ", ".join(facts), ", ".join(f":{name}" for name in facts)
    await c.run(f"INSERT INTO agent ({names}) VALUES ({places})", **facts)
    return str(facts["id"]), secret


async def new_session(
    c: Connection,
    agent_id: str,
    boot_id: str,
    *,
    session_s: float = SESSION_SECONDS,
    overlap_s: float = OVERLAP_SECONDS,
) -> Session:
    """A fresh session; the earlier ones of the same process go on for `overlap_s`. Raises NotFound."""
    if not await c.value("SELECT true FROM agent WHERE id = :id AND retired_at IS NULL", id=agent_id):
        raise _unknown(agent_id)
    session = await _open_session(c, agent_id, boot_id, session_s, overlap_s)
    await audit.note(c, agent_id, "agent.session", agent_id)
    return session


async def _open_session(c: Connection, agent_id: str, boot_id: str, session_s: float, overlap_s: float) -> Session:
    await c.run("DELETE FROM agent_session WHERE agent_id = :id AND expires_at <= now()", id=agent_id)
    # Only those of this process: a second one with a copied identity must not end the first one's.
    await _shorten(c, agent_id, "boot_id = :boot_id", boot_id, overlap_s)
    token = new_agent_token("session")
    await c.run(
        """INSERT INTO agent_session (hash, agent_id, boot_id, expires_at)
           VALUES (:hash, :agent_id, :boot_id, now() + make_interval(secs => :seconds))""",
        hash=token_hash(token),
        agent_id=agent_id,
        boot_id=boot_id,
        seconds=session_s,
    )
    return Session(session_token=token, session_expires_in_s=session_s)


async def _shorten(c: Connection, agent_id: str, which: str, boot_id: str, overlap_s: float) -> None:
    await c.run(
        f"""UPDATE agent_session SET expires_at = LEAST(expires_at, now() + make_interval(secs => :seconds))
            WHERE agent_id = :agent_id AND {which}""",
        agent_id=agent_id,
        boot_id=boot_id,
        seconds=overlap_s,
    )


async def authenticate_session(c: Connection, token: str) -> AgentRecord | None:
    """The agent whose session it is; None when it is unknown or over, the agent retired or not (yet) approved, or its pool
    token hard-revoked.
    """
    if not looks_like("session", token):
        return None
    row = await c.first(
        f"""SELECT {_COLUMNS} {_FROM} JOIN agent_session s ON s.agent_id = a.id
            WHERE s.hash = :hash AND s.expires_at > now() AND {_GOOD}""",
        hash=token_hash(token),
    )
    return None if row is None else _from_row(row)


async def ever_given(c: Connection, token: str) -> bool:
    """Whether it is a token that was good once: whoever has it is no guesser, even if it is good for nothing now."""
    tables = {"pool": "pool_token", "session": "agent_session", "task": "task_token"}
    kind = kind_of(token)
    if kind not in tables:
        return False
    return bool(await c.value(f"SELECT true FROM {tables[kind]} WHERE hash = :hash", hash=token_hash(token)))


async def is_known(c: Connection, pool_id: str, instance_id: str, secret: str | None) -> bool:
    """Whether the pool has this instance, and the secret proves it."""
    if secret is None or not looks_like("instance", secret):
        return False
    statement = """SELECT true FROM agent WHERE pool_id = :pool_id AND instance_id = :instance AND secret_hash = :hash
                   AND retired_at IS NULL"""
    return bool(await c.value(statement, pool_id=pool_id, instance=instance_id, hash=token_hash(secret)))


async def authenticate_instance(c: Connection, agent_id: str, pool_id: str, secret: str) -> AgentRecord | None:
    """The agent that proves itself by its secret, beside a token of its pool; None as for a session."""
    if not looks_like("instance", secret):
        return None
    row = await c.first(
        f"""SELECT {_COLUMNS} {_FROM} WHERE a.id = :id AND a.pool_id = :pool_id AND a.secret_hash = :hash AND {_GOOD}""",
        id=agent_id,
        pool_id=pool_id,
        hash=token_hash(secret),
    )
    return None if row is None else _from_row(row)


_GOOD = "a.retired_at IS NULL AND a.approved AND k.revoke_mode IS DISTINCT FROM 'hard'"


async def get(c: Connection, agent_id: str) -> AgentRecord:
    """A retired one too. Raises NotFound."""
    row = await c.first(f"SELECT {_COLUMNS} {_FROM} WHERE a.id = :id", id=agent_id)
    if row is None:
        raise _unknown(agent_id)
    return _from_row(row)


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
        f"""SELECT {_COLUMNS} {_FROM} WHERE a.retired_at IS NULL
            AND (CAST(:pool_id AS text) IS NULL OR a.pool_id = :pool_id)
            AND (CAST(:name AS text) IS NULL OR a.name = :name)
            AND (CAST(:after AS text) IS NULL OR (a.name, a.id) > (SELECT name, id FROM agent WHERE id = :after))
            ORDER BY a.name, a.id LIMIT :limit""",
        pool_id=pool_id,
        name=name,
        after=after,
        limit=limit,
    )
    return [_from_row(row) for row in rows]


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


async def connected(
    c: Connection, agent_id: str, boot_id: str, *, clock: float | None = None, overlap_s: float = OVERLAP_SECONDS
) -> int:
    """Its control channel is this process's from now on: the epoch of the connection, higher than all before. Sessions of
    the agent's other processes end after `overlap_s`. `clock` is its time, in seconds since 1970. Raises NotFound.
    """
    epoch = await c.value(
        """UPDATE agent SET conn_epoch = conn_epoch + 1, boot_id = :boot_id, last_seen_at = now(),
               clock_ahead_s = CAST(:clock AS double precision) - extract(epoch FROM clock_timestamp())
           WHERE id = :id AND retired_at IS NULL RETURNING conn_epoch""",
        id=agent_id,
        boot_id=boot_id,
        clock=clock,
    )
    if epoch is None:
        raise _unknown(agent_id)
    await _shorten(c, agent_id, "boot_id <> :boot_id", boot_id, overlap_s)
    return int(epoch)


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
    if await _end(c, agent_id):
        await audit.note(c, by, "agent.delete", agent_id, pool=agent.pool_id, name=agent.name, force=force)


async def _end(c: Connection, agent_id: str) -> bool:
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
        raise _unknown(agent_id)
    return agent


def _unknown(agent_id: str) -> NotFound:
    return NotFound(f"There is no agent {agent_id!r}.", kind="agent")
