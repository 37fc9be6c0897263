"""iac pool: pools of agents, whom they serve, and what waits for them."""

from __future__ import annotations

from typing import Any

import click
from msgspec import UNSET

from iac.cli.failures import Refused
from iac.cli.pool_token_commands import token_group
from iac.cli.session import Group, Session, pass_session
from iac.cli.times import ago
from iac.domain.pool_bodies import AllowanceView, DemandView, PoolChange, PoolCreate, PoolView

pool_argument = click.argument("pool", metavar="POOL")
# Not `workspace`: that is the name of a global option.
_workspace = click.argument("name", metavar="WORKSPACE")
_EXCLUSIVITY = {"agent": "alone on its agent", "slot": "beside the agent's plans"}
_POLICY = {"unique": "one agent each", "suffix": "a suffix for each agent"}


@click.group("pool", cls=Group)
def pool_group() -> None:
    """Pools of agents: create them, give out their tokens, say whom they may serve. POOL is a name or an id.

    \b
    iac pool create hosts
    iac pool token create hosts first                shown once; for IAC_AGENT_TOKEN
    iac pool allow hosts shop                        the pool may serve this workspace
    iac workspace set shop --pool hosts              and the workspace runs there
    """


pool_group.add_command(token_group)


@pool_group.command("list")
@pass_session
def list_pools(session: Session) -> None:
    """List pools by name."""
    found = list(session.client.pools())
    if session.terminal.json:
        session.terminal.document({"items": found})
        return
    headers = ("Name", "Kind", "Agents online", "Workspaces", "Approval", "Id", "Description")
    session.terminal.table(headers, map(_row, found), empty="There are no pools yet: iac pool create NAME")


def _row(pool: PoolView) -> tuple[object, ...]:
    approval = "required" if pool.require_approval else ""
    online = f"{pool.agents_online} of {pool.agents}"
    return pool.name, pool.kind, online, pool.workspaces, approval, pool.id, pool.description


@pool_group.command("create")
@click.argument("name")
@click.option("--kind", type=click.Choice(["static", "k8s"]), default="static", show_default=True)
@click.option("--description", default="")
@click.option("--require-approval", is_flag=True, help="A new agent works only after `iac agent approve`.")
@click.option(
    "--name-policy",
    type=click.Choice(["unique", "suffix"]),
    help="A second agent of a name is refused, or gets a suffix. [default: unique; suffix for k8s]",
)
@click.option(
    "--apply-exclusivity",
    type=click.Choice(["agent", "slot"]),
    default="agent",
    show_default=True,
    help="An apply has its agent for itself, or runs beside its plans.",
)
@pass_session
def create(session: Session, /, **values: Any) -> None:  # noqa: ANN401 - fields of the body
    """Create a pool."""
    pool = session.client.create_pool(PoolCreate(**values))
    _shown(session, pool)
    session.terminal.note(f"Agents join it with a token: iac pool token create {pool.name} NAME")


@pool_group.command("show")
@pool_argument
@pass_session
def show(session: Session, *, pool: str) -> None:
    """Show a pool."""
    _shown(session, session.client.pool(pool))


def _shown(session: Session, pool: PoolView) -> None:
    if session.terminal.json:
        session.terminal.document(pool)
        return
    session.terminal.facts(
        {
            "Name": pool.name,
            "Id": pool.id,
            "Description": pool.description,
            "Kind": pool.kind,
            "Agents": f"{pool.agents_online} of {pool.agents} online",
            "Workspaces": pool.workspaces,
            "New agents": "wait for approval" if pool.require_approval else "work at once",
            "Same name": _POLICY[pool.name_policy],
            "An apply runs": _EXCLUSIVITY[pool.apply_exclusivity],
            "Created": f"{pool.created_at:%Y-%m-%d %H:%M:%S} UTC by {pool.created_by}",
        }
    )


