"""Pauses between two looks at what no event tells of."""

from __future__ import annotations

from collections.abc import Iterator

GROWTH = 1.2


def pauses(first: float = 0.02, most: float = 0.1) -> Iterator[float]:
    """Seconds: short ones for what is about to happen, then longer ones. A look costs the server as much as the test, and
    tests that look fifty times a second are what keeps a machine busy.
    """
    while True:
        yield first
        first = min(most, first * GROWTH)
