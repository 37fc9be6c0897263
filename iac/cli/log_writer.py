"""A log onto a stream: sanitised, and never in the middle of a line when something else is to be said."""

from __future__ import annotations

from typing import TextIO

from iac.cli.sanitising import RESET, Sanitiser


class LogWriter:
    """Feed it bytes; `close_line` before anything else is written."""

    def __init__(self, stream: TextIO, *, colours: bool) -> None:
        self._stream = stream
        self._colours = colours
        self._sanitiser = Sanitiser(colours)
        self._at_start = True

    @property
    def at_start(self) -> bool:
        """Whether the next byte begins a line."""
        return self._at_start

    def write(self, data: bytes) -> None:
        self._put(self._sanitiser.feed(data))

    def close_line(self) -> None:
        """Colours end, and what follows begins on a line of its own."""
        if not self._at_start:
            self._stream.write("\n")
            self._at_start = True
        if self._colours:
            self._stream.write(RESET)
        self._stream.flush()

    def finish(self) -> None:
        """What was held back; the log is at its end, or pauses."""
        self._put(self._sanitiser.finish())
        self.close_line()

    def _put(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()
            self._at_start = text.endswith("\n")
