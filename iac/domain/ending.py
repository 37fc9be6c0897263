"""How a program that runs tasks ends: what its signals mean, and when what is stopped (protocol 2.8). Pure.

Time is an argument, in seconds.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from iac.domain.records import Phase

STOP_APPLIES_AT, STOP_PLANS_AT, FORCE_AT = 0.6, 0.85, 29 / 30
"""Shares of the time that there is: an apply needs longer to stop than a plan, and is asked earlier; at the last one only
the second SIGTERM is left, and SIGKILL after it."""
AFTERWARDS, AFTER_HURRY = 45.0, 30.0
"""Seconds to bring home what there is, when everything was told to stop at once."""

Meaning = Literal["drain", "hurry", "leave", "echo"]


class Signals:
    """The first drains, a later one hurries, the next ends the program where it stands. Docker, for one, repeats itself:
    what comes within `deaf` seconds of the first is its echo. SIGQUIT hurries at once.
    """

    def __init__(self, deaf: float) -> None:
        self._deaf = deaf
        self._first: float | None = None
        self._hurried = False

    def heard(self, now: float, *, quit_: bool = False) -> Meaning:
        first, self._first = self._first, now if self._first is None else self._first
        if self._hurried:
            return "leave"
        if quit_ or (first is not None and now - first >= self._deaf):
            self._hurried = True
            return "hurry"
        return "drain" if first is None else "echo"


class Due(NamedTuple):
    """At `at`, everything of `phase` (None: all) is asked to stop, or made to."""

    at: float
    phase: Phase | None
    force: bool


def timetable(within: float) -> tuple[Due, ...]:
    """For a program that has so many seconds: first whatever runs may end by itself."""
    return (
        Due(STOP_APPLIES_AT * within, "apply", force=False),
        Due(STOP_PLANS_AT * within, "plan", force=False),
        Due(FORCE_AT * within, None, force=True),
    )
