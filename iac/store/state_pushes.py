"""What applies send: judged under the workspace's row lock, and never refused. And the checkpoints among it.

A checkpoint is the state of an apply that still runs. Of each assignment the newest one is kept, apart from the states that
count, and goes when a newer state of the same assignment is stored. When the assignment was lost, a human decides about it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from iac.domain.records import StateVersion, Task
from iac.domain.state_verdicts import Push, adoption, judge
from iac.domain.states import StateHeader
from iac.domain.work import RunTask, StateReceipt
from iac.errors import Conflict, NotFound
from iac.store import audit, statefiles, workspaces
from iac.store.database import Connection
from iac.store.statefiles import COLUMNS, Packed

Fate = Literal["adopt", "quarantine"]
"""What a human may do with the checkpoint of an apply that is lost."""
_OPEN = "task_id = :task_id AND partial AND verdict IN ('checkpoint', 'quarantined') AND settled_at IS NULL"
"""Checkpoints about which nobody has decided. Those of an assignment that has no say any more are quarantined."""


async def push(
    c: Connection, order: RunTask, packed: Packed, *, partial: bool = False, revoked: bool = False
) -> StateReceipt:
    """Stores what an apply left behind, or (`partial`) has done so far, with the verdict that it deserves.

    Idempotent by (task, sha256). `revoked`: the sender has no say any more, so that what it sends is only kept apart.

    Raises NotFound when there is no such task at all.
    """
    workspace_id = await c.value("SELECT workspace_id FROM task WHERE id = :id", id=order.task_id)
    if workspace_id is None:
        raise NotFound(f"There is no task {order.task_id}.")
    workspace = await workspaces.hold(c, workspace_id)
    sent = await _push(c, order, packed, partial=partial, revoked=revoked)
    verdict = judge(await statefiles.standing(c, workspace), sent)
    if not verdict.stores:
        return StateReceipt(verdict="duplicate", serial=await _serial_of(c, workspace.id, packed))
    serial = packed.header.serial if packed.header else None
    if verdict.outcome != "checkpoint":
        await audit.note(
            c, f"task-{order.task_id}", "state.push", workspace.id, fence=order.fence, verdict=verdict.outcome,
            serial=serial, sha256=packed.sha256, reason=verdict.reason, partial=partial,
        )  # fmt: skip
    await _supersede(c, order, packed)
    await statefiles.store(c, workspace, packed, verdict=verdict, order=order, partial=partial)
    return StateReceipt(verdict=verdict.outcome, serial=serial, reason=verdict.message)


async def _push(c: Connection, order: RunTask, packed: Packed, *, partial: bool, revoked: bool) -> Push:
    known = await c.all(
        f"SELECT sha256, fence, serial, {_OPEN} AS open FROM state_version WHERE task_id = :task_id",
        task_id=order.task_id,
    )
    own = [row["serial"] for row in known if row["fence"] == order.fence and row["serial"] >= 0]
    return Push(
        task_fence=await c.value("SELECT fence FROM task WHERE id = :id", id=order.task_id),
        assignment_fence=order.fence,
        sha256=packed.sha256,
        header=packed.header,
        known_hashes=frozenset(row["sha256"] for row in known if not row["open"]),
        checkpoint_hashes=frozenset(row["sha256"] for row in known if row["open"]),
        newest_serial=max(own, default=None),
        partial=partial,
        revoked=revoked,
    )


async def _serial_of(c: Connection, workspace_id: str, packed: Packed) -> int | None:
    stored: int | None = await c.value(
        "SELECT serial FROM state_version WHERE workspace_id = :id AND sha256 = :sha256 LIMIT 1",
        id=workspace_id,
        sha256=packed.sha256,
    )
    return packed.header.serial if stored is None and packed.header else stored


async def _supersede(c: Connection, order: RunTask, packed: Packed) -> None:
    """A checkpoint goes when a newer state of its assignment takes its place, or turns out to be the same bytes."""
    await c.run(
        f"DELETE FROM state_version WHERE {_OPEN} AND fence = :fence AND (serial <= :serial OR sha256 = :sha256)",
        task_id=order.task_id,
        fence=order.fence,
        serial=packed.header.serial if packed.header else statefiles.UNREADABLE.serial,
        sha256=packed.sha256,
    )


async def checkpoint_of(c: Connection, task_id: int) -> StateVersion | None:
    """The newest checkpoint of a task about which nobody has decided yet."""
    row = await c.first(
        f"SELECT {COLUMNS} FROM state_version WHERE {_OPEN} AND serial >= 0 ORDER BY fence DESC, serial DESC LIMIT 1",
        task_id=task_id,
    )
    return None if row is None else StateVersion(**row)


async def why_not_adopted(c: Connection, workspace_id: str, found: StateVersion) -> str | None:
    """Why this checkpoint cannot become the current state; None if it can. The workspace's row need not be held."""
    verdict = adoption(
        await statefiles.standing(c, await workspaces.get(c, workspace_id)),
        found.fence or 0,
        found.sha256,
        _header(found),
    )
    return None if verdict.outcome == "current" else verdict.message


async def settle(c: Connection, task: Task, fate: Fate, *, by: str) -> str | None:
    """Does with the checkpoint of a task what the human wants who resolves it; a sentence about it, None if there is none.

    An adopted one becomes the current state by the usual rules, and the workspace's state stays uncertain: the apply may
    have done more. The caller has moved the task, and so holds the workspace's row.

    Raises Conflict (no_checkpoint, checkpoint_not_adoptable), and then nothing has changed.
    """
    found = await checkpoint_of(c, task.id)
    if found is None:
        if fate == "adopt":
            raise Conflict(f"Task {task.id} left no checkpoint that could be adopted.", code="no_checkpoint")
        return None
    if fate == "adopt":
        await _adopt(c, task, found)
    else:
        reason = f"Checkpoint of task {task.id}, whose end nobody saw; put aside when it was resolved by {by}."
        await c.run(
            "UPDATE state_version SET verdict = 'quarantined', reason = :reason, settled_at = now() WHERE id = :id",
            id=found.id,
            reason=reason,
        )
    await audit.note(
        c, by, "state.adopt" if fate == "adopt" else "state.quarantine", task.workspace_id, task=task.id,
        fence=found.fence, version=found.id, serial=found.serial, sha256=found.sha256,
    )  # fmt: skip
    became = "became the current state" if fate == "adopt" else f"is kept apart as {found.id}"
    return f"Its checkpoint with serial {found.serial} {became}."


async def _adopt(c: Connection, task: Task, found: StateVersion) -> None:
    if problem := await why_not_adopted(c, task.workspace_id, found):
        raise Conflict(
            f"The checkpoint of task {task.id} cannot become the current state: {problem} Resolve with `quarantine`; it "
            "can be compared, and promoted, afterwards.",
            code="checkpoint_not_adoptable",
            version=found.id,
        )
    await statefiles.succeed(c, task.workspace_id, _header(found), found.fence or 0)
    await c.run(
        "UPDATE state_version SET verdict = 'current', reason = NULL, settled_at = now() WHERE id = :id", id=found.id
    )
    await c.run("UPDATE workspace SET state_uncertain = true WHERE id = :id", id=task.workspace_id)


def _header(found: StateVersion) -> StateHeader:
    """What is known of a stored state without opening it."""
    return msgspec.structs.replace(
        statefiles.UNREADABLE,
        version=4,
        serial=found.serial,
        lineage=found.lineage,
        terraform_version=found.terraform_version,
        resource_count=found.resource_count,
    )
