"""State versions: raw bytes, sealed; judged under the workspace's row lock; never refused when an apply sends them."""

from __future__ import annotations

import hashlib
import zlib

from iac.domain import states
from iac.domain.records import StateVersion, Workspace
from iac.domain.state_verdicts import Current, Push, Verdict, check_upload, judge, rollback
from iac.domain.states import StateHeader
from iac.domain.work import CurrentState, RunTask, StatePush, StateReceipt
from iac.errors import Invalid, NotFound
from iac.store import audit, workspaces
from iac.store.database import Connection, Row
from iac.store.identity import new_id
from iac.store.sealing import Keyring

_COLUMNS = """id, workspace_id, serial, lineage, sha256, size, verdict, reason, task_id, fence, partial, rollback_of,
              terraform_version, resource_count, created_by, created_at"""
_UNREADABLE = StateHeader(version=0, terraform_version="", serial=-1, lineage="", resource_count=0, output_names=())


def _sealed(keyring: Keyring, version_id: str, data: bytes) -> bytes:
    return keyring.seal(zlib.compress(data, 1), f"state:{version_id}")


def _opened(keyring: Keyring, row: Row) -> bytes:
    return zlib.decompress(keyring.unseal(row["data"], f"state:{row['id']}"))


async def current(c: Connection, keyring: Keyring, workspace_id: str) -> CurrentState | None:
    """The workspace's state in clear: only for an executor, and for whoever may download it."""
    row = await c.first(
        "SELECT id, data, sha256, serial, lineage FROM state_version WHERE workspace_id = :id AND verdict = 'current'",
        id=workspace_id,
    )
    if row is None:
        return None
    return CurrentState(data=_opened(keyring, row), sha256=row["sha256"], serial=row["serial"], lineage=row["lineage"])


async def push(
    c: Connection, keyring: Keyring, order: RunTask, sent: StatePush, *, revoked: bool = False
) -> StateReceipt:
    """Stores what an apply left behind, with the verdict that it deserves. Idempotent by (task, sha256).

    `revoked`: the sender has no say any more, so that what it sends is only kept apart.

    Raises NotFound when there is no such task at all.
    """
    workspace_id = await c.value("SELECT workspace_id FROM task WHERE id = :id", id=order.task_id)
    if workspace_id is None:
        raise NotFound(f"There is no task {order.task_id}.")
    workspace = await workspaces.hold(c, workspace_id)
    header = _header(sent.data)
    verdict = judge(await _standing(c, workspace), await _push(c, order, sent, header, revoked=revoked))
    if not verdict.stores:
        serial = await c.value(
            "SELECT serial FROM state_version WHERE workspace_id = :id AND sha256 = :sha256 LIMIT 1",
            id=workspace.id,
            sha256=sent.sha256,
        )
        return StateReceipt(verdict="duplicate", serial=serial)
    if verdict.outcome != "checkpoint":
        await audit.note(
            c, f"task-{order.task_id}", "state.push", workspace.id, fence=order.fence, verdict=verdict.outcome,
            serial=header.serial if header else None, sha256=sent.sha256,
        )  # fmt: skip
    await _forget_checkpoint(c, order.task_id, sent.sha256)
    await _store(c, keyring, workspace, sent.data, header=header or _UNREADABLE, verdict=verdict, order=order)
    return StateReceipt(verdict=verdict.outcome, serial=header.serial if header else None, reason=verdict.message)


def _header(data: bytes) -> StateHeader | None:
    try:
        return states.inspect(data)
    except Invalid:
        return None


async def _standing(c: Connection, workspace: Workspace) -> Current | None:
    row = await c.first(
        "SELECT serial, lineage, sha256 FROM state_version WHERE workspace_id = :id AND verdict = 'current'",
        id=workspace.id,
    )
    return None if row is None else Current(**row, state_fence=workspace.state_fence)


