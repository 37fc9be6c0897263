"""Ctrl-C, heard at places where nothing is half done: while something is waited for, never while something is written."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, while waiting."""


class Interrupts:
    """Between `wait`s a Ctrl-C is kept; the next `wait` raises it at once."""

    def __init__(self) -> None:
        self._waiting = False
        self._kept = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While this is open, Ctrl-C comes as Interrupted out of `wait`. For the main thread."""
        before = signal.signal(signal.SIGINT, self._signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def wait(self, call: Callable[[], T]) -> T:
        """What `call` returns. Raises Interrupted; then nobody knows whether `call` was done."""
        self._waiting = True
        try:
            if self._kept:
                raise Interrupted
            return call()
        finally:
            self._waiting = self._kept = False

    def _signal(self, number: int, frame: FrameType | None) -> None:
        if self._waiting:
            self._waiting = False
            raise Interrupted
        self._kept = True
