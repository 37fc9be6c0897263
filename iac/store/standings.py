"""What the rows say of agents' assignments: read for the comparison with what the agents say, and for the scheduler."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import msgspec

from iac.domain.lifecycle import Cancel, Event, Heard, Lose, Stopping, Unassign
from iac.domain.pool_waits import PoolOutlook
from iac.domain.standings import Standing
from iac.domain.work import Result
from iac.errors import NotFound
from iac.store import tasks
from iac.store.database import Connection, Row
from iac.store.tasks import Moved

_COLUMNS = """
    s.task_id, t.workspace_id, s.fence, s.id AS assignment_id, s.agent_id, s.phase, s.attempt, t.priority, t.status,
    t.fence = s.fence AND t.assignment_id IS NOT DISTINCT FROM s.id AS present, s.result_id IS NOT NULL AS ended,
    CAST(extract(epoch FROM clock_timestamp() - t.claimed_at) AS double precision) AS claimed_for_s,
    t.cancel_id, t.cancel_reason, t.cancel_force, t.cancel_steps -> -1 ->> 'stage' AS cancel_stage, t.timeout_s, t.grace_s
"""
_FROM = "FROM assignment s JOIN task t ON t.id = s.task_id"
_VERBS: Mapping[type[Event], str] = {
    Lose: "task.lost",
    Heard: "task.recovered",
    Unassign: "task.unassign",
    Cancel: "task.cancel",
    Stopping: "task.stopping",
}


async def of_agent(c: Connection, agent_id: str, fences: Collection[int] = ()) -> dict[int, Standing]:
    """By fence: the agent's assignments with these fences, and all that it has to do by the tasks' rows."""
    return (await of_agents(c, [agent_id], fences))[agent_id]


async def of_agents(c: Connection, agent_ids: Sequence[str], fences: Collection[int]) -> dict[str, dict[int, Standing]]:
    """Likewise of several agents; `fences` are those of all of them."""
    # By the few tasks that are open, not by all assignments that the agents ever had.
    rows = await c.all(
        f"""SELECT {_COLUMNS} {_FROM} WHERE s.agent_id = ANY(:ids) AND (s.fence = ANY(:fences) OR s.fence IN (
            SELECT fence FROM task
            WHERE agent_id = ANY(:ids) AND status IN ('assigned', 'running', 'cancelling', 'lost')))""",
        ids=list(agent_ids),
        fences=list(fences),
    )
    found: dict[str, dict[int, Standing]] = {agent_id: {} for agent_id in agent_ids}
    for row in rows:
        found[row["agent_id"]][row["fence"]] = _from_row(row)
    return found


async def reported(c: Connection, fence: int) -> str | None:
    """The id of the result that was taken from this assignment."""
    found: str | None = await c.value("SELECT result_id FROM assignment WHERE fence = :fence", fence=fence)
    return found


async def note_result(c: Connection, fence: int, result_id: str) -> None:
    """The assignment is over by its own word. For one that has no row (it was local) nothing is kept."""
    await c.run(
        """UPDATE assignment SET result_id = :result_id, ended_at = COALESCE(ended_at, now())
           WHERE fence = :fence AND result_id IS NULL""",
        fence=fence,
        result_id=result_id,
    )


async def move(c: Connection, task_id: int, event: Event) -> Moved:
    """A move that no person asked for, audited in the same transaction if it changed anything. Raises as `tasks.move`."""
    fence = event.fence if isinstance(event, Lose | Heard | Unassign | Stopping) else None
    facts: dict[str, object] = {"fence": fence, "reason": event.reason if isinstance(event, Lose | Cancel) else None}
    if isinstance(event, Stopping):
        report = event.report
        facts |= {"cancel_id": report.cancel_id, "stage": report.stage, "reason": report.reason or None}
    return await tasks.noted_move(c, task_id, event, by="server", verb=_VERBS[type(event)], **facts)


async def give_back(c: Connection, task_id: int, fence: int, result: Result, detail: str) -> Moved:
    """T13b: the plan ended by no fault of its own, because of its agent. Another attempt may follow."""
    moved = await tasks.move(c, task_id, Lose(fence=fence, reason=result.reason or "agent_lost", detail=detail))
    await note_result(c, fence, result.result_id)
    return moved


class Stance(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about an agent: `out` is for good, `drains` while it lasts. `replaced`: nobody wanted it out; it was
    silent, and another one has its name now.
    """

    out: bool
    drains: bool
    replaced: bool


