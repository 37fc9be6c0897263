"""Local mode: the server's own worker and canceller, fed from memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import trio

from iac.actors.canceller import CancelTask, canceller
from iac.actors.local_stops import LocalStops
from iac.actors.running import Running
from iac.actors.worker import Execute, worker
from iac.domain.ladder import Ladder
from iac.domain.messages import Wanted
from iac.domain.records import LOCAL, Phase, Task
from iac.domain.scheduling import Runner
from iac.domain.work import RunTask
from iac.executor.clocks import lease_clock

log = logging.getLogger(__name__)

QUEUED_ORDERS = 256
LADDERS: Mapping[Phase, Ladder] = {"plan": Ladder(30.0), "apply": Ladder(300.0)}
SHUTDOWN, DETACHED = "server_shutdown", "runner_detached"
"""Why it stops what runs, when the server ends."""


class LocalRunner:
    """The server as a runner: what the dispatcher and the API see of it. Made before its actors run."""

    def __init__(
        self,
        *,
        plan_limit: int,
        enabled: bool = True,
        ladders: Mapping[Phase, Ladder] = LADDERS,
        tick: float = 1.0,
        clock: Callable[[], float] = lease_clock,
    ) -> None:
        """`tick`: how often it looks at the clock, in seconds."""
        self._plan_limit = plan_limit
        self._enabled = enabled
        self._orders, self._to_worker = trio.open_memory_channel[RunTask](QUEUED_ORDERS)
        self._cancels, self._to_canceller = trio.open_memory_channel[CancelTask](QUEUED_ORDERS)
        self.running = Running()
        self.stops = LocalStops(self._halt, ladders, clock)
        self._tick_every = tick
        self.draining = False
        self.ended = trio.Event()

    def as_runner(self, tasks: list[Task]) -> list[Runner]:
        """Its slots, counted from the tasks that it holds; none when Local mode is off."""
        if not self._enabled:
            return []
        held = [
            task for task in tasks if task.agent_id == LOCAL and task.status in ("assigned", "running", "cancelling")
        ]
        return [
            Runner(
                id=LOCAL,
                execution_mode="local",
                plan_limit=self._plan_limit,
                plans=frozenset(task.id for task in held if task.phase == "plan"),
                applies=frozenset(task.id for task in held if task.phase == "apply"),
                draining=self.draining,
            )
        ]

    def deliver(self, order: RunTask) -> bool:
        """Hands an order to the worker; False when it takes none any more."""
        try:
            self._orders.send_nowait(order)
        except (trio.WouldBlock, trio.ClosedResourceError):
            return False
        self.stops.ordered(order)
        return True

    def cancel(self, wanted: Wanted) -> None:
        """The platform wants an assignment stopped."""
        self.stops.cancel(wanted)

    def _halt(self, task_id: int, fence: int, force: bool) -> None:
        try:
            self._cancels.send_nowait(CancelTask(task_id=task_id, fence=fence, force=force))
        except (trio.WouldBlock, trio.ClosedResourceError):
            # The channel only keeps order; the act itself is sync and may as well be done here.
            self.running.cancel(fence, force=force)

    def drain(self) -> None:
        """Takes nothing new; `ended` is set when the last task has ended."""
        self.draining = True
        self._orders.close()

    # How it ends, with the server

    @property
    def busy(self) -> tuple[int, ...]:
        """The tasks that run."""
        return tuple(sorted(order.task_id for order in self.running.orders))

    def leave(self) -> None:
        self.drain()

    def stop_all(self, phase: Phase | None, *, force: bool, detach: bool = False) -> None:
        self.stops.stop_all(phase, force=force, why=DETACHED if detach else SHUTDOWN)

    def hurry(self) -> None:
        self.stops.hurry()

    def let_go(self) -> None:
        self.stops.let_go()

    async def run(self, execute: Execute, slot_free: trio.MemorySendChannel[None]) -> None:
        """Its actors; returns after `drain`, when the last task has ended."""

        def over(order: RunTask) -> None:
            self.stops.ended(order)
            _wake(slot_free)

        async with trio.open_nursery() as side:
            side.start_soon(canceller, self._to_canceller, self.running)
            side.start_soon(self._tick)
            await worker(self._to_worker, self.running, execute, over)
            side.cancel_scope.cancel()
        self.ended.set()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(self._tick_every)
            self.stops.tick()


def _wake(channel: trio.MemorySendChannel[None]) -> None:
    try:
        channel.send_nowait(None)
    except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
        return