@pool_group.command("set")
@pool_argument
@click.option("--name", help="Another name.")
@click.option("--description")
@click.option("--require-approval/--no-require-approval", default=None)
@click.option("--name-policy", type=click.Choice(["unique", "suffix"]))
@click.option("--apply-exclusivity", type=click.Choice(["agent", "slot"]))
@pass_session
def change(session: Session, /, *, pool: str, **values: Any) -> None:  # noqa: ANN401 - fields of the body
    """Change a pool's settings. What is asked of new agents does not touch those that are there."""
    given = {name: UNSET if value is None else value for name, value in values.items()}
    if all(value is UNSET for value in given.values()):
        raise click.UsageError("Nothing to change was given; see iac pool set --help.")
    _shown(session, session.client.change_pool(pool, PoolChange(**given)))


@pool_group.command("rm")
@pool_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def remove(session: Session, *, pool: str, yes: bool) -> None:
    """Delete a pool with its tokens and the agents that are gone. One that is in use is refused."""
    terminal, found = session.terminal, session.client.pool(pool)
    if not yes and not terminal.can_ask:
        raise click.UsageError("There is no terminal to ask on; pass --yes.")
    if not yes and not terminal.confirmed(f"Delete pool {found.name} with its tokens and its {found.agents} agent(s)?"):
        raise Refused("Nothing was deleted.")
    session.client.delete_pool(found.id)
    if terminal.json:
        terminal.document({"id": found.id, "name": found.name, "deleted": True})
    terminal.note(f"Pool {found.name} is deleted.")


@pool_group.command("demand")
@pool_argument
@pass_session
def demand(session: Session, *, pool: str) -> None:
    """What waits and runs in a pool, and the slots there are: for whoever scales it."""
    found = session.client.pool_demand(pool)
    if session.terminal.json:
        session.terminal.document(found)
    else:
        session.terminal.facts(_demand_facts(found))


def _demand_facts(found: DemandView) -> dict[str, object]:
    return {
        "Waiting": f"{found.waiting_plans} plan(s), {found.waiting_applies} apply(s)",
        "Longest wait": None if found.oldest_waiting_since is None else f"began {ago(found.oldest_waiting_since)}",
        "Running": f"{found.running_plans} plan(s), {found.running_applies} apply(s)",
        "Agents": f"{found.agents_online} online that take tasks",
        "Plan slots": found.plan_slots,
    }


@pool_group.command("workspaces")
@pool_argument
@pass_session
def list_workspaces(session: Session, *, pool: str) -> None:
    """List the workspaces that a pool may serve, and which of them use it."""
    found = list(session.client.allowances(pool))
    if session.terminal.json:
        session.terminal.document({"items": found})
        return
    empty = f"Pool {pool} may not serve any workspace yet: iac pool allow {pool} WORKSPACE"
    headers = ("Workspace", "Id", "Uses it", "Allowed", "By")
    session.terminal.table(headers, map(_allowance_row, found), empty=empty)


def _allowance_row(found: AllowanceView) -> tuple[object, ...]:
    allowed = f"{found.allowed_at:%Y-%m-%d %H:%M}"
    return found.workspace_name, found.workspace_id, "yes" if found.in_use else "no", allowed, found.allowed_by


@pool_group.command("allow")
@pool_argument
@_workspace
@pass_session
def allow(session: Session, *, pool: str, name: str) -> None:
    """Let a pool serve a workspace. The workspace uses it once it says so too: iac workspace set WORKSPACE --pool POOL."""
    found = session.client.allow_workspace(pool, session.choose_workspace(name))
    if session.terminal.json:
        session.terminal.document(found)
    session.terminal.note(f"Pool {pool} may serve {found.workspace_name}.")
    if not found.in_use:
        session.terminal.note(f"To run it there: iac workspace set {found.workspace_name} --pool {pool}")


@pool_group.command("disallow")
@pool_argument
@_workspace
@pass_session
def disallow(session: Session, *, pool: str, name: str) -> None:
    """Do not let a pool serve a workspace any more. Tasks that wait go on waiting, and say why."""
    session.client.disallow_workspace(pool, session.choose_workspace(name))
    if session.terminal.json:
        session.terminal.document({"pool": pool, "workspace": name, "allowed": False})
    session.terminal.note(f"Pool {pool} may not serve {name} any more.")
