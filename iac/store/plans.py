"""Saved plans: the file and its JSON sealed, what they are bound to in clear."""

from __future__ import annotations

import json
import zlib

import msgspec

from iac.domain.work import PlanFacts, ResourceProgress, SavedPlan
from iac.errors import Conflict, Fenced, NotFound
from iac.store.database import Connection
from iac.store.sealing import Keyring

_FACTS = "digest, bundle_digest, serial, lineage, terraform_version, has_changes, summary"


async def save(
    c: Connection, keyring: Keyring, task_id: int, fence: int, plan: SavedPlan, *, planned: list[ResourceProgress]
) -> None:
    """Stores the plan of this assignment and notes on the task what it is. The same plan again is no error.

    Raises Fenced when the assignment is not the current one.
    """
    facts = plan.facts
    await c.run(  # the lock order of iac.store.tasks: the workspace's row first
        """SELECT 1 FROM workspace WHERE id = (SELECT workspace_id FROM task WHERE id = :id) FOR NO KEY UPDATE""",
        id=task_id,
    )
    found = await c.value(
        """UPDATE task SET plan_digest = :digest, has_changes = :has_changes
           WHERE id = :id AND fence = :fence AND phase = 'plan' AND status IN ('running', 'cancelling', 'lost')
           RETURNING id""",
        id=task_id,
        fence=fence,
        digest=facts.digest,
        has_changes=facts.has_changes,
    )
    if found is None:
        raise Fenced(f"Assignment {fence} of task {task_id} may not store a plan any more.")
    await c.run("DELETE FROM plan WHERE task_id = :id", id=task_id)
    await c.run(
        f"""INSERT INTO plan (task_id, {_FACTS}, file, json, lock_hcl)
            VALUES (:id, :digest, :bundle_digest, :serial, :lineage, :terraform_version, :has_changes, :summary,
                    :file, :json, :lock_hcl)""",
        id=task_id,
        digest=facts.digest,
        bundle_digest=facts.bundle_digest,
        serial=facts.serial,
        lineage=facts.lineage,
        terraform_version=facts.terraform_version,
        has_changes=facts.has_changes,
        summary=msgspec.json.encode(facts.summary).decode(),
        file=keyring.seal(plan.file, f"plan:{task_id}"),
        json=keyring.seal(zlib.compress(plan.json, 1), f"plan-json:{task_id}"),
        lock_hcl=plan.lock_hcl,
    )
    await c.many(
        """INSERT INTO resource_progress (task_id, address, action, status) VALUES ($1, $2, $3, 'pending')
           ON CONFLICT (task_id, address) DO UPDATE SET action = excluded.action, status = 'pending'""",
        [(task_id, entry.address, entry.action) for entry in planned],
    )
    if plan.lock_hcl is not None:
        await c.run(
            "UPDATE workspace SET lock_hcl = :lock_hcl WHERE id = (SELECT workspace_id FROM task WHERE id = :id)",
            id=task_id,
            lock_hcl=plan.lock_hcl,
        )


async def facts(c: Connection, task_id: int) -> PlanFacts:
    """Raises NotFound when the task has no plan (yet)."""
    row = await c.first(f"SELECT {_FACTS} FROM plan WHERE task_id = :id", id=task_id)
    if row is None:
        raise NotFound(f"Task {task_id} has no plan.", code="no_plan")
    return PlanFacts(**{**row, "summary": json.loads(row["summary"])})


async def summaries(c: Connection, task_ids: list[int]) -> dict[int, PlanFacts]:
    """The facts of those tasks that have a plan."""
    rows = await c.all(f"SELECT task_id, {_FACTS} FROM plan WHERE task_id = ANY(:ids)", ids=task_ids)
    return {
        row["task_id"]: PlanFacts(
            **{**{name: row[name] for name in PlanFacts.__struct_fields__}, "summary": json.loads(row["summary"])}
        )
        for row in rows
    }


async def saved(c: Connection, keyring: Keyring, task_id: int) -> SavedPlan:
    """The whole plan in clear: only for an executor. Raises NotFound."""
    bound = await facts(c, task_id)
    row = await c.first("SELECT file, json, lock_hcl FROM plan WHERE task_id = :id", id=task_id)
    if row is None:
        raise Conflict(f"The plan of task {task_id} is gone.", code="no_plan")
    return SavedPlan(
        facts=bound,
        file=keyring.unseal(row["file"], f"plan:{task_id}"),
        json=b"",
        lock_hcl=row["lock_hcl"],
    )


async def plan_json(c: Connection, keyring: Keyring, task_id: int) -> bytes:
    """The plan's JSON with sensitive values in it: mask it before it goes anywhere. Raises NotFound."""
    sealed = await c.value("SELECT json FROM plan WHERE task_id = :id", id=task_id)
    if sealed is None:
        raise NotFound(f"Task {task_id} has no plan.", code="no_plan")
    return zlib.decompress(keyring.unseal(sealed, f"plan-json:{task_id}"))


async def note_progress(c: Connection, task_id: int, entries: list[ResourceProgress]) -> None:
    """How far the resources of an apply are; an entry that was not planned is added."""
    await c.many(
        """INSERT INTO resource_progress (task_id, address, action, status, elapsed_s) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (task_id, address) DO UPDATE SET status = excluded.status, elapsed_s = excluded.elapsed_s""",
        [(task_id, entry.address, entry.action, entry.status, entry.elapsed_s) for entry in entries],
    )


async def progress(c: Connection, task_id: int) -> list[ResourceProgress]:
    rows = await c.all(
        "SELECT address, action, status, elapsed_s FROM resource_progress WHERE task_id = :id ORDER BY address",
        id=task_id,
    )
    return [ResourceProgress(**row) for row in rows]
