"""How a program is told to stop."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import trio


async def stop_signals(*also: signal.Signals) -> AsyncIterator[int]:
    """SIGTERM, SIGINT and those as they come. For programs only: an actor never handles signals."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *also) as signals:
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
