"""How an agent ends its tasks when its host wants it to go (protocol 2.8)."""

from __future__ import annotations

import logging

import trio

from iac.actors.agent_desk import Desk
from iac.domain.records import Phase

log = logging.getLogger(__name__)

STOP_APPLIES_AT, STOP_PLANS_AT = 0.6, 0.85
"""Shares of the time that there is: an apply needs longer to stop than a plan, and is asked earlier."""
AFTERWARDS, AFTER_HURRY = 45.0, 30.0
"""Seconds to bring home what there is, when everything was told to stop at once."""


async def stop_slowly(desk: Desk, within: float, hurry: trio.Event) -> None:
    """Nothing new is taken; what runs may finish, is then asked to stop, and in the end, or when `hurry` is set, is made to.

    Returns when even the time to bring the results home is over; whoever sees the tasks end earlier cancels this.
    """
    desk.leave()
    began = trio.current_time()
    if desk.running:
        log.info("waiting for running tasks", extra={"tasks": desk.running, "at_most_s": within})
    stops: tuple[tuple[float, Phase], ...] = ((STOP_APPLIES_AT, "apply"), (STOP_PLANS_AT, "plan"))
    for share, phase in stops:
        with trio.move_on_at(began + share * within):
            await hurry.wait()
        if not hurry.is_set():
            desk.stop_all(phase, force=False)
    with trio.move_on_at(began + within):
        await hurry.wait()
    desk.stop_all(None, force=True)
    await trio.sleep(AFTER_HURRY if hurry.is_set() else AFTERWARDS)
