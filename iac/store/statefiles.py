"""State versions: raw bytes, sealed; what is read of them, and what users write. What applies send: see state_pushes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from iac.domain import states
from iac.domain.records import StateVerdict, StateVersion, Workspace
from iac.domain.state_verdicts import Current, Upload, Verdict, check_upload, promotion, rollback
from iac.domain.states import StateHeader
from iac.domain.work import CurrentState, RunTask
from iac.errors import Conflict, Invalid, NotFound
from iac.store import audit, workspaces
from iac.store.database import Connection, Row
from iac.store.identity import new_id
from iac.store.sealing import Keyring

COLUMNS = """id, workspace_id, serial, lineage, sha256, size, verdict, reason, task_id, fence, partial, rollback_of,
             promotion_of, promoted_at, terraform_version, resource_count, created_by, created_at"""
UNREADABLE = StateHeader(version=0, terraform_version="", serial=-1, lineage="", resource_count=0, output_names=())
"""What is written down of bytes that are no state."""
LISTED: tuple[StateVerdict, ...] = ("current", "superseded", "quarantined")
APART: tuple[StateVerdict, ...] = ("quarantined", "checkpoint")
"""Stored, and never current so far."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A state as it is stored, under the id that it is sealed for. `header` is None for bytes that are no state."""

    version_id: str
    header: StateHeader | None
    sha256: str
    size: int
    sealed: bytes


def pack(keyring: Keyring, data: bytes) -> Packed:
    """Reads, compresses and seals: a second for a state of a hundred megabytes, so not in the loop when it may be large."""
    version_id = new_id("sv")
    try:
        header = states.inspect(data)
    except Invalid:
        header = None
    sealed = keyring.seal(zlib.compress(data, 1), f"state:{version_id}")
    return Packed(version_id, header, hashlib.sha256(data).hexdigest(), len(data), sealed)


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


async def standing(c: Connection, workspace: Workspace) -> Current | None:
    """What a new state is judged against. The caller holds the workspace's row."""
    row = await c.first(
        "SELECT serial, lineage, sha256 FROM state_version WHERE workspace_id = :id AND verdict = 'current'",
        id=workspace.id,
    )
    return None if row is None else Current(**row, state_fence=workspace.state_fence)


async def store(
    c: Connection,
    workspace: Workspace,
    packed: Packed,
    *,
    verdict: Verdict,
    order: RunTask | None = None,
    partial: bool = False,
    by: str = "",
    rollback_of: int | None = None,
    promotion_of: str | None = None,
) -> None:
    """Writes the version, and makes it the current one if that is the verdict. The caller holds the workspace's row."""
    header = packed.header or UNREADABLE
    if verdict.outcome == "current":
        await succeed(c, workspace.id, header, order.fence if order else workspace.state_fence)
    await c.run(
        """INSERT INTO state_version (id, workspace_id, serial, lineage, sha256, size, verdict, reason, task_id, fence,
                                      partial, rollback_of, promotion_of, terraform_version, resource_count, data,
                                      created_by)
           VALUES (:id, :workspace_id, :serial, :lineage, :sha256, :size, :verdict, :reason, :task_id, :fence,
                   :partial, :rollback_of, :promotion_of, :terraform_version, :resource_count, :data, :by)""",
        id=packed.version_id,
        workspace_id=workspace.id,
        serial=header.serial,
        lineage=header.lineage,
        sha256=packed.sha256,
        size=packed.size,
        verdict=verdict.outcome,
        reason=verdict.message,
        task_id=order.task_id if order else None,
        fence=order.fence if order else None,
        partial=partial,
        rollback_of=rollback_of,
        promotion_of=promotion_of,
        terraform_version=header.terraform_version,
        resource_count=header.resource_count,
        data=packed.sealed,
        by=by or (f"task {order.task_id}" if order else ""),
    )


