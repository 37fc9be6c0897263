"""What a server does at its start about the tasks it was running when it ended: every one gets a stated fate.

A plan that was cut off is tried again, once its processes are killed and its log is collected. An apply that was cut off is
lost for as long as nobody knows how it ended: Terraform, if it still runs, is left to finish, its log and its state are
collected from the work directory, and if its shim has seen the end, the task ends as if nothing had been. One that never got
its plan has changed nothing, and is over. Otherwise its workspace stays locked until a human has looked. No apply is ever
run again by itself.

Work directories that were given up in this life, because nobody could be told of their end, are collected in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import trio

from iac.actors.local_stops import LocalStops
from iac.actors.running import Running
from iac.actors.salvage import Collector
from iac.domain.agent_reports import NEVER_STARTED
from iac.domain.lifecycle import Lose
from iac.domain.reconciling import CUT_OFF, NOT_REPORTED, RUNNER_LOST, SERVER_RESTARTED, Seen, held_here, overdue
from iac.domain.records import LOCAL, Task
from iac.domain.work import Result, RunTask
from iac.errors import Conflict, IacError, NotFound
from iac.executor import workdir
from iac.executor.accessor_local import LocalDataAccessor
from iac.executor.leftovers import kill_leftovers
from iac.executor.run import ExecutorPolicy, Run
from iac.store import logs, tasks
from iac.store.database import Database

log = logging.getLogger(__name__)

AGAIN = 30.0
"""Seconds after which a directory whose end could not be told is looked at again."""
SEEN = "The server was restarted meanwhile; Terraform was not."
NOT_BEGUN = "The server ended before it began to apply the plan; nothing was changed."
COLLECTED = "collected after a restart of the server"
_WHY = {SERVER_RESTARTED: CUT_OFF, RUNNER_LOST: NOT_REPORTED}

Left = Sequence[tuple[workdir.Workdir, RunTask | None]]


async def give_up_what_was_running(database: Database, here: frozenset[int] = frozenset()) -> list[Task]:
    """Before anything is dispatched: no local task stays without a fate, but for those that are collected `here` and get it
    then. Returns those that changed.
    """
    changed = []
    found = await database.tx(tasks.unfinished_of, LOCAL)
    seen = Seen(now=tasks.NO_TIME, here=here, missing=held_here(found), restarted=True)
    for task, event in overdue(found, seen):
        moved = await database.tx(tasks.move, task.id, event)
        log.warning("a task was cut off", extra={"task_id": task.id, "status": moved.task.status})
        changed.append(moved.task)
    return changed


def _nobody(task_id: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Salvage:
    """Collects what is left in work directories, those of earlier lives first. `changed` is told of tasks that moved."""

    database: Database
    accessor: LocalDataAccessor
    running: Running
    policy: ExecutorPolicy
    stops: LocalStops
    directory: Path
    changed: Callable[[int], None] = _nobody
    again: float = AGAIN
    _known: set[Path] = field(default_factory=set)
    """Directories that are being collected, or need nothing more of us."""

    async def begin(self) -> Left:
        """Gives every task of the last life its fate, before anything is dispatched. What is to be collected."""
        left = left_behind(self.directory)
        self.hold(left)
        await give_up_what_was_running(self.database, self.running.fences)
        return left

    def hold(self, left: Left) -> None:
        """Takes the places of plans that were cut off: nobody gives one up, or begins it anew, before it is collected."""
        for _, order in left:
            if order is not None and order.action == "plan":
                self.running.admit(order)

    async def run(self, left: Left) -> None:
        """Never returns; ends with its scope."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.collect, left)
            while True:
                await trio.sleep(self.again)
                try:
                    await self.look()
                except Exception:  # the bulkhead: what cannot be looked at now is looked at later, or by the next start
                    log.exception("work directories cannot be looked at")

    async def collect(self, left: Left) -> None:
        """One child for each directory; ends when the last is done with."""
        self._known.update(place.root for place, _ in left)
        async with trio.open_nursery() as nursery:
            for place, order in left:
                nursery.start_soon(self._guarded, place, order)

    async def look(self) -> None:
        """Collects what was given up meanwhile, as after an outage that was longer than anybody's patience."""
        for place, order in await trio.to_thread.run_sync(left_behind, self.directory):
            if order is None or place.root in self._known or order.fence in self.running.fences:
                continue
            # Whoever gives up its place has removed the directory before, or leaves it to us.
            if place.assignment.exists() and await self._is_free(order):
                self._known.add(place.root)
                await self._guarded(place, order)

    async def _is_free(self, order: RunTask) -> bool:
        """Whether nobody is thought to run it any more."""
        try:
            task = await self.database.read(tasks.get, order.task_id)
        except NotFound:
            return True
        except IacError as error:
            log.warning("work directories cannot be looked at", extra={"error": error.message})
            return False
        return task.fence != order.fence or order.fence not in held_here([task])

    async def _guarded(self, place: workdir.Workdir, order: RunTask | None) -> None:
        told = {"directory": str(place.root)}
        try:
            if order is not None:
                await self._resume(place, order)
            await self._collect(place, order)
        except (IacError, OSError) as error:
            log.error("a work directory is kept", extra={**told, "error": str(error)})
            if isinstance(error, IacError) and error.retryable:
                self._known.discard(place.root)
        except Exception:  # the bulkhead: one strange directory must not keep the server from starting
            log.exception("a work directory is kept", extra=told)
        finally:
            if order is not None:
                self.stops.ended(order)
        if order is not None and order.action == "plan" and order.fence in self.running.fences:
            await self._try_again(order, place)
            self.running.forget(order.fence)

    async def _try_again(self, order: RunTask, place: workdir.Workdir) -> None:
        """The plan's own end is told now, whatever became of its log: it has no processes any more, so it may begin anew."""
        try:
            await trio.to_thread.run_sync(kill_leftovers, str(place.tmp))
            event = Lose(fence=order.fence, reason=SERVER_RESTARTED, detail=CUT_OFF)
            moved = await self.database.tx(tasks.move, order.task_id, event)
            log.warning("a task was cut off", extra={"task_id": order.task_id, "status": moved.task.status})
        except (Conflict, NotFound) as error:
            log.info("the task has gone on without us", extra={"task_id": order.task_id, "error": error.message})
        except (IacError, OSError) as error:
            log.warning("a task waits for its end", extra={"task_id": order.task_id, "error": str(error)})
        self.changed(order.task_id)

    async def _resume(self, place: workdir.Workdir, order: RunTask) -> None:
        """What is left of its time goes on to count, and a cancel finds it."""
        kept = await trio.to_thread.run_sync(workdir.kept, place)
        self.stops.ordered(order, timeout_at=kept.limit, grace_s=kept.grace_s)

    async def _collect(self, place: workdir.Workdir, order: RunTask | None) -> None:
        if order is None:
            await trio.to_thread.run_sync(_remove_unless_used, place)
            return
        if order.action == "plan":
            await trio.to_thread.run_sync(kill_leftovers, str(place.tmp))
        try:
            data = await self.accessor.get_left_behind(order)
        except NotFound:
            await trio.to_thread.run_sync(kill_leftovers, str(place.tmp))
            await trio.to_thread.run_sync(workdir.remove, place)
            return
        place = workdir.Workdir(place.root, data.bundle.working_directory)
        task = await self.database.tx(tasks.get, order.task_id)
        began = _WHY.get(task.reason or "", "")
        if task.fence == order.fence and held_here([task]):
            began = CUT_OFF
        run = Run(order, data, place, self.policy, before=data.state, hooks=self.stops.hooks)
        # A log that was closed already is whole; then only the state was missing.
        log_open = await self.database.tx(logs.is_open, order.task_id, order.fence)
        collector = Collector(self.accessor, self.running, self.policy, self.stops.hooks)
        if log_open:
            limit = data.log_max_bytes
            receipt = await collector.log_and_state(run, began or COLLECTED, start=data.log_offset, limit=limit)
        else:
            receipt = await collector.state(run, began or COLLECTED)
        if began and task.status == "lost":
            result = _result(run, asked_to_stop=task.cancel_id is not None)
            if result is not None and await self._ended(run, result):
                return
        if run.log is not None:
            await self.accessor.close_log(order, run.log)
        if told := _told(run, began, receipt):
            await self.database.tx(tasks.annotate, order.task_id, order.fence, told)
        if run.state_safe and (run.log is not None or not log_open):
            await trio.to_thread.run_sync(workdir.remove, place)

    async def _ended(self, run: Run, result: Result) -> bool:
        """Reports how the apply ended; False when it is not to be called over, or a human has done so meanwhile."""
        try:
            await self.accessor.update_task(run.order, msgspec.structs.replace(result, detail=result.detail or SEEN))
        except Conflict as error:
            log.info("the task has gone on without us", extra={"task_id": run.order.task_id, "error": error.message})
            return False
        if not run.state_safe:
            return False
        log.info("an apply outlived its server", extra={"task_id": run.order.task_id, "status": result.status})
        await trio.to_thread.run_sync(workdir.remove, run.workdir)
        return True


