"""A task watched to where it rests: its log live, why it waits, what to decide, and Ctrl-C."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from rich.console import RenderableType
from rich.status import Status
from rich.text import Text

from iac.cli import summaries
from iac.cli.client import ApiClient, ApiError, End, LogBytes, Rewound
from iac.cli.headings import Headings
from iac.cli.interrupts import Interrupted, Interrupts
from iac.cli.log_writer import LogWriter
from iac.cli.sanitising import one_line
from iac.cli.stopping import Stopping, stopping
from iac.cli.terminal import Terminal
from iac.domain.bodies import TaskView

WAITING = ("pending", "queued")
WORKING = ("assigned", "running", "cancelling")
DECIDED = ("already_final", "illegal_transition")
"""What a decision is answered with that comes too late."""
PATIENCE = 300.0
"""Seconds without the server after which watching is given up; the task itself goes on."""
DECIDE_WITHIN = 30.0
"""Seconds for which a decision is sent again while the server cannot be reached."""
ASK_WITHIN = 3.0
"""Seconds for which a new task is asked for again when there was no answer; it is made once."""
FIRST_LOOK, LAST_LOOK = 0.05, 1.0
QUIET = 0.2
"""Looks closer together than this are the first ones: a wait that is over at once is not worth a word."""
INTERRUPTED = 130
REWOUND = "What was shown live is not what was stored,"


class Left(Exception):
    """Watching ends before the task does. `exit_code` is the program's."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("left")
        self.exit_code = exit_code


