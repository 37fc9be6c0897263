"""One assignment while it runs: what its steps share, and what is known of how it went."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from signal import SIGKILL

import trio

from iac.domain import checkpoints
from iac.domain.ladder import Ladder, LadderStep
from iac.domain.records import Outcome
from iac.domain.work import CurrentState, LogDigest, Result, ResultStatus, RunTask, SavedPlan, TaskData
from iac.errors import IacError
from iac.executor.binaries import Binary
from iac.executor.log_spool import LogPolicy, LogSpool, Pace
from iac.executor.process import Ended, ProcessFacts, Wishes, run_terraform
from iac.executor.shimming import EndRecord, Shim
from iac.executor.workdir import Workdir

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExecutorPolicy:
    """How patient an executor is; seconds."""

    plan_ladder: Ladder = field(default_factory=lambda: Ladder(grace=30))
    apply_ladder: Ladder = field(default_factory=lambda: Ladder(grace=300))
    store_within: float = 300.0
    report_within: float = 600.0
    checkpoint_every: float = checkpoints.EVERY
    log_interval: float = 0.1
    log_drain_within: float = 120.0
    log_pace: Pace | None = None
    """The pace that all logs share; None: each has one of its own, with `log_interval`."""

    def log(self, limit: int) -> LogPolicy:
        return LogPolicy(
            limit=limit, interval=self.log_interval, drain_within=self.log_drain_within, pace=self.log_pace
        )


FAILURES = frozenset({"timeout", "lease_expired", "runner_detached"})
"""Reasons for which a runner stops a run by itself and that are failures, not wishes."""


NO_ROOM = (
    "The disk of the work directory was full, so that Terraform could not write its state there. It was found where "
    "Terraform put it instead, and is stored. Free some space and run the task again."
)


def _nobody(order: RunTask, step: LadderStep) -> None: ...


def _not_us(order: RunTask) -> str | None:
    return None


def _for_ever(order: RunTask) -> float:
    return inf


def _begun(order: RunTask, data: TaskData) -> None: ...


def _never(order: RunTask) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who follows the runs beside the platform; called in the loop, must not block.

    `why_stopped` gives the runner's own reason for a cancelled run, None when somebody else wanted it; `leased_until` says
    how long a run may go on without anybody (seconds of CLOCK_BOOTTIME), as it is when it begins; `times_out` when its time
    limit passes, by the same clock. `leaves`: an apply that is cancelled is left to its shim. `kills`: in a hurry, no second
    SIGTERM is worth it.
    """

    claimed: Callable[[RunTask, TaskData], None] = _begun
    times_out: Callable[[RunTask], float] = _for_ever
    leaves: Callable[[RunTask], bool] = _never
    kills: Callable[[RunTask], bool] = _never

    on_step: Callable[[RunTask, LadderStep], None] = _nobody
    why_stopped: Callable[[RunTask], str | None] = _not_us
    leased_until: Callable[[RunTask], float] = _for_ever


