"""iac run: this directory, planned and applied by the server, watched as if it ran here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from iac.cli.client import Unreachable
from iac.cli.interrupts import Interrupts
from iac.cli.packing import pack
from iac.cli.sanitising import one_line
from iac.cli.session import Group, Session, pass_session
from iac.cli.summaries import ending
from iac.cli.watching import ASK_WITHIN, INTERRUPTED, Left, Watcher
from iac.domain.bodies import TaskCreate, TaskView
from iac.domain.records import Action

F = TypeVar("F", bound=Callable[..., Any])
EXIT_CODES = """\b
Exit codes, as Terraform's:
  0    it succeeded (with --detailed-exitcode: and nothing changed)
  1    it failed, was cancelled, was not confirmed, or could not be started
  2    with --detailed-exitcode: it succeeded, and there are changes
  130  Ctrl-C
Wrong usage is 2 as well, but 1 when --detailed-exitcode is given: a 2 then always means changes."""


@click.group("run", cls=Group, epilog=EXIT_CODES)
def run_group() -> None:
    """Plan, apply or destroy a directory's configuration."""


def _common(function: F) -> F:
    """The options of all three."""
    options = [
        click.option("--dir", "directory", type=click.Path(path_type=Path), help="What to upload.  [default: .]"),
        click.option("--no-upload", is_flag=True, help="Use the configuration that the workspace has."),
        click.option("--target", "targets", multiple=True, metavar="ADDR", help="Only this resource; repeatable."),
        click.option("--message", default="", help="What this is for, kept with the task."),
        click.option("--detach", is_flag=True, help="Create the task, print it, and do not wait."),
        click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


_replace = click.option("--replace", "replaced", multiple=True, metavar="ADDR", help="Recreate it; repeatable.")
_auto_approve = click.option("--auto-approve", is_flag=True, help="Apply without asking.")
_refresh_only = click.option("--refresh-only", is_flag=True, help="Only take up what changed outside of Terraform.")


@run_group.command("plan", epilog=EXIT_CODES)
@_common
@_replace
@_refresh_only
@pass_session
def plan(session: Session, /, *, refresh_only: bool, **options: Any) -> None:  # noqa: ANN401 - the common options
    """Show what would change.

    Apply exactly this plan later with `iac run apply --plan TASK`. With --refresh-only the plan cannot be kept: it is
    discarded once it is shown.
    """
    _run(
        session,
        _Wish(action="refresh_only" if refresh_only else "plan", plan_only=True, **_checked(options, refresh_only)),
    )


@run_group.command("apply", epilog=EXIT_CODES)
@_common
@_replace
@_refresh_only
@_auto_approve
@click.option("--plan", "plan_task", type=int, metavar="TASK", help="Apply the plan of this plan task.")
@pass_session
def apply(session: Session, /, *, refresh_only: bool, plan_task: int | None, **options: Any) -> None:  # noqa: ANN401
    """Plan, ask, and apply what was planned.

    Without --auto-approve it asks, whatever the workspace's auto-apply says; with --detach the workspace decides. A
    finished plan (--plan) is applied as it is and without asking, as Terraform does with a saved plan.
    """
    if plan_task is None:
        action: Action = "refresh_only" if refresh_only else "plan_and_apply"
        _run(session, _Wish(action=action, **_checked(options, refresh_only)))
        return
    if refresh_only or options["targets"] or options["replaced"] or options["directory"]:
        raise click.UsageError("--plan applies that plan as it is: no --dir, --target, --replace or --refresh-only.")
    _run(session, _Wish(action="apply", plan_task=plan_task, **{**options, "no_upload": True, "directory": None}))


@run_group.command("destroy", epilog=EXIT_CODES)
@_common
@_auto_approve
@pass_session
def destroy(session: Session, /, **options: Any) -> None:  # noqa: ANN401
    """Destroy everything that the workspace manages."""
    _run(session, _Wish(action="destroy", **_checked({**options, "replaced": ()}, False)))


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What was asked for."""

    action: Action
    directory: Path | None
    no_upload: bool
    targets: tuple[str, ...]
    message: str
    detach: bool
    detailed_exitcode: bool
    replaced: tuple[str, ...] = ()
    auto_approve: bool = False
    plan_only: bool = False
    plan_task: int | None = None

    @property
    def to_upload(self) -> Path | None:
        return None if self.no_upload else self.directory or Path()

    @property
    def asks(self) -> bool:
        return not (self.plan_only or self.auto_approve or self.detach or self.plan_task is not None)

    @property
    def auto_apply(self) -> bool | None:
        """None leaves it to the workspace, which nobody who is watched over should: they are asked here."""
        if self.auto_approve and self.action != "apply":
            return True
        if self.action in ("plan", "apply") or self.detach:
            return None
        return False

    @property
    def body(self) -> TaskCreate:
        return TaskCreate(
            action=self.action,
            targets=self.targets,
            replace=self.replaced,
            message=self.message,
            plan_task_id=self.plan_task,
            auto_apply=self.auto_apply,
        )


def _checked(options: dict[str, Any], refresh_only: bool) -> dict[str, Any]:
    """Raises UsageError for what does not go together."""
    if options["no_upload"] and options["directory"] is not None:
        raise click.UsageError("--no-upload and --dir contradict each other.")
    if refresh_only and options["replaced"]:
        raise click.UsageError("--refresh-only changes no resource, so there is nothing to --replace.")
    if refresh_only and options["detach"] and "auto_approve" not in options:
        raise click.UsageError("A plan with --refresh-only is discarded once it is shown, so do not --detach from it.")
    if options["detach"] and options["detailed_exitcode"]:
        raise click.UsageError("--detach does not wait, so there is no --detailed-exitcode.")
    return options


def _run(session: Session, wish: _Wish) -> None:
    terminal, workspace = session.terminal, session.workspace
    if wish.asks and not terminal.can_ask:
        raise click.UsageError(
            "This asks before it applies, and there is no terminal to ask on. Pass --auto-approve; or --detach, and "
            "confirm the task later."
        )
    if wish.to_upload is not None:
        _upload(session, workspace, wish.to_upload, wish.message)
    interrupts = Interrupts()
    with interrupts.heard():
        task = session.client.create_task(workspace, wish.body, patience=ASK_WITHIN)
        if wish.detach:
            _detached(session, task)
            return
        terminal.note(f"Task {task.id}: {task.action} in {task.workspace_name}")
        raise click.exceptions.Exit(_watch(session, task, wish, interrupts))


def _upload(session: Session, workspace: str, directory: Path, message: str) -> None:
    session.client.workspace(workspace)  # a wrong name or token is told before megabytes are sent
    packed = pack(directory)
    kept = session.client.upload_configuration(workspace, packed.archive, message)
    note = f"Uploaded {len(packed.files)} file(s), {packed.size:,} bytes, from {one_line(directory.resolve())}"
    session.terminal.note(note)
    if kept.left_out:
        session.terminal.note(f"The server left out: {', '.join(kept.left_out)}", "yellow")


def _detached(session: Session, task: TaskView) -> None:
    if session.terminal.json:
        session.terminal.document(task)
    else:
        session.terminal.print(str(task.id))
        session.terminal.note(f"Task {task.id} goes on by itself: iac task logs {task.id} -f")


def _watch(session: Session, task: TaskView, wish: _Wish, interrupts: Interrupts) -> int:
    watcher = Watcher(session.client, session.terminal, task.id, interrupts)
    try:
        task = watcher.until_rest()
        while task.status == "planned":
            _decide(watcher, task, wish)
            task = watcher.until_rest()
    except Left as left:
        if session.terminal.json:
            session.terminal.document(session.client.task(task.id))
        return left.exit_code
    except Unreachable:
        session.terminal.note(f"Task {task.id} goes on without us: iac task logs {task.id} -f", "yellow")
        raise
    if session.terminal.json:
        session.terminal.document(task)
    code = exit_code(task, wish.detailed_exitcode, shown_only=wish.plan_only)
    session.terminal.note(ending(task), {0: "green", 2: "green"}.get(code, "red"))
    if task.status == "lost":
        session.terminal.note(f"Look at what it did, then: iac task resolve {task.id}")
    return INTERRUPTED if watcher.cancelled and code == 1 else code


def _decide(watcher: Watcher, task: TaskView, wish: _Wish) -> None:
    """Confirms or discards, as the user or the wish says."""
    if wish.auto_approve or (wish.asks and watcher.ask(task)):
        watcher.confirm(task)
    elif not watcher.cancelled:
        watcher.discard(task, "shown only" if wish.plan_only else "not confirmed")


def exit_code(task: TaskView, detailed: bool, *, shown_only: bool = False) -> int:
    """Terraform's meaning: 0, 1, and with `detailed` 2 for success with changes.

    `shown_only`: a plan that was discarded after it was shown is a success.
    """
    shown = shown_only and task.outcome == "discarded"
    if task.status != "succeeded" and not shown:
        return 1
    changed = shown or task.outcome in ("applied", "planned")
    return 2 if detailed and changed else 0
