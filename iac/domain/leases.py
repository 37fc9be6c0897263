"""Until when the server believes that an agent still works on what it was given. Pure: time is an argument.

An agent's own lease ends 60 s after it sent the last heartbeat that was answered; the server gives up 120 s after it
received one. Both begin at or after the sending, so no two clocks are ever compared, and a plan that was handed out again
never runs beside its old copy.
"""

from __future__ import annotations

from collections.abc import Collection

Key = tuple[str, int]
"""An agent and the fence of an assignment that it holds."""
STALL = 3
"""A gap of more ticks than this means that nobody was listening: what was not heard proves nothing."""


class Leases:
    """When each assignment was last heard of. Times are seconds of one steady clock."""

    def __init__(self, lost_after: float) -> None:
        self._lost_after = lost_after
        self._heard: dict[Key, float] = {}

    def heard(self, agent_id: str, fences: Collection[int], now: float) -> None:
        """The agent said that it holds these."""
        for fence in fences:
            self._heard[agent_id, fence] = now

    def restart(self, now: float) -> None:
        """Every lease begins anew: the server was not able to hear."""
        for key in self._heard:
            self._heard[key] = now

    def overdue(self, held: Collection[Key], now: float) -> list[Key]:
        """Those of `held`, all assignments that are out there, whose time is over. One that is new here begins now."""
        self._heard = {key: self._heard.get(key, now) for key in held}
        return [key for key, at in self._heard.items() if now - at >= self._lost_after]


class Metronome:
    """Tells whether the ticks came regularly."""

    def __init__(self, every: float, now: float) -> None:
        self._every = every
        self._last = now

    def stalled(self, now: float) -> bool:
        """To be asked once a tick: whether the program stood still since the last one."""
        gap, self._last = now - self._last, now
        return gap > STALL * self._every