async def succeed(c: Connection, workspace_id: str, header: StateHeader, fence: int) -> None:
    """Makes room for a new current state, and writes down on the workspace what it is."""
    await c.run(
        "UPDATE state_version SET verdict = 'superseded' WHERE workspace_id = :id AND verdict = 'current'",
        id=workspace_id,
    )
    await c.run(
        """UPDATE workspace SET current_serial = :serial, lineage = :lineage, state_fence = :fence,
                                state_uncertain = false, updated_at = now() WHERE id = :id""",
        id=workspace_id,
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
    decision = check_upload(await standing(c, workspace), header, hashlib.sha256(data).hexdigest(), force=force)
    if decision.duplicate:
        return await version(c, workspace.id, "current")
    packed = pack(keyring, _renumbered(data, header, decision))
    await store(c, workspace, packed, verdict=Verdict("current"), by=by)
    await audit.note(c, by, "state.upload", workspace.id, serial=decision.serial, force=force)
    return await _by_id(c, packed.version_id)


def _renumbered(data: bytes, header: StateHeader, decision: Upload) -> bytes:
    return data if decision.serial == header.serial else states.with_serial(data, decision.serial)


async def roll_back(
    c: Connection, keyring: Keyring, workspace_key: str, serial: int, *, by: str, token: str | None
) -> StateVersion:
    """The state of that serial once more, as a new version with the next serial inside.

    Raises NotFound, Conflict (state_lineage_differs), WorkspaceLocked.
    """
    workspace = await _writable(c, workspace_key, by, token)
    now = await standing(c, workspace)
    old = await _with_data(c, workspace.id, str(serial))
    if now is None:
        raise NotFound(f"Workspace {workspace.name} has no state yet.")
    packed = pack(keyring, rollback(now, _opened(keyring, old)))
    await store(c, workspace, packed, verdict=Verdict("current"), by=by, rollback_of=old["serial"])
    await audit.note(c, by, "state.rollback", workspace.id, to=serial, serial=now.serial + 1)
    return await _by_id(c, packed.version_id)


async def promote(
    c: Connection,
    keyring: Keyring,
    workspace_key: str,
    version_id: str,
    *,
    force: bool,
    expected: int | None,
    by: str,
    token: str | None,
) -> StateVersion:
    """Makes a state that was kept apart the current one, as a new version; the old one stays as it is, and says so.

    `expected` is the current serial that the admin has seen. Raises NotFound, WorkspaceLocked, Invalid (state_invalid),
    Conflict: not_apart, state_moved (it is another serial meanwhile), state_lineage_differs unless `force`.
    """
    workspace = await _writable(c, workspace_key, by, token)
    kept = await version(c, workspace.id, version_id)
    if kept.verdict not in APART:
        raise Conflict(
            f"State version {kept.id} is {kept.verdict}: only one that is kept apart (quarantined, or a checkpoint) can be "
            "promoted. For one that was current before, use rollback.",
            code="not_apart",
            verdict=kept.verdict,
        )
    now = await standing(c, workspace)
    if expected is not None and expected != (now.serial if now else None):
        raise Conflict(
            f"The workspace is at serial {now.serial if now else None}, not at {expected} any more; look again.",
            code="state_moved",
            current_serial=now.serial if now else None,
        )
    data = _opened(keyring, await _with_data(c, workspace.id, kept.id))
    header = states.inspect(data)
    decision = promotion(now, header, kept.sha256, force=force)
    if decision.duplicate:
        made = await version(c, workspace.id, "current")
    else:
        packed = pack(keyring, _renumbered(data, header, decision))
        await store(c, workspace, packed, verdict=Verdict("current"), by=by, promotion_of=kept.id)
        made = await _by_id(c, packed.version_id)
    await c.run("UPDATE state_version SET promoted_at = now() WHERE id = :id", id=kept.id)
    await audit.note(
        c, by, "state.promote", workspace.id, version=kept.id, sha256=kept.sha256, task=kept.task_id, force=force,
        serial=made.serial,
    )  # fmt: skip
    return made


async def _writable(c: Connection, workspace_key: str, by: str, token: str | None) -> Workspace:
    """The workspace, if nobody else holds its lock."""
    workspace = await workspaces.hold(c, workspace_key)
    lock = workspace.lock
    if lock is not None and not (lock.kind == "user" and (lock.owner == by or lock.token == token)):
        raise workspaces.locked(workspace)
    return workspace


async def page(
    c: Connection, workspace_id: str, *, limit: int, before: str | None, verdicts: Sequence[StateVerdict] = ()
) -> list[StateVersion]:
    """Newest first, those older than the version `before`; without `verdicts` all but checkpoints.

    Raises Invalid if there is no such one.
    """
    if before is not None and not await c.value(
        "SELECT true FROM state_version WHERE id = :id AND workspace_id = :workspace_id",
        id=before,
        workspace_id=workspace_id,
    ):
        raise Invalid("This cursor is not from a page of this list; begin without one.", path="$.cursor")
    rows = await c.all(
        f"""SELECT {COLUMNS} FROM state_version WHERE workspace_id = :workspace_id AND verdict = ANY(:verdicts)
            AND (CAST(:before AS text) IS NULL OR (created_at, id) <
                 (SELECT created_at, id FROM state_version WHERE id = :before))
            ORDER BY created_at DESC, id DESC LIMIT :limit""",
        workspace_id=workspace_id,
        verdicts=list(verdicts or LISTED),
        before=before,
        limit=limit,
    )
    return [StateVersion(**row) for row in rows]


async def of_task(c: Connection, task_id: int) -> list[StateVersion]:
    """What a task has stored, newest first; checkpoints about which nobody has decided are not among it."""
    rows = await c.all(
        f"""SELECT {COLUMNS} FROM state_version WHERE task_id = :id AND verdict <> 'checkpoint'
            ORDER BY created_at DESC, id DESC""",
        id=task_id,
    )
    return [StateVersion(**row) for row in rows]


async def version(c: Connection, workspace_id: str, which: str) -> StateVersion:
    """`which` is "current", a serial, or an id. Raises NotFound."""
    where, value = _which(which)
    row = await c.first(
        f"SELECT {COLUMNS} FROM state_version WHERE workspace_id = :workspace_id AND {where}",
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
    row = await c.first(f"SELECT {COLUMNS} FROM state_version WHERE id = :id", id=version_id)
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
