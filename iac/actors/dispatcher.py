"""Gives queued tasks to runners. What to do is decided in iac.domain.scheduling; here it is done.

It wakes when something happened, and every few seconds in case that was missed: the rows are the truth, a wake is a hint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

import trio
from msgspec.structs import asdict

from iac.actors.fleet import Fleet
from iac.actors.local_runner import LocalRunner
from iac.domain.lifecycle import Event, Queue, Unassign
from iac.domain.limits import Defaults
from iac.domain.messages import RunTaskOrder, Wanted
from iac.domain.pool_waits import asks_why, explained
from iac.domain.reconciling import Seen, held_here, overdue
from iac.domain.records import LOCAL, Task, Workspace
from iac.domain.scheduling import Assignment, Wait, schedule, why
from iac.domain.work import RunTask
from iac.errors import Conflict, IacError, NotFound, WorkspaceLocked
from iac.store import assignments, standings, tasks, workspaces
from iac.store.database import Connection, Database
from iac.store.identity import new_id
from iac.store.standings import Seat

log = logging.getLogger(__name__)

LOOK_EVERY, LOOK_AGAIN = 5.0, 0.5
"""Seconds between two looks at most; and after one that failed, or found something that has to be seen twice."""


class Wakes:
    """How everybody tells the dispatcher that something happened; any number of wakes before its next look are one."""

    def __init__(self) -> None:
        self.sender, self._woken = trio.open_memory_channel[None](1)

    def wake(self) -> None:
        try:
            self.sender.send_nowait(None)
        except trio.WouldBlock:
            return

    async def wait(self, at_most: float) -> None:
        with trio.move_on_after(at_most):
            await self._woken.receive()


def _nobody(_waiting: Collection[int]) -> None: ...


class Dispatcher:
    """The waiting line. `wake` and `wait_of` are for the API; `run` is the actor."""

    def __init__(
        self,
        database: Database,
        local: LocalRunner,
        changed: Callable[[int], None],
        *,
        fleet: Fleet | None = None,
        wakes: Wakes | None = None,
        limits: Defaults | None = None,
        noticed: Callable[[Collection[int]], None] = _nobody,
    ) -> None:
        """Without a `fleet` there are no agents, and what is meant for one waits. `limits`: where a workspace has none.
        `noticed`: why these tasks wait is new.
        """
        self.limits = limits or Defaults()
        self._database = database
        self._local = local
        self._fleet = fleet
        self._wakes = wakes or Wakes()
        self._changed = changed
        self._noticed = noticed
        self._waits: Mapping[int, Wait] = {}
        self._served: dict[str, datetime] = {}
        self._missing: frozenset[int] = frozenset()
        self._next_look = trio.Event()

    def wake(self) -> None:
        """Something happened."""
        self._wakes.wake()

    def wait_of(self, task: Task) -> Wait | None:
        """Why the task waits, as of the last look; None for one that does not."""
        return why(task, self._waits.get(task.id))

    async def settled(self, within: float) -> None:
        """Returns when a look that begins after now has ended, or after so many seconds."""
        ended = self._next_look
        with trio.move_on_after(within):
            await ended.wait()

    async def run(self) -> None:
        """Never returns; ends with its scope."""
        while True:
            ended, self._next_look = self._next_look, trio.Event()
            again = await self._looked()
            ended.set()
            await self._wakes.wait(LOOK_AGAIN if again else LOOK_EVERY)

    async def _looked(self) -> bool:
        """Whether the next look should come soon."""
        try:
            await self.look()
        except IacError as error:
            log.warning("the waiting line cannot be moved on", extra={"error": error.message})
        except Exception:  # the bulkhead: one row that nobody understands must not end everybody's work
            log.exception("the waiting line cannot be moved on")
            return False
        else:
            return bool(self._missing)
        return True

    async def look(self) -> None:
        """One pass: reconcile, decide, hand out."""
        agents = [] if self._fleet is None else self._fleet.reachable
        found, now, holders, seats = await self._database.read(_situation, agents)
        await self._reconcile(found, now, holders)
        runners = self._local.as_runner(found)
        if self._fleet is not None:
            runners += self._fleet.as_runners(seats, found)
        decided = schedule(found, runners, now, holders=holders, served=self._served)
        before, self._waits = self._waits, await self._explained(found, decided.waits)
        if moved := {each for each in {*before, *self._waits} if before.get(each) != self._waits.get(each)}:
            self._noticed(moved)
        by_id = {task.id: task for task in found}
        for nth, assignment in enumerate(decided.assignments):
            # Not one instant for all: the round-robin goes by it.
            await self._hand_out(assignment, by_id[assignment.task_id], now + timedelta(microseconds=nth))

    async def _explained(self, found: list[Task], waits: Mapping[int, Wait]) -> Mapping[int, Wait]:
        """For tasks that no agent suits: what their pool says to it."""
        lonely = [task for task in found if asks_why(task, waits.get(task.id))]
        if not lonely:
            return waits
        pools, places = {task.pool_id or "" for task in lonely}, {task.workspace_id for task in lonely}
        outlooks = await self._database.read(standings.outlooks, sorted(pools), sorted(places))
        told = {
            task.id: explained(task, waits[task.id], outlooks[task.pool_id])
            for task in lonely
            if task.pool_id in outlooks
        }
        return {**waits, **told}

    async def _hand_out(self, assignment: Assignment, task: Task, now: datetime) -> None:
        try:
            assigned, token = await self._database.tx(
                _assign, assignment.task_id, assignment.runner_id, new_id("asg"), self.limits
            )
        except WorkspaceLocked as error:
            self._waits = {**self._waits, task.id: Wait("workspace_locked", error.message)}
            return
        except (Conflict, NotFound) as error:
            log.info("the task went elsewhere", extra={"task_id": task.id, "error": error.message})
            return
        self._served[task.workspace_id] = now
        self._changed(task.id)
        if not self._deliver(assigned, token):
            await self._move(assigned, Unassign(fence=assigned.fence))

    def _deliver(self, task: Task, token: str | None) -> bool:
        if token is None or task.agent_id is None or self._fleet is None:
            return self._local.deliver(order_of(task))
        order = RunTaskOrder(
            **asdict(order_of(task)), task_token=token, timeout_s=task.timeout_s or 0.0, priority=task.priority
        )
        return self._fleet.deliver(task.agent_id, order)

    async def _reconcile(self, found: list[Task], now: datetime, holders: Mapping[str, Workspace]) -> None:
        """Puts right what no event would; of what agents hold the lease keeper takes care."""
        held, here = held_here(found), self._local.running.fences
        for task in found:
            if task.fence in here and task.cancel_id is not None:
                # Whoever asked for it may not have come to tell the runner; twice does no harm.
                self._local.cancel(wanted_of(task, task.cancel_id))
        # Seen twice: the first time it may just have ended or been handed out, with its row read before.
        missing = held - here
        seen = Seen(
            now=now,
            open=frozenset(task.id for task in found),
            holders=holders,
            here=here,
            missing=missing & self._missing,
        )
        self._missing = missing
        for task, event in overdue(found, seen):
            if await self._move(task, event):
                log.error("nobody answered for a task", extra={"task_id": task.id, "status": task.status})

    async def _move(self, task: Task, event: Event) -> bool:
        """Whether that changed anything. A move may come too late: then the task has gone on by itself."""
        changed = False
        try:
            if isinstance(event, Queue):
                changed = await self._database.tx(_advance, task.workspace_id)
            else:
                changed = (await self._database.tx(tasks.move, task.id, event)).changed
        except (Conflict, NotFound) as error:
            log.info("the task has gone on meanwhile", extra={"task_id": task.id, "error": error.message})
        self._changed(task.id)
        return changed


def wanted_of(task: Task, cancel_id: str) -> Wanted:
    """The cancellation that its runner has to obey."""
    return Wanted(task_id=task.id, fence=task.fence, cancel_id=cancel_id, force=task.cancel_force, grace_s=task.grace_s)


def order_of(task: Task) -> RunTask:
    """The order to run a task's present assignment."""
    return RunTask(
        task_id=task.id,
        workspace_id=task.workspace_id,
        action=task.phase,
        assignment_id=task.assignment_id or "",
        fence=task.fence,
        attempt=task.attempt,
    )


