"""iac agent: the agents that are there, what they run, and who may go on."""

from __future__ import annotations

import click

from iac.cli.failures import Refused
from iac.cli.session import Group, Session, pass_session
from iac.cli.times import ago
from iac.domain.ids import is_id
from iac.domain.pool_bodies import AgentView

_agent = click.argument("agent", metavar="AGENT")
_pool = click.option("--pool", metavar="POOL", help="Only this pool's, by name or id.")
_reason = click.option("--reason", default="", help="Why; kept in the audit trail.")
CLOCK_OFF = 5.0
"""Seconds that a clock is wrong before anybody is told."""
_STATUS = {"pending_approval": "waiting for approval", "revoked": "shut out"}


@click.group("agent", cls=Group)
def agent_group() -> None:
    """Agents: list them, drain them, approve and retire them. AGENT is a name or an id."""


@agent_group.command("list")
@_pool
@pass_session
def list_agents(session: Session, *, pool: str | None) -> None:
    """List agents by name, with what they run."""
    found = list(session.client.agents(pool=pool))
    if session.terminal.json:
        session.terminal.document({"items": found})
        return
    headers = ("Name", "Pool", "Status", "Version", "Plans", "CPU", "Memory", "Last seen", "Runs", "Id")
    where = "There are no agents" if pool is None else f"Pool {pool} has no agents"
    session.terminal.table(
        headers, map(_row, found), empty=f"{where} yet; a pool's token lets them in: iac pool --help"
    )


def _row(agent: AgentView) -> tuple[object, ...]:
    here = agent.online
    return (
        agent.name,
        agent.pool_name,
        _STATUS.get(agent.status, agent.status),
        agent.version,
        _plans(agent),
        _share(agent.cpu_usage) if here else "",
        _share(agent.mem_usage) if here else "",
        ago(agent.last_seen_at),
        _runs(agent),
        agent.id,
    )


def _plans(agent: AgentView) -> str:
    return f"{len(agent.current_tasks) - len(agent.current_applies)}/{agent.plan_limit}"


def _runs(agent: AgentView) -> str:
    return ", ".join(f"{task} (apply)" if task in agent.current_applies else str(task) for task in agent.current_tasks)


def _share(usage: float | None) -> str:
    return "" if usage is None else f"{usage:.0%}"


@agent_group.command("show")
@_agent
@_pool
@pass_session
def show(session: Session, *, agent: str, pool: str | None) -> None:
    """Show an agent."""
    _shown(session, _found(session, agent, pool))


def _clock(ahead: float | None) -> str | None:
    """What is wrong with it; nothing for one that is right, as far as a message's way lets us tell."""
    if ahead is None or abs(ahead) < CLOCK_OFF:
        return None
    return f"{abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"


def _shown(session: Session, agent: AgentView) -> None:
    if session.terminal.json:
        session.terminal.document(agent)
        return
    free = None if agent.disk_free is None else f"{agent.disk_free / 2**30:.1f} GiB"
    session.terminal.facts(
        {
            "Name": agent.name,
            "Id": agent.id,
            "Pool": f"{agent.pool_name} ({agent.pool_id})",
            "Status": _STATUS.get(agent.status, agent.status),
            "Last seen": ago(agent.last_seen_at),
            "Plans": f"{_plans(agent)} slots in use",
            "Runs": _runs(agent),
            "CPU": _share(agent.cpu_usage),
            "Memory": _share(agent.mem_usage),
            "Disk free": free,
            "Version": agent.version,
            "Clock": _clock(agent.clock_ahead_s),
            "System": f"{agent.os} {agent.arch}".strip(),
            "Address": agent.ip,
            "Registered": f"{agent.registered_at:%Y-%m-%d %H:%M:%S} UTC",
            "Retired": None if agent.retired_at is None else f"{agent.retired_at:%Y-%m-%d %H:%M:%S} UTC",
        }
    )


@agent_group.command("drain")
@_agent
@_pool
@_reason
@pass_session
def drain(session: Session, *, agent: str, pool: str | None, reason: str) -> None:
    """Give an agent nothing new. What it runs goes on, and it stays until it is stopped."""
    found = session.client.drain_agent(_found(session, agent, pool).id, reason)
    _shown(session, found)
    left = f"it still runs {_runs(found)}" if found.current_tasks else "it runs nothing"
    session.terminal.note(f"{found.name} gets nothing new; {left}. Back again with: iac agent undrain {found.name}")


@agent_group.command("undrain")
@_agent
@_pool
@_reason
@pass_session
def undrain(session: Session, *, agent: str, pool: str | None, reason: str) -> None:
    """Give an agent new tasks again."""
    _shown(session, session.client.undrain_agent(_found(session, agent, pool).id, reason))


@agent_group.command("approve")
@_agent
@_pool
@pass_session
def approve(session: Session, *, agent: str, pool: str | None) -> None:
    """Let an agent work that waits for its approval; it comes by itself within a minute."""
    _shown(session, session.client.approve_agent(_found(session, agent, pool).id))


@agent_group.command("rm")
@_agent
@_pool
@click.option("--force", is_flag=True, help="Although it has tasks; the state they still send is kept apart.")
@click.option("--yes", is_flag=True, help="Do not ask, also if it is online.")
@pass_session
def remove(session: Session, *, agent: str, pool: str | None, force: bool, yes: bool) -> None:
    """Retire an agent for good: its name is free again. One that is online is shut out and ends."""
    terminal, found = session.terminal, _found(session, agent, pool)
    if found.online and not yes:
        if not terminal.can_ask:
            raise click.UsageError(f"{found.name} is online; stop it first, or pass --yes to shut it out.")
        if not terminal.confirmed(f"{found.name} is online. Shut it out?"):
            raise Refused("Nothing was changed.")
    session.client.delete_agent(found.id, force=force)
    if terminal.json:
        terminal.document({"id": found.id, "name": found.name, "deleted": True})
    terminal.note(f"Agent {found.name} is retired.")


def _found(session: Session, agent: str, pool: str | None) -> AgentView:
    """By id, or the one of that name. Raises ApiError (not_found), Refused where the name says too little."""
    if is_id(agent):
        return session.client.agent(agent)
    named = list(session.client.agents(pool=pool, name=agent))
    if len(named) > 1:
        where = ", ".join(f"{each.id} in {each.pool_name}" for each in named)
        raise Refused(f"Several agents are named {agent!r}: {where}. Say --pool, or give the id.")
    if not named:
        raise Refused(
            f"There is no agent {agent!r}{f' in pool {pool}' if pool else ''}.\nThose there are: iac agent list"
        )
    return named[0]
