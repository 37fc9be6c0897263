"""What an agent does at its start about the orders that it had accepted when it ended: every one gets a stated fate.

nothing begun       no work directory, or nothing was started in it: told so, and an order that nobody claimed comes again
a result            it came to its end: the rest of log and state is sent, and the same result is told (again)
a plan              its processes are killed, its log is sent, it has failed (agent_crashed), and is tried again
an apply            Terraform, if it still runs, may finish; log and state are brought home, and the task ends as Terraform
                    did. If nobody saw that, it is lost (agent_crashed): its workspace stays locked until a human looked
a state refused     its token is over a week old, or nobody knows it any more: the state is kept apart, for a human
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Protocol

import msgspec
import trio
from msgspec.structs import replace

from iac.actors.salvage import Collector, kill_all_in
from iac.domain.limits import Limits
from iac.domain.work import Bundle, LogDigest, Result, RunTask, TaskData
from iac.errors import Conflict, Forbidden, Gone, IacError, NotFound, Unauthenticated
from iac.executor import steps, undelivered, workdir
from iac.executor.accessor_remote import RemoteDataAccessor
from iac.executor.journal import Entry, Journal
from iac.executor.left_state import StateLost
from iac.executor.run import Run

log = logging.getLogger(__name__)

CRASHED, NEVER_STARTED = "agent_crashed", "never_started"
CUT_OFF = "The agent ended while it ran the task."
NOT_BEGUN = "The agent ended before it began the task."
ASK_WITHIN = 30.0
"""Seconds for which the first connection waits until it is told what was never begun."""
_REFUSED = (Conflict, Forbidden, Gone, NotFound, Unauthenticated)
_EMPTY = LogDigest(length=0, sha256=hashlib.sha256().hexdigest())


class Adopt(Protocol):
    """Makes the agent list an assignment as its own, with what is left of its time (by its clock)."""

    def __call__(self, order: RunTask, token: str, *, timeout_at: float, grace_s: float | None) -> None: ...


@dataclass(frozen=True, slots=True)
class _Brought:
    """What was brought home of a run: `state` says what became of its state, None if there was nothing to say.

    `log_wanted`: its log is still to come. `over`: the task has gone on without us.
    """

    state: str | None
    log_wanted: bool = False
    over: bool = False


@dataclass(frozen=True, slots=True)
class Homecoming:
    """`adopt` makes the agent list an assignment as its own; `ended` tells that nothing of it is left to do."""

    journal: Journal
    accessor: RemoteDataAccessor
    collector: Collector
    entries: Sequence[Entry]
    adopt: Adopt
    ended: Callable[[RunTask], None]
    undelivered: Path
    left: list[RunTask] = field(default_factory=list)

    async def begin(self) -> None:
        """Before the first connection: what was never begun is said so, what was begun is adopted."""
        undelivered.tell(self.undelivered)
        async with trio.open_nursery() as nursery:
            for entry in self.entries:
                place = self.journal.place(entry.order)
                if workdir.was_begun(place):
                    self.left.append(entry.order)
                    kept = await trio.to_thread.run_sync(workdir.kept, place)
                    self.adopt(entry.order, entry.token, timeout_at=kept.limit, grace_s=kept.grace_s)
                else:
                    nursery.start_soon(self._disown, entry.order)

    async def run(self) -> None:
        """One child for each directory; ends when the last is brought home."""
        async with trio.open_nursery() as nursery:
            for order in self.left:
                nursery.start_soon(self._guarded, order)

    async def _disown(self, order: RunTask) -> None:
        result = Result(
            result_id=f"{order.assignment_id}:{NEVER_STARTED}", status="failed", reason=NEVER_STARTED, detail=NOT_BEGUN,
            log=_EMPTY,
        )  # fmt: skip
        try:
            await self._report(order, result, within=ASK_WITHIN)
        except IacError as error:
            log.warning("what was never begun could not be told", extra={"task_id": order.task_id, "error": str(error)})
        else:
            await self._forget(order, self.journal.place(order))

    async def _guarded(self, order: RunTask) -> None:
        place = self.journal.place(order)
        try:
            await self._collect(order, place)
        except (IacError, OSError, msgspec.DecodeError) as error:
            log.error("a work directory is kept", extra={"directory": str(place.root), "error": str(error)})
        except Exception:  # the bulkhead: one strange directory must not keep the agent from working
            log.exception("a work directory is kept", extra={"directory": str(place.root)})
        self.ended(order)

    async def _collect(self, order: RunTask, place: workdir.Workdir) -> None:
        if order.action == "plan":
            await kill_all_in(place)
        remembered = await trio.to_thread.run_sync(workdir.remembered, place)
        place = workdir.Workdir(place.root, remembered.working_directory)
        # That life came to the end of the run; only whether that was heard is not known.
        result = await trio.to_thread.run_sync(workdir.noted_result, place)
        run = Run(order, _blank(order, remembered), place, self.collector.policy, hooks=self.collector.hooks)
        brought = await self._bring(run, CUT_OFF if result is None else None, remembered.log_max_bytes)
        # The same one again, but for what was brought meanwhile.
        same = None if result is None else replace(result, log=run.log, state_safe=run.state_safe)
        result = same or _result(run, brought.state)
        over = await self._report(order, result, within=self.collector.policy.report_within) or brought.over
        # Somebody may have resolved the task meanwhile: then no word about a state that nobody can read changes anything.
        if isinstance(run.state_error, _REFUSED) or (over and isinstance(run.state_error, StateLost)):
            await trio.to_thread.run_sync(self._set_aside, run)
        elif not run.state_safe or brought.log_wanted:
            log.error("a work directory is kept", extra={"directory": str(place.root)})
            return
        await self._forget(order, place)

    async def _bring(self, run: Run, told: str | None, limit: int) -> _Brought:
        """Log and state, with `told` in the log."""
        ask = partial(self.accessor.log_position, run.order)
        try:
            position = await steps.until_stored(ask, within=self.collector.policy.report_within)
        except _REFUSED:
            # The log is of no use any more. A state may still be.
            return _Brought(await self.collector.state(run, told), over=True)
        if position.closed:
            return _Brought(await self.collector.state(run, told))
        try:
            stored = await self.collector.log_and_state(run, told, start=position.next_offset, limit=limit)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            # What must be masked in it cannot be read, for one. The state matters more.
            log.error("a log cannot be sent", extra={"task_id": run.order.task_id, "error": str(error)})
            return _Brought(await self.collector.state(run, None), log_wanted=True)
        refused = run.spool is not None and run.spool.refused is not None
        return _Brought(stored, log_wanted=run.log is None and not refused)

    def _set_aside(self, run: Run) -> None:
        """States are taken from everybody for a week after the task's end: what is refused now is refused for ever."""
        kept = undelivered.set_aside(run.workdir, self.undelivered)
        extra = {"task_id": run.order.task_id, "error": str(run.state_error), "kept": str(kept)}
        log.error("the platform does not take a state any more; it is kept here", extra=extra)

    async def _forget(self, order: RunTask, place: workdir.Workdir) -> None:
        await trio.to_thread.run_sync(workdir.remove, place)
        await trio.to_thread.run_sync(self.journal.close, order)

    async def _report(self, order: RunTask, result: Result, *, within: float) -> bool:
        """Whether the task is over. Raises Unavailable when it could not be told in time; a refusal is an answer as well."""
        try:
            return await steps.until_stored(partial(self.accessor.report, order, result), within=within)
        except _REFUSED as error:
            log.info("the task has gone on without us", extra={"task_id": order.task_id, "error": error.message})
            return True


