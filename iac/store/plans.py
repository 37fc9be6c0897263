"""Saved plans: the file and its JSON sealed, what they are bound to in clear."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence

import msgspec

from iac.domain.work import PlanFacts, ResourceProgress, SavedPlan
from iac.errors import Conflict, Fenced, NotFound
from iac.store import together
from iac.store.database import Connection
from iac.store.sealing import Keyring
from iac.store.together import Along

_FACTS = ("digest", "bundle_digest", "serial", "lineage", "terraform_version", "has_changes", "summary")
_COLUMNS = ", ".join(_FACTS)
_LOCK_FILE = Along(
    "lock_file",
    """UPDATE workspace SET lock_hcl = kept.lock_hcl FROM done, kept
       WHERE workspace.id = done.workspace_id AND kept.lock_hcl IS NOT NULL""",
)


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
    columns = {
        **{name: getattr(facts, name) for name in _FACTS if name != "summary"},
        "summary": msgspec.json.encode(facts.summary).decode(),
        "file": keyring.seal(plan.file, f"plan:{task_id}"),
        "json": keyring.seal(zlib.compress(plan.json, 1), f"plan-json:{task_id}"),
        "lock_hcl": plan.lock_hcl,
    }
    found = await together.write(
        c,
        """UPDATE task SET plan_digest = :noted_digest, has_changes = :noted_changes
           WHERE id = :id AND fence = :fence AND phase = 'plan' AND status IN ('running', 'cancelling', 'lost')
           RETURNING id, workspace_id""",
        {"id": task_id, "fence": fence, "noted_digest": facts.digest, "noted_changes": facts.has_changes},
        [_kept(columns), _expected(planned), _LOCK_FILE],
    )
    if found is None:
        raise Fenced(f"Assignment {fence} of task {task_id} may not store a plan any more.")


def _kept(columns: Mapping[str, object]) -> Along:
    """The plan, instead of one that an earlier attempt stored."""
    places = ", ".join(f":{name}" for name in columns)
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns)
    return Along(
        "kept",
        f"""INSERT INTO plan (task_id, {", ".join(columns)}) SELECT id, {places} FROM done
            ON CONFLICT (task_id) DO UPDATE SET {changed}, created_at = now()
            RETURNING lock_hcl""",
        columns,
    )


def _expected(planned: Sequence[ResourceProgress]) -> Along:
    """What is going to happen to the resources; an address once."""
    actions = {entry.address: entry.action for entry in planned}
    return Along(
        "expected",
        """INSERT INTO resource_progress (task_id, address, action, status)
           SELECT done.id, p.address, p.action, 'pending'
           FROM done, unnest(CAST(:addresses AS text[]), CAST(:actions AS text[])) AS p (address, action)
           ON CONFLICT (task_id, address) DO UPDATE SET action = excluded.action, status = 'pending'""",
        {"addresses": list(actions), "actions": list(actions.values())},
    )


async def facts(c: Connection, task_id: int) -> PlanFacts:
    """Raises NotFound when the task has no plan (yet)."""
    row = await c.first(f"SELECT {_COLUMNS} FROM plan WHERE task_id = :id", id=task_id)
    if row is None:
        raise NotFound(f"Task {task_id} has no plan.", code="no_plan")
    return PlanFacts(**{**row, "summary": json.loads(row["summary"])})


async def summaries(c: Connection, task_ids: list[int]) -> dict[int, PlanFacts]:
    """The facts of those tasks that have a plan."""
    rows = await c.all(f"SELECT task_id, {_COLUMNS} FROM plan WHERE task_id = ANY(:ids)", ids=task_ids)
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


async def note_progress(c: Connection, task_id: int, fence: int, entries: Sequence[ResourceProgress]) -> None:
    """How far the resources of an apply are, if it is the current assignment; what was not planned is added."""
    newest = list({entry.address: entry for entry in entries}.values())
    await c.run(
        """INSERT INTO resource_progress (task_id, address, action, status, elapsed_s)
           SELECT t.id, p.address, p.action, p.status, p.elapsed
           FROM task t, unnest(CAST(:addresses AS text[]), CAST(:actions AS text[]), CAST(:statuses AS text[]),
                               CAST(:elapsed AS double precision[])) AS p (address, action, status, elapsed)
           WHERE t.id = :id AND t.fence = :fence
           ON CONFLICT (task_id, address) DO UPDATE SET status = excluded.status, elapsed_s = excluded.elapsed_s""",
        id=task_id,
        fence=fence,
        addresses=[entry.address for entry in newest],
        actions=[entry.action for entry in newest],
        statuses=[entry.status for entry in newest],
        elapsed=[entry.elapsed_s for entry in newest],
    )


async def progress(c: Connection, task_id: int) -> list[ResourceProgress]:
    rows = await c.all(
        "SELECT address, action, status, elapsed_s FROM resource_progress WHERE task_id = :id ORDER BY address",
        id=task_id,
    )
    return [ResourceProgress(**row) for row in rows]
