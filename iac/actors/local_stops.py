"""How what the server itself runs is stopped: the same climb as an agent's, told to the rows without a wire between."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

import trio

from iac.domain.ladder import STAGES, Climb, Ladder, LadderStep, StopReport
from iac.domain.lifecycle import Stopping
from iac.domain.messages import Wanted
from iac.domain.records import Phase
from iac.domain.work import RunTask, TaskData
from iac.errors import Conflict, NotFound, Unavailable
from iac.executor.clocks import lease_clock
from iac.executor.run import Hooks
from iac.store import standings
from iac.store.database import Database

log = logging.getLogger(__name__)

QUEUED_REPORTS = 1024
TRY_AGAIN = 1.0
Halt = Callable[[int, int, bool], None]
"""Stops what runs: task, fence, whether in a hurry."""


@dataclass(slots=True)
class _Seat:
    order: RunTask
    climb: Climb


def _cannot(fence: int) -> bool:
    return False


class LocalStops:
    """All methods but `tell` are sync: nothing comes between a decision and its act."""

    def __init__(self, halt: Halt, ladders: Mapping[Phase, Ladder], clock: Callable[[], float] = lease_clock) -> None:
        self._halt, self._ladders, self._clock = halt, ladders, clock
        self._seats: dict[int, _Seat] = {}
        self._left: set[int] = set()
        self._in_a_hurry = False
        self._to_rows, self._reports = trio.open_memory_channel[tuple[int, Stopping]](QUEUED_REPORTS)
        self.detachable: Callable[[int], bool] = _cannot
        """Whether a fence is an apply whose Terraform runs, and can go on without us."""

    # What runs

    def ordered(self, order: RunTask, *, timeout_at: float = inf, grace_s: float | None = None) -> None:
        """The server is to run it, or an earlier life of it did; then with what is left of its time."""
        climb = Climb(self._ladders[order.action], timeout_at)
        climb.patient(grace_s)
        self._seats.setdefault(order.fence, _Seat(order, climb))

    def claimed(self, order: RunTask, data: TaskData) -> None:
        """The phase begins, and its time with it."""
        if (seat := self._seats.get(order.fence)) and data.limits is not None:
            limits = data.limits
            seat.climb.begin(self._clock(), timeout_s=limits.timeout_s, grace_s=limits.grace_s)

    def stepped(self, order: RunTask, step: LadderStep) -> None:
        """Terraform was signalled."""
        stage, seat = STAGES.get(step), self._seats.get(order.fence)
        if stage is not None and seat is not None:
            seat.climb.climbed(stage, self._clock())
            self._tell(seat)

    def ended(self, order: RunTask) -> None:
        self._seats.pop(order.fence, None)

    @property
    def hooks(self) -> Hooks:
        """What an executor tells, and asks."""
        return Hooks(
            on_step=self.stepped,
            why_stopped=self.why_stopped,
            claimed=self.claimed,
            times_out=self.times_out,
            leaves=self.leaves,
            kills=self.kills,
        )

    def why_stopped(self, order: RunTask) -> str | None:
        seat = self._seats.get(order.fence)
        return None if seat is None else seat.climb.why

    def times_out(self, order: RunTask) -> float:
        seat = self._seats.get(order.fence)
        return inf if seat is None else seat.climb.timeout_at

    def leaves(self, order: RunTask) -> bool:
        return order.fence in self._left

    def kills(self, order: RunTask) -> bool:
        return self._in_a_hurry and order.action == "plan"

    # What is wanted

    def cancel(self, wanted: Wanted) -> None:
        """The platform wants it stopped; one that is not known (any more) may be on its way."""
        seat = self._seats.get(wanted.fence)
        if seat is None:
            self._halt(wanted.task_id, wanted.fence, wanted.force)
            return
        seat.climb.cancel_id = wanted.cancel_id
        seat.climb.patient(wanted.grace_s)
        self._stop(seat, force=wanted.force)

    def stop_all(self, phase: Phase | None, *, force: bool, why: str) -> None:
        for seat in list(self._seats.values()):
            if phase in (None, seat.order.action):
                self._stop(seat, force=force, why=why)

    def hurry(self) -> None:
        """From now on plans get no second SIGTERM."""
        self._in_a_hurry = True

    def let_go(self) -> None:
        """Every apply whose Terraform runs goes on without us."""
        for fence, seat in self._seats.items():
            if fence not in self._left and not seat.climb.asked and self.detachable(fence):
                log.warning("an apply is left to itself", extra={"task_id": seat.order.task_id})
                self._left.add(fence)
                self._halt(seat.order.task_id, fence, False)

    def tick(self) -> None:
        """Stops what takes longer than it may."""
        now = self._clock()
        for seat in list(self._seats.values()):
            if seat.climb.due(now):
                self._stop(seat, why="timeout")

    def _stop(self, seat: _Seat, *, force: bool = False, why: str | None = None) -> None:
        if seat.climb.ask(self._clock(), force=force, why=why):
            self._tell(seat)
            self._halt(seat.order.task_id, seat.order.fence, force)

    # What the rows hear

    def _tell(self, seat: _Seat) -> None:
        report: StopReport | None = seat.climb.report(seat.order.assignment_id, self._clock())
        if report is None:
            return
        try:
            self._to_rows.send_nowait((seat.order.task_id, Stopping(fence=seat.order.fence, report=report)))
        except trio.WouldBlock:
            log.error("how far a stop is was not written down", extra={"task_id": seat.order.task_id})

    async def tell(self, database: Database, changed: Callable[[int], None]) -> None:
        """Writes down how far each stop is. Never returns; ends with its scope."""
        async for task_id, event in self._reports:
            await _written(database, task_id, event)
            changed(task_id)


async def _written(database: Database, task_id: int, event: Stopping) -> None:
    while True:
        try:
            await database.tx(standings.move, task_id, event)
        except (Conflict, NotFound) as error:
            log.info("the task has gone on meanwhile", extra={"task_id": task_id, "error": error.message})
            return
        except Unavailable as error:
            log.warning("how far a stop is was not written down yet", extra={"error": error.message})
            await trio.sleep(TRY_AGAIN)
        else:
            return
