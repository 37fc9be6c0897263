"""Collects what an earlier life of this program left in a work directory: waits for its Terraform, carries the log, stores
the state. The same for the server's own tasks and for an agent's, because all it knows of the platform is a DataAccessor.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from iac.actors.running import Running
from iac.domain.ladder import APART, LadderStep
from iac.domain.rendering import ResourceProgress
from iac.executor import steps, workdir
from iac.executor.accessor import DataAccessor
from iac.executor.checkpoints import with_checkpoints
from iac.executor.leftovers import kill_leftovers
from iac.executor.log_carrier import Carrier, open_log, unprepared
from iac.executor.process import PidRecord, read_pid_file
from iac.executor.run import ExecutorPolicy, Hooks, Run
from iac.executor.shimming import read_end

log = logging.getLogger(__name__)

LOOK_EVERY = 0.2
SHIM_WITHIN = 10.0
"""Seconds for the shim to write down what it saw and to end, when Terraform has ended."""


@dataclass(frozen=True, slots=True)
class Collector:
    """Works on one directory at a time for each call; a cancellation of the task reaches it through `running`."""

    accessor: DataAccessor
    running: Running
    policy: ExecutorPolicy
    hooks: Hooks = field(default_factory=Hooks)

    async def log_and_state(self, run: Run, told: str | None, *, start: int, limit: int) -> str | None:
        """The rest of the log, of which the platform has `start` bytes, with `told` at its end, and the state as `state`
        does. Sets `run.log` when the log is whole.
        """
        masked = await trio.to_thread.run_sync(workdir.masked_values, run.workdir)
        carrier = Carrier(
            prepare=unprepared(partial(self.accessor.save_task_log, run.order)),
            on_stage=_nothing_to_say,
            on_progress=_no_progress,
        )
        async with open_log(
            run.workdir.raw_log,
            carrier,
            secrets=masked,
            start=start,
            policy=self.policy.log(limit),
        ) as (spool, transform):
            run.spool = spool
            try:
                receipt = await self.state(run, told)
            except trio.Cancelled:
                spool.abandon()
                raise
        if spool.complete:
            run.log = transform.digest
        return receipt

    async def state(self, run: Run, told: str | None) -> str | None:
        """Waits for Terraform, if it still runs, and stores the state of an apply. What became of it, None if there was
        nothing to store. Sets `run.state_safe`.
        """
        await self.until_ended(run)
        _learn_end(run)
        if told is not None:
            run.say(told)
        # Without its plan an apply never began, and the state here may not even be written to its end.
        if run.order.action != "apply" or not run.workdir.plan.exists():
            return None
        stored = await steps.save_state(run, self.accessor)
        return None if stored is None else f"state {stored.serial} was stored ({stored.verdict})"

    async def until_ended(self, run: Run) -> None:
        """Waits for a Terraform that outlived us; a cancel reaches it as it would have reached it before."""
        place = run.workdir
        records = _recorded(place)
        seat = self.running.admit(run.order) if records else None
        if seat is None:
            return
        try:
            with seat.scope:
                await self._ended(run, records)
            if seat.scope.cancelled_caught:
                run.cancelled = True
                await _stop(records[0], run, seat.hurry, self.hooks)
            await trio.to_thread.run_sync(kill_leftovers, str(place.tmp))
            with trio.move_on_after(SHIM_WITHIN):  # what it writes of the end comes after the end
                await _end_of(records)
        finally:
            self.running.forget(run.order.fence)

    async def _ended(self, run: Run, records: Sequence[PidRecord]) -> None:
        if run.order.action == "apply":
            await with_checkpoints(run, self.accessor, partial(_end_of, records))
        else:
            await _end_of(records)


async def kill_all_in(place: workdir.Workdir) -> None:
    """Ends what runs there, and what a shim may still have been about to start."""
    records = _recorded(place)
    with trio.move_on_after(SHIM_WITHIN) as patience:
        while True:
            await trio.to_thread.run_sync(kill_leftovers, str(place.tmp))
            if not any(record.running() for record in records):
                return
            await trio.sleep(LOOK_EVERY)
    if patience.cancelled_caught:
        log.error("what runs in a work directory could not be ended", extra={"directory": str(place.root)})


def _recorded(place: workdir.Workdir) -> list[PidRecord]:
    """Terraform, or who ran there last, and the shim."""
    found = (read_pid_file(file) for file in (place.pid_file, place.shim_pid_file))
    return [record for record in found if record is not None]


def _learn_end(run: Run) -> None:
    """Its shim may have seen how an apply ended; otherwise nobody has."""
    end = read_end(run.workdir.root)
    if end is not None and run.order.action == end.label == "apply":
        run.saw_end(end)


async def _stop(terraform: PidRecord, run: Run, hurry: trio.Event, hooks: Hooks) -> None:
    """The ladder of iac.executor.process, but for the last step: that one ends whatever is left in any case."""
    first, second = (LadderStep.FIRST_SIGTERM, run.ladder.grace), (LadderStep.SECOND_SIGTERM, run.ladder.second)
    for (step, grace), may_hurry in ((first, hurry), (second, trio.Event())):
        if not terraform.running():
            return
        with suppress(ProcessLookupError):
            os.kill(terraform.pid, signal.SIGTERM)
        hooks.on_step(run.order, step)
        with trio.move_on_after(max(grace, APART)):
            await _end_of([terraform], may_hurry)
    if terraform.running():
        hooks.on_step(run.order, LadderStep.SIGKILL)


async def _end_of(records: Sequence[PidRecord], hurry: trio.Event | None = None) -> None:
    """They are not our children, so nobody tells us. Returns sooner once `hurry` is set."""
    while any(record.running() for record in records) and not (hurry is not None and hurry.is_set()):  # noqa: ASYNC110
        await trio.sleep(LOOK_EVERY)


async def _nothing_to_say(_stage: str) -> None: ...


async def _no_progress(_entries: list[ResourceProgress]) -> None: ...