def _result(run: Run, *, asked_to_stop: bool) -> Result | None:
    """How an apply ended, if that is known: its shim saw it, or it never got its plan, and so was never begun."""
    if run.knows_end:
        return run.result()
    if run.workdir.plan.exists():
        return None
    return Result(
        result_id=f"{run.order.assignment_id}:{NEVER_STARTED}",
        status="cancelled" if asked_to_stop else "failed",
        reason=None if asked_to_stop else NEVER_STARTED,
        detail=NOT_BEGUN,
        log=run.log,
    )


def _remove_unless_used(place: workdir.Workdir) -> None:
    """A directory without its order. Nothing was started in it, unless a fault of the disk took the order away."""
    if place.raw_log.exists():
        log.error("a work directory without its order is kept", extra={"directory": str(place.root)})
    else:
        workdir.remove(place)


def _told(run: Run, began: str, receipt: str | None) -> str:
    """What the task's detail says from now on; nothing where what it says is still true."""
    if run.order.action == "plan":
        return began
    if not run.state_safe:
        return f"{began} Its state could not be stored; it is kept in {run.workdir.root} on this host.".lstrip()
    if not began and receipt is None:
        return ""
    found = f"Afterwards {receipt or 'the state was found unchanged'}. Check it, then resolve the task."
    return f"{began} {found}".lstrip()


def left_behind(directory: Path) -> Left:
    """What earlier lives left; to be listed before this one begins to make directories."""
    return list(workdir.left_behind(directory))
