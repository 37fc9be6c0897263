"""Workspaces and their lock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from iac.domain.records import Lock, LockKind, Workspace
from iac.errors import Conflict, Invalid, NotFound, WorkspaceLocked
from iac.store import audit
from iac.store.database import Connection, Row, UniqueViolation
from iac.store.identity import new_id

COLUMNS = """
    w.id, w.name, w.description, w.execution_mode, w.engine, w.terraform_version, w.working_directory, w.auto_apply,
    w.provider_config, w.tags, w.lock_kind, w.lock_owner, w.lock_token, w.lock_reason, w.locked_at, w.state_fence,
    w.current_serial, w.lineage, w.state_uncertain, w.configuration_id, w.created_at, w.updated_at, w.pool_id,
    w.plan_timeout_s, w.apply_timeout_s, w.plan_grace_s, w.apply_grace_s,
    (SELECT p.name FROM agent_pool p WHERE p.id = w.pool_id) AS pool_name,
    (SELECT count(*) FROM state_version s
     WHERE s.workspace_id = w.id AND s.verdict = 'quarantined' AND s.promoted_at IS NULL) AS states_apart
"""
_CHANGEABLE = frozenset(
    {
        "name",
        "description",
        "execution_mode",
        "engine",
        "terraform_version",
        "working_directory",
        "auto_apply",
        "provider_config",
        "tags",
        "pool_id",
        "plan_timeout_s",
        "apply_timeout_s",
        "plan_grace_s",
        "apply_grace_s",
    }
)
_JSON = frozenset({"provider_config", "tags"})


def from_row(row: Row) -> Workspace:
    lock = None
    if row["lock_kind"] is not None:
        lock = Lock(
            kind=row["lock_kind"],
            owner=row["lock_owner"],
            token=row["lock_token"],
            reason=row["lock_reason"],
            since=row["locked_at"],
        )
    values = {field: row[field] for field in Workspace.__struct_fields__ if field != "lock"}
    for field in _JSON:
        values[field] = None if values[field] is None else json.loads(values[field])
    return Workspace(lock=lock, **values)


async def create(c: Connection, values: Mapping[str, Any], *, by: str) -> Workspace:
    """`pool_id` may be a pool's name. Raises Conflict (name_in_use, pool_not_allowed), Invalid for an unknown pool."""
    chosen = await _with_pool(c, None, _encoded(values))
    names = ", ".join(chosen)
    places = ", ".join(f":{name}" for name in chosen)
    workspace_id = new_id("ws")
    try:
        await c.run(f"INSERT INTO workspace (id, {names}) VALUES (:id, {places})", id=workspace_id, **chosen)
    except UniqueViolation:
        raise _name_in_use(values["name"]) from None
    await audit.note(c, by, "workspace.create", workspace_id, name=values["name"])
    return await get(c, workspace_id)


async def get(c: Connection, workspace: str) -> Workspace:
    """By id or by name. Raises NotFound."""
    row = await c.first(f"SELECT {COLUMNS} FROM workspace w WHERE w.id = :key OR w.name = :key", key=workspace)
    if row is None:
        raise _unknown(workspace)
    return from_row(row)


async def hold(c: Connection, workspace_id: str) -> Workspace:
    """The workspace, its row locked to the end of the transaction. Always taken before a task's row."""
    row = await c.first(
        f"SELECT {COLUMNS} FROM workspace w WHERE w.id = :id OR w.name = :id FOR NO KEY UPDATE",
        id=workspace_id,
    )
    if row is None:
        raise _unknown(workspace_id)
    return from_row(row)


async def page(
    c: Connection, *, limit: int, after: str | None, search: str | None, locked: bool | None, tag: str | None
) -> list[Workspace]:
    """Up to `limit` workspaces in the order of their names, those after the name `after`."""
    conditions, values = ["true"], dict[str, object]()
    if after is not None:
        conditions.append("w.name > :after")
        values["after"] = after
    if search is not None:
        conditions.append("(w.name ILIKE :search OR w.description ILIKE :search)")
        values["search"] = f"%{escaped(search)}%"
    if locked is not None:
        conditions.append("w.lock_kind IS NOT NULL" if locked else "w.lock_kind IS NULL")
    if tag is not None:
        key, _, value = tag.partition("=")
        conditions.append("w.tags ? :tag_key" if not value else "w.tags ->> :tag_key = :tag_value")
        values["tag_key"] = key
        if value:
            values["tag_value"] = value
    rows = await c.all(
        f"SELECT {COLUMNS} FROM workspace w WHERE {' AND '.join(conditions)} ORDER BY w.name LIMIT :limit",
        limit=limit,
        **values,
    )
    return [from_row(row) for row in rows]


