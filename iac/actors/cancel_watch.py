"""Looks out for stops that do not come to their end although their runner is there: somebody has to look."""

from __future__ import annotations

import logging

import trio

from iac.actors.fleet import Fleet
from iac.domain.ladder import Watchdog
from iac.domain.leases import Metronome
from iac.domain.records import LOCAL, Task
from iac.errors import IacError
from iac.store import tasks

log = logging.getLogger(__name__)


async def cancel_watch(fleet: Fleet) -> None:
    """Never returns; ends with its scope."""
    times = fleet.times
    watchdog, metronome = Watchdog(times.overdue), Metronome(times.look, trio.current_time())
    while True:
        await trio.sleep(times.look)
        if metronome.stalled(trio.current_time()):
            watchdog.restart()
        try:
            await _look(fleet, watchdog)
        except IacError as error:
            log.warning("the stops cannot be watched", extra={"error": error.message})
            watchdog.restart()


async def _look(fleet: Fleet, watchdog: Watchdog) -> None:
    found = {task.fence: task for task in await fleet.database.read(tasks.stopping)}
    graces = {fence: task.grace_s or 0.0 for fence, task in found.items()}
    there = {fence for fence, task in found.items() if _is_there(fleet, task)}
    for fence in watchdog.overdue(graces, there, trio.current_time()):
        task = found[fence]
        if await fleet.database.tx(tasks.note_overdue, task.id, fence):
            stage = task.cancel_steps[-1].stage if task.cancel_steps else None
            extra = {"task_id": task.id, "agent": task.agent_id, "stage": stage, "cancel_id": task.cancel_id}
            log.error("a cancel is overdue: the task's runner is there, and has not ended it", extra=extra)
            fleet.changed(task.id)


def _is_there(fleet: Fleet, task: Task) -> bool:
    return task.agent_id == LOCAL or (task.agent_id is not None and fleet.hears(task.agent_id))
