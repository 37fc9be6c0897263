"""What runs in this process, and how to stop it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import trio

from iac.domain.work import RunTask

REMEMBERED = 1024
"""Cancellations that came before their order: the oldest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One assignment's place here: its order, the scope that stops it, and the event that makes its stop hurry."""

    order: RunTask
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    hurry: trio.Event = field(default_factory=trio.Event)


class Running:
    """The assignments that run in this process. All methods are sync: nothing can come between look-up and act."""

    def __init__(self) -> None:
        self._seats: dict[int, Seat] = {}  # by fence, which is unique over all tasks
        self._doomed: OrderedDict[int, bool] = OrderedDict()

    @property
    def orders(self) -> tuple[RunTask, ...]:
        return tuple(seat.order for seat in self._seats.values())

    @property
    def fences(self) -> frozenset[int]:
        return frozenset(self._seats)

    def admit(self, order: RunTask) -> Seat | None:
        """The seat to run it in, cancelled already if its cancellation came first; None if it runs already."""
        if order.fence in self._seats:
            return None
        seat = self._seats[order.fence] = Seat(order)
        if order.fence in self._doomed:
            self._stop(seat, force=self._doomed.pop(order.fence))
        return seat

    def cancel(self, fence: int, *, force: bool) -> None:
        if seat := self._seats.get(fence):
            self._stop(seat, force=force)
            return
        # Orders and cancellations come on two channels: this one may have overtaken its order.
        self._doomed[fence] = force or self._doomed.get(fence, False)
        while len(self._doomed) > REMEMBERED:
            self._doomed.popitem(last=False)

    def forget(self, fence: int) -> None:
        del self._seats[fence]

    def _stop(self, seat: Seat, *, force: bool) -> None:
        seat.scope.cancel()
        if force:
            seat.hurry.set()