async def change(c: Connection, workspace_id: str, values: Mapping[str, Any], *, by: str) -> Workspace:
    """Changes the named columns only. Raises NotFound, Conflict (name_in_use, pool_not_allowed), Invalid."""
    before = await hold(c, workspace_id)
    chosen = await _with_pool(c, before, _encoded(values))
    if chosen:
        assignments = ", ".join(f"{name} = :{name}" for name in chosen)
        try:
            await c.run(
                f"UPDATE workspace SET {assignments}, updated_at = now() WHERE id = :id",
                id=before.id,
                **chosen,
            )
        except UniqueViolation:
            raise _name_in_use(str(values.get("name"))) from None
        await audit.note(c, by, "workspace.change", before.id, fields=sorted(chosen))
    return await get(c, before.id)


async def delete(c: Connection, workspace_id: str, *, force: bool, by: str) -> None:
    """Raises WorkspaceLocked while anybody holds it, Conflict while it still has resources unless `force`."""
    workspace = await hold(c, workspace_id)
    if workspace.lock is not None:
        raise locked(workspace)
    open_tasks = await c.value(
        "SELECT count(*) FROM task WHERE workspace_id = :id AND status NOT IN ('cancelled', 'succeeded', 'failed')",
        id=workspace.id,
    )
    if open_tasks:
        raise Conflict(
            f"Workspace {workspace.name} has {open_tasks} task(s) that are not over; cancel them or wait.",
            code="workspace_busy",
        )
    resources = await c.value(
        "SELECT resource_count FROM state_version WHERE workspace_id = :id AND verdict = 'current'", id=workspace.id
    )
    if resources and not force:
        raise Conflict(
            f"Workspace {workspace.name} still has {resources} resource(s) in its state, that nobody would manage any more. "
            "Run a destroy first, or delete with force.",
            code="workspace_not_empty",
            resource_count=resources,
        )
    await c.run("DELETE FROM workspace WHERE id = :id", id=workspace.id)
    await audit.note(c, by, "workspace.delete", workspace.id, name=workspace.name, force=force)


async def take_lock(c: Connection, workspace_id: str, kind: LockKind, owner: str, reason: str) -> Lock | None:
    """Takes the lock if nobody has it; None if somebody does."""
    row = await c.first(
        """UPDATE workspace SET lock_kind = :kind, lock_owner = :owner, lock_token = :token, lock_reason = :reason,
           locked_at = now() WHERE id = :id AND lock_kind IS NULL RETURNING locked_at, lock_token""",
        kind=kind,
        owner=owner,
        token=new_id("lock"),
        reason=reason,
        id=workspace_id,
    )
    if row is None:
        return None
    return Lock(kind=kind, owner=owner, token=row["lock_token"], reason=reason, since=row["locked_at"])


async def lock_for_user(c: Connection, workspace_id: str, *, user: str, reason: str) -> Workspace:
    """Raises WorkspaceLocked when somebody has it already."""
    workspace = await hold(c, workspace_id)
    if await take_lock(c, workspace.id, "user", user, reason) is None:
        raise locked(workspace)
    await audit.note(c, user, "workspace.lock", workspace.id, reason=reason)
    return await get(c, workspace.id)


async def unlock_for_user(c: Connection, workspace_id: str, *, user: str, token: str | None, force: bool) -> Workspace:
    """Releases one's own lock, or with `force` (a right of its own) anybody's; audited both ways.

    Raises Conflict (not_locked), WorkspaceLocked when it is somebody else's.
    """
    workspace = await hold(c, workspace_id)
    lock = workspace.lock
    if lock is None:
        raise Conflict(f"Workspace {workspace.name} is not locked.", code="not_locked")
    own = lock.kind == "user" and (lock.token == token or (token is None and lock.owner == user))
    if not own and not force:
        raise locked(workspace)
    await c.run(
        """UPDATE workspace SET lock_kind = NULL, lock_owner = NULL, lock_token = NULL, lock_reason = NULL,
           locked_at = NULL WHERE id = :id AND lock_token = :token""",
        id=workspace.id,
        token=lock.token,
    )
    verb = "workspace.unlock" if own else "workspace.force_unlock"
    await audit.note(c, user, verb, workspace.id, kind=lock.kind, owner=lock.owner, reason=lock.reason)
    return await get(c, workspace.id)