async def _assign(
    c: Connection, task_id: int, runner_id: str, assignment_id: str, limits: Defaults
) -> tuple[Task, str | None]:
    """The assigned task, and the token that goes with it when it is an agent's."""
    if runner_id != LOCAL:
        return await assignments.hand_out(c, task_id, runner_id, assignment_id, limits)
    return await tasks.assign(c, task_id, agent_id=LOCAL, assignment_id=assignment_id, defaults=limits), None


async def _advance(c: Connection, workspace_id: str) -> bool:
    """Queues what may go in the workspace; whether there was any."""
    await workspaces.hold(c, workspace_id)
    return bool(await tasks.advance(c, workspace_id))


async def _situation(c: Connection, agents: list[str]) -> tuple[list[Task], datetime, dict[str, Workspace], list[Seat]]:
    """All open tasks, the time by the clock of their rows, the workspaces of those that are pending, and the agents as far
    as there is something for any.
    """
    found, now = await tasks.waiting_and_running(c)
    pending = {task.workspace_id for task in found if task.status == "pending"}
    holders = await _workspaces(c, sorted(pending)) if pending else {}
    wanted = [task for task in found if task.status == "queued" and task.execution_mode == "agent"]
    if not agents or not wanted:
        return found, now, holders, []
    pools, places = {task.pool_id or "" for task in wanted}, {task.workspace_id for task in wanted}
    return found, now, holders, await standings.seats(c, agents, sorted(pools), sorted(places))


async def _workspaces(c: Connection, ids: list[str]) -> dict[str, Workspace]:
    rows = await c.all(f"SELECT {workspaces.COLUMNS} FROM workspace w WHERE w.id = ANY(:ids)", ids=ids)  # noqa: S608
    return {row["id"]: workspaces.from_row(row) for row in rows}
