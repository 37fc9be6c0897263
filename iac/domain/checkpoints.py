"""How often the state of a running apply is sent: soon after a change, and never so often that it is in anybody's way.

A checkpoint limits what a host that dies takes with it. It is worth a second of delay, not a busy network: however large
the state, sending it takes at most a tenth of the time, and a megabyte of it each second in the mean.
"""

from __future__ import annotations

EVERY = 1.0
"""Seconds between two looks at the state, and between two checkpoints at least."""
SHARE = 0.1
"""The part of the time that may be spent on sending."""
BYTES_PER_SECOND = 1024 * 1024
"""Of the state as Terraform writes it; a state of 50 MB that always changes is sent each 50 s."""
LONGEST = 600.0
"""Seconds after which even the largest state is sent again over the slowest line."""
RETRY_MOST = 30.0


def pause_after(size: int, took: float, *, every: float = EVERY) -> float:
    """Seconds to wait after a checkpoint of `size` bytes that was sent, or given up, within `took` seconds."""
    return min(max(every, took * (1 / SHARE - 1), size / BYTES_PER_SECOND), max(every, LONGEST))


def pause_after_failure(failures: int, pause: float, *, every: float = EVERY) -> float:
    """Seconds to wait when `failures` in a row were not taken; `pause` is what a success would have made of it."""
    return max(pause, min(every * 2.0 ** min(failures, 16), RETRY_MOST))
