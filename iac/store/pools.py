"""Pools of agents: their tokens, and which workspaces they may serve.

A pool serves a workspace when both sides say so: the pool allows it, and the workspace points at the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from iac.domain.agent_tokens import looks_like, token_hash
from iac.domain.records import Allowance, Pool, PoolDemand, PoolToken, RevokeMode
from iac.domain.registration import HEARD_WITHIN
from iac.errors import Conflict, Invalid, NotFound
from iac.store import audit, workspaces
from iac.store.database import Connection, Row, UniqueViolation
from iac.store.identity import new_agent_token, new_id

THERE = f"""a.retired_at IS NULL AND a.last_seen_at > now() - interval '{int(HEARD_WITHIN.total_seconds())} seconds'
    AND (a.left_at IS NULL OR a.left_at < a.last_seen_at)"""
"""Whether an agent (`a`) was heard lately and has not said goodbye since."""
_COLUMNS = f"""
    p.id, p.name, p.description, p.kind, p.require_approval, p.name_policy, p.apply_exclusivity, p.networks,
    p.max_agents, p.created_by,
    p.created_at, p.updated_at,
    (SELECT count(*) FROM agent a WHERE a.pool_id = p.id AND a.retired_at IS NULL) AS agents,
    (SELECT count(*) FROM agent a WHERE a.pool_id = p.id AND {THERE})
        AS agents_online,
    (SELECT count(*) FROM workspace w WHERE w.pool_id = p.id) AS workspaces
"""
_SHOWN = """
    id, pool_id, name, created_by, created_at, expires_at, revoked_at, revoke_mode, replaced_by, last_used_at, last_ip
