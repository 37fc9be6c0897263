"""iac workspace: create, look at, lock and delete workspaces."""

from __future__ import annotations

from typing import Any

import click

from iac.cli.failures import Refused
from iac.cli.session import Group, Session, pass_session
from iac.domain.bodies import WorkspaceCreate, WorkspaceView

name = click.argument("name", metavar="[NAME]", required=False)


@click.group("workspace", cls=Group)
def workspace_group() -> None:
    """Create, list, lock and delete workspaces. NAME may also come from -w or IAC_WORKSPACE."""


@workspace_group.command("create")
@click.argument("name")
@click.option("--description", default="")
@click.option("--terraform-version", default="latest", show_default=True, help="A version, or a constraint.")
@click.option("--engine", type=click.Choice(["terraform", "tofu"]), default="terraform", show_default=True)
@click.option("--mode", "execution_mode", type=click.Choice(["local", "agent"]), default="local", show_default=True)
@click.option("--working-directory", default="", help="Where in the configuration the root module is.")
@click.option("--auto-apply", is_flag=True, help="Apply plans without a confirmation, unless a task says otherwise.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Repeatable.")
@pass_session
def create(session: Session, /, *, tags: tuple[str, ...], **values: Any) -> None:  # noqa: ANN401 - fields of the body
    """Create a workspace."""
    pairs = dict(_pair(tag) for tag in tags)
    _shown(session, session.client.create_workspace(WorkspaceCreate(tags=pairs, **values)))


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
    headers = ("Name", "Id", "Version", "Mode", "State", "Lock")
    session.terminal.table(headers, map(_row, found), empty="There are no workspaces yet: iac workspace create NAME")


def _row(found: WorkspaceView) -> tuple[object, ...]:
    state = "" if found.state_serial is None else f"serial {found.state_serial}{' ?' if found.state_uncertain else ''}"
    version = f"{found.engine} {found.terraform_version}"
    return found.name, found.id, version, found.execution_mode, state, _lock(found)


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
            "Mode": found.execution_mode,
            "Working directory": found.working_directory,
            "Auto-apply": "yes" if found.auto_apply else "no",
            "Tags": ", ".join(f"{key}={value}" for key, value in found.tags.items()),
            "State": None if found.state_serial is None else f"serial {found.state_serial}, {found.state_lineage}",
            "State uncertain": "yes: an apply was lost" if found.state_uncertain else None,
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
