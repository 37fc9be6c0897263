"""What is told of a stop: how far it is, what comes next and when, and how to hurry."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from iac.cli.times import countdown
from iac.domain.cancel_bodies import CancelView

_STAGES = {
    "received": "the stop was heard",
    "sigterm": "Terraform was asked to stop",
    "sigterm2": "Terraform was asked a second time",
    "sigkill": "Terraform and everything it had started was killed",
    "exited": "nothing of it runs any more",
    "not_running": "its runner does not have it",
}


@dataclass(frozen=True, slots=True)
class Stopping:
    """A stop as the server told of it, counted down by this machine's steady clock: the wall clocks may differ."""

    task_id: int
    cancel: CancelView
    told_at: float
    clock: Callable[[], float] = time.monotonic

    def __rich__(self) -> Text:
        return Text(self.text())

    def text(self) -> str:
        """`Task 7: Terraform was asked to stop; killed in 4 min 12 s; `iac task cancel 7 --force` to hurry`."""
        parts = [f"Task {self.task_id}: {self.stage()}", self._kill(), self._force(), self._overdue()]
        return "; ".join(part for part in parts if part)

    def stage(self) -> str:
        return _STAGES.get(self.cancel.stage or "", "its runner has not heard of the stop yet")

    def _kill(self) -> str:
        left = self._left(self.cancel.kill_in_s)
        return "" if left is None else f"killed in {countdown(left)}" if left > 0 else "killed now"

    def _force(self) -> str:
        left = self._left(self.cancel.force_in_s)
        if left is None or self.cancel.stage not in (None, "received", "sigterm"):
            return ""
        when = f" in {countdown(left)}" if left > 0 else ""
        return f"`iac task cancel {self.task_id} --force`{when} to hurry"

    def _overdue(self) -> str:
        return "" if self.cancel.overdue_at is None else "this should be over by now: look at its runner"

    def _left(self, seconds: float | None) -> float | None:
        return None if seconds is None else max(0.0, seconds - (self.clock() - self.told_at))


def stopping(task_id: int, status: str, cancel: CancelView | None) -> Stopping | None:
    """None when it is not being stopped."""
    if cancel is None or status not in ("cancelling", "lost"):
        return None
    return Stopping(task_id, cancel, time.monotonic())