"""
_CHANGEABLE = frozenset(
    {"name", "description", "require_approval", "name_policy", "apply_exclusivity", "networks", "max_agents"}
)


def _from_row(row: Row) -> Pool:
    return Pool(**{**row, "networks": tuple(row["networks"])})


async def create(c: Connection, values: Mapping[str, Any], *, by: str) -> Pool:
    """`values` are the fields of a PoolCreate. Raises Conflict (name_in_use)."""
    chosen = dict(values)
    chosen["name_policy"] = chosen.get("name_policy") or ("suffix" if chosen["kind"] == "k8s" else "unique")
    strangers = chosen.keys() - _CHANGEABLE - {"kind"}
    if strangers:
        raise ValueError(f"not a column of a pool: {strangers}")
    names, places = ", ".join(chosen), ", ".join(f":{name}" for name in chosen)
    pool_id = new_id("pool")
    try:
        await c.run(
            f"INSERT INTO agent_pool (id, created_by, {names}) VALUES (:id, :by, {places})",
            id=pool_id,
            by=by,
            **chosen,
        )
    except UniqueViolation:
        raise _name_in_use(chosen["name"]) from None
    await audit.note(c, by, "pool.create", pool_id, name=chosen["name"], kind=chosen["kind"])
    return await get(c, pool_id)


async def get(c: Connection, pool: str) -> Pool:
    """By id or by name. Raises NotFound."""
    row = await c.first(f"SELECT {_COLUMNS} FROM agent_pool p WHERE p.id = :key OR p.name = :key", key=pool)
    if row is None:
        raise _unknown(pool)
    return _from_row(row)


async def hold(c: Connection, pool: str) -> Pool:
    """The pool, its row locked to the end of the transaction: whoever registers in it or changes it takes turns."""
    return await _locked(c, pool, "NO KEY UPDATE")


async def _locked(c: Connection, pool: str, strength: Literal["NO KEY UPDATE", "UPDATE"]) -> Pool:
    found = await c.value(f"SELECT id FROM agent_pool WHERE id = :key OR name = :key FOR {strength}", key=pool)
    if found is None:
        raise _unknown(pool)
    return await get(c, found)


async def page(c: Connection, *, limit: int, after: str | None) -> list[Pool]:
    """Up to `limit` pools in the order of their names, those after the pool with the id `after`."""
    if after is not None and not await c.value("SELECT true FROM agent_pool WHERE id = :id", id=after):
        raise bad_cursor()
    rows = await c.all(
        f"""SELECT {_COLUMNS} FROM agent_pool p
            WHERE CAST(:after AS text) IS NULL OR p.name > (SELECT name FROM agent_pool WHERE id = :after)
            ORDER BY p.name LIMIT :limit""",
        after=after,
        limit=limit,
    )
    return [_from_row(row) for row in rows]


async def change(c: Connection, pool: str, values: Mapping[str, Any], *, by: str) -> Pool:
    """Changes the named columns only. Raises NotFound, Conflict (name_in_use)."""
    strangers = values.keys() - _CHANGEABLE
    if strangers:
        raise ValueError(f"not a column that changes: {strangers}")
    held = await hold(c, pool)
    if values:
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        try:
            await c.run(f"UPDATE agent_pool SET {assignments}, updated_at = now() WHERE id = :id", id=held.id, **values)
        except UniqueViolation:
            raise _name_in_use(str(values.get("name"))) from None
        await audit.note(c, by, "pool.change", held.id, fields=sorted(values))
    return await get(c, held.id)


async def delete(c: Connection, pool: str, *, by: str) -> None:
    """With its tokens, allowances and agents. Raises Conflict (pool_in_use, agents_online), NotFound."""
    held = await _locked(c, pool, "UPDATE")  # also against those who are about to point at it
    if held.workspaces:
        raise Conflict(
            f"{held.workspaces} workspace(s) point at pool {held.name}; point them elsewhere first.",
            code="pool_in_use",
            workspaces=held.workspaces,
        )
    open_tasks = await c.value(
        "SELECT count(*) FROM task WHERE pool_id = :id AND status NOT IN ('cancelled', 'succeeded', 'failed')",
        id=held.id,
    )
    if open_tasks:
        raise Conflict(
            f"{open_tasks} task(s) of pool {held.name} are not over; cancel, resolve or await them.",
            code="pool_in_use",
            tasks=open_tasks,
        )
    if held.agents_online:
        raise Conflict(
            f"{held.agents_online} agent(s) of pool {held.name} are online; stop or delete them first.",
            code="agents_online",
            agents=held.agents_online,
        )
    await c.run("DELETE FROM agent_pool WHERE id = :id", id=held.id)
    await audit.note(c, by, "pool.delete", held.id, name=held.name)


async def demand(c: Connection, pool: str) -> PoolDemand:
    """What waits and runs, and who is there for it. Raises NotFound."""
    row = await c.first(
        f"""SELECT count(*) FILTER (WHERE t.status = 'queued' AND t.phase = 'plan') AS waiting_plans,
               count(*) FILTER (WHERE t.status = 'queued' AND t.phase = 'apply') AS waiting_applies,
               min(t.queued_at) FILTER (WHERE t.status = 'queued') AS oldest_waiting_since,
               count(*) FILTER (WHERE t.status <> 'queued' AND t.phase = 'plan') AS running_plans,
               count(*) FILTER (WHERE t.status <> 'queued' AND t.phase = 'apply') AS running_applies,
               (SELECT count(*) FROM agent a WHERE a.pool_id = :id AND {_takes_tasks()}) AS agents_online,
               (SELECT COALESCE(sum(a.plan_limit), 0) FROM agent a WHERE a.pool_id = :id AND {_takes_tasks()}) AS plan_slots
            FROM task t WHERE t.pool_id = :id AND t.status IN ('queued', 'assigned', 'running', 'cancelling')""",
        id=(await get(c, pool)).id,
    )
    return PoolDemand(**(row or {}))


def _takes_tasks() -> str:
    return f"""{THERE} AND a.approved AND NOT a.draining
        AND NOT EXISTS (SELECT 1 FROM pool_token k WHERE k.id = a.pool_token_id AND k.revoked_at IS NOT NULL)"""


async def crowd(c: Connection, pool_id: str, *, but: str | None = None) -> int:
    """How many agents are there, or have just registered; those that are gone for good count no more."""
    return int(
        await c.value(
            """SELECT count(*) FROM agent WHERE pool_id = :pool_id AND retired_at IS NULL AND left_at IS NULL
               AND id IS DISTINCT FROM :but
               AND GREATEST(registered_at, last_seen_at) > now() - make_interval(secs => :within)""",
            pool_id=pool_id,
            but=but,
            within=HEARD_WITHIN.total_seconds(),
        )
    )


async def allow(c: Connection, pool: str, workspace: str, *, by: str) -> Allowance:
    """The pool may serve the workspace; saying so twice changes nothing. Raises NotFound."""
    pool_id, workspace_id = (await hold(c, pool)).id, (await workspaces.hold(c, workspace)).id
    added = await c.value(
        """INSERT INTO pool_workspace (pool_id, workspace_id, allowed_by) VALUES (:pool_id, :workspace_id, :by)
           ON CONFLICT DO NOTHING RETURNING true""",
        pool_id=pool_id,
        workspace_id=workspace_id,
        by=by,
    )
    if added:
        await audit.note(c, by, "pool.allow", pool_id, workspace=workspace_id)
    found = await _allowances(c, pool_id, "AND a.workspace_id = :workspace_id", workspace_id=workspace_id)
    return found[0]


async def disallow(c: Connection, pool: str, workspace: str, *, by: str) -> None:
    """Holds from now on, for tasks that wait and for data not yet fetched. Twice is no error. Raises NotFound."""
    pool_id, workspace_id = (await get(c, pool)).id, (await workspaces.get(c, workspace)).id
    removed = await c.value(
        "DELETE FROM pool_workspace WHERE pool_id = :pool_id AND workspace_id = :workspace_id RETURNING true",
        pool_id=pool_id,
        workspace_id=workspace_id,
    )
    if removed:
        await audit.note(c, by, "pool.disallow", pool_id, workspace=workspace_id)


async def allowed(c: Connection, pool: str, *, limit: int, after: str | None) -> list[Allowance]:
    """In the order of the workspaces' names, those after the workspace with the id `after`. Raises NotFound, Invalid."""
    pool_id = (await get(c, pool)).id
    if after is not None and not await c.value("SELECT true FROM workspace WHERE id = :id", id=after):
        raise bad_cursor()
    return await _allowances(
        c,
        pool_id,
        """AND (CAST(:after AS text) IS NULL OR w.name > (SELECT name FROM workspace WHERE id = :after))
           ORDER BY w.name LIMIT :limit""",
        after=after,
        limit=limit,
    )


