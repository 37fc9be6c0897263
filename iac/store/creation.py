"""Making a task: its inputs are read, frozen into a sealed bundle and stored in one transaction with the row itself."""

from __future__ import annotations

import hashlib
import zlib
from datetime import datetime

import msgspec

from iac.domain.bundles import Inputs, decode_bundle, encode_bundle, freeze
from iac.domain.records import Action, Task, Workspace
from iac.domain.work import Bundle
from iac.errors import Conflict, Invalid, NotFound, PlanStale
from iac.store import audit, configurations, plans, resources, tasks, variables, workspaces
from iac.store.database import Connection
from iac.store.sealing import Keyring


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
    if key is not None and (made := await _made_before(c, held, by, key, digest_of_request)) is not None:
        return made
    if asked.plan_task_id is not None:
        encoded, planned = await _inputs_of_plan(c, keyring, held, asked.plan_task_id)
    else:
        encoded, planned = await _fresh_inputs(c, keyring, held, asked), None
    task_id: int = await c.value("SELECT nextval(pg_get_serial_sequence('task', 'id'))")
    bundle, digest = encoded
    await c.run(
        """INSERT INTO task (id, workspace_id, action, phase, status, execution_mode, priority, auto_apply, targets,
                             replace, message, created_by, bundle_digest, bundle, terraform_version, plan_task_id,
                             retry_of, plan_digest, has_changes, pool_id, request_key, request_digest)
           OVERRIDING SYSTEM VALUE
           VALUES (:id, :workspace_id, :action, :phase, 'pending', :execution_mode, :priority, :auto_apply, :targets,
                   :replace, :message, :by, :digest, :bundle, :terraform_version, :plan_task_id,
                   :retry_of, :plan_digest, :has_changes, :pool_id, :request_key, :request_digest)""",
        id=task_id,
        workspace_id=held.id,
        action=asked.action,
        phase="plan" if planned is None else "apply",
        execution_mode=held.execution_mode,
        priority=asked.priority,
        auto_apply=_auto_apply(held, asked),
        targets=list(asked.targets),
        replace=list(asked.replace),
        message=asked.message,
        by=by,
        digest=digest,
        bundle=keyring.seal(zlib.compress(bundle, 1), _purpose(task_id)),
        terraform_version=held.terraform_version,
        plan_task_id=asked.plan_task_id,
        retry_of=asked.retry_of,
        plan_digest=None if planned is None else planned.plan_digest,
        has_changes=None if planned is None else planned.has_changes,
        pool_id=held.pool_id if held.execution_mode == "agent" else None,
        request_key=key,
        request_digest=digest_of_request,
    )
    await audit.note(c, by, "task.create", f"task-{task_id}", workspace=held.id, action=asked.action)
    queued = await tasks.advance(c, held.id)
    return queued.get(task_id) or await tasks.get(c, task_id)


async def _made_before(c: Connection, workspace: Workspace, by: str, key: str, digest: str | None) -> Task | None:
    """The task of an earlier request; the workspace is held, so no other one is on its way. Raises Invalid."""
    row = await c.first(
        """SELECT id, request_digest FROM task
           WHERE workspace_id = :workspace AND created_by = :by AND request_key = :key""",
        workspace=workspace.id,
        by=by,
        key=key,
    )
    if row is None:
        return None
    if row["request_digest"] != digest:
        raise Invalid(
            f"This Idempotency-Key was used for task {row['id']}, which was asked for otherwise; use a new key for each "
            "new request.",
            path="Idempotency-Key",
            code="idempotency_key_reused",
        )
    return await tasks.get(c, row["id"])


def _auto_apply(workspace: Workspace, asked: NewTask) -> bool:
    if asked.auto_apply is not None:
        return asked.auto_apply
    return asked.action == "apply" or workspace.auto_apply


async def _fresh_inputs(c: Connection, keyring: Keyring, workspace: Workspace, asked: NewTask) -> tuple[bytes, str]:
    source = await configurations.source(c, workspace.configuration_id)
    found = await resources.listed(c, workspace.id)
    if source.digest is None and not found:
        raise Conflict(
            f"Workspace {workspace.name} has no configuration yet; upload one first "
            "(PUT …/configuration, or `iac run plan --dir .`).",
            code="no_configuration",
        )
    now, lock_hcl = await _time_and_lock(c, workspace)
    bundle = freeze(
        Inputs(
            workspace=workspace,
            action=asked.action,
            targets=asked.targets,
            replace=asked.replace,
            archive_digest=source.digest if source.packed else None,
            tf_code=source.tf_code,
            resources=tuple(found),
            variables=await variables.for_bundle(c, keyring, workspace.id),
            lock_hcl=lock_hcl,
            now=now,
        )
    )
    return encode_bundle(bundle)


async def _time_and_lock(c: Connection, workspace: Workspace) -> tuple[datetime, bytes | None]:
    row = await c.first("SELECT now() AS now, lock_hcl FROM workspace WHERE id = :id", id=workspace.id)
    if row is None:
        raise NotFound(f"There is no workspace {workspace.id!r}.")
    return row["now"], row["lock_hcl"]


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
