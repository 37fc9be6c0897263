"""What a server does at its start about the tasks it was running when it ended: every one gets a stated fate.

A plan that was cut off has failed. An apply that was cut off is lost for as long as nobody knows how it ended: Terraform, if
it still runs, is left to finish, its log and its state are collected from the work directory, and if its shim has seen the
end, the task ends as if nothing had been. Otherwise its workspace stays locked until a human has looked. Nothing is ever run
again by itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from iac.actors.local_runner import LOCAL
from iac.actors.local_stops import LocalStops
from iac.actors.running import Running
from iac.actors.salvage import Collector
from iac.domain.lifecycle import Lose, Unassign
from iac.domain.records import Task
from iac.domain.work import RunTask
from iac.errors import Conflict, IacError, NotFound
from iac.executor import workdir
from iac.executor.accessor_local import LocalDataAccessor
from iac.executor.leftovers import kill_leftovers
from iac.executor.run import ExecutorPolicy, Run
from iac.store import logs, tasks
from iac.store.database import Database

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5
SERVER_RESTARTED = "server_restarted"
CUT_OFF = "The server ended while Terraform was running."
SEEN = "The server was restarted meanwhile; Terraform was not."
COLLECTED = "collected after a restart of the server"


async def give_up_what_was_running(database: Database) -> list[Task]:
    """Before anything is dispatched: no local task stays without a fate. Returns those that changed."""
    changed = []
    for task in await database.tx(tasks.unfinished_of, LOCAL):
        if task.status == "assigned":
            moved = await database.tx(tasks.move, task.id, Unassign(fence=task.fence))
        elif task.status in ("running", "cancelling"):
            event = Lose(fence=task.fence, reason=SERVER_RESTARTED, detail=CUT_OFF, retry=False)
            moved = await database.tx(tasks.move, task.id, event)
        else:
            continue
        log.warning("a task was cut off", extra={"task_id": task.id, "status": moved.task.status})
        changed.append(moved.task)
    return changed


@dataclass(frozen=True, slots=True)
class Salvage:
    """Collects what is left in the work directories of earlier lives."""

    database: Database
    accessor: LocalDataAccessor
    running: Running
    policy: ExecutorPolicy
    stops: LocalStops

    async def run(self, left: list[tuple[workdir.Workdir, RunTask | None]]) -> None:
        """One child for each directory; ends when the last is done with."""
        async with trio.open_nursery() as nursery:
            for place, order in left:
                nursery.start_soon(self._guarded, place, order)

    async def _guarded(self, place: workdir.Workdir, order: RunTask | None) -> None:
        try:
            if order is not None:
                await self._resume(place, order)
            await self._collect(place, order)
        except (IacError, OSError) as error:
            log.error("a work directory is kept", extra={"directory": str(place.root), "error": str(error)})
        except Exception:  # the bulkhead: one strange directory must not keep the server from starting
            log.exception("a work directory is kept", extra={"directory": str(place.root)})
        finally:
            if order is not None:
                self.stops.ended(order)

    async def _resume(self, place: workdir.Workdir, order: RunTask) -> None:
        """What is left of its time goes on to count, and a cancel finds it."""
        kept = await trio.to_thread.run_sync(workdir.remembered, place)
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
        began = CUT_OFF if task.reason == SERVER_RESTARTED else ""
        run = Run(order, data, place, self.policy, before=data.state, hooks=self.stops.hooks)
        # A log that was closed already is whole; then only the state was missing.
        log_open = await self.database.tx(logs.is_open, order.task_id, order.fence)
        collector = Collector(self.accessor, self.running, self.policy, self.stops.hooks)
        if log_open:
            limit = data.log_max_bytes
            receipt = await collector.log_and_state(run, began or COLLECTED, start=data.log_offset, limit=limit)
        else:
            receipt = await collector.state(run, began or COLLECTED)
        if began and run.knows_end and task.status == "lost" and await self._ended(run):
            return
        if run.log is not None:
            await self.accessor.close_log(order, run.log)
        if told := _told(run, began, receipt):
            await self.database.tx(tasks.annotate, order.task_id, order.fence, told)
        if run.state_safe and (run.log is not None or not log_open):
            await trio.to_thread.run_sync(workdir.remove, place)

    async def _ended(self, run: Run) -> bool:
        """Reports how the apply ended; False when it is not to be called over, or a human has done so meanwhile."""
        result = run.result()
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


def left_behind(directory: Path) -> list[tuple[workdir.Workdir, RunTask | None]]:
    """What earlier lives left; to be listed before this one begins to make directories."""
    return list(workdir.left_behind(directory))
