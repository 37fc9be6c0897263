"""iac state and iac output."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from iac.cli.failures import Refused
from iac.cli.sanitising import safe_text
from iac.cli.session import Command, Group, Session, pass_session
from iac.domain.bodies import OutputView, StateVersionView

APART = "quarantined,checkpoint"
_which = click.argument("which", metavar="[SERIAL|ID]", default="current")
_lock_token = click.option("--lock-token", metavar="TOKEN", help="Of the lock that you hold on the workspace.")


@click.group("state", cls=Group)
def state_group() -> None:
    """List, fetch, push, promote and roll back states."""


@state_group.command("list")
@click.option("--apart", is_flag=True, help="Those that never were current: quarantined ones and checkpoints, and why.")
@pass_session
def list_states(session: Session, *, apart: bool) -> None:
    """List the state's versions, newest first."""
    found = list(session.client.states(session.workspace, verdict=APART if apart else None))
    if session.terminal.json:
        session.terminal.document({"items": found})
        return
    workspace = session.workspace
    if apart:
        columns = ("Id", "Serial", "Verdict", "Resources", "Task", "Created", "Promoted", "Reason")
        session.terminal.table(columns, map(_row_apart, found), empty=f"Nothing of {workspace} is kept apart.")
        return
    headers = ("Serial", "Verdict", "Resources", "Size", "Task", "Created", "By")
    session.terminal.table(headers, map(_row, found), empty=f"Workspace {workspace} has no state yet.")
    if count := sum(kept.verdict == "quarantined" and kept.promoted_at is None for kept in found):
        session.terminal.note(f"{count} quarantined: iac state list --apart tells why.")


def _row(kept: StateVersionView) -> tuple[object, ...]:
    created = f"{kept.created_at:%Y-%m-%d %H:%M}"
    return kept.serial, kept.verdict, kept.resource_count, kept.size, kept.task_id, created, kept.created_by


def _row_apart(kept: StateVersionView) -> tuple[object, ...]:
    created = f"{kept.created_at:%Y-%m-%d %H:%M}"
    promoted = f"{kept.promoted_at:%Y-%m-%d %H:%M}" if kept.promoted_at else ""
    serial = kept.serial if kept.serial >= 0 else "-"
    return kept.id, serial, kept.verdict, kept.resource_count, kept.task_id, created, promoted, kept.reason or ""


@state_group.command("show")
@_which
@pass_session
def show(session: Session, *, which: str) -> None:
    """Show what is known of a state: the current one, or that of a serial."""
    _shown(session, session.client.state(session.workspace, which))


def _shown(session: Session, kept: StateVersionView) -> None:
    if session.terminal.json:
        session.terminal.document(kept)
        return
    session.terminal.facts(
        {
            "Id": kept.id,
            "Serial": kept.serial,
            "Lineage": kept.lineage,
            "Verdict": kept.verdict,
            "Reason": kept.reason,
            "Resources": kept.resource_count,
            "Terraform": kept.terraform_version,
            "Size": f"{kept.size:,} bytes",
            "SHA-256": kept.sha256,
            "Task": kept.task_id,
            "Rollback of": kept.rollback_of,
            "Promotion of": kept.promotion_of,
            "Promoted": f"{kept.promoted_at:%Y-%m-%d %H:%M:%S} UTC" if kept.promoted_at else None,
            "Created": f"{kept.created_at:%Y-%m-%d %H:%M:%S} UTC by {kept.created_by}",
        }
    )


@state_group.command("pull")
@_which
@pass_session
def pull(session: Session, *, which: str) -> None:
    """Write a state to stdout, byte for byte. It holds secrets, and the download is audited."""
    data = session.client.download_state(session.workspace, which)
    if session.terminal.out_is_tty:
        session.terminal.print(safe_text(data, colours=False))
    else:
        session.terminal.raw(data)


