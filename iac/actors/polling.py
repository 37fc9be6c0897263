"""The way out when no control channel can be opened but HTTPS works: heartbeats and the list of pending tasks, asked for."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

from iac.actors.connection import Line
from iac.actors.heartbeat import Wake
from iac.actors.patience import AgentTimes, Complaints
from iac.errors import IacError, StartFailed


async def poll_while_down(line: Line, ask: Callable[[], Awaitable[None]], wake: Wake, times: AgentTimes) -> None:
    """Asks as long as there is no line; never at the same time as one. Never returns. Raises StartFailed from `ask`."""
    while True:
        await line.wait_down()
        with trio.move_on_after(times.poll_after) as patience:
            await line.wait_up()
        if patience.cancelled_caught:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ask_on, ask, wake, times)
                await line.wait_up()
                nursery.cancel_scope.cancel()


async def _ask_on(ask: Callable[[], Awaitable[None]], wake: Wake, times: AgentTimes) -> None:
    complaints = Complaints("the server cannot be asked for tasks", times.complain_every)
    while True:
        try:
            await ask()
            complaints.over()
        except StartFailed:
            raise
        except IacError as error:
            complaints.tell(error)
            await trio.sleep(times.tick)  # a slot that changed must not turn this into a storm
        with trio.move_on_after(random.uniform(times.poll_least, times.poll_most)):  # noqa: S311 - to spread agents
            await wake.wait()
