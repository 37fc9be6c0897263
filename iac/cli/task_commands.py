"""iac task: look at tasks and decide about them."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from functools import partial

import click
import msgspec

from iac.cli import summaries
from iac.cli.client import End, LogBytes, LogEvent, Rewound
from iac.cli.failures import Refused
from iac.cli.interrupts import Interrupts
from iac.cli.log_writer import LogWriter
from iac.cli.run_commands import exit_code
from iac.cli.sanitising import safe_text
from iac.cli.session import Group, Session, pass_session
from iac.cli.watching import ASK_WITHIN, REWOUND, Left, Watcher
from iac.domain.bodies import TaskView

task_id = click.argument("task_id", metavar="TASK", type=click.IntRange(min=1))
_follow = click.option("-f", "--follow", is_flag=True, help="Stay until the task rests.")
_comment = click.option("--comment", default="", help="Why; kept with the task.")


@click.group("task", cls=Group)
def task_group() -> None:
    """List tasks, read logs, confirm, cancel."""


@task_group.command("list")
@click.option("--status", metavar="S[,S…]", help="Only these, e.g. running,planned.")
@click.option("--action", metavar="A[,A…]", help="Only these, e.g. plan,destroy.")
@click.option("--search", metavar="TEXT", help="In message, workspace, creator.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--cursor", help="Go on where a page ended (its next_cursor).")
@pass_session
def list_tasks(
    session: Session, *, status: str | None, action: str | None, search: str | None, limit: int, cursor: str | None
) -> None:
    """List tasks, newest first; with -w those of one workspace."""
    page = session.client.tasks(
        workspace=session.workspace_given, status=status, action=action, search=search, limit=limit, cursor=cursor
    )
    if session.terminal.json:
        session.terminal.document(page)
        return
    headers = ("Task", "Workspace", "Action", "Status", "Plan", "Agent", "Created", "Message")
    session.terminal.table(headers, map(_row, page.items), empty="There are no such tasks.")
    if page.next_cursor is not None:
        session.terminal.note(f"There are more: --cursor {page.next_cursor}")


def _row(task: TaskView) -> tuple[object, ...]:
    summary = task.plan.summary if task.plan else None
    plan = f"+{summary.get('add', 0)} ~{summary.get('change', 0)} -{summary.get('destroy', 0)}" if summary else ""
    created = f"{task.created_at:%Y-%m-%d %H:%M}"
    agent = task.agent_name or ("(server)" if task.agent_id == "local" else task.agent_id)
    waits = f"waits: {task.wait.message}" if task.wait is not None and task.status in ("pending", "queued") else ""
    message = ": ".join(filter(None, (task.message, waits)))
    return task.id, task.workspace_name, task.action, task.status, plan, agent, created, message


@task_group.command("show")
@task_id
@pass_session
def show(session: Session, task_id: int) -> None:
    """Show a task: where it stands, why it waits, what its plan does."""
    _shown(session, session.client.task(task_id))


def _shown(session: Session, task: TaskView) -> None:
    if session.terminal.json:
        session.terminal.document(task)
    else:
        session.terminal.facts(summaries.task_facts(task))


@task_group.command("logs")
@task_id
@_follow
@click.option("--raw", is_flag=True, help="The bytes as they are stored; not onto a terminal.")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Begin with this byte.")
@pass_session
def logs(session: Session, task_id: int, *, follow: bool, raw: bool, offset: int) -> None:
    """Print a task's log.

    On a terminal colours stay and every other control sequence is taken out; elsewhere colours go too. With --json
    each line of the output is an event: {"type": "log", "offset", "next_offset", "text"}, {"type": "status", …},
    {"type": "reset", "offset"} (what was told from there on is not what is stored), {"type": "end", …}.
    """
    terminal = session.terminal
    if raw and terminal.json:
        raise click.UsageError("--raw and --json contradict each other.")
    if raw and terminal.out_is_tty:
        raise click.UsageError("--raw may carry control sequences of strangers: redirect it to a file or a pipe.")
    if raw:
        _raw(session, task_id, offset, follow)
    elif terminal.json:
        _events(session, task_id, offset, follow)
    else:
        _text(session, task_id, offset, follow)


def _raw(session: Session, task_id: int, offset: int, follow: bool) -> None:
    for event in _told(session, task_id, offset, follow):
        if isinstance(event, LogBytes):
            session.terminal.raw(event.data)
        elif isinstance(event, Rewound):
            _rewound(session, event)


def _text(session: Session, task_id: int, offset: int, follow: bool) -> None:
    writer = LogWriter(session.terminal.out, colours=session.terminal.colours_out)
    for event in _told(session, task_id, offset, follow):
        if isinstance(event, LogBytes):
            writer.write(event.data)
        elif isinstance(event, Rewound):
            writer.close_line()
            _rewound(session, event)
    writer.finish()


def _rewound(session: Session, event: Rewound) -> None:
    session.terminal.note(f"{REWOUND} from byte {event.offset} on. The log goes on there.", "yellow")


def _events(session: Session, task_id: int, offset: int, follow: bool) -> None:
    # A letter whose bytes are in two pieces belongs to the second one's text.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for event in _told(session, task_id, offset, follow):
        if isinstance(event, LogBytes):
            text = decoder.decode(event.data)
            told = {"type": "log", "offset": event.offset, "next_offset": event.next_offset, "text": text}
        else:
            kind = {End: "end", Rewound: "reset"}.get(type(event), "status")
            told = {"type": kind, **msgspec.structs.asdict(event)}
        session.terminal.line(told)


def _told(session: Session, task_id: int, offset: int, follow: bool) -> Iterator[LogEvent]:
    client = session.client
    if follow:
        yield from client.follow_log(
            task_id, offset, on_break=lambda why: session.terminal.note(f"Lost the connection ({why}); trying again")
        )
        return
    client.task(task_id)  # an unknown task has no log, and is not the same as an empty one
    for data in client.whole_log(task_id, offset):
        yield LogBytes(offset, offset + len(data), data)
        offset += len(data)


@task_group.command("flush-log")
@task_id
@pass_session
def flush_log(session: Session, task_id: int) -> None:
    """Have a running task's log sent and stored now."""
    session.client.flush_log(task_id)
    session.terminal.note(f"Asked for the log of task {task_id}.")