async def release_lock_of_task(c: Connection, workspace_id: str, task_id: int) -> bool:
    """Compare-and-delete: only the lock that this task holds."""
    found = await c.value(
        """UPDATE workspace SET lock_kind = NULL, lock_owner = NULL, lock_token = NULL, lock_reason = NULL,
           locked_at = NULL WHERE id = :id AND lock_kind = 'task' AND lock_owner = :owner RETURNING id""",
        id=workspace_id,
        owner=str(task_id),
    )
    return found is not None


async def explain_lock_of_task(c: Connection, workspace_id: str, task_id: int, reason: str) -> None:
    """The lock stays with the task, and says why."""
    await c.run(
        "UPDATE workspace SET lock_reason = :reason WHERE id = :id AND lock_kind = 'task' AND lock_owner = :owner",
        id=workspace_id,
        owner=str(task_id),
        reason=reason,
    )


def locked(workspace: Workspace) -> WorkspaceLocked:
    lock = workspace.lock
    if lock is None:
        raise ValueError("not locked")
    holder = f"task {lock.owner}" if lock.kind == "task" else lock.owner
    return WorkspaceLocked(
        f"Workspace {workspace.name} is locked by {holder} since {lock.since:%Y-%m-%d %H:%M} UTC: {lock.reason}",
        kind=lock.kind,
        owner=lock.owner,
        reason=lock.reason,
        since=lock.since.isoformat(),
    )


def _encoded(values: Mapping[str, Any]) -> dict[str, object]:
    strangers = values.keys() - _CHANGEABLE
    if strangers:
        raise ValueError(f"not a column that changes: {strangers}")
    return {
        name: msgspec.json.encode(value).decode() if name in _JSON and value is not None else value
        for name, value in values.items()
    }


async def _with_pool(c: Connection, before: Workspace | None, chosen: dict[str, object]) -> dict[str, object]:
    """The same, with the pool's id for its name. Checked only when mode or pool are named: a pool that does not allow the
    workspace any more is no reason to refuse another description.
    """
    if not chosen.keys() & {"execution_mode", "pool_id"}:
        return chosen
    key, pool = chosen.get("pool_id", None if before is None else before.pool_id), None
    if key is not None:
        # Against the pool's deletion in this moment.
        pool = await c.first("SELECT id, name FROM agent_pool WHERE id = :key OR name = :key FOR KEY SHARE", key=key)
        if pool is None:
            raise Invalid(f"There is no pool {key!r}.", path="$.pool_id", kind="pool")
    if chosen.get("execution_mode", None if before is None else before.execution_mode) == "agent":
        await _require_allowed(c, before, pool)
    return {**chosen, "pool_id": pool and pool["id"]} if "pool_id" in chosen else chosen


async def _require_allowed(c: Connection, workspace: Workspace | None, pool: Row | None) -> None:
    if pool is None:
        raise Conflict(
            "The execution mode `agent` needs a pool: give its `pool_id`, and have an admin allow the workspace in it "
            "(PUT /api/v1/agent-pools/{pool}/workspaces/{workspace}).",
            code="pool_not_allowed",
        )
    allowed = workspace is not None and await c.value(
        "SELECT true FROM pool_workspace WHERE pool_id = :pool_id AND workspace_id = :id",
        pool_id=pool["id"],
        id=workspace.id,
    )
    if allowed:
        return
    first = "Create it with execution_mode `local`, then have" if workspace is None else "Have"
    raise Conflict(
        f"Pool {pool['name']} does not allow this workspace. {first} an admin allow it "
        f"(PUT /api/v1/agent-pools/{pool['id']}/workspaces/{{workspace}}), and change the mode after that.",
        code="pool_not_allowed",
        pool_id=pool["id"],
    )


def escaped(text: str) -> str:
    """The text as it stands for itself in a LIKE pattern."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _unknown(workspace: str) -> NotFound:
    return NotFound(f"There is no workspace {workspace!r}.", kind="workspace")


def _name_in_use(name: str) -> Conflict:
    return Conflict(
        f"There is a workspace named {name!r} already; choose another name.", code="name_in_use", path="$.name"
    )
