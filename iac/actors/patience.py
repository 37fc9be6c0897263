"""How an agent waits: all its times, tries that spread out, and complaints that do not fill the log."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, fields
from math import inf

import trio

from iac.errors import IacError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentTimes:
    """Seconds (protocol 2.2). Those of heartbeats and leases hold until the server's welcome says others."""

    heartbeat: float = 10.0
    ack_within: float = 25.0
    lease: float = 60.0
    welcome_within: float = 10.0
    connect_within: float = 10.0
    answer_within: float = 60.0
    """For each HTTP request: how long nothing may come of an answer, or go of a body."""
    retry_most: float = 30.0
    steady_after: float = 60.0
    """A connection that lasted so long starts the retries over."""
    conflict_for: float = 240.0
    """Another agent may hold our name, or our identity, for so long before we give up."""
    poll_after: float = 20.0
    """Without a control channel for so long, plain HTTPS has to do."""
    poll_least: float = 15.0
    poll_most: float = 30.0
    complain_every: float = 60.0
    tick: float = 1.0
    last_words: float = 5.0
    deaf: float = 5.0
    """A second signal that comes sooner than this after the first is only its echo."""

    def scaled(self, by: float) -> AgentTimes:
        return AgentTimes(**{field.name: getattr(self, field.name) * by for field in fields(self)})


class Retries:
    """Full jitter: the n-th wait is anything between 0 and min(most, 2^n) seconds, so the first is at most one."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._tries = 0

    def restart(self) -> None:
        self._tries = 0

    def next(self) -> float:
        """The next wait, in seconds."""
        limit = min(self._most, 2.0**self._tries)
        self._tries = min(self._tries + 1, 16)
        return random.uniform(0, limit)  # noqa: S311 - to spread agents, not to hide


class Complaints:
    """Tells of a trouble when it begins, when its cause changes, and then once in a while."""

    def __init__(self, phrase: str, every: float) -> None:
        self._phrase, self._every = phrase, every
        self._said, self._at = "", -inf

    def tell(self, error: Exception) -> None:
        told, now = error.message if isinstance(error, IacError) else str(error), trio.current_time()
        if told != self._said or now - self._at >= self._every:
            log.warning(self._phrase, extra={"error": told})
            self._said, self._at = told, now

    def over(self) -> None:
        """It works again."""
        self._said = ""


def wait_asked_for(error: IacError) -> float | None:
    """The seconds that the server wants us to wait, None if it did not say."""
    wait = error.extras.get("retry_after_s")
    return float(wait) if isinstance(wait, int | float) and 0 <= wait < 3600 else None