@task_group.command("cancel")
@task_id
@click.option("--force", is_flag=True, help="Do not wait for Terraform any longer; its state may then be incomplete.")
@click.option("--yes", is_flag=True, help="Force an apply without asking.")
@_follow
@pass_session
def cancel(session: Session, task_id: int, *, force: bool, yes: bool, follow: bool) -> None:
    """Stop a task. A running Terraform finishes what it is doing, and its state is kept.

    --force is for one that was cancelled already, 10 s later: Terraform gets its second SIGTERM at once.
    """
    client = session.client
    if force and not yes and client.task(task_id).phase == "apply":
        if not session.terminal.can_ask:
            raise click.UsageError("There is no terminal to ask on; pass --yes.")
        if not session.terminal.confirmed(f"Force the apply of task {task_id}? Its state may then be incomplete."):
            raise Refused(f"Not forced; Terraform goes on stopping by itself in task {task_id}.")
    _done(session, client.cancel_task(task_id, force=force, confirm=force), follow)


@task_group.command("confirm")
@task_id
@click.option("--digest", metavar="DIGEST", help="Only if the plan is this one (see task show); does not ask.")
@_comment
@_follow
@pass_session
def confirm(session: Session, task_id: int, *, digest: str | None, comment: str, follow: bool) -> None:
    """Apply a plan that waits. On a terminal the plan is shown first, and it asks."""
    client, terminal = session.client, session.terminal
    task = client.task(task_id)
    if digest is None and task.plan is not None:
        digest = task.plan.digest
        if task.status == "planned" and terminal.can_ask and not _agreed(session, task):
            raise Refused(f"Not confirmed; task {task_id} goes on waiting.")
    _done(session, client.confirm_task(task_id, plan_digest=digest, comment=comment), follow)


def _agreed(session: Session, task: TaskView) -> bool:
    for line in summaries.plan_lines(task, session.client.changes(task.id)):
        session.terminal.note(line)
    return session.terminal.confirmed(summaries.question(task))


@task_group.command("discard")
@task_id
@_comment
@pass_session
def discard(session: Session, task_id: int, *, comment: str) -> None:
    """Throw a plan away that waits to be confirmed."""
    _done(session, session.client.discard_task(task_id, comment), False)


@task_group.command("retry")
@task_id
@_follow
@pass_session
def retry(session: Session, task_id: int, *, follow: bool) -> None:
    """Run a task that is over again, as a new one with today's inputs."""
    _done(session, session.client.retry_task(task_id, patience=ASK_WITHIN), follow)


@task_group.command("known")
@task_id
@pass_session
def known(session: Session, task_id: int) -> None:
    """Show what is known of a task whose end nobody saw: state, checkpoint, resources, the log's last lines."""
    found = session.client.known(task_id)
    if session.terminal.json:
        session.terminal.document(found)
        return
    session.terminal.facts(summaries.known_facts(found))
    for line in found.log_lines:
        session.terminal.print("  | " + safe_text(line.encode(), colours=False))


@task_group.command("resolve")
@task_id
@_comment
@click.option("--unlock", is_flag=True, help="Release the workspace too: its state is what it should be.")
@click.option("--adopt", is_flag=True, help="Make its checkpoint the current state; else that is quarantined.")
@click.option("--yes", is_flag=True, help="Do not show what is known, and do not ask.")
@pass_session
def resolve(session: Session, task_id: int, *, comment: str, unlock: bool, adopt: bool, yes: bool) -> None:
    """Declare a lost apply over, after a look at what is known of it. Whatever it still sends is only kept apart."""
    terminal, client = session.terminal, session.client
    if terminal.can_ask and not yes:
        found = client.known(task_id)
        for name, value in summaries.known_facts(found).items():
            if value not in (None, ""):
                terminal.note(f"{name}: {value}")
        fate = "" if found.checkpoint is None else f", {'adopt' if adopt else 'quarantine'} its checkpoint"
        if not terminal.confirmed(
            f"Declare task {task_id} over{fate}{', and unlock the workspace' if unlock else ''}?"
        ):
            raise Refused("Nothing was changed.")
    asked = partial(client.resolve_task, task_id, comment=comment, unlock=unlock)
    _done(session, asked(checkpoint="adopt") if adopt else asked(), False)


def _done(session: Session, task: TaskView, follow: bool) -> None:
    """Shows what became of it; with `follow` what becomes of it further."""
    if not follow:
        _shown(session, task)
        return
    interrupts = Interrupts()
    with interrupts.heard():
        try:
            task = Watcher(session.client, session.terminal, task.id, interrupts).until_rest()
        except Left as left:
            raise click.exceptions.Exit(left.exit_code) from None
    if session.terminal.json:
        session.terminal.document(task)
    session.terminal.note(summaries.ending(task))
    raise click.exceptions.Exit(0 if task.status == "planned" else exit_code(task, False))