def _result(run: Run, stored: str | None) -> Result:
    """An apply is called over only if its shim saw how it ended. One that never got its plan was never begun."""
    if run.knows_end:
        return run.result()
    applied = run.order.action == "apply" and run.workdir.plan.exists()
    told = CUT_OFF
    if applied and not run.state_safe:
        told = f"{CUT_OFF} Its state could not be stored; it is kept in {run.workdir.root} on the agent's host."
    elif applied:
        told = f"{CUT_OFF} Afterwards {stored or 'the state was found unchanged'}. Check it, then resolve the task."
    return Result(
        result_id=f"{run.order.assignment_id}:{CRASHED}", status="failed", reason=CRASHED, detail=told,
        state_safe=not applied, log=run.log,
    )  # fmt: skip


def _blank(order: RunTask, remembered: workdir.Remembered) -> TaskData:
    """What is left of the data of a run: it was claimed in another life, and its secrets are not asked for again."""
    bundle = Bundle(
        schema=1, workspace_id=order.workspace_id, workspace_name="", action="apply", engine="terraform",
        terraform_version="", working_directory=remembered.working_directory, configuration_digest=None, generated={},
        variables=(), targets=(), replace=(), lock_hcl=None, created_at="",
    )  # fmt: skip
    return TaskData(
        order=order, bundle=bundle, bundle_digest="", archive=None, state=None, plan=None, sensitive_values=(),
        log_max_bytes=remembered.log_max_bytes,
        limits=None if remembered.grace_s is None else Limits(timeout_s=inf, grace_s=remembered.grace_s),
    )  # fmt: skip


def tokens_of(entries: Sequence[Entry]) -> Callable[[RunTask], str | None]:
    """The tokens that earlier lives were given."""
    known = {entry.order.fence: entry.token for entry in entries}
    return lambda order: known.get(order.fence)
