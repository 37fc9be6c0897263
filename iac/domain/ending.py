"""What the signals mean that want an agent to end (protocol 2.8). Pure: time is an argument, in seconds."""

from __future__ import annotations

from typing import Literal

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