async def stances(c: Connection, agent_ids: Sequence[str]) -> dict[str, Stance]:
    """Those of them that still have a row."""
    rows = await c.all(
        """SELECT a.id, a.retired_at IS NOT NULL OR NOT a.approved OR k.revoke_mode IS NOT DISTINCT FROM 'hard' AS out,
                  a.draining OR k.revoked_at IS NOT NULL AS drains,
                  a.retired_at IS NOT NULL AND EXISTS (
                    SELECT FROM agent b WHERE b.pool_id = a.pool_id AND b.name = a.name AND b.retired_at IS NULL
                  ) AS replaced
           FROM agent a LEFT JOIN pool_token k ON k.id = a.pool_token_id WHERE a.id = ANY(:ids)""",
        ids=list(agent_ids),
    )
    return {row["id"]: Stance(out=row["out"], drains=row["drains"], replaced=row["replaced"]) for row in rows}


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as the scheduler sees it. `workspaces`: those of the asked ones that its pool may serve now."""

    agent_id: str
    pool_id: str
    plan_limit: int
    exclusive: bool
    takes_tasks: bool
    workspaces: frozenset[str]


async def seats(c: Connection, agent_ids: Sequence[str], pools: Sequence[str], workspaces: Sequence[str]) -> list[Seat]:
    """Of those of the agents that are in one of these pools and not retired, in the order of their ids.

    What a pool may serve is the rule of iac.store.pools.may_serve, for many at once.
    """
    row = await c.first(
        """SELECT ARRAY(SELECT ROW(a.id, a.pool_id, a.plan_limit, p.apply_exclusivity = 'agent',
                                   a.approved AND NOT a.draining AND k.revoked_at IS NULL)
                        FROM agent a JOIN agent_pool p ON p.id = a.pool_id
                        LEFT JOIN pool_token k ON k.id = a.pool_token_id
                        WHERE a.id = ANY(:ids) AND a.pool_id = ANY(:pools) AND a.retired_at IS NULL ORDER BY a.id) AS seats,
                  ARRAY(SELECT ROW(w.pool_id, w.id) FROM workspace w
                        JOIN pool_workspace x ON x.workspace_id = w.id AND x.pool_id = w.pool_id
                        WHERE w.pool_id = ANY(:pools) AND w.id = ANY(:workspaces)) AS served""",
        ids=list(agent_ids),
        pools=list(pools),
        workspaces=list(workspaces),
    )
    if row is None:
        raise NotFound("no seats were read")
    served = defaultdict[str, set[str]](set)
    for pool_id, workspace_id in row["served"]:
        served[pool_id].add(workspace_id)
    frozen = defaultdict[str, frozenset[str]](frozenset, {each: frozenset(found) for each, found in served.items()})
    return [
        Seat(
            agent_id=agent_id,
            pool_id=pool_id,
            plan_limit=plan_limit,
            exclusive=exclusive,
            takes_tasks=takes_tasks,
            workspaces=frozen[pool_id],
        )
        for agent_id, pool_id, plan_limit, exclusive, takes_tasks in row["seats"]
    ]


async def outlooks(c: Connection, pools: Sequence[str], workspaces: Sequence[str]) -> dict[str, PoolOutlook]:
    """By id: what the pools have to offer to the tasks of these workspaces."""
    rows = await c.all(
        """SELECT p.id, p.name, count(a.id) AS agents, count(a.id) FILTER (WHERE NOT a.approved) AS unapproved,
                  ARRAY(SELECT w.id FROM workspace w WHERE w.pool_id = p.id AND w.id = ANY(:workspaces)) AS used_by,
                  ARRAY(SELECT k.workspace_id FROM pool_workspace k
                        WHERE k.pool_id = p.id AND k.workspace_id = ANY(:workspaces)) AS allows
           FROM agent_pool p LEFT JOIN agent a ON a.pool_id = p.id AND a.retired_at IS NULL
           WHERE p.id = ANY(:pools) GROUP BY p.id""",
        pools=list(pools),
        workspaces=list(workspaces),
    )
    return {
        row["id"]: PoolOutlook(
            name=row["name"],
            allows=frozenset(row["allows"]),
            used_by=frozenset(row["used_by"]),
            agents=row["agents"],
            unapproved=row["unapproved"],
        )
        for row in rows
    }


def _from_row(row: Row) -> Standing:
    return Standing(**row)