class StepFailed(Exception):
    """A step could not be done, for a reason that the user can act on. `reason` is the word for programs."""

    def __init__(self, reason: str, detail: str, *, exit_code: int | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.exit_code = reason, detail, exit_code


@dataclass(slots=True)
class Run:
    """The facts of one assignment, filled in as they occur; `result` reads them at the end."""

    order: RunTask
    data: TaskData
    workdir: Workdir
    policy: ExecutorPolicy
    machine: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    binary: Binary | None = None
    spool: LogSpool | None = None
    shim: Shim | None = None
    var_files: list[Path] = field(default_factory=list)
    facts: ProcessFacts = field(default_factory=ProcessFacts)
    hurry: trio.Event = field(default_factory=trio.Event)
    hooks: Hooks = field(default_factory=Hooks)
    plan: SavedPlan | None = None
    before: CurrentState | None = None
    unsent: bytes | None = None
    """The newest state that could be read while the apply ran, until the platform has it."""
    state_safe: bool = True
    state_error: Exception | None = None
    """Why the state is not safe."""
    no_room: bool = False
    """Terraform could not write its state to its place, for want of room; the state is stored all the same."""
    done: bool = False
    cancelled: bool = False
    failure: StepFailed | None = None
    log: LogDigest | None = None

    @property
    def ladder(self) -> Ladder:
        """The policy's, with the grace that came with the task."""
        usual = self.policy.apply_ladder if self.order.action == "apply" else self.policy.plan_ladder
        return usual if self.data.limits is None else Ladder(self.data.limits.grace_s, usual.second)

    @property
    def left(self) -> bool:
        """Whether Terraform goes on without us: then nothing may be stored, reported or removed."""
        return self.facts.left

    def _leaves(self, command: str) -> bool:
        return command == "apply" and self.hooks.leaves(self.order)

    def begin(self, stage: str) -> None:
        if self.spool is not None:
            self.spool.begin(stage)

    def say(self, text: str) -> None:
        if self.spool is not None:
            self.spool.say(text)

    async def terraform(
        self, arguments: Sequence[str], *, output: Path | None = None, allowed: Sequence[int] = (0,), failed: str
    ) -> Ended:
        """Runs one Terraform command, its output into the log (or its stdout into `output`).

        Raises StepFailed for an exit code that is not allowed: with the reason `failed`, or why it was killed.
        """
        if self.binary is None or self.spool is None or self.shim is None:
            raise StepFailed("executor_error", "Terraform was asked for before the run was prepared.")
        self.facts = ProcessFacts()
        ended = await run_terraform(
            self.shim,
            [*self.binary.argv, *arguments],
            cwd=self.workdir.cwd,
            env=self.environment,
            output=self.spool.fd if output is None else output,
            stderr=None if output is None else self.spool.fd,
            ladder=self.ladder,
            facts=self.facts,
            on_step=self._tell_step,
            wishes=Wishes(
                hurry=self.hurry,
                kills=partial(self.hooks.kills, self.order),
                leaves=partial(self._leaves, arguments[0]),
            ),
        )
        if ended.exit_code not in allowed:
            raise _failure_of(arguments[0], ended, failed)
        return ended

    def prolong(self, until: float) -> None:
        """Tells the shim how long it may let Terraform run, should it never hear of us again; infinite: for ever."""
        if until == inf:
            return
        lease = self.workdir.root / "lease"
        draft = lease.with_suffix(".new")
        try:
            draft.write_text(repr(until))
            draft.replace(lease)
        except OSError as error:
            log.error("a lease was not written down", extra={"task_id": self.order.task_id, "error": str(error)})

    @property
    def knows_end(self) -> bool:
        """Whether it is known how the last command ended."""
        return self.facts.ended is not None

    def saw_end(self, end: EndRecord) -> None:
        """How the apply ended, which only its shim has lived to see."""
        self.facts.ended = ended = Ended(end.exit_code, bool(end.signals), SIGKILL in end.signals, 0.0, end.oom_kills)
        self.done = end.exit_code == 0
        self.cancelled |= ended.signalled and not self.done
        if not self.done:
            self.failure = _failure_of("apply", ended, "apply_failed")

    def _tell_step(self, step: LadderStep) -> None:
        told = {
            LadderStep.FIRST_SIGTERM: f"asked Terraform to stop; it has {self.ladder.grace:g} s to finish what it is doing",
            LadderStep.SECOND_SIGTERM: "asked Terraform a second time",
            LadderStep.SIGKILL: "killed Terraform and everything it had started; the state may be incomplete",
            LadderStep.GAVE_UP: "Terraform could not even be killed",
        }
        self.say(told[step])
        if self.spool is not None:
            self.spool.flush()
        self.hooks.on_step(self.order, step)

    def result(self) -> Result:
        """How the phase ended, from the facts alone. What is done is done, even if a cancel came meanwhile."""
        status, reason, detail, exit_code = self._conclusion()
        ended = self.facts.ended
        return Result(
            result_id=f"{self.order.assignment_id}:{status}",
            status=status,
            outcome=self._outcome(status),
            exit_code=exit_code if exit_code is not None else (ended.exit_code if ended else None),
            signal=-ended.exit_code if ended is not None and ended.exit_code < 0 else None,
            reason=reason,
            detail=detail,
            state_safe=self.state_safe,
            log=self.log,
        )

    def _conclusion(self) -> tuple[ResultStatus, str | None, str | None, int | None]:
        if self.done and self.order.action == "plan":
            return "planned", None, None, None
        if self.done:
            return "succeeded", None, None, None
        if self.cancelled:
            why = self.hooks.why_stopped(self.order)
            return ("failed" if why in FAILURES else "cancelled"), why, None, None
        failure = self.failure or StepFailed("executor_error", "The phase ended without a result.")
        if self.no_room and failure.reason == "apply_failed":
            return "failed", "storage_full", NO_ROOM, failure.exit_code
        return "failed", failure.reason, failure.detail, failure.exit_code

    def _outcome(self, status: ResultStatus) -> Outcome | None:
        return "applied" if status == "succeeded" else None


def _failure_of(command: str, ended: Ended, failed: str) -> StepFailed:
    """A command that did not end as it should: what was done to it is told before what it did itself."""
    reason = failed
    if ended.was_killed:
        reason = "killed_oom" if ended.oom_kills else "killed"
    return StepFailed(reason, _how_it_ended(command, ended), exit_code=ended.exit_code)


def _how_it_ended(command: str, ended: Ended) -> str:
    oom = " The kernel killed processes meanwhile because memory had run out." if ended.oom_kills else ""
    if ended.was_killed and ended.oom_kills:
        return (
            f"terraform {command} was killed by the kernel: memory had run out. Give it more, or split the workspace."
        )
    if ended.exit_code < 0:
        by = "by this platform" if ended.killed else "by something else on the host"
        return f"terraform {command} was ended by signal {-ended.exit_code}, {by}.{oom}"
    return f"terraform {command} failed with exit code {ended.exit_code}; the log says why.{oom}"


def failure_of(error: IacError) -> StepFailed:
    """An error of the platform's as the end of a step."""
    return StepFailed(error.code, error.message)


def refused_by_host(error: OSError) -> StepFailed:
    """What the machine refused, as the end of a step."""
    return StepFailed("host_error", f"The host refused: {error.strerror or error} ({error.filename}).")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
