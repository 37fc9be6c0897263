"""Assignments: one row for each time that a task was given to an agent, and the tokens that were given with it.

A token is looked up by its hash. What it is good for follows from the task's row as well as from the assignment's own, so
that no transition of a task has to remember to take a token away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from iac.domain.agent_tokens import Scope, looks_like, may_read, scope_now, token_hash
from iac.domain.limits import Defaults
from iac.domain.records import AssignmentRecord, Phase, Task
from iac.errors import Gone, NotFound
from iac.store import audit, tasks, together
from iac.store.database import Connection, Row
from iac.store.identity import new_agent_token
from iac.store.together import Along

_COLUMNS = """
    s.id AS assignment_id, s.task_id, t.workspace_id, s.fence, s.agent_id, a.pool_id, s.phase, s.attempt, s.scope,
    t.status AS task_status, t.fence = s.fence AS current, s.boot_id, s.reads, s.first_read_at, s.created_at,
    s.accepted_at, s.ended_at, now() - t.finished_at AS over_for
"""
_KEPT = Along(
    "kept",
    """INSERT INTO assignment (id, task_id, fence, agent_id, phase, attempt, scope)
       SELECT assignment_id, id, fence, agent_id, phase, attempt, 'full' FROM done RETURNING fence""",
)
_GIVEN = ("given", "INSERT INTO task_token (hash, fence) SELECT :token, fence FROM kept")
_FROM = "FROM assignment s JOIN task t ON t.id = s.task_id LEFT JOIN agent a ON a.id = s.agent_id"


def _from_row(row: Row) -> AssignmentRecord:
    values = dict(row)
    values["scope"] = scope_now(
        values["scope"],
        status=values["task_status"],
        current=values["current"],
        read=values["first_read_at"] is not None,
        over_for=values.pop("over_for"),
    )
    return AssignmentRecord(**values)


async def hand_out(
    c: Connection, task_id: int, agent_id: str, assignment_id: str, defaults: Defaults | None = None
) -> tuple[Task, str]:
    """T3 for an agent: the task, and the token that goes with its order, which nobody can read again.

    Raises as `tasks.assign`.
    """
    token = new_agent_token("task")

    def along(task: Task) -> Sequence[Along]:
        facts = {"fence": task.fence, "assignment": assignment_id, "phase": task.phase, "attempt": task.attempt}
        noted = audit.along(agent_id, "task.assign", f"task-{task_id}", **facts)
        return [_KEPT, Along(*_GIVEN, {"token": token_hash(token)}), noted]

    task = await tasks.assign(
        c, task_id, agent_id=agent_id, assignment_id=assignment_id, defaults=defaults, along=along
    )
    return task, token


async def reissue(c: Connection, fence: int) -> str:
    """One more token for the assignment, for an order that is sent again by a server that no longer has the first one. Those
    given before stay good. Raises NotFound.
    """
    await get(c, fence)
    token = new_agent_token("task")
    await c.run("INSERT INTO task_token (hash, fence) VALUES (:hash, :fence)", hash=token_hash(token), fence=fence)
    return token


async def get(c: Connection, fence: int) -> AssignmentRecord:
    """Raises NotFound."""
    row = await c.first(f"SELECT {_COLUMNS} {_FROM} WHERE s.fence = :fence", fence=fence)
    if row is None:
        raise _unknown(fence)
    return _from_row(row)


async def by_token(c: Connection, token: str) -> AssignmentRecord | None:
    """The assignment that the token is for, with the scope it has now; None for a token that nobody gave out."""
    if not looks_like("task", token):
        return None
    row = await c.first(
        f"SELECT {_COLUMNS} {_FROM} JOIN task_token k ON k.fence = s.fence WHERE k.hash = :hash", hash=token_hash(token)
    )
    return None if row is None else _from_row(row)


async def note_read(c: Connection, fence: int, *, boot_id: str | None, ip: str | None) -> AssignmentRecord:
    """Counts and audits one more fetch of the task's data; called in the transaction that claims the task.

    Raises Gone (data_expired) after five, or ten minutes after the first; NotFound.
    """
    row = await c.first(
        f"SELECT {_COLUMNS}, clock_timestamp() AS now {_FROM} WHERE s.fence = :fence FOR UPDATE OF s", fence=fence
    )
    if row is None:
        raise _unknown(fence)
    before = dict(row)
    now: datetime = before.pop("now")
    if not may_read(before["reads"], before["first_read_at"], now):
        raise Gone(
            "The task's data was fetched too often, or too long ago, and is not given out again; run the task again.",
            code="data_expired",
        )
    changed = {
        "reads": before["reads"] + 1,
        "first_read_at": before["first_read_at"] or now,
        "boot_id": boot_id,
    }
    subject, reads = f"task-{before['task_id']}", changed["reads"]
    await together.write(
        c,
        """UPDATE assignment SET reads = :reads, first_read_at = :first_read_at, boot_id = :boot_id
           WHERE fence = :fence RETURNING fence""",
        {"fence": fence, **changed},
        [audit.along(before["agent_id"], "task.data", subject, fence=fence, reads=reads, boot=boot_id, ip=ip)],
    )
    return _from_row(before | changed)


async def set_scope(c: Connection, fence: int, scope: Scope) -> None:
    """The most that the assignment's tokens may be good for; the task's row can only narrow it."""
    await c.run("UPDATE assignment SET scope = :scope WHERE fence = :fence", fence=fence, scope=scope)


async def accepted(c: Connection, fence: int) -> None:
    """The agent has written it down. Again is no error."""
    row = await c.first(
        """UPDATE assignment SET accepted_at = now() WHERE fence = :fence AND accepted_at IS NULL
           RETURNING agent_id, task_id""",
        fence=fence,
    )
    if row is not None:
        await audit.note(c, row["agent_id"], "task.accept", f"task-{row['task_id']}", fence=fence)


async def ended(c: Connection, fence: int) -> None:
    """The agent reported how it ended. Again is no error."""
    await c.run("UPDATE assignment SET ended_at = COALESCE(ended_at, now()) WHERE fence = :fence", fence=fence)


async def live_of(c: Connection, agent_id: str) -> list[AssignmentRecord]:
    """What the agent has to do by the tasks' rows, oldest first; those that were given up as lost are among them."""
    rows = await c.all(
        f"""SELECT {_COLUMNS} {_FROM} WHERE s.agent_id = :agent_id AND t.fence = s.fence
            AND t.status IN ('assigned', 'running', 'cancelling', 'lost') ORDER BY s.fence""",
        agent_id=agent_id,
    )
    return [_from_row(row) for row in rows]


async def tasks_of(c: Connection, agent_ids: Sequence[str]) -> Mapping[str, Mapping[int, Phase]]:
    """What these agents run now: by agent and task, whether it is planned or applied."""
    rows = await c.all(
        """SELECT t.agent_id, t.id, t.phase FROM task t WHERE t.agent_id = ANY(:agent_ids)
           AND t.status IN ('assigned', 'running', 'cancelling') ORDER BY t.id""",
        agent_ids=list(agent_ids),
    )
    found = defaultdict[str, dict[int, Phase]](dict)
    for row in rows:
        found[row["agent_id"]][row["id"]] = row["phase"]
    return found


def _unknown(fence: int) -> NotFound:
    return NotFound(f"There is no assignment {fence}.")
