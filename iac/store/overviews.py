"""What the overview is made of: everything that is open, what failed lately, how pools are, how the last day went."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from iac.domain.glances import Advance, HourOutcomes, Newcomer, PoolGlance
from iac.domain.records import Task
from iac.domain.work import PlanFacts
from iac.store import agents, plans, tasks
from iac.store.database import Connection
from iac.store.pools import THERE

DAY = timedelta(hours=24)
MOST_FAILED, MOST_NEWCOMERS = 50, 20


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """As of `now`, by the database's clock. `failed` are those that nothing was run after in their workspace; `names` those
    of agents and pools by id.
    """

    now: datetime
    open: list[Task]
    failed: list[Task]
    plans: Mapping[int, PlanFacts]
    advances: Mapping[int, Advance]
    names: Mapping[str, str]
    pools: list[PoolGlance]
    newcomers: list[Newcomer]
    hours: list[HourOutcomes]


async def situation(c: Connection) -> Situation:
    found, _ = await tasks.waiting_and_running(c)
    failed = await _failed(c)
    planned = [task.id for task in found if task.status == "planned"]
    applying = [task.id for task in found if task.phase == "apply" and task.status in ("running", "cancelling")]
    ids = {each for task in [*found, *failed] for each in (task.agent_id, task.pool_id) if each is not None}
    return Situation(
        now=await c.value("SELECT now()"),
        open=found,
        failed=failed,
        plans=await plans.summaries(c, planned) if planned else {},
        advances=await _advances(c, applying) if applying else {},
        names=await agents.names_of(c, sorted(ids)) if ids else {},
        pools=await pool_glances(c),
        newcomers=await newcomers(c),
        hours=await hours(c, DAY),
    )


async def _failed(c: Connection) -> list[Task]:
    rows = await c.all(
        f"""SELECT {tasks.COLUMNS} {tasks.FROM} WHERE t.status = 'failed' AND t.finished_at > now() - CAST(:day AS interval)
            AND NOT EXISTS (SELECT 1 FROM task n WHERE n.workspace_id = t.workspace_id AND n.id > t.id)
            ORDER BY t.finished_at DESC LIMIT :most""",
        day=DAY,
        most=MOST_FAILED,
    )
    return [tasks.from_row(row) for row in rows]


async def _advances(c: Connection, task_ids: list[int]) -> dict[int, Advance]:
    rows = await c.all(
        """SELECT task_id, count(*) AS total, count(*) FILTER (WHERE status IN ('complete', 'errored')) AS done
           FROM resource_progress WHERE task_id = ANY(:ids) GROUP BY task_id""",
        ids=task_ids,
    )
    return {row["task_id"]: Advance(done=row["done"], total=row["total"]) for row in rows}


async def newcomers(c: Connection) -> list[Newcomer]:
    """Agents that wait to be let in, those that wait longest first."""
    rows = await c.all(
        """SELECT a.id, a.name, p.name AS pool_name, a.registered_at FROM agent a JOIN agent_pool p ON p.id = a.pool_id
           WHERE a.retired_at IS NULL AND NOT a.approved ORDER BY a.registered_at LIMIT :most""",
        most=MOST_NEWCOMERS,
    )
    return [Newcomer(**row) for row in rows]


async def pool_glances(c: Connection) -> list[PoolGlance]:
    """Every pool, by name."""
    there = f"{THERE} AND a.approved"
    works = f"{there} AND NOT a.draining AND k.revoked_at IS NULL"
    rows = await c.all(
        f"""SELECT p.id, p.name, count(a.id) FILTER (WHERE {works}) AS online,
                   count(a.id) FILTER (WHERE {there} AND (a.draining OR k.revoked_at IS NOT NULL)) AS draining,
                   count(a.id) FILTER (WHERE NOT a.approved) AS unapproved,
                   count(a.id) FILTER (WHERE a.approved AND NOT COALESCE({THERE}, false)) AS offline,
                   COALESCE(sum(a.plan_limit) FILTER (WHERE {works}), 0) AS slots,
                   min(a.last_seen_at) FILTER (WHERE {works}) AS oldest_beat,
                   avg(a.cpu_usage) FILTER (WHERE {works}) AS cpu_usage,
                   avg(a.mem_usage) FILTER (WHERE {works}) AS mem_usage
            FROM agent_pool p
            LEFT JOIN agent a ON a.pool_id = p.id AND a.retired_at IS NULL
            LEFT JOIN pool_token k ON k.id = a.pool_token_id
            GROUP BY p.id ORDER BY p.name"""
    )
    return [PoolGlance(**row) for row in rows]


async def hours(c: Connection, since: timedelta) -> list[HourOutcomes]:
    """How tasks ended, for each full hour in which some did, from `since` ago on."""
    rows = await c.all(
        """SELECT date_trunc('hour', finished_at) AS hour, count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
                  count(*) FILTER (WHERE status = 'failed') AS failed,
                  count(*) FILTER (WHERE status = 'cancelled') AS cancelled
           FROM task WHERE finished_at > now() - CAST(:since AS interval) AND status IN ('succeeded', 'failed', 'cancelled')
           GROUP BY 1 ORDER BY 1""",
        since=since,
    )
    return [HourOutcomes(**row) for row in rows]
