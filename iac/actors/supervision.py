"""How actors are kept alive, and how a program is told to stop."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
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


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors in a group, whatever groups they are in."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


@contextmanager
def ungrouped(*kinds: type[Exception]) -> Iterator[None]:
    """Nurseries make groups: out of one that holds errors of these kinds alone comes the first of them, as itself.

    If there are others in it, a bug or a cancellation, those go on as a group without them.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        wanted, other = group.split(kinds)
        if wanted is None or other is not None:
            raise (other or group) from None
        raise next(leaves(wanted)) from None
