"""Runs what it is ordered to run: the same actor in the server (Local mode) and in an agent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from iac.actors.running import Running, Seat
from iac.domain.work import RunTask

log = logging.getLogger(__name__)

Execute = Callable[[RunTask, trio.Event], Awaitable[None]]


async def worker(
    orders: trio.MemoryReceiveChannel[RunTask],
    running: Running,
    execute: Execute,
    ended: Callable[[RunTask], None],
) -> None:
    """Ends when the orders end and the last task has. `ended` is called when a task's slot is free again."""

    async def run_one(seat: Seat) -> None:
        try:
            with seat.scope:
                await execute(seat.order, seat.hurry)
        except Exception:  # the bulkhead: whatever an executor does, the other tasks go on
            log.exception("a task ended with an error", extra={"task_id": seat.order.task_id})
        finally:
            running.forget(seat.order.fence)
            ended(seat.order)

    async with trio.open_nursery() as tasks:
        async for order in orders:
            if seat := running.admit(order):
                tasks.start_soon(run_one, seat)
