"""iac workspace: create, look at, lock and delete workspaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from iac.cli.client import ApiError
from iac.cli.failures import Refused
from iac.cli.session import Group, Session, pass_session
from iac.cli.times import Limit, spelled
from iac.domain.bodies import WorkspaceChange, WorkspaceCreate, WorkspaceView
from iac.domain.limits import LONGEST_GRACE, LONGEST_TIMEOUT
from iac.domain.records import ExecutionMode

name = click.argument("name", metavar="[NAME]", required=False)


@click.group("workspace", cls=Group)
def workspace_group() -> None:
    """Create, list, lock and delete workspaces. NAME may also come from -w or IAC_WORKSPACE."""


_execution_mode = click.option(
    "--execution-mode", type=click.Choice(["local", "agent"]), help="Run on the server, or on the agents of a pool."
)
_LIMITS = ("plan_timeout", "apply_timeout", "plan_grace", "apply_grace")


def _limits(command: Callable[..., None]) -> Callable[..., None]:
    """The options for how long a phase may take, and Terraform to stop."""
    for phase in ("apply", "plan"):
        stop = f"Time for Terraform to stop by itself in {phase}s that are cancelled; or `default`."
        command = click.option(f"--{phase}-grace", type=Limit(1, LONGEST_GRACE), metavar="SPAN", help=stop)(command)
        limit = f"The most that {'an apply' if phase == 'apply' else 'a plan'} may take, e.g. 90m; or `default`."
        command = click.option(f"--{phase}-timeout", type=Limit(1, LONGEST_TIMEOUT), metavar="SPAN", help=limit)(
            command
        )
    return command


def _with_limits(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a body: `default` is null there."""
    return {
        f"{name}_s" if name in _LIMITS else name: value or None if name in _LIMITS else value
        for name, value in values.items()
    }


_pool = click.option("--pool", metavar="POOL", help="Run on this pool's agents; implies --execution-mode agent.")


@workspace_group.command("create")
@click.argument("name")
@click.option("--description", default="")
@click.option("--terraform-version", default="latest", show_default=True, help="A version, or a constraint.")
@click.option("--engine", type=click.Choice(["terraform", "tofu"]), default="terraform", show_default=True)
@_execution_mode
@_pool
@click.option("--working-directory", default="", help="Where in the configuration the root module is.")
@click.option("--auto-apply", is_flag=True, help="Apply plans without a confirmation, unless a task says otherwise.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Repeatable.")
@_limits
@pass_session
def create(
    session: Session,
    /,
    *,
    execution_mode: ExecutionMode | None,
    pool: str | None,
    tags: tuple[str, ...],
    **values: Any,  # noqa: ANN401 - fields of the body
) -> None:
    """Create a workspace. With --pool an admin's call also allows the pool to serve it."""
    chosen = _chosen_pool(execution_mode, pool)
    if execution_mode == "agent" and chosen is None:
        raise _which_pool()
    pairs = dict(_pair(tag) for tag in tags)
    if chosen is not None:
        session.client.pool(chosen)  # a name that is mistyped must not leave half of a workspace
    made = session.client.create_workspace(WorkspaceCreate(tags=pairs, **_with_limits(values)))
    _shown(session, made if chosen is None else _moved_to(session, made, chosen))


def _which_pool() -> click.UsageError:
    return click.UsageError("Which pool? Say it with --pool POOL; iac pool list shows them.")


def _chosen_pool(execution_mode: ExecutionMode | None, pool: str | None) -> str | None:
    if execution_mode == "local" and pool is not None:
        raise click.UsageError("--execution-mode local and --pool contradict each other.")
    return pool


def _moved_to(session: Session, made: WorkspaceView, pool: str) -> WorkspaceView:
    """The new workspace, run by the pool. Raises Refused when that is not ours to decide."""
    try:
        session.client.allow_workspace(pool, made.id)
        return session.client.change_workspace(made.id, WorkspaceChange(execution_mode="agent", pool_id=pool))
    except ApiError as error:
        raise Refused(
            f"Workspace {made.name} is created, but runs on the server: {error.message}\n"
            f"An admin says `iac pool allow {pool} {made.name}`; after that: iac workspace set {made.name} --pool {pool}"
        ) from None


@workspace_group.command("set")
@name
@click.option("--rename", "new_name", metavar="NAME", help="Another name.")
@click.option("--description")
@click.option("--terraform-version", help="A version, or a constraint.")
@click.option("--engine", type=click.Choice(["terraform", "tofu"]))
@_execution_mode
@_pool
@click.option("--working-directory", help="Where in the configuration the root module is.")
@click.option("--auto-apply/--no-auto-apply", default=None)
@_limits
@pass_session
def change(
    session: Session,
    /,
    *,
    name: str | None,
    new_name: str | None,
    execution_mode: ExecutionMode | None,
    pool: str | None,
    **values: Any,  # noqa: ANN401 - fields of the body
) -> None:
    """Change a workspace's settings. They hold for tasks that are created from now on; time limits and graces for every
    plan and apply that begins from now on.

    A pool has to be allowed to serve the workspace first: iac pool allow POOL NAME. With --execution-mode local the
    workspace leaves its pool.
    """
    chosen_values = {key: value for key, value in {"name": new_name, **values}.items() if value is not None}
    given = _with_limits(chosen_values)
    if (chosen := _chosen_pool(execution_mode, pool)) is not None:
        given |= {"execution_mode": "agent", "pool_id": chosen}
    elif execution_mode == "local":
        given |= {"execution_mode": "local", "pool_id": None}
    elif execution_mode == "agent":
        if session.client.workspace(session.choose_workspace(name)).pool_id is None:
            raise _which_pool()
        given["execution_mode"] = "agent"
    if not given:
        raise click.UsageError("Nothing to change was given; see iac workspace set --help.")
    _shown(session, session.client.change_workspace(session.choose_workspace(name), WorkspaceChange(**given)))


