"""Tasks: created with frozen inputs, moved only by `move`, which performs what iac.domain.lifecycle decides.

Lock order, everywhere: the workspace's row, then the task's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from iac.domain.decision import Decision, Effect
from iac.domain.ladder import StopStep
from iac.domain.lifecycle import Assign, Event, Queue, decide
from iac.domain.limits import Defaults, Own
from iac.domain.records import Confirmation, Status, Task
from iac.errors import Conflict, NotFound
from iac.store import audit, together, workspaces
from iac.store.database import Connection, Row
from iac.store.together import Along

COLUMNS = """
    t.id, t.workspace_id, w.name AS workspace_name, t.action, t.phase, t.status, t.outcome, t.execution_mode, t.priority,
    t.auto_apply, t.targets, t.replace, t.message, t.created_by, t.bundle_digest, t.terraform_version, t.plan_task_id,
    t.retry_of, t.fence, t.attempt, t.assignment_id, t.agent_id, t.stage, t.cancel_id, t.cancel_reason, t.cancel_force,
    t.cancel_by, t.cancel_requested_at, t.confirmed_by, t.confirmed_at, t.confirm_comment, t.confirmed_digest,
    t.plan_digest, t.has_changes, t.exit_code, t.signal, t.reason, t.detail, t.result_id, t.state_safe, t.created_at,
    t.queued_at, t.assigned_at, t.claimed_at, t.started_at, t.planned_at, t.finished_at, t.pool_id, t.timeout_s,
    t.grace_s, t.cancel_steps, t.cancel_next_at, t.cancel_kill_at, t.cancel_deadline_at, t.cancel_overdue_at
