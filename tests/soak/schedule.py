"""What goes wrong during a soak, and when: drawn from a seed, so that the same trouble comes again.

Pure. How real processes take it is not in the seed's hands, but what is done to them is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

import msgspec

Kind = Literal[
    "kill",
    "freeze",
    "host dies",
    "stop immediately",
    "kill a backend",
    "black hole",
    "up is lost",
    "down is lost",
    "reset",
    "connections are forgotten",
    "slow link",
    "delay",
    "answers are cut off",
    "requests come twice",
]
KINDS: Mapping[str, Sequence[tuple[Kind, int]]] = {
    "server": (("kill", 3), ("freeze", 1)),
    "postgres": (("stop immediately", 2), ("kill", 2), ("kill a backend", 1)),
    "agent": (("kill", 4), ("freeze", 3), ("host dies", 2)),
    "wire": (
        ("black hole", 4),
        ("up is lost", 2),
        ("down is lost", 2),
        ("reset", 3),
        ("connections are forgotten", 2),
        ("slow link", 2),
        ("delay", 2),
        ("answers are cut off", 2),
        ("requests come twice", 1),
    ),
}
"""What may happen to whom, and how often compared with the rest. A target's kind is its name up to the first blank."""
SHARE: Mapping[str, float] = {"server": 0.2, "postgres": 0.15, "agent": 0.35, "wire": 0.3}
INSTANT = frozenset({"kill a backend", "reset", "connections are forgotten"})
"""Over at once; all others last."""
BREATH = 4.0
"""Seconds between the end of one fault and the beginning of the next at the same place, at least."""


class Fault(msgspec.Struct, frozen=True):
    """`at`: seconds from the beginning; `lasts`: seconds until it is mended, or the program is started again."""

    at: float
    target: str
    kind: Kind
    lasts: float


def kind_of(target: str) -> str:
    """What `agent 2` is: an agent."""
    return target.partition(" ")[0]


def schedule(seed: str, *, seconds: float, targets: Sequence[str], every: float, longest: float) -> list[Fault]:
    """Faults at these targets, one in `every` seconds on average, none of which is over later than after `seconds`.

    A target has one fault at a time. Most are short; some last up to `longest`.
    """
    chance = Random(f"{seed}/faults")  # noqa: S311 - a schedule, not a secret
    free_at = dict.fromkeys(targets, 0.0)
    faults = []
    at = chance.uniform(0.3, 1.0) * every
    while at < seconds:
        target = _one_of(chance, targets)
        [kind] = chance.choices(*zip(*KINDS[kind_of(target)], strict=True))
        lasts = 0.0 if kind in INSTANT else chance.choice((1.0, 1.0, 0.3)) * chance.uniform(0.03, 1.0) ** 2 * longest
        if free_at[target] <= at and at + lasts <= seconds:
            faults.append(Fault(at=round(at, 2), target=target, kind=kind, lasts=round(lasts, 2)))
            free_at[target] = at + lasts + BREATH
        at += chance.expovariate(1 / every)
    return faults


def _one_of(chance: Random, targets: Sequence[str]) -> str:
    """A kind of target by its share, then one of that kind."""
    kinds = sorted({kind_of(target) for target in targets})
    [kind] = chance.choices(kinds, [SHARE[each] for each in kinds])
    return chance.choice([target for target in targets if kind_of(target) == kind])