@state_group.command("push")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--force", is_flag=True, help="Take another lineage, or a serial that is not higher.")
@_lock_token
@pass_session
def push(session: Session, *, file: Path, force: bool, lock_token: str | None) -> None:
    """Make a state file the current state; - reads it from stdin."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Refused(f"Cannot read {file}: {error.strerror}.") from None
    _shown(session, session.client.upload_state(session.workspace, data, force=force, lock_token=lock_token))


@state_group.command("rollback")
@click.argument("serial", type=click.IntRange(min=0))
@click.option("--yes", is_flag=True, help="Do not ask.")
@_lock_token
@pass_session
def rollback(session: Session, *, serial: int, yes: bool, lock_token: str | None) -> None:
    """Make an old state current again, as a new version. What Terraform made since then stays, unmanaged."""
    terminal, workspace = session.terminal, session.workspace
    if not yes and not terminal.can_ask:
        raise click.UsageError("There is no terminal to ask on; pass --yes.")
    if not yes and not terminal.confirmed(f"Make serial {serial} the current state of {workspace}?"):
        raise Refused("Nothing was changed.")
    _shown(session, session.client.rollback_state(workspace, serial, lock_token=lock_token))


@state_group.command("promote")
@click.argument("version", metavar="ID")
@click.option("--force", is_flag=True, help="Even if its lineage is another one: it replaces what is there.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_lock_token
@pass_session
def promote(session: Session, *, version: str, force: bool, yes: bool, lock_token: str | None) -> None:
    """Make a state that was kept apart the current one, as a new version. Its ID: iac state list --apart."""
    terminal, client, workspace = session.terminal, session.client, session.workspace
    if not yes and not terminal.can_ask:
        raise click.UsageError("There is no terminal to ask on; pass --yes.")
    now = client.workspace(workspace).state_serial
    if not yes:
        kept = client.state(workspace, version)
        terminal.note(f"{kept.id}: serial {kept.serial}, {kept.resource_count} resource(s). {kept.reason or ''}")
        there = "there is no state yet" if now is None else f"it is at serial {now} now"
        if not terminal.confirmed(f"Make it the current state of {workspace} ({there})?"):
            raise Refused("Nothing was changed.")
    _shown(session, client.promote_state(workspace, version, force=force, expected=now, lock_token=lock_token))


@click.command("output", cls=Command)
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--raw", is_flag=True, help="The bare text of one output, without a newline.")
@pass_session
def output(session: Session, *, name: str | None, raw: bool) -> None:
    """Show the current state's outputs; --json as `terraform output -json` does.

    Sensitive values are left out (null): only the state has them (iac state pull).
    """
    terminal = session.terminal
    if raw and (name is None or terminal.json):
        raise click.UsageError("--raw goes with the NAME of one output, and not with --json.")
    items = session.client.outputs(session.workspace).items
    found = {known.name: known for known in sorted(items, key=lambda known: known.name)}
    if name is None:
        _all(session, found)
        return
    known = found.get(name)
    if known is None:
        there = f" There are: {', '.join(found)}." if found else " There are no outputs."
        raise Refused(f"There is no output {name!r} in {session.workspace}.{there}")
    if known.sensitive:
        raise Refused(f"{name} is sensitive. The state has it: iac state pull | jq .outputs.{name}.value")
    if raw:
        _bare(session, known)
    elif terminal.json:
        terminal.document(known.value)
    else:
        terminal.print(safe_text(_shown_value(known).encode(), colours=False))


def _all(session: Session, found: dict[str, OutputView]) -> None:
    if session.terminal.json:
        kept = {
            name: {"sensitive": known.sensitive, "type": known.type, "value": known.value}
            for name, known in found.items()
        }
        session.terminal.document(kept)
    elif not found:
        session.terminal.note(f"Workspace {session.workspace} has no outputs.")
    for name, known in found.items() if not session.terminal.json else ():
        session.terminal.print(safe_text(f"{name} = {_shown_value(known)}".encode(), colours=False))


def _shown_value(known: OutputView) -> str:
    if known.sensitive:
        return "<sensitive>"
    indent = 2 if isinstance(known.value, dict | list) and known.value else -1
    return msgspec.json.format(msgspec.json.encode(known.value), indent=indent).decode()


def _bare(session: Session, known: OutputView) -> None:
    value = known.value
    if isinstance(value, bool):
        value = "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise Refused(f"{known.name} is no text, number or truth value: use --json.")
    text = str(value)
    session.terminal.raw((safe_text(text.encode(), colours=False) if session.terminal.out_is_tty else text).encode())