"""
FROM = "FROM task t JOIN workspace w ON w.id = t.workspace_id"
_CONFIRMATION = ("confirmed_by", "confirmed_at", "confirm_comment", "confirmed_digest")
_LISTS = frozenset({"targets", "replace"})
_FOR_ASSIGNING = """, nextval('fence') AS new_fence, w.lock_kind, w.lock_owner, w.plan_timeout_s, w.apply_timeout_s,
    w.plan_grace_s, w.apply_grace_s"""
_NEW_STREAM = (
    Along(
        "closed",
        """UPDATE log_stream SET state = 'incomplete', closed_at = now()
           WHERE task_id IN (SELECT id FROM done) AND state = 'open'""",
    ),
    Along("opened", "INSERT INTO log_stream (task_id, fence, phase) SELECT id, fence, phase FROM done"),
)
NO_TIME = datetime.min.replace(tzinfo=UTC)


def from_row(row: Row) -> Task:
    confirmation = None
    if row["confirmed_by"] is not None:
        confirmation = Confirmation(
            by=row["confirmed_by"],
            at=row["confirmed_at"],
            comment=row["confirm_comment"],
            plan_digest=row["confirmed_digest"],
        )
    values = {name: row[name] for name in Task.__struct_fields__ if name != "confirmation"}
    for name in _LISTS:
        values[name] = tuple(values[name])
    values["cancel_steps"] = tuple(msgspec.convert(each, StopStep) for each in json.loads(values["cancel_steps"]))
    return Task(confirmation=confirmation, **values)


async def get(c: Connection, task_id: int) -> Task:
    """Raises NotFound."""
    row = await c.first(f"SELECT {COLUMNS} {FROM} WHERE t.id = :id", id=task_id)
    if row is None:
        raise NotFound(f"There is no task {task_id}.")
    return from_row(row)


async def status_of(c: Connection, task_id: int) -> Status:
    """Raises NotFound."""
    status: Status | None = await c.value("SELECT status FROM task WHERE id = :id", id=task_id)
    if status is None:
        raise NotFound(f"There is no task {task_id}.")
    return status


class Moved(msgspec.Struct, frozen=True):
    """A task before and after an event, and what is left to do outside the database."""

    before: Task
    task: Task
    effects: tuple[Effect, ...]

    @property
    def changed(self) -> bool:
        return self.before != self.task


Companions = Callable[[Task], Sequence[Along]]
"""What is written together with a move, from the task as it is then."""


def _nothing(_after: Task) -> Sequence[Along]:
    return ()


async def move(c: Connection, task_id: int, event: Event, *, along: Companions = _nothing) -> Moved:
    """Applies one event: reads under the lock, decides, writes the difference if the row is still as it was, and with the
    difference what goes along.

    Raises NotFound and whatever the lifecycle refuses.
    """
    row = await _held(c, task_id)
    before = from_row(row)
    decision = decide(before, event, row["now"])
    if decision.task != before:
        await _write(c, before, decision.task, along(decision.task))
    await _perform(c, decision)
    return Moved(before, decision.task, decision.effects)


async def assign(
    c: Connection,
    task_id: int,
    *,
    agent_id: str,
    assignment_id: str,
    defaults: Defaults | None = None,
    along: Companions = _nothing,
) -> Task:
    """T3: a new fence, the limits that hold now (`defaults`: where the workspace has none), and the log stream that belongs
    to it. Earlier streams of the task are closed.

    Raises WorkspaceLocked for a task that may change state while somebody else holds its workspace.
    """
    row = await _held(c, task_id, _FOR_ASSIGNING)
    before = from_row(row)
    limits = msgspec.convert(dict(row), Own).over(defaults or Defaults(), before.phase)
    event = Assign(agent_id=agent_id, assignment_id=assignment_id, fence=row["new_fence"], limits=limits)
    task = decide(before, event, row["now"]).task
    if (row["lock_kind"], row["lock_owner"]) != ("task", str(task_id)):
        await keep_lock(c, task)
    await _write(c, before, task, [*_NEW_STREAM, *along(task)])
    return task


async def keep_lock(c: Connection, task: Task) -> None:
    """No lock, no apply: the task has its workspace's lock after this, taken again if somebody broke it meanwhile.

    The caller has moved the task, and so holds the workspace's row. Raises WorkspaceLocked.
    """
    if not task.takes_lock:
        return
    workspace = await workspaces.get(c, task.workspace_id)
    lock = workspace.lock
    if lock is None:
        await workspaces.take_lock(c, workspace.id, "task", str(task.id), _lock_reason(task))
    elif (lock.kind, lock.owner) != ("task", str(task.id)):
        raise workspaces.locked(workspace)


def lock_reason(action: str, by: str, message: str) -> str:
    """Why a task has the lock, for people."""
    return f"{action} by {by}" + (f": {message}" if message else "")


def _lock_reason(task: Task) -> str:
    return lock_reason(task.action, task.created_by, task.message)


async def next_fence(c: Connection) -> int:
    """A fence above all that were given out."""
    return int(await c.value("SELECT nextval('fence')"))


async def _held(c: Connection, task_id: int, more: str = "") -> Row:
    """The task under its lock, and the time by the database's clock. The workspace's row is locked before it: PostgreSQL
    locks in the order of the clauses, and reads both rows again when it had to wait for either.
    """
    row = await c.first(
        f"""SELECT {COLUMNS}, clock_timestamp() AS now{more} {FROM} WHERE t.id = :id
            FOR NO KEY UPDATE OF w FOR UPDATE OF t""",
        id=task_id,
    )
    if row is None:
        raise NotFound(f"There is no task {task_id}.")
    return row


async def _write(c: Connection, before: Task, after: Task, along: Sequence[Along] = ()) -> None:
    columns = changed_columns(before, after)
    assignments = ", ".join(f"{name} = :{name}" for name in columns)
    found = await together.write(
        c,
        f"""UPDATE task SET {assignments} WHERE id = :id AND status = :old_status AND fence = :old_fence
            RETURNING id, fence, phase, attempt, agent_id, assignment_id""",
        {"id": before.id, "old_status": before.status, "old_fence": before.fence, **columns},
        along,
        answer="SELECT id FROM done",
    )
    if found is None:
        raise Conflict(f"Task {before.id} changed meanwhile; read it again.", code="changed_meanwhile")


def changed_columns(before: Task, after: Task) -> dict[str, Any]:
    """The columns in which the two differ, with their new values."""
    columns = {
        name: getattr(after, name)
        for name in Task.__struct_fields__
        if name != "confirmation" and getattr(after, name) != getattr(before, name)
    }
    if after.confirmation is not None and after.confirmation != before.confirmation:
        by = after.confirmation
        columns.update(zip(_CONFIRMATION, (by.by, by.at, by.comment, by.plan_digest), strict=True))
    if "cancel_steps" in columns:
        columns["cancel_steps"] = msgspec.json.encode(after.cancel_steps).decode()
    return columns


async def _perform(c: Connection, decision: Decision) -> None:
    task = decision.task
    if Effect.HOLD_LOCK in decision.effects:
        reason = f"the outcome of task {task.id} ({task.action}) is not known: {task.detail or task.reason}"
        await workspaces.explain_lock_of_task(c, task.workspace_id, task.id, reason)
    if Effect.STATE_UNCERTAIN in decision.effects:
        await c.run("UPDATE workspace SET state_uncertain = true WHERE id = :id", id=task.workspace_id)
    if Effect.RELEASE_LOCK in decision.effects:
        await workspaces.release_lock_of_task(c, task.workspace_id, task.id)
        await advance(c, task.workspace_id)


async def advance(c: Connection, workspace_id: str) -> dict[int, Task]:
    """T1 for whatever may go now: plans at once, and the oldest lock-taking task if the workspace is free.

    The caller holds the workspace's row. Returns the tasks that were queued.
    """
    rows = await c.all(
        f"""SELECT {COLUMNS}, clock_timestamp() AS now {FROM} WHERE t.workspace_id = :id AND t.status = 'pending'
            ORDER BY t.id FOR UPDATE OF t""",
        id=workspace_id,
    )
    queued: dict[int, Task] = {}
    for row in rows:
        task = from_row(row)
        owner = str(task.id)
        if task.takes_lock and not await workspaces.take_lock(c, workspace_id, "task", owner, _lock_reason(task)):
            continue
        queued[task.id] = decide(task, Queue(), row["now"]).task
        await _write(c, task, queued[task.id])
    return queued


async def waiting_and_running(c: Connection) -> tuple[list[Task], datetime]:
    """All tasks that are not over, oldest first, and the time by the clock that writes their rows (any, without rows)."""
    rows = await c.all(
        f"""SELECT {COLUMNS}, clock_timestamp() AS now {FROM}
            WHERE t.status NOT IN ('cancelled', 'succeeded', 'failed') ORDER BY t.id"""
    )
    return [from_row(row) for row in rows], rows[0]["now"] if rows else NO_TIME


class Filter(msgspec.Struct, frozen=True):
    """What a list of tasks is narrowed to; empty means all."""

    workspace_id: str | None = None
    statuses: tuple[Status, ...] = ()
    actions: tuple[str, ...] = ()
    search: str | None = None

    def conditions(self) -> tuple[str, dict[str, object]]:
        parts, values = ["true"], dict[str, object]()
        if self.workspace_id is not None:
            parts.append("t.workspace_id = :workspace_id")
            values["workspace_id"] = self.workspace_id
        if self.actions:
            parts.append("t.action = ANY(:actions)")
            values["actions"] = list(self.actions)
        if self.search is not None:
            parts.append("(t.message ILIKE :search OR w.name ILIKE :search OR t.created_by ILIKE :search)")
            values["search"] = f"%{workspaces.escaped(self.search)}%"
        return " AND ".join(parts), values


async def page(c: Connection, chosen: Filter, *, limit: int, before: int | None) -> list[Task]:
    """Newest first, those below the id `before`."""
    where, values = chosen.conditions()
    if chosen.statuses:
        where += " AND t.status = ANY(:statuses)"
        values["statuses"] = list(chosen.statuses)
    if before is not None:
        where += " AND t.id < :before"
        values["before"] = before
    rows = await c.all(f"SELECT {COLUMNS} {FROM} WHERE {where} ORDER BY t.id DESC LIMIT :limit", limit=limit, **values)
    return [from_row(row) for row in rows]


async def counts(c: Connection, chosen: Filter) -> dict[str, int]:
    """How many tasks there are of each status, under the filter without its statuses."""
    where, values = chosen.conditions()
    rows = await c.all(f"SELECT t.status, count(*) AS n {FROM} WHERE {where} GROUP BY t.status", **values)
    return {row["status"]: row["n"] for row in rows}


async def set_stage(c: Connection, task_id: int, fence: int, stage: str | None) -> None:
    """What the runner is at; only the current assignment may say so."""
    await c.run(
        "UPDATE task SET stage = :stage WHERE id = :id AND fence = :fence AND status IN ('running', 'cancelling')",
        id=task_id,
        fence=fence,
        stage=stage,
    )


async def annotate(c: Connection, task_id: int, fence: int, detail: str) -> None:
    """Says more about how an assignment went, if it is still the task's last one."""
    await c.run(
        "UPDATE task SET detail = :detail WHERE id = :id AND fence = :fence AND status IN ('lost', 'failed')",
        id=task_id,
        fence=fence,
        detail=detail,
    )


