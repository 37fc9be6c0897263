"""How much of something one may have in a time: token buckets. Pure: time is an argument, in seconds of a steady clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """So many a second for ever, and `burst` at once after a rest."""

    per_second: float
    burst: float


class Bucket:
    """What one sender has left of its rate."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._left = rate.burst
        self._at = now

    def take(self, amount: float, now: float) -> float:
        """0.0 if it may have so much now (and it is taken), else the seconds after which to ask again."""
        self._left = min(self._rate.burst, self._left + (now - self._at) * self._rate.per_second)
        self._at = now
        if amount <= self._left:
            self._left -= amount
            return 0.0
        return (amount - self._left) / self._rate.per_second

    def left(self, now: float) -> float:
        """How much it could have now; nothing is taken."""
        return min(self._rate.burst, self._left + (now - self._at) * self._rate.per_second)


class Rates:
    """A bucket for each sender. Of too many senders, those that were quiet longest are forgotten first."""

    def __init__(self, rate: Rate, *, most: int = 10_000) -> None:
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def take(self, sender: Hashable, now: float, amount: float = 1.0) -> float:
        """As `Bucket.take`."""
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = self._buckets[sender] = Bucket(self._rate, now)
            while len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(sender)
        return bucket.take(amount, now)

    def left(self, sender: Hashable, now: float) -> float:
        """How much the sender could have now; nothing is taken."""
        bucket = self._buckets.get(sender)
        return self._rate.burst if bucket is None else bucket.left(now)

    def exhausted(self, sender: Hashable, now: float) -> float:
        """0.0 if the sender may have one more, else the seconds to wait; nothing is taken."""
        bucket = self._buckets.get(sender)
        missing = 0.0 if bucket is None else 1.0 - bucket.left(now)
        return max(0.0, missing / self._rate.per_second)
