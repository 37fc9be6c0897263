"""A world in which time, the network and all chance come from one seed: whatever went wrong goes wrong again."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import NamedTuple

Act = Callable[[], None]


class Link(NamedTuple):
    """One connection, as both its ends know it."""

    boot_id: str
    conn_seq: int


class World:
    """Things that will happen, and when. Seconds of true time, which nobody in it can read."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)  # noqa: S311 - a schedule, not a secret
        self.now = 0.0
        self._coming: list[tuple[float, int, Act]] = []
        self._numbers = count()

    def after(self, seconds: float, act: Act) -> None:
        heapq.heappush(self._coming, (self.now + seconds, next(self._numbers), act))

    def run(self, until: float) -> None:
        coming = self._coming
        while coming and coming[0][0] <= until:
            self.now, _, act = heapq.heappop(coming)
            act()
        self.now = until


@dataclass
class Clock:
    """A host's own clock: it began anywhere, and goes up to a hundredth too fast or too slow."""

    world: World
    rate: float
    began: float

    @classmethod
    def any_of(cls, world: World) -> Clock:
        return cls(world, world.chance.uniform(0.99, 1.01), world.chance.uniform(0, 1e6))

    def read(self) -> float:
        return self.began + self.world.now * self.rate

    def after(self, seconds: float, act: Act) -> None:
        """In so many seconds of this clock."""
        self.world.after(seconds / self.rate, act)


class Weather(NamedTuple):
    """How likely a message is lost, doubled, late; and how late, in seconds."""

    lost: float
    doubled: float
    late: float
    latest: float

    @classmethod
    def any_of(cls, world: World) -> Weather:
        """Of one story: fair, or foul in one way or another."""
        chance = world.chance
        lost, late = chance.choice((0.02, 0.05, 0.25)), chance.choice((0.02, 0.02, 0.15))
        return cls(lost, chance.choice((0.05, 0.3)), late, chance.choice((20.0, 60.0)))


@dataclass
class Network:
    """What lies between one agent and the server. Each direction may be cut; messages are lost, doubled and overtaken."""

    world: World
    weather: Weather
    lossy: bool = True
    cut_up: bool = False
    cut_down: bool = False
    _healed: bool = field(default=False, init=False)

    def heal(self) -> None:
        self.lossy = self.cut_up = self.cut_down = False

    def up(self, act: Act) -> None:
        self._carry(act, cut=self.cut_up)

    def down(self, act: Act) -> None:
        self._carry(act, cut=self.cut_down)

    def _carry(self, act: Act, *, cut: bool) -> None:
        chance = self.world.chance
        if cut or (self.lossy and chance.random() < self.weather.lost):
            return
        self.world.after(self._delay(), act)
        if self.lossy and chance.random() < self.weather.doubled:
            self.world.after(self._delay(), act)

    def _delay(self) -> float:
        chance = self.world.chance
        if self.lossy and chance.random() < self.weather.late:
            return chance.uniform(0.05, self.weather.latest)
        return chance.uniform(0.001, 0.05)