def _pair(tag: str) -> tuple[str, str]:
    key, equals, value = tag.partition("=")
    if not key or not equals:
        raise click.UsageError(f"--tag {tag!r} is not KEY=VALUE.")
    return key, value


@workspace_group.command("list")
@click.option("--search", metavar="TEXT", help="In name and description.")
@pass_session
def list_workspaces(session: Session, *, search: str | None) -> None:
    """List workspaces by name."""
    found = list(session.client.workspaces(search=search))
    if session.terminal.json:
        session.terminal.document({"items": found})
        return
    headers = ("Name", "Id", "Version", "Runs on", "State", "Lock")
    session.terminal.table(headers, map(_row, found), empty="There are no workspaces yet: iac workspace create NAME")


def _row(found: WorkspaceView) -> tuple[object, ...]:
    state = "" if found.state_serial is None else f"serial {found.state_serial}{' ?' if found.state_uncertain else ''}"
    version = f"{found.engine} {found.terraform_version}"
    return found.name, found.id, version, _runs_on(found), state, _lock(found)


def _runs_on(found: WorkspaceView) -> str:
    return f"pool {found.pool_name or found.pool_id}" if found.execution_mode == "agent" else "the server"


def _lock(found: WorkspaceView) -> str:
    if found.lock is None:
        return ""
    return f"task {found.lock.owner}" if found.lock.kind == "task" else found.lock.owner


@workspace_group.command("show")
@name
@pass_session
def show(session: Session, *, name: str | None) -> None:
    """Show a workspace."""
    _shown(session, session.client.workspace(session.choose_workspace(name)))


def _of_phase(timeout_s: int | None, grace_s: int | None) -> str | None:
    """The workspace's own limits; what is not its own is the server's, and not told here."""
    told = [] if timeout_s is None else [f"at most {spelled(timeout_s)}"]
    told += [] if grace_s is None else [f"{spelled(grace_s)} to stop when it is cancelled"]
    return ", ".join(told) or None


def _shown(session: Session, found: WorkspaceView) -> None:
    if session.terminal.json:
        session.terminal.document(found)
        return
    lock = found.lock
    session.terminal.facts(
        {
            "Name": found.name,
            "Id": found.id,
            "Description": found.description,
            "Version": f"{found.engine} {found.terraform_version}",
            "Runs on": _runs_on(found),
            "Working directory": found.working_directory,
            "Auto-apply": "yes" if found.auto_apply else "no",
            "Plan": _of_phase(found.plan_timeout_s, found.plan_grace_s),
            "Apply": _of_phase(found.apply_timeout_s, found.apply_grace_s),
            "Tags": ", ".join(f"{key}={value}" for key, value in found.tags.items()),
            "State": None if found.state_serial is None else f"serial {found.state_serial}, {found.state_lineage}",
            "State uncertain": "yes: an apply was lost" if found.state_uncertain else None,
            "States apart": f"{found.states_apart} quarantined: iac state list --apart" if found.states_apart else None,
            "Lock": f"{_lock(found)} since {lock.since:%Y-%m-%d %H:%M} UTC: {lock.reason}" if lock else None,
            "Lock token": lock.token if lock else None,
            "Configuration": found.configuration_id,
        }
    )


@workspace_group.command("delete")
@name
@click.option("--force", is_flag=True, help="Although there are resources in its state; nobody will manage them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def delete(session: Session, *, name: str | None, force: bool, yes: bool) -> None:
    """Delete a workspace with its variables, tasks, logs and states."""
    chosen, terminal = session.choose_workspace(name), session.terminal
    found = session.client.workspace(chosen)
    if not yes and not terminal.can_ask:
        raise click.UsageError("There is no terminal to ask on; pass --yes.")
    if not yes and not terminal.confirmed(f"Delete {found.name} with all its states and logs? There is no undo."):
        raise Refused("Nothing was deleted.")
    session.client.delete_workspace(found.id, force=force)
    if terminal.json:
        terminal.document({"id": found.id, "name": found.name, "deleted": True})
    terminal.note(f"Workspace {found.name} is deleted.")


@workspace_group.command("lock")
@name
@click.option("--reason", default="", help="Shown to whoever waits for it.")
@pass_session
def lock(session: Session, *, name: str | None, reason: str) -> None:
    """Lock a workspace: nothing that may change its state starts there."""
    _shown(session, session.client.lock_workspace(session.choose_workspace(name), reason))


@workspace_group.command("unlock")
@name
@click.option("--lock-token", metavar="TOKEN", help="Of a lock that another of your tokens took.")
@click.option("--force", is_flag=True, help="Anybody's lock. Needs a right of its own, and is audited.")
@pass_session
def unlock(session: Session, *, name: str | None, lock_token: str | None, force: bool) -> None:
    """Release a workspace's lock."""
    chosen = session.choose_workspace(name)
    _shown(session, session.client.unlock_workspace(chosen, token=lock_token, force=force))
