"""Collects what an earlier life of this program left in a work directory: waits for its Terraform, carries the log, stores
the state. The same for the server's own tasks and for an agent's, because all it knows of the platform is a DataAccessor.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from iac.actors.running import Running
from iac.domain.rendering import ResourceProgress
from iac.executor import steps, workdir
from iac.executor.accessor import DataAccessor
from iac.executor.leftovers import kill_leftovers
from iac.executor.log_carrier import Carrier, open_log, unprepared
from iac.executor.process import PidRecord, read_pid_file
from iac.executor.run import ExecutorPolicy, Run

LOOK_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class Collector:
    """Works on one directory at a time for each call; a cancellation of the task reaches it through `running`."""

    accessor: DataAccessor
    running: Running
    policy: ExecutorPolicy

    async def log_and_state(self, run: Run, told: str, *, start: int, limit: int) -> str | None:
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

    async def state(self, run: Run, told: str) -> str | None:
        """Waits for Terraform, if it still runs, and stores the state of an apply. What became of it, None if there was
        nothing to store. Sets `run.state_safe`.
        """
        await self._until_ended(run)
        run.say(told)
        # Without its plan an apply never began, and the state here may not even be written to its end.
        if run.order.action != "apply" or not run.workdir.plan.exists():
            return None
        stored = await steps.save_state(run, self.accessor)
        return None if stored is None else f"state {stored.serial} was stored ({stored.verdict})"

    async def _until_ended(self, run: Run) -> None:
        """Waits for a Terraform that outlived us; a cancel reaches it as it would have reached it before."""
        record = read_pid_file(run.workdir.pid_file)
        seat = None if record is None else self.running.admit(run.order)
        if record is None or seat is None:
            return
        try:
            with seat.scope:
                await _end_of(record)
            if seat.scope.cancelled_caught and record.running():
                with suppress(ProcessLookupError):
                    os.kill(record.pid, signal.SIGTERM)
                with trio.move_on_after(run.ladder.grace):
                    await _end_of(record, seat.hurry)
            await trio.to_thread.run_sync(kill_leftovers, str(run.workdir.tmp))
        finally:
            self.running.forget(run.order.fence)


async def _end_of(record: PidRecord, hurry: trio.Event | None = None) -> None:
    """It is not our child, so nobody tells us. Returns sooner once `hurry` is set."""
    while record.running() and not (hurry is not None and hurry.is_set()):  # noqa: ASYNC110
        await trio.sleep(LOOK_EVERY)


async def _nothing_to_say(_stage: str) -> None: ...


async def _no_progress(_entries: list[ResourceProgress]) -> None: ...