async def _push(c: Connection, order: RunTask, sent: StatePush, header: StateHeader | None, *, revoked: bool) -> Push:
    known = await c.all("SELECT sha256, verdict FROM state_version WHERE task_id = :id", id=order.task_id)
    return Push(
        task_fence=await c.value("SELECT fence FROM task WHERE id = :id", id=order.task_id),
        assignment_fence=order.fence,
        sha256=sent.sha256,
        header=header,
        known_hashes=frozenset(row["sha256"] for row in known if row["verdict"] != "checkpoint"),
        checkpoint_hashes=frozenset(row["sha256"] for row in known if row["verdict"] == "checkpoint"),
        partial=sent.partial,
        revoked=revoked,
    )


async def _forget_checkpoint(c: Connection, task_id: int, sha256: str) -> None:
    """A checkpoint that turns out to be the final state is stored once, as what it is now."""
    await c.run(
        "DELETE FROM state_version WHERE task_id = :id AND sha256 = :sha256 AND verdict = 'checkpoint'",
        id=task_id,
        sha256=sha256,
    )


async def _store(
    c: Connection,
    keyring: Keyring,
    workspace: Workspace,
    data: bytes,
    *,
    header: StateHeader,
    verdict: Verdict,
    order: RunTask | None = None,
    by: str = "",
    rollback_of: int | None = None,
) -> str:
    if verdict.outcome == "current":
        await _succeed(c, workspace, header, order.fence if order else workspace.state_fence)
    version_id = new_id("sv")
    await c.run(
        """INSERT INTO state_version (id, workspace_id, serial, lineage, sha256, size, verdict, reason, task_id, fence,
                                      partial, rollback_of, terraform_version, resource_count, data, created_by)
           VALUES (:id, :workspace_id, :serial, :lineage, :sha256, :size, :verdict, :reason, :task_id, :fence,
                   :partial, :rollback_of, :terraform_version, :resource_count, :data, :by)""",
        id=version_id,
        workspace_id=workspace.id,
        serial=header.serial,
        lineage=header.lineage,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        verdict=verdict.outcome,
        reason=verdict.message,
        task_id=order.task_id if order else None,
        fence=order.fence if order else None,
        partial=verdict.outcome == "checkpoint",
        rollback_of=rollback_of,
        terraform_version=header.terraform_version,
        resource_count=header.resource_count,
        data=_sealed(keyring, version_id, data),
        by=by or (f"task {order.task_id}" if order else ""),
    )
    return version_id


async def _succeed(c: Connection, workspace: Workspace, header: StateHeader, fence: int) -> None:
    await c.run(
        "UPDATE state_version SET verdict = 'superseded' WHERE workspace_id = :id AND verdict = 'current'",
        id=workspace.id,
    )
    await c.run(
        """UPDATE workspace SET current_serial = :serial, lineage = :lineage, state_fence = :fence,
                                state_uncertain = false, updated_at = now() WHERE id = :id""",
        id=workspace.id,
        serial=header.serial,
        lineage=header.lineage,
        fence=fence,
    )


async def upload(
    c: Connection, keyring: Keyring, workspace_key: str, data: bytes, *, force: bool, by: str, token: str | None
) -> StateVersion:
    """A user's own state as the current one. The current bytes again give the current version back.

    Raises Invalid (state_invalid), Conflict (state_lineage_differs, state_serial_too_low), WorkspaceLocked.
    """
    workspace = await _writable(c, workspace_key, by, token)
    header = states.inspect(data)
    standing = await _standing(c, workspace)
    decision = check_upload(standing, header, hashlib.sha256(data).hexdigest(), force=force)
    if decision.duplicate:
        return await version(c, workspace.id, "current")
    if decision.serial != header.serial:
        data = states.with_serial(data, decision.serial)
        header = states.inspect(data)
    version_id = await _store(c, keyring, workspace, data, header=header, verdict=Verdict("current"), by=by)
    await audit.note(c, by, "state.upload", workspace.id, serial=header.serial, force=force)
    return await _by_id(c, version_id)


