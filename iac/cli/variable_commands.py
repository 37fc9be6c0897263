"""iac var: a workspace's variables."""

from __future__ import annotations

import sys

import click

from iac.cli.failures import Refused
from iac.cli.session import Group, Session, pass_session
from iac.domain.bodies import VariableChange, VariableCreate, VariableView

_env = click.option("--env", "environment", is_flag=True, help="An environment variable, not one of Terraform's.")


@click.group("var", cls=Group)
def variable_group() -> None:
    """Set, list and remove a workspace's variables."""


@variable_group.command("set")
@click.argument("assignment", metavar="NAME[=VALUE]")
@_env
@click.option("--hcl/--no-hcl", default=None, help="The value is an HCL expression, not text.")
@click.option("--sensitive/--no-sensitive", default=None, help="Never shown again, and masked in logs.")
@click.option("--description", default=None)
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the value from stdin; one newline at its end goes.")
@pass_session
def set_variable(
    session: Session,
    *,
    assignment: str,
    environment: bool,
    hcl: bool | None,
    sensitive: bool | None,
    description: str | None,
    from_stdin: bool,
) -> None:
    """Create a variable, or change its value.

    A secret does not belong into an argument, which other users of the machine can see: leave =VALUE out, and it is
    asked for, or use --stdin.
    """
    key, equals, value = assignment.partition("=")
    if equals and from_stdin:
        raise click.UsageError("The value comes from =VALUE or from --stdin, not from both.")
    known = _find(session, key, environment)
    if not equals:
        value = _read(session, key, from_stdin, bool(sensitive or (known is not None and known.sensitive)))
    if known is None:
        create = VariableCreate(
            key=key,
            value=value,
            category="environment" if environment else "terraform",
            hcl=bool(hcl),
            sensitive=bool(sensitive),
            description=description or "",
        )
        kept = session.client.create_variable(session.workspace, create)
    else:
        change = VariableChange(value=value, hcl=hcl, sensitive=sensitive, description=description)
        kept = session.client.change_variable(session.workspace, known.id, change)
    if session.terminal.json:
        session.terminal.document(kept)
    session.terminal.note(f"{kept.key} is {'set' if known is None else 'changed'} in {session.workspace}.")


def _read(session: Session, key: str, from_stdin: bool, hidden: bool) -> str:
    if from_stdin:
        data = sys.stdin.buffer.read()
        try:
            return data.decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise Refused("The value on stdin is not UTF-8 text.") from None
    if not session.terminal.can_ask:
        raise click.UsageError(f"No value: give {key}=VALUE, or --stdin for a secret.")
    if hidden:
        answer: str = click.prompt(f"Value of {key}", hide_input=True, default="", show_default=False, err=True)
        return answer
    typed = session.terminal.ask(f"Value of {key}:")
    if typed is None:
        raise Refused("No value was given.")
    return typed


def _find(session: Session, key: str, environment: bool) -> VariableView | None:
    category = "environment" if environment else "terraform"
    found = session.client.variables(session.workspace)
    return next((known for known in found if (known.key, known.category) == (key, category)), None)


@variable_group.command("list")
@pass_session
def list_variables(session: Session) -> None:
    """List the variables; sensitive values are never shown."""
    found = session.client.variables(session.workspace)
    if session.terminal.json:
        session.terminal.document({"items": found})
        return
    rows = [
        (
            known.key,
            "(sensitive)" if known.sensitive else known.value,
            "env" if known.category == "environment" else "terraform",
            "hcl" if known.hcl else "",
            known.description,
        )
        for known in found
    ]
    empty = f"There are no variables in {session.workspace} yet: iac var set NAME=VALUE"
    session.terminal.table(("Name", "Value", "Kind", "Form", "Description"), rows, empty=empty)


@variable_group.command("rm")
@click.argument("name")
@_env
@pass_session
def remove(session: Session, *, name: str, environment: bool) -> None:
    """Remove a variable."""
    known = _find(session, name, environment)
    if known is None:
        other = _find(session, name, not environment)
        hint = (
            ""
            if other is None
            else " There is one of the other kind: " + ("leave --env out." if environment else "--env.")
        )
        raise Refused(f"There is no {'environment ' if environment else ''}variable {name!r}.{hint}")
    session.client.delete_variable(session.workspace, known.id)
    if session.terminal.json:
        session.terminal.document({"id": known.id, "key": known.key, "deleted": True})
    session.terminal.note(f"{name} is removed from {session.workspace}.")
