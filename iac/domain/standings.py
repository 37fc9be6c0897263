"""What the platform's rows say of one assignment, for the comparison with what its agent says. Pure.

fate     the assignment …
held     is its task's present one, and the task is under way
lost     is its task's present one, and the task was given up as lost
ended    has reported its result
gone     was taken away: handed out anew, resolved by a human, cancelled before it was claimed
"""

from __future__ import annotations

from typing import Literal

import msgspec

from iac.domain.ladder import StopStage
from iac.domain.messages import Wanted
from iac.domain.records import Phase, Status
from iac.domain.work import RunTask

Fate = Literal["held", "lost", "ended", "gone"]
UNDER_WAY: frozenset[Status] = frozenset({"assigned", "running", "cancelling"})


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An assignment beside its task. `present`: the task's fence and assignment are still this one's.

    `ended`: its result was reported. `claimed_for_s` is seconds by the database's clock, None before the claim.
    """

    task_id: int
    workspace_id: str
    fence: int
    assignment_id: str
    agent_id: str
    phase: Phase
    attempt: int
    priority: int
    status: Status
    present: bool
    ended: bool
    claimed_for_s: float | None = None
    cancel_id: str | None = None
    cancel_reason: str | None = None
    cancel_force: bool = False
    cancel_stage: StopStage | None = None
    timeout_s: float | None = None
    grace_s: float | None = None

    @property
    def fate(self) -> Fate:
        if self.ended:
            return "ended"
        if self.present and self.status in UNDER_WAY:
            return "held"
        return "lost" if self.present and self.status == "lost" else "gone"

    @property
    def wanted(self) -> Wanted | None:
        """The cancellation that its agent has to obey."""
        if self.cancel_id is None or self.status not in ("cancelling", "lost"):
            return None
        return Wanted(
            task_id=self.task_id,
            fence=self.fence,
            cancel_id=self.cancel_id,
            force=self.cancel_force,
            grace_s=self.grace_s,
        )

    @property
    def order(self) -> RunTask:
        return RunTask(
            task_id=self.task_id,
            workspace_id=self.workspace_id,
            action=self.phase,
            assignment_id=self.assignment_id,
            fence=self.fence,
            attempt=self.attempt,
        )
