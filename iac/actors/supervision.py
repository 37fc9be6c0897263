"""How a program is told to stop."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import trio


async def stop_signals() -> AsyncIterator[int]:
    """SIGTERM and SIGINT as they come. For programs only: an actor never handles signals."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            yield number
