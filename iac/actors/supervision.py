"""How a program is told to stop, and what it makes of that. For programs only: an actor never handles signals."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import trio

from iac.domain.ending import Signals

log = logging.getLogger(__name__)

DEAF = 5.0
"""Seconds after the first signal in which another one is only its echo."""


async def stop_signals(*also: signal.Signals) -> AsyncIterator[int]:
    """SIGTERM, SIGINT and those as they come."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *also) as signals:
        async for number in signals:
            yield number


async def obey_signals(stop: trio.Event, hurry: trio.Event, leave: Callable[[], None], *, deaf: float = DEAF) -> None:
    """What each means is decided in iac.domain.ending."""
    meant = Signals(deaf)
    async for number in stop_signals(signal.SIGQUIT):
        meaning = meant.heard(trio.current_time(), quit_=number == signal.SIGQUIT)
        log.info("signal", extra={"number": number, "meaning": meaning})
        match meaning:
            case "drain":
                stop.set()
            case "hurry":
                stop.set()
                hurry.set()
            case "leave":
                leave()
            case "echo":
                pass


def leave_now() -> None:
    """Ends the program although tasks are not brought home: their shielded work would go on for hours. What is left is for
    the next start.
    """
    logging.shutdown()
    os._exit(0)


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
