"""How what runs is brought to its end: the ladder of signals, its times, and how far it is (protocol 2.8). Pure.

    stage       when                     what
    received    the stop was heard       no further step of the run begins
    sigterm     at once                  one SIGTERM to Terraform alone: it finishes what it is doing
    sigterm2    after the grace          a second one: it drops what it waits for
    sigkill     `second` later           SIGKILL for everything that came of it
    exited      nothing of it is left    its result is on its way, or was told

Times are seconds of one steady clock of the runner. What is told of them are spans, so that no two clocks are compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import inf
from typing import Literal

import msgspec

APART = 0.5
"""Seconds between two SIGTERMs at least: the kernel merges a second one into a first that was not yet taken."""
COLLECT = 5.0
"""Seconds to bring home state, log and result after the last step."""
OVERDUE = 45.0
"""Seconds beyond its grace after which a stop that its runner has heard of is overdue."""
FORCE_AFTER = 10.0
"""Seconds that a stop has at least before it may be forced."""

StopStage = Literal["received", "sigterm", "sigterm2", "sigkill", "exited", "not_running"]
RANK: Mapping[StopStage, int] = {
    "received": 0, "sigterm": 1, "sigterm2": 2, "sigkill": 3, "exited": 4, "not_running": 4,
}  # fmt: skip
OWN_REASONS = frozenset({"timeout", "agent_drained", "server_shutdown"})
"""Why a runner stops a task by itself so that the task is being cancelled from then on; the platform learns it from him."""


class LadderStep(StrEnum):
    """What was done to stop the process, in this order."""

    FIRST_SIGTERM = "first_sigterm"
    SECOND_SIGTERM = "second_sigterm"
    SIGKILL = "sigkill"
    GAVE_UP = "gave_up"
    """It did not even die of SIGKILL; it may still write to the work directory."""


STAGES: Mapping[LadderStep, StopStage] = {
    LadderStep.FIRST_SIGTERM: "sigterm",
    LadderStep.SECOND_SIGTERM: "sigterm2",
    LadderStep.SIGKILL: "sigkill",
}


@dataclass(frozen=True, slots=True)
class Ladder:
    """How patiently to stop, in seconds: `grace` after the first SIGTERM, `second` after the second one."""

    grace: float
    second: float = 10.0


class StopStep(msgspec.Struct, frozen=True, kw_only=True):
    """A stage that a stop has come to, by the platform's clock."""

    stage: StopStage
    at: datetime


class StopReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stop is, as its runner tells it. All spans are seconds from when it is told; None: that will not come."""

    cancel_id: str
    reason: str = ""
    """The runner's own, empty when somebody else wanted the stop."""
    stage: StopStage
    forced: bool = False
    since_s: float = 0.0
    next_s: float | None = None
    kill_s: float | None = None
    deadline_s: float = 0.0
    """Until there should be a result."""

    @property
    def news(self) -> tuple[str, str, bool]:
        """What makes one worth being written down that comes after another."""
        return self.cancel_id, self.stage, self.forced


@dataclass(slots=True)
class Climb:
    """The stop of one assignment, which most never need. `why` is the runner's own reason."""

    ladder: Ladder
    timeout_at: float = inf
    asked: bool = False
    forced: bool = False
    why: str | None = None
    cancel_id: str | None = None
    stage: StopStage = "received"
    stage_at: float = 0.0

    def begin(self, now: float, *, timeout_s: float | None, grace_s: float | None) -> None:
        """The phase was claimed: its time runs from here. None: no limit; the runner's own grace. Again is no beginning."""
        if timeout_s is not None and timeout_s > 0 and self.timeout_at == inf:
            self.timeout_at = now + timeout_s
        self.patient(grace_s)

    def patient(self, grace_s: float | None) -> None:
        if grace_s is not None:
            self.ladder = Ladder(grace_s, self.ladder.second)

    def ask(self, now: float, *, force: bool = False, why: str | None = None) -> bool:
        """Once; and once more, to hurry. Whether that is news."""
        if self.asked and (self.forced or not force):
            return False
        if not self.asked:
            self.asked, self.why, self.stage_at = True, why, now
        self.forced = force
        return True

    def due(self, now: float) -> bool:
        """Whether the time limit has passed and nobody has stopped it yet."""
        return not self.asked and now >= self.timeout_at

    def climbed(self, stage: StopStage, now: float) -> None:
        self.stage, self.stage_at = stage, now

    def named(self, assignment_id: str) -> str | None:
        """The id of the cancellation: the platform's, or one of our own where the reason is."""
        if self.cancel_id is None and self.why in OWN_REASONS:
            return f"{assignment_id}:{self.why}"
        return self.cancel_id

    def report(self, assignment_id: str, now: float) -> StopReport | None:
        """None while nobody has anything to hear of: not stopped, or for a reason that is told as the result."""
        name = self.named(assignment_id)
        if not self.asked or name is None:
            return None
        next_at, kill_at = self._ahead(now)
        return StopReport(
            cancel_id=name,
            reason=self.why or "",
            stage=self.stage,
            forced=self.forced,
            since_s=max(0.0, now - self.stage_at),
            next_s=None if next_at is None else next_at - now,
            kill_s=None if kill_at is None else kill_at - now,
            deadline_s=0.0 if self.stage == "exited" else (now if kill_at is None else kill_at) - now + COLLECT,
        )

    def _ahead(self, now: float) -> tuple[float | None, float | None]:
        """When the next step is due, and when SIGKILL is."""
        grace = APART if self.forced else max(self.ladder.grace, APART)
        match self.stage:
            case "received":
                # Terraform may not be running yet, or just now; then nothing is signalled.
                return None, self.stage_at + grace + self.ladder.second
            case "sigterm":
                second = max(self.stage_at + grace, now)
                return second, second + self.ladder.second
            case "sigterm2":
                return (self.stage_at + self.ladder.second,) * 2
        return None, None


@dataclass(slots=True)
class Watchdog:
    """Which stops take longer than they may although their runner is there. Times are seconds of one steady clock."""

    rest: float = OVERDUE
    _since: dict[int, float] = field(default_factory=dict)

    def overdue(self, stopping: Mapping[int, float], there: Collection[int], now: float) -> list[int]:
        """`stopping` gives the grace of each fence that is being cancelled, `there` those whose runner is. A runner that was
        away has all its time anew: it may have heard of the stop only now.
        """
        self._since = {fence: self._since.get(fence, now) for fence in stopping if fence in there}
        return [fence for fence, since in self._since.items() if now - since >= stopping[fence] + self.rest]

    def restart(self) -> None:
        """Nobody was looking for a while."""
        self._since.clear()