async def _allowances(c: Connection, pool_id: str, rest: str, **values: object) -> list[Allowance]:
    rows = await c.all(
        f"""SELECT a.pool_id, a.workspace_id, w.name AS workspace_name, w.pool_id IS NOT DISTINCT FROM a.pool_id AS in_use,
                   a.allowed_by, a.allowed_at
            FROM pool_workspace a JOIN workspace w ON w.id = a.workspace_id WHERE a.pool_id = :pool_id {rest}""",
        pool_id=pool_id,
        **values,
    )
    return [Allowance(**row) for row in rows]


async def allowing(c: Connection, workspace_id: str) -> frozenset[str]:
    """The ids of the pools that allow the workspace, whether or not it points at them."""
    rows = await c.all(
        "SELECT pool_id FROM pool_workspace WHERE workspace_id = :workspace_id", workspace_id=workspace_id
    )
    return frozenset(row["pool_id"] for row in rows)


async def may_serve(c: Connection, pool_id: str, workspace_id: str) -> bool:
    """Whether both sides say so, now: the pool allows the workspace, and the workspace points at the pool."""
    return bool(
        await c.value(
            """SELECT EXISTS (SELECT 1 FROM pool_workspace a JOIN workspace w ON w.id = a.workspace_id
               WHERE a.pool_id = :pool_id AND a.workspace_id = :workspace_id AND w.pool_id = :pool_id)""",
            pool_id=pool_id,
            workspace_id=workspace_id,
        )
    )


async def create_token(
    c: Connection, pool: str, name: str, by: str, expires_at: datetime | None = None
) -> tuple[PoolToken, str]:
    """The record, and the token itself, which nobody can read again. Raises NotFound."""
    record, token = await _new_token(c, (await hold(c, pool)).id, name, by, expires_at)
    await audit.note(c, by, "pool_token.create", record.id, pool=record.pool_id, name=name)
    return record, token


async def tokens(c: Connection, pool: str) -> list[PoolToken]:
    """All of the pool's, oldest first, the revoked and expired ones too. Raises NotFound."""
    rows = await c.all(
        f"SELECT {_SHOWN} FROM pool_token WHERE pool_id = :pool_id ORDER BY created_at, id",
        pool_id=(await get(c, pool)).id,
    )
    return [PoolToken(**row) for row in rows]


