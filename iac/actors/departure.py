"""How tasks are ended when the host wants their program to go (protocol 2.8): an agent's, and those of the server itself."""

from __future__ import annotations

import logging
from typing import Protocol

import trio

from iac.domain.ending import AFTER_HURRY, AFTERWARDS, timetable
from iac.domain.records import Phase

log = logging.getLogger(__name__)

LOOK_EVERY = 0.2


class Leaver(Protocol):
    """Who has to go. What is called here happens at once; the tasks end later."""

    @property
    def busy(self) -> tuple[int, ...]:
        """The tasks that run."""

    def leave(self) -> None:
        """Nothing new is taken."""

    def stop_all(self, phase: Phase | None, *, force: bool, detach: bool = False) -> None:
        """What runs is asked to stop; `force`: made to."""

    def hurry(self) -> None:
        """What is forced from now on has its plans killed at once: nothing is lost with them."""

    def let_go(self) -> None:
        """Every apply whose Terraform runs goes on without us."""


async def stop_slowly(leaver: Leaver, within: float, hurry: trio.Event) -> None:
    """Nothing new is taken; what runs may finish, is then asked to stop, and in the end, or when `hurry` is set, is made to.

    Returns when even the time to bring the results home is over; whoever sees the tasks end earlier cancels this.
    """
    leaver.leave()
    began = trio.current_time()
    if leaver.busy:
        log.info("waiting for running tasks", extra={"tasks": leaver.busy, "at_most_s": within})
    for due in timetable(within):
        with trio.move_on_at(began + due.at):
            await hurry.wait()
        if hurry.is_set():
            await _stop_now(leaver)
            return
        leaver.stop_all(due.phase, force=due.force)
    with trio.move_on_at(began + within + AFTERWARDS) as rest:
        await hurry.wait()
    if not rest.cancelled_caught:
        await _stop_now(leaver)


async def detach(leaver: Leaver, within: float, hurry: trio.Event) -> None:
    """Nothing new is taken; plans are stopped, for others to run them; an apply is left to its shim as soon as its Terraform
    runs. Returns like `stop_slowly`: then something could neither be left nor ended.
    """
    leaver.leave()
    leaver.stop_all("plan", force=False, detach=True)
    with trio.move_on_after(within):
        while not hurry.is_set():
            leaver.let_go()
            await trio.sleep(LOOK_EVERY)
    await _stop_now(leaver)


async def _stop_now(leaver: Leaver) -> None:
    leaver.hurry()
    leaver.stop_all(None, force=True)
    await trio.sleep(AFTER_HURRY)
