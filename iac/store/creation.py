"""Making a task: its inputs are read, frozen into a sealed bundle and stored in one transaction with the row itself."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping

import msgspec

from iac.domain.bundles import Inputs, decode_bundle, encode_bundle, freeze
from iac.domain.lifecycle import begin
from iac.domain.records import APPLYING, Action, Task, Workspace
from iac.domain.work import Bundle
from iac.errors import Conflict, Invalid, NotFound, PlanStale
from iac.store import audit, configurations, plans, resources, tasks, together, variables, workspaces
from iac.store.database import Connection, Row
from iac.store.sealing import Keyring
from iac.store.together import Along


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    action: Action
    targets: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    priority: int = 0
    auto_apply: bool | None = None
    message: str = ""
    plan_task_id: int | None = None
    retry_of: int | None = None


def _purpose(task_id: int) -> str:
    return f"bundle:{task_id}"


async def create(
    c: Connection, keyring: Keyring, workspace: str, asked: NewTask, *, by: str, key: str | None = None
) -> Task:
    """The new task, queued already if nothing stands before it; or the one that the same person asked for under this `key`.

    Raises NotFound, Conflict (no_configuration), Invalid for inputs that cannot be assembled, and for a key under which
    something else was asked for, PlanStale.
    """
    held = await workspaces.hold(c, workspace)
    digest_of_request = None if key is None else hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
    found = await _found(c, held.id, by, key)
    if found["made_before"] is not None:
        then_id, then_digest = found["made_before"]
        return await _made_before(c, then_id, then_digest, digest_of_request)
    if asked.plan_task_id is not None:
        encoded, planned = await _inputs_of_plan(c, keyring, held, asked.plan_task_id)
    else:
        encoded, planned = encode_bundle(_frozen(held, asked, found, keyring)), None
    task_id: int = found["task_id"]
    free = held.lock is None and not found["others_wait"]
    goes = asked.action not in APPLYING or (free and await _take_lock(c, held.id, task_id, asked, by))
    status, queued_at = begin(goes=goes, now=found["clock"])
    bundle, digest = encoded
    columns = _columns(held, asked, planned) | {
        "id": task_id,
        "status": status,
        "queued_at": queued_at,
        "created_by": by,
        "bundle": keyring.seal(zlib.compress(bundle, 1), _purpose(task_id)),
        "bundle_digest": digest,
        "request_key": key,
        "request_digest": digest_of_request,
    }
    noted = audit.along(by, "task.create", f"task-{task_id}", workspace=held.id, action=asked.action)
    made = await _insert(c, columns, noted)
    if goes or held.lock is not None:
        return made
    return (await tasks.advance(c, held.id)).get(task_id) or made


def _columns(workspace: Workspace, asked: NewTask, planned: Task | None) -> dict[str, object]:
    """What follows from what is asked for, and from where."""
    return {
        "workspace_id": workspace.id,
        "action": asked.action,
        "phase": "plan" if planned is None else "apply",
        "execution_mode": workspace.execution_mode,
        "priority": asked.priority,
        "auto_apply": _auto_apply(workspace, asked),
        "targets": list(asked.targets),
        "replace": list(asked.replace),
        "message": asked.message,
        "terraform_version": workspace.terraform_version,
        "plan_task_id": asked.plan_task_id,
        "retry_of": asked.retry_of,
        "plan_digest": None if planned is None else planned.plan_digest,
        "has_changes": None if planned is None else planned.has_changes,
        "pool_id": workspace.pool_id if workspace.execution_mode == "agent" else None,
    }


async def _insert(c: Connection, columns: Mapping[str, object], noted: Along) -> Task:
    row = await together.write(
        c,
        f"""INSERT INTO task ({", ".join(columns)}) OVERRIDING SYSTEM VALUE
            VALUES ({", ".join(f":{name}" for name in columns)}) RETURNING *""",
        columns,
        [noted],
        answer=f"SELECT {tasks.COLUMNS} FROM done t JOIN workspace w ON w.id = t.workspace_id",
    )
    if row is None:
        raise NotFound("the task was not stored")
    return tasks.from_row(row)


async def _found(c: Connection, workspace_id: str, by: str, key: str | None) -> Row:
    """What a new task in this workspace is made from, and its id. A statement of its own, after the one that holds the
    workspace: so it sees what those have done for whom that one had to wait.
    """
    row = await c.first(
        f"""SELECT now() AS now, clock_timestamp() AS clock, w.lock_hcl,
                   nextval(pg_get_serial_sequence('task', 'id')) AS task_id,
                   EXISTS (SELECT FROM task t WHERE t.workspace_id = w.id AND t.status = 'pending') AS others_wait,
                   (SELECT ROW(t.id, t.request_digest) FROM task t WHERE t.workspace_id = w.id AND t.created_by = :by
                    AND t.request_key = :key) AS made_before,
                   {configurations.OF_WORKSPACE} AS source,
                   {resources.OF_WORKSPACE} AS resources,
                   {variables.OF_WORKSPACE} AS variables
            FROM workspace w WHERE w.id = :id""",
        id=workspace_id,
        by=by,
        key=key,
    )
    if row is None:
        raise NotFound(f"There is no workspace {workspace_id!r}.")
    return row


async def _made_before(c: Connection, task_id: int, asked_then: str, asked_now: str | None) -> Task:
    """The task of an earlier request; the workspace is held, so no other one is on its way. Raises Invalid."""
    if asked_then != asked_now:
        raise Invalid(
            f"This Idempotency-Key was used for task {task_id}, which was asked for otherwise; use a new key for each "
            "new request.",
            path="Idempotency-Key",
            code="idempotency_key_reused",
        )
    return await tasks.get(c, task_id)


async def _take_lock(c: Connection, workspace_id: str, task_id: int, asked: NewTask, by: str) -> bool:
    reason = tasks.lock_reason(asked.action, by, asked.message)
    return await workspaces.take_lock(c, workspace_id, "task", str(task_id), reason) is not None


def _auto_apply(workspace: Workspace, asked: NewTask) -> bool:
    if asked.auto_apply is not None:
        return asked.auto_apply
    return asked.action == "apply" or workspace.auto_apply


def _frozen(workspace: Workspace, asked: NewTask, found: Row, keyring: Keyring) -> Bundle:
    source = configurations.source_of(found["source"])
    kept = resources.all_of(found["resources"])
    if source.digest is None and not kept:
        raise Conflict(
            f"Workspace {workspace.name} has no configuration yet; upload one first "
            "(PUT …/configuration, or `iac run plan --dir .`).",
            code="no_configuration",
        )
    return freeze(
        Inputs(
            workspace=workspace,
            action=asked.action,
            targets=asked.targets,
            replace=asked.replace,
            archive_digest=source.digest if source.packed else None,
            tf_code=source.tf_code,
            resources=kept,
            variables=variables.in_clear(found["variables"], keyring),
            lock_hcl=found["lock_hcl"],
            now=found["now"],
        )
    )


async def _inputs_of_plan(
    c: Connection, keyring: Keyring, workspace: Workspace, plan_task_id: int
) -> tuple[tuple[bytes, str], Task]:
    planned = await tasks.get(c, plan_task_id)
    if planned.workspace_id != workspace.id or planned.action != "plan":
        raise Conflict(f"Task {plan_task_id} is not a plan of workspace {workspace.name}.", code="not_a_plan")
    if planned.status != "succeeded" or planned.plan_digest is None:
        raise Conflict(
            f"Task {plan_task_id} is {planned.status}; it has no plan that could be applied.", code="no_plan"
        )
    if not planned.has_changes:
        raise Conflict(
            f"The plan of task {plan_task_id} changes nothing; there is nothing to apply.", code="no_changes"
        )
    facts = await plans.facts(c, plan_task_id)
    if (facts.serial, facts.lineage) != (workspace.current_serial, workspace.lineage):
        raise stale(plan_task_id, facts.serial, workspace.current_serial)
    return encode_bundle(await bundle_of(c, keyring, plan_task_id)), planned


def stale(plan_task_id: int, planned_serial: int | None, current_serial: int | None) -> PlanStale:
    return PlanStale(
        f"The plan of task {plan_task_id} was made from state serial {planned_serial}; the workspace is at "
        f"{current_serial} now. Plan again.",
        planned_serial=planned_serial,
        current_serial=current_serial,
    )


async def bundle_of(c: Connection, keyring: Keyring, task_id: int) -> Bundle:
    """The frozen inputs, in clear."""
    sealed = await c.value("SELECT bundle FROM task WHERE id = :id", id=task_id)
    return decode_bundle(zlib.decompress(keyring.unseal(sealed, _purpose(task_id))))
