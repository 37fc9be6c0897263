"""The program `iac`: its commands, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import get_completion_class

from iac import __version__
from iac.cli.access_commands import login, logout, whoami
from iac.cli.agent_commands import agent_group
from iac.cli.failures import FAILURES, Failure, document_of, message_of
from iac.cli.pool_commands import pool_group
from iac.cli.run_commands import run_group
from iac.cli.session import Command, Group, Session, pass_session
from iac.cli.state_commands import output, state_group
from iac.cli.task_commands import task_group
from iac.cli.variable_commands import variable_group
from iac.cli.watching import INTERRUPTED
from iac.cli.workspace_commands import workspace_group

FAILED, USAGE = 1, 2
_COMPLETE = "_IAC_COMPLETE"


@click.group("iac", cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def program() -> None:
    """Terraform for teams, from the command line.

    \b
    iac login --url https://iac.example.com     once
    iac workspace create network
    iac run apply -w network                    this directory: plan, ask, apply

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C; `iac run --help` tells those of runs.
    """


@click.command("version", cls=Command)
@pass_session
def version(session: Session) -> None:
    """Show the version of this program (whoami shows the server's)."""
    if session.terminal.json:
        session.terminal.document({"version": __version__})
    else:
        session.terminal.print(f"iac {__version__}")


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_session
def completion(session: Session, *, shell: str) -> None:
    """Print the completion script of a shell, e.g. for ~/.bashrc: eval "$(iac completion bash)"."""
    found = get_completion_class(shell)
    if found is not None:
        session.terminal.print(found(program, {}, "iac", _COMPLETE).source())


for _command in (
    run_group, task_group, workspace_group, variable_group, state_group, output, pool_group, agent_group, login, logout,
    whoami, completion, version,
):  # fmt: skip
    program.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    session = Session()
    try:
        code = _run(args, session)
    finally:
        session.close()
    sys.exit(code)


def _run(args: list[str], session: Session) -> int:
    """The exit code."""
    try:
        result = program.main(args, prog_name="iac", complete_var=_COMPLETE, standalone_mode=False, obj=session)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        return FAILED if "--detailed-exitcode" in args else USAGE
    except click.ClickException as error:
        error.show()
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try to flush into the pipe once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except FAILURES as failure:
        return _failed(failure, session)
    return result if isinstance(result, int) else 0


def _failed(failure: Failure, session: Session) -> int:
    terminal = session.terminal
    if terminal.json:
        terminal.document(document_of(failure, session))
    terminal.error(message_of(failure, session))
    return FAILED
