"""How agents come in: they register with a token of their pool, prove themselves by a secret, and work under sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from iac.domain.agent_bodies import Register, Registered, Session
from iac.domain.agent_tokens import kind_of, looks_like, token_hash
from iac.domain.ids import is_name
from iac.domain.records import AgentRecord, Pool, PoolToken
from iac.domain.registration import ENTROPY, Enrolment, Known, check_network, check_room, enrol, suffixed
from iac.errors import Forbidden, Invalid
from iac.store import agents, audit, pools
from iac.store.database import Connection
from iac.store.identity import entropy, new_agent_token, new_id

SESSION_SECONDS = 3600.0
OVERLAP_SECONDS = 120.0
"""How long a session goes on after the next one was made."""
_GOOD = "a.retired_at IS NULL AND a.approved AND k.revoke_mode IS DISTINCT FROM 'hard'"


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
        await agents.end(c, decided.retire)
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
        raise agents.unknown(agent_id)
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
        raise agents.unknown(agent_id)
    await _shorten(c, agent_id, "boot_id <> :boot_id", boot_id, overlap_s)
    return int(epoch)


async def authenticate_session(c: Connection, token: str) -> AgentRecord | None:
    """The agent whose session it is; None when it is unknown or over, the agent retired or not (yet) approved, or its pool
    token hard-revoked.
    """
    if not looks_like("session", token):
        return None
    row = await c.first(
        f"""SELECT {agents.COLUMNS} {agents.FROM} JOIN agent_session s ON s.agent_id = a.id
            WHERE s.hash = :hash AND s.expires_at > now() AND {_GOOD}""",
        hash=token_hash(token),
    )
    return None if row is None else agents.from_row(row)


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
        f"""SELECT {agents.COLUMNS} {agents.FROM}
            WHERE a.id = :id AND a.pool_id = :pool_id AND a.secret_hash = :hash AND {_GOOD}""",
        id=agent_id,
        pool_id=pool_id,
        hash=token_hash(secret),
    )
    return None if row is None else agents.from_row(row)
