"""What the pages of pools and agents are made of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from iac.domain.glances import Newcomer, PoolGlance, Stint
from iac.domain.records import AgentRecord, Allowance, Phase, Pool, PoolToken, Task
from iac.store import agents, assignments, overviews, pools, tasks
from iac.store.database import Connection

MOST_POOLS, MOST_AGENTS, MOST_ALLOWED, MOST_STINTS = 100, 50, 100, 40


class PoolsSituation(msgspec.Struct, frozen=True, kw_only=True):
    """A page of pools, one more if there are more; `open` are the tasks that are not over, `allowed` counts workspaces."""

    pools: list[Pool]
    glances: Mapping[str, PoolGlance]
    open: list[Task]
    newcomers: list[Newcomer]
    allowed: Mapping[str, int]


class PoolSituation(msgspec.Struct, frozen=True, kw_only=True):
    """A pool with a page of its agents and of the workspaces that it may serve, one more of each if there are more.

    `tokens` are the pool's if they were asked for; `holders` count the agents that came with each.
    """

    pool: Pool
    glance: PoolGlance
    agents: list[AgentRecord]
    running: Mapping[str, Mapping[int, Phase]]
    open: list[Task]
    allowed: list[Allowance]
    tokens: list[PoolToken]
    now: datetime
    holders: Mapping[str, int]


async def pools_situation(c: Connection, after: str | None) -> PoolsSituation:
    """Raises Invalid for an `after` that is no pool."""
    found, _ = await tasks.waiting_and_running(c)
    rows = await c.all("SELECT pool_id, count(*) AS number FROM pool_workspace GROUP BY pool_id")
    return PoolsSituation(
        pools=await pools.page(c, limit=MOST_POOLS + 1, after=after),
        glances={each.id: each for each in await overviews.pool_glances(c)},
        open=found,
        newcomers=await overviews.newcomers(c),
        allowed={row["pool_id"]: row["number"] for row in rows},
    )


async def pool_situation(c: Connection, key: str, *, after: str | None, with_tokens: bool) -> PoolSituation:
    """Raises NotFound; Invalid for an `after` that is no agent."""
    pool = await pools.get(c, key)
    found, _ = await tasks.waiting_and_running(c)
    shown = await agents.page_of_pool(c, pool.id, limit=MOST_AGENTS + 1, after=after)
    holders = await c.all(
        """SELECT pool_token_id, count(*) AS number FROM agent
           WHERE pool_id = :id AND retired_at IS NULL AND pool_token_id IS NOT NULL GROUP BY pool_token_id""",
        id=pool.id,
    )
    return PoolSituation(
        pool=pool,
        glance=next(each for each in await overviews.pool_glances(c) if each.id == pool.id),
        agents=shown,
        running=await assignments.tasks_of(c, [each.id for each in shown]),
        open=[task for task in found if task.pool_id == pool.id and task.execution_mode == "agent"],
        allowed=await pools.allowed(c, pool.id, limit=MOST_ALLOWED + 1, after=None),
        tokens=await pools.tokens(c, pool.id) if with_tokens else [],
        now=await c.value("SELECT now()"),
        holders={row["pool_token_id"]: row["number"] for row in holders},
    )


async def not_allowed(c: Connection, pool_id: str) -> list[str]:
    """Names of workspaces that the pool may not serve, the newest of them: as many as a list to choose from can have."""
    rows = await c.all(
        """SELECT w.name FROM workspace w
           WHERE NOT EXISTS (SELECT 1 FROM pool_workspace a WHERE a.workspace_id = w.id AND a.pool_id = :pool_id)
           ORDER BY w.created_at DESC, w.id DESC LIMIT :most""",
        pool_id=pool_id,
        most=MOST_ALLOWED,
    )
    return sorted(row["name"] for row in rows)


async def token(c: Connection, key: str, token_id: str) -> tuple[Pool, PoolToken | None]:
    """A pool, and its token with this id if it has one. Raises NotFound."""
    pool = await pools.get(c, key)
    return pool, next((each for each in await pools.tokens(c, pool.id) if each.id == token_id), None)


async def agent_situation(
    c: Connection, agent_id: str
) -> tuple[AgentRecord, Mapping[int, Phase], list[Stint], PoolToken | None]:
    """An agent, what it runs, what it was given lately (newest first), and the token that it came with. Raises NotFound."""
    agent = await agents.get(c, agent_id)
    running = await assignments.tasks_of(c, [agent.id])
    _, token_of = (None, None) if agent.pool_token_id is None else await token(c, agent.pool_id, agent.pool_token_id)
    return agent, running.get(agent.id, {}), await _stints(c, agent.id), token_of


async def _stints(c: Connection, agent_id: str) -> list[Stint]:
    rows = await c.all(
        """SELECT s.task_id, s.phase, s.attempt, s.created_at AS begun_at, s.ended_at, s.fence = t.fence AS current
           FROM assignment s JOIN task t ON t.id = s.task_id
           WHERE s.agent_id = :agent_id ORDER BY s.fence DESC LIMIT :most""",
        agent_id=agent_id,
        most=MOST_STINTS,
    )
    known = await c.all(
        f"SELECT {tasks.COLUMNS} {tasks.FROM} WHERE t.id = ANY(:ids)", ids=sorted({row["task_id"] for row in rows})
    )
    by_id = {row["id"]: tasks.from_row(row) for row in known}
    return [Stint(task=by_id[row.pop("task_id")], **row) for row in map(dict, rows)]