async def noted_move(c: Connection, task_id: int, event: Event, /, *, by: str, verb: str, **facts: object) -> Moved:
    """A move that a person asked for: audited in the same statement when it changed anything."""

    def noted(after: Task) -> Sequence[Along]:
        return [audit.along(by, verb, f"task-{task_id}", workspace=after.workspace_id, **facts)]

    return await move(c, task_id, event, along=noted)


async def stopping(c: Connection) -> list[Task]:
    """Those that are being cancelled and are not yet known to be overdue."""
    rows = await c.all(f"SELECT {COLUMNS} {FROM} WHERE t.status = 'cancelling' AND t.cancel_overdue_at IS NULL")
    return [from_row(row) for row in rows]


async def note_overdue(c: Connection, task_id: int, fence: int) -> bool:
    """Once for each stop, audited: its runner is there and the task has not ended. Whether that is news."""
    row = await c.first(
        """UPDATE task SET cancel_overdue_at = clock_timestamp() WHERE id = :id AND fence = :fence
           AND status = 'cancelling' AND cancel_overdue_at IS NULL RETURNING workspace_id, cancel_id""",
        id=task_id,
        fence=fence,
    )
    if row is not None:
        facts = {"workspace": row["workspace_id"], "fence": fence, "cancel_id": row["cancel_id"]}
        await audit.note(c, "server", "task.cancel_overdue", f"task-{task_id}", **facts)
    return row is not None


async def unfinished_of(c: Connection, agent_id: str) -> Sequence[Task]:
    """The tasks that this runner holds, or held when it went away."""
    rows = await c.all(
        f"""SELECT {COLUMNS} {FROM} WHERE t.agent_id = :agent_id
            AND t.status IN ('assigned', 'running', 'cancelling', 'lost') ORDER BY t.id""",
        agent_id=agent_id,
    )
    return [from_row(row) for row in rows]
