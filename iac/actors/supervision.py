"""How actors are kept alive, and how a program is told to stop."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import trio

log = logging.getLogger(__name__)

Actor = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between restarts, doubled each time; an actor that ran `steady_after` starts again from `first`."""

    first: float = 0.5
    most: float = 30.0
    steady_after: float = 30.0


async def restarting(actor: Actor, *, when: tuple[type[Exception], ...], backoff: Backoff) -> None:
    """Runs the actor until it returns; starts it again after the errors in `when`, lets every other one through."""
    delay = backoff.first
    while True:
        began = trio.current_time()
        try:
            return await actor()
        except when as error:
            if trio.current_time() - began >= backoff.steady_after:
                delay = backoff.first
            log.warning("an actor failed and is started again", extra={"error": repr(error), "in_s": delay})
        await trio.sleep(delay)
        delay = min(delay * 2, backoff.most)


async def stop_signals() -> AsyncIterator[int]:
    """SIGTERM and SIGINT as they come. For programs only: an actor never handles signals."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            yield number