async def roll_back(
    c: Connection, keyring: Keyring, workspace_key: str, serial: int, *, by: str, token: str | None
) -> StateVersion:
    """The state of that serial once more, as a new version with the next serial inside.

    Raises NotFound, Conflict (state_lineage_differs), WorkspaceLocked.
    """
    workspace = await _writable(c, workspace_key, by, token)
    standing = await _standing(c, workspace)
    old = await _with_data(c, workspace.id, str(serial))
    if standing is None:
        raise NotFound(f"Workspace {workspace.name} has no state yet.")
    data = rollback(standing, _opened(keyring, old))
    header = states.inspect(data)
    version_id = await _store(
        c, keyring, workspace, data, header=header, verdict=Verdict("current"), by=by, rollback_of=old["serial"]
    )
    await audit.note(c, by, "state.rollback", workspace.id, to=serial, serial=header.serial)
    return await _by_id(c, version_id)


async def _writable(c: Connection, workspace_key: str, by: str, token: str | None) -> Workspace:
    """The workspace, if nobody else holds its lock."""
    workspace = await workspaces.hold(c, workspace_key)
    lock = workspace.lock
    if lock is not None and not (lock.kind == "user" and (lock.owner == by or lock.token == token)):
        raise workspaces.locked(workspace)
    return workspace


async def page(c: Connection, workspace_id: str, *, limit: int, before: str | None) -> list[StateVersion]:
    """Newest first, quarantined ones included, checkpoints not; those older than the version `before`.

    Raises Invalid if there is no such one.
    """
    if before is not None and not await c.value(
        "SELECT true FROM state_version WHERE id = :id AND workspace_id = :workspace_id",
        id=before,
        workspace_id=workspace_id,
    ):
        raise Invalid("This cursor is not from a page of this list; begin without one.", path="$.cursor")
    rows = await c.all(
        f"""SELECT {_COLUMNS} FROM state_version WHERE workspace_id = :workspace_id AND verdict <> 'checkpoint'
            AND (CAST(:before AS text) IS NULL OR (created_at, id) <
                 (SELECT created_at, id FROM state_version WHERE id = :before))
            ORDER BY created_at DESC, id DESC LIMIT :limit""",
        workspace_id=workspace_id,
        before=before,
        limit=limit,
    )
    return [StateVersion(**row) for row in rows]


async def version(c: Connection, workspace_id: str, which: str) -> StateVersion:
    """`which` is "current", a serial, or an id. Raises NotFound."""
    where, value = _which(which)
    row = await c.first(
        f"SELECT {_COLUMNS} FROM state_version WHERE workspace_id = :workspace_id AND {where}",
        workspace_id=workspace_id,
        **value,
    )
    if row is None:
        raise _no_version(which)
    return StateVersion(**row)


async def download(c: Connection, keyring: Keyring, workspace_id: str, which: str, *, by: str) -> bytes:
    """The raw bytes as they came. Audited, because a state holds secrets. Raises NotFound."""
    row = await _with_data(c, workspace_id, which)
    await audit.note(c, by, "state.download", workspace_id, version=row["id"], serial=row["serial"])
    return _opened(keyring, row)


async def _with_data(c: Connection, workspace_id: str, which: str) -> Row:
    where, value = _which(which)
    row = await c.first(
        f"SELECT id, serial, data FROM state_version WHERE workspace_id = :workspace_id AND {where}",
        workspace_id=workspace_id,
        **value,
    )
    if row is None:
        raise _no_version(which)
    return row


async def _by_id(c: Connection, version_id: str) -> StateVersion:
    row = await c.first(f"SELECT {_COLUMNS} FROM state_version WHERE id = :id", id=version_id)
    if row is None:
        raise _no_version(version_id)
    return StateVersion(**row)


def _which(which: str) -> tuple[str, dict[str, object]]:
    if which == "current":
        return "verdict = 'current'", {}
    if which.isdecimal() and len(which) < 19:
        # A quarantined state may have the serial of one that counted; the one that counted is meant.
        return "serial = :serial AND verdict IN ('current', 'superseded') ORDER BY created_at DESC LIMIT 1", {
            "serial": int(which)
        }
    return "id = :version_id", {"version_id": which}


def _no_version(which: str) -> NotFound:
    return NotFound(f"The workspace has no state version {which!r}.")


async def contents(c: Connection, keyring: Keyring, workspace_id: str, which: str) -> bytes:
    """The raw bytes, for what shows them without their secrets; who gets the bytes themselves uses `download`."""
    return _opened(keyring, await _with_data(c, workspace_id, which))
