"""How long and how much one client may take: the deadlines of a connection and the size of a request's body.

    phase      what the server waits for                    until
    WAITING    the first byte of the next request           keep_alive after the last answer
    HEADERS    a request's headers, or the TLS handshake    headers_within of the first byte (or of connecting)
    BODY       the rest of a body                           body_grace, plus a second for every body_rate bytes received
    BUSY       our own handler                              no end: slow handlers and event streams are ours to stop

Sending has its own deadline (`send_within` for every piece), because a client may stop reading in any phase.
Nothing here touches a socket or a clock: time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import inf

import trio
from hypercorn.config import Config
from quart_trio.wrappers.request import TrioBody

from iac.errors import TooLarge


@dataclass(frozen=True)
class Limits:
    """What one connection may cost. Times in seconds, sizes in bytes."""

    headers_within: float = 15.0
    keep_alive: float = 75.0
    body_grace: float = 30.0
    body_rate: int = 16 * 1024
    send_within: float = 10.0  # for each piece of `send_piece` bytes
    send_piece: int = 64 * 1024
    linger: float = 0.5  # reading on after a last answer, so that the client gets to read it
    linger_bytes: int = 4 * 1024 * 1024
    pipelined_bytes: int = 64 * 1024  # requests sent ahead of the answer to the one before
    drain_patience: float = 0.5  # while draining: without progress for so long, a transfer is given up


class ContainedConfig(Config):
    """Hypercorn's settings, plus what the connections of one server share."""

    limits: Limits
    draining: trio.Event
    drains: set[Callable[[], None]]  # to be called once when draining begins, one for each open connection


class Phase(Enum):
    """What a connection is waiting for."""

    WAITING = "waiting"
    HEADERS = "headers"
    BODY = "body"
    BUSY = "busy"


class Patience:
    """Until when the client of one connection has time, computed from what it did so far."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._phase = Phase.HEADERS
        self._since = now
        self._arrived = 0

    def until(self, phase: Phase, arrived: int, now: float, *, draining: bool) -> float:
        """The moment to give up, given that `arrived` more bytes led to `phase`; `inf` for never."""
        if phase is not self._phase:
            self._phase, self._since, self._arrived = phase, now, 0
        self._arrived += arrived
        if draining:
            return min(self._usual(), self._while_draining(now))
        return self._usual()

    def _usual(self) -> float:
        match self._phase:
            case Phase.WAITING:
                return self._since + self._limits.keep_alive
            case Phase.HEADERS:
                return self._since + self._limits.headers_within
            case Phase.BODY:
                return self._since + self._limits.body_grace + self._arrived / self._limits.body_rate
            case Phase.BUSY:
                return inf

    def _while_draining(self, now: float) -> float:
        match self._phase:
            case Phase.WAITING | Phase.HEADERS:
                return now
            case Phase.BODY:
                return now + self._limits.drain_patience
            case Phase.BUSY:
                return inf


class LimitedBody(TrioBody):
    """A request's body of at most `limit` bytes in all, read or not; reading a larger one raises `TooLarge`.

    Quart's own body counts only what is still unread, so a handler that streams would never reach its limit.
    """

    def __init__(self, announced: int | None, limit: int) -> None:
        super().__init__(announced, None)
        self._limit = limit
        self._arrived = 0
        if announced is not None and announced > limit:
            self._must_raise = self._too_large()

    @property
    def refusal(self) -> Exception | None:
        """Why the body cannot be had, if that is known already."""
        return self._must_raise

    def append(self, data: bytes) -> None:
        """Take what arrived; what comes after the limit is dropped."""
        super().append(data)
        self._arrived += len(data)
        if self._arrived > self._limit and self._must_raise is None:
            self._must_raise = self._too_large()
            self.set_complete()

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"The request's body is over the limit of {self._limit} bytes that this path has.", limit=self._limit
        )