@dataclass
class Watcher:
    """Watches one task."""

    client: ApiClient
    terminal: Terminal
    task_id: int
    interrupts: Interrupts
    position: int = 0
    cancelled: bool = False
    """Whether it was cancelled from here."""
    _told: str | None = None
    _spinner: Status | None = None
    _stop: Stopping | None = None
    _step: str | None = None
    _headings: Headings = field(default_factory=Headings)
    _log: LogWriter = field(init=False)

    def __post_init__(self) -> None:
        terminal = self.terminal
        stream, colours = (
            (terminal.err, terminal.colours_err) if terminal.json else (terminal.out, terminal.colours_out)
        )
        self._log = LogWriter(stream, colours=colours)

    def until_rest(self) -> TaskView:
        """The task as soon as it is over, lost, or waits for a decision, and all of its log is shown. Raises Left."""
        while True:
            try:
                task = self._rested()
            except Interrupted:
                self._interrupted()
            else:
                self._quiet()
                self._log.write(self._headings.finish())
                self._log.finish()
                return task
            finally:
                self._quiet()

    def ask(self, task: TaskView) -> bool:
        """Whether somebody at the terminal agrees to the plan. Raises Left."""
        self._show_plan(task)
        while True:
            try:
                return self.interrupts.wait(partial(self.terminal.confirmed, summaries.question(task)))
            except Interrupted:
                self.terminal.err.write("\n")
                self._interrupted()
                if self.cancelled:
                    return False

    def confirm(self, task: TaskView) -> None:
        """Confirms the plan that was shown, and no other one; somebody else may have decided before."""
        digest = task.plan.digest if task.plan is not None else None
        try:
            self.client.confirm_task(task.id, plan_digest=digest, patience=DECIDE_WITHIN)
        except ApiError as error:
            if error.code not in DECIDED:
                raise
            self.terminal.note(error.message, "yellow")

    def discard(self, task: TaskView, why: str) -> None:
        """Throws the plan away, unless somebody else decided before."""
        try:
            self.client.discard_task(task.id, why, patience=DECIDE_WITHIN)
        except ApiError as error:
            if error.code not in DECIDED:
                raise
            self.terminal.note(error.message, "yellow")

    def _show_plan(self, task: TaskView) -> None:
        self._quiet()
        try:
            changes = self.client.changes(task.id)
        except ApiError as error:
            if error.code != "no_plan":
                raise
            changes = []
        for line in summaries.plan_lines(task, changes):
            self.terminal.note(line)

    def _rested(self) -> TaskView:
        while True:
            task = self.interrupts.wait(partial(self.client.task, self.task_id, patience=PATIENCE))
            if task.status in WAITING:
                self._catch_up()
                self._wait_out(task)
            if self._stream():
                self._quiet()
                return self.interrupts.wait(partial(self.client.task, self.task_id, patience=PATIENCE))

    def _catch_up(self) -> None:
        """What the log already has, before a wait that may be long."""
        while data := self.interrupts.wait(partial(self.client.log, self.task_id, self.position)):
            self._write(data)

    def _wait_out(self, task: TaskView) -> None:
        """Says why it waits, until it does not."""
        look = FIRST_LOOK
        while task.status in WAITING:
            if task.wait is not None and look > QUIET:
                place = f" (number {task.wait.position} in the queue)" if task.wait.position else ""
                step = summaries.next_step(task)
                see = f" — {step}" if step is not None else ""
                self._tell(f"Task {task.id} waits: {task.wait.message}{place}{see}")
            self.interrupts.wait(partial(self.client.pause, look))
            look = min(look * 1.5, LAST_LOOK)
            task = self.interrupts.wait(partial(self.client.task, self.task_id, patience=PATIENCE))

    def _stream(self) -> bool:
        """Shows the log live; True at its end, False when the task waits again."""
        events = self.client.follow_log(self.task_id, self.position, patience=PATIENCE, on_break=self._broken)
        while True:
            event = self.interrupts.wait(partial(next, events))
            if isinstance(event, LogBytes):
                self._write(event.data)
            elif isinstance(event, Rewound):
                self._rewind(event.offset)
            elif isinstance(event, End):
                return True
            elif event.status in WAITING:
                events.close()
                return False
            elif stop := stopping(self.task_id, event.status, event.cancel):
                self._stops(stop)
            elif event.status in WORKING:
                self._turn(f"Task {self.task_id}: {summaries.activity(event.status, event.stage)}")

    def _write(self, data: bytes) -> None:
        self._quiet()
        self._log.write(self._headings.feed(data))
        self.position += len(data)
        if self._stop is not None:
            self._show(self._stop)  # what Terraform says while it stops does not hide how long it has

    def _rewind(self, offset: int) -> None:
        self._quiet()
        self._log.close_line()
        self.terminal.note(f"{REWOUND} from byte {offset} on. The log goes on there.", "yellow")
        self.position = offset

    def _broken(self, why: str) -> None:
        self._tell(f"Lost the connection ({why}); trying again")

    def _tell(self, text: str) -> None:
        """Once for each new text: in the spinner, or as a line."""
        if text != self._told:
            self._told = text
            if not self._turn(text):
                self._log.close_line()
                self.terminal.note(text)

    def _stops(self, stop: Stopping) -> None:
        """Counts down where something can turn; elsewhere each step is a line."""
        self._stop = stop
        if not self._show(stop) and stop.cancel.stage != self._step:
            self._log.close_line()
            self.terminal.note(stop.text(), "yellow")
        self._step = stop.cancel.stage

    def _turn(self, text: str) -> bool:
        """Whether there is a spinner to show it."""
        return self._show(Text(one_line(text)))

    def _show(self, shown: RenderableType) -> bool:
        if self._spinner is not None:
            self._spinner.update(shown)
            return True
        # A line of the log that is not at its end is not torn for it.
        self._spinner = self.terminal.spinner(shown) if self._log.at_start else None
        if self._spinner is not None:
            self._spinner.start()
        return self._spinner is not None

    def _quiet(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def _interrupted(self) -> None:
        """What Ctrl-C means: asked of whoever is there, else it cancels. Raises Left."""
        self._quiet()
        self._log.close_line()
        if not self.terminal.can_ask:
            self._cancel(force=False)
            raise Left(INTERRUPTED)
        try:
            answer = self._menu(self.cancelled)
        except Interrupted:
            self.terminal.err.write("\n")
            answer = self._menu_again()
        if answer == "d":
            self.terminal.note(f"Task {self.task_id} goes on without you: iac task logs {self.task_id} -f")
            raise Left(INTERRUPTED)
        if answer in ("c", "f"):
            self._cancel(force=answer == "f")

    def _menu(self, with_force: bool) -> str:
        """c, f, d or k."""
        if with_force:
            question = (
                f"Force task {self.task_id} to stop, without waiting for Terraform (its state may then be incomplete)? "
                "[f]orce, [d]etach, [k]eep waiting:"
            )
        else:
            question = f"Task {self.task_id}: [c]ancel it, [d]etach and let it run, [k]eep watching:"
        answer = self.interrupts.wait(partial(self.terminal.ask, question))
        letter = "d" if answer is None else answer[:1].lower()
        return letter if letter in (("f", "d") if with_force else ("c", "d")) else "k"

    def _menu_again(self) -> str:
        """Ctrl-C in the menu offers force; once more, and we leave."""
        try:
            return self._menu(True)
        except Interrupted:
            self.terminal.err.write("\n")
            return "d"

    def _cancel(self, *, force: bool) -> None:
        force = force and self.cancelled  # what nobody has cancelled yet is asked first
        try:
            # The question that was answered has said what it may cost.
            task = self.client.cancel_task(self.task_id, force=force, confirm=force, patience=DECIDE_WITHIN)
        except ApiError as error:
            if error.code not in ("already_final", "force_too_early"):
                raise
            self.terminal.note(error.message)
            return
        self.cancelled = True
        if task.status == "cancelled":
            return
        how = "is being stopped by force" if force else "was asked to stop and finishes what it is doing"
        self.terminal.note(f"Task {self.task_id} {how}: iac task logs {self.task_id} -f", "yellow")