async def rotate_token(
    c: Connection, pool: str, token_id: str, *, by: str, overlap: timedelta, lifetime: timedelta | None = None
) -> tuple[PoolToken, str]:
    """A new token in the place of this one, which stays good for `overlap`. Without `lifetime` it lives as long as the old
    one was made for.

    Raises NotFound, Conflict (token_revoked, token_replaced).
    """
    old = await _held_token(c, pool, token_id)
    if old.revoked_at is not None:
        raise Conflict(f"Token {old.name!r} is revoked; create a new one.", code="token_revoked")
    if old.replaced_by is not None:
        raise Conflict(
            f"Token {old.name!r} was rotated already; rotate {old.replaced_by}.",
            code="token_replaced",
            replaced_by=old.replaced_by,
        )
    if lifetime is None and old.expires_at is not None:
        lifetime = old.expires_at - old.created_at
    now: datetime = await c.value("SELECT now()")
    record, token = await _new_token(c, old.pool_id, old.name, by, None if lifetime is None else now + lifetime)
    await c.run(
        """UPDATE pool_token SET replaced_by = :new, expires_at = LEAST(COALESCE(expires_at, :until), :until)
           WHERE id = :id""",
        new=record.id,
        until=now + overlap,
        id=old.id,
    )
    await audit.note(c, by, "pool_token.rotate", old.id, pool=old.pool_id, new=record.id)
    return record, token


async def revoke_token(c: Connection, pool: str, token_id: str, *, mode: RevokeMode, by: str) -> None:
    """Soft: it registers nobody any more, and its agents finish what they have. Hard: its agents' sessions end at once, and
    what their tasks still send is only kept apart. Hard after soft is possible, not the other way. Raises NotFound.
    """
    token = await _held_token(c, pool, token_id)
    if token.revoke_mode in (mode, "hard"):
        return
    await c.run(
        "UPDATE pool_token SET revoked_at = COALESCE(revoked_at, now()), revoke_mode = :mode WHERE id = :id",
        mode=mode,
        id=token.id,
    )
    if mode == "hard":
        await c.run(
            """UPDATE assignment SET scope = 'quarantine'
               WHERE scope IN ('full', 'report') AND agent_id IN (SELECT id FROM agent WHERE pool_token_id = :id)""",
            id=token.id,
        )
    await audit.note(c, by, "pool_token.revoke", token.id, pool=token.pool_id, mode=mode)


async def authenticate_pool(c: Connection, token: str, ip: str | None) -> PoolToken | None:
    """The live token, or None for one that is unknown, expired or revoked. Its use is noted once a minute."""
    if not looks_like("pool", token):
        return None
    row = await c.first(
        f"""SELECT {_SHOWN} FROM pool_token WHERE hash = :hash AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at > now())""",
        hash=token_hash(token),
    )
    if row is None:
        return None
    await c.run(
        """UPDATE pool_token SET last_used_at = now(), last_ip = :ip
           WHERE id = :id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')""",
        id=row["id"],
        ip=ip,
    )
    return PoolToken(**row)


async def _new_token(
    c: Connection, pool_id: str, name: str, by: str, expires_at: datetime | None
) -> tuple[PoolToken, str]:
    token = new_agent_token("pool")
    row = await c.first(
        f"""INSERT INTO pool_token (id, pool_id, name, hash, created_by, expires_at)
            VALUES (:id, :pool_id, :name, :hash, :by, :expires_at) RETURNING {_SHOWN}""",
        id=new_id("ptok"),
        pool_id=pool_id,
        name=name,
        hash=token_hash(token),
        by=by,
        expires_at=expires_at,
    )
    if row is None:
        raise NotFound("the token was not stored")
    return PoolToken(**row), token


async def _held_token(c: Connection, pool: str, token_id: str) -> PoolToken:
    row = await c.first(
        f"SELECT {_SHOWN} FROM pool_token WHERE id = :id AND pool_id = :pool_id FOR UPDATE",
        id=token_id,
        pool_id=(await get(c, pool)).id,
    )
    if row is None:
        raise NotFound(f"The pool has no token {token_id!r}.", kind="pool_token")
    return PoolToken(**row)


def bad_cursor() -> Invalid:
    return Invalid("This cursor is not from a page of this list; begin without one.", path="$.cursor")


def _unknown(pool: str) -> NotFound:
    return NotFound(f"There is no pool {pool!r}.", kind="pool")


def _name_in_use(name: str) -> Conflict:
    return Conflict(f"There is a pool named {name!r} already; choose another name.", code="name_in_use")
