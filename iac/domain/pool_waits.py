"""Why no agent of a pool is there for a task: what to do about it differs, so the waiting task tells them apart. Pure."""

from __future__ import annotations

import msgspec

from iac.domain.records import Task
from iac.domain.scheduling import NO_RUNNER, Wait


class PoolOutlook(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as waiting tasks need to know it. `allows` and `used_by` are ids of workspaces: what the pool's side says, and
    the workspace's own. `agents` are registered, `unapproved` of them wait for an admin.
    """

    name: str
    allows: frozenset[str]
    used_by: frozenset[str]
    agents: int
    unapproved: int


def asks_why(task: Task, wait: Wait | None) -> bool:
    """Whether the task waits because no agent suits it, so that its pool can tell more."""
    return wait is not None and wait.code == NO_RUNNER and task.execution_mode == "agent" and task.pool_id is not None


def explained(task: Task, wait: Wait, pool: PoolOutlook) -> Wait:
    """The same wait, with the reason that the pool has for it."""
    code, message = _reason(task, pool)
    return Wait(code, message, wait.position)


def _reason(task: Task, pool: PoolOutlook) -> tuple[str, str]:
    if task.workspace_id not in pool.used_by:
        return (
            "pool_changed",
            f"The workspace does not use pool {pool.name} any more; cancel the task and start it again.",
        )
    if task.workspace_id not in pool.allows:
        return (
            "pool_not_allowed",
            f"Pool {pool.name} may not serve workspace {task.workspace_name}; an admin has to allow it.",
        )
    if pool.agents == 0:
        return "no_agent_online", f"Pool {pool.name} has no agents yet; start one with a token of the pool."
    if pool.agents == pool.unapproved:
        return "agents_not_approved", f"{_agents(pool.agents)} of pool {pool.name} waits for an admin's approval."
    return "no_agent_online", f"No agent of pool {pool.name} is online; {_agents(pool.agents)} registered there."


def _agents(number: int) -> str:
    return "1 agent" if number == 1 else f"{number} agents"
