"""Log bytes while somebody watches: the newest ones in memory, and how many of them may be told. Pure."""

from __future__ import annotations

from typing import Literal

from iac.domain.rates import Bucket, Rate, Rates


class Ring:
    """The newest `limit` bytes of a log, by their offsets in it. Holds one piece without a hole."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.start = 0

    @property
    def end(self) -> int:
        return self.start + len(self._data)

    def put(self, offset: int, data: bytes) -> int:
        """Goes on with `data`; what is here already stays as it is. Returns how many bytes are new.

        Behind a hole it begins anew.
        """
        if offset + len(data) <= self.end:
            return 0
        if offset > self.end or offset < self.start:
            self.restart(offset)
        new = data[self.end - offset :]
        added = len(new)
        if added > self._limit:
            self.restart(self.end + added - self._limit)
            new = new[-self._limit :]
        self._data += new
        if len(self._data) > self._limit:
            gone = len(self._data) - self._limit
            del self._data[:gone]
            self.start += gone
        return added

    def has(self, offset: int) -> bool:
        """Whether the byte at this offset is here."""
        return self.start <= offset < self.end

    def get(self, offset: int, most: int) -> bytes:
        """Up to `most` bytes from `offset`; none if that byte is not here."""
        if not self.has(offset):
            return b""
        return bytes(self._data[offset - self.start : offset - self.start + most])

    def differs(self, offset: int, data: bytes) -> int | None:
        """The offset of the first byte that is here and is another one in `data`."""
        low, high = max(offset, self.start), min(offset + len(data), self.end)
        if low >= high:
            return None
        ours, theirs = self._data[low - self.start : high - self.start], data[low - offset : high - offset]
        if ours == theirs:
            return None
        return low + next(at for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)

    def restart(self, offset: int) -> None:
        """Empty, and goes on at `offset`."""
        self.start = offset
        self._data.clear()


FRAME = 32 * 1024
"""Bytes of a log in one message at most."""
SMALLEST = 2 * 1024
"""A piece is not cut smaller than this because of a rate: it waits instead."""
TASK, AGENT = Rate(256 * 1024.0, 64 * 1024.0), Rate(1024 * 1024.0, 128 * 1024.0)
FRAMES = Rate(30.0, 30.0)
"""Messages; a server ends a connection that says more than 50 a second."""
SLOW, REST, LEAST = 0.5, 5.0, 1 / 32
RECOVERY = 60.0
NARROW, WIDE = 8 * 1024, 64 * 1024
"""Bytes that may be on their way: few at first, and again when they were slow."""


class LiveBudget:
    """How much of its logs an agent may tell live. It yields: a link that proves slow is left alone, then used less."""

    def __init__(self) -> None:
        self._tasks = Rates(TASK)
        self._bytes, self._frames = Bucket(AGENT, 0.0), Bucket(FRAMES, 0.0)
        self._share = 1.0
        self._slow_at = self._quiet_until = 0.0
        self._window, self._on_the_way = NARROW, 0

    def take(self, fence: int, size: int, now: float) -> int:
        """How many of `size` bytes may be told now, in one message; they are taken."""
        if now < self._quiet_until or self._frames.left(now) < 1:
            return 0
        if now - self._slow_at >= RECOVERY and self._share < 1.0:
            self._share, self._slow_at = min(1.0, self._share * 2), now
        room = min(self._bytes.left(now), self._tasks.left(fence, now)) * self._share
        fits = min(size, FRAME, int(room), self._window - self._on_the_way)
        if fits < min(size, SMALLEST):
            return 0
        # What is told at a lower rate costs more.
        cost = fits / self._share
        self._tasks.take(fence, now, cost)
        self._bytes.take(cost, now)
        self._frames.take(1, now)
        self._on_the_way += fits
        return fits

    def give_back(self, size: int) -> None:
        """So many of the bytes that were taken are not on their way after all."""
        self._on_the_way -= size

    def arrived(self, size: int, seconds: float, now: float) -> None:
        """So many bytes are known to be at the other end, within so many seconds."""
        self._on_the_way = max(0, self._on_the_way - size)
        self._window = NARROW if seconds > SLOW else min(self._window * 2, WIDE)
        self.sent(seconds, now)

    def restart(self) -> None:
        """A new connection: nothing is on its way."""
        self._window, self._on_the_way = NARROW, 0

    def sent(self, seconds: float, now: float) -> None:
        """A message, of whatever kind, took so long to be sent."""
        if seconds > SLOW:
            self._share = max(LEAST, self._share / 2)
            self._slow_at = now
            self._quiet_until = now + REST


class LiveStream:
    """The log of one assignment as a server has it in memory while it is watched. Offsets are the stream's.

    `base` is where it begins in the task's log. `stored` bytes are durable, and what is in the ring before that is equal.
    """

    def __init__(self, fence: int, agent_id: str, *, base: int, stored: int, room: int) -> None:
        self.fence, self.agent_id, self.base = fence, agent_id, base
        self.stored = stored
        self.ring = Ring(room)

    @property
    def due(self) -> int:
        """The offset from which on the agent should tell more."""
        return max(self.stored, self.ring.end)

    def told(self, offset: int, data: bytes) -> bool:
        """Live bytes came; whether some of them are news. Of what is stored nobody needs to be told."""
        known = max(0, self.stored - offset)
        return self.ring.put(offset + known, data[known:]) > 0 if known < len(data) else False

    def appended(self, offset: int, data: bytes) -> int | None:
        """These bytes are stored now. If others were told live, from which offset in the task's log on they were wrong."""
        differs = self.ring.differs(offset, data)
        self.stored = max(self.stored, offset + len(data))
        if differs is None:
            return None
        self.ring.restart(self.stored)
        return self.base + differs

    def get(self, offset: int, most: int) -> bytes:
        """Live bytes from this offset in the task's log; none if they are not here."""
        return self.ring.get(offset - self.base, most)

    def begins_after(self, offset: int) -> bool:
        """Whether there are live bytes, and some before them are missing from this offset in the task's log on."""
        return self.ring.end > self.ring.start > offset - self.base


class Viewer:
    """One who follows a task's log, at his own pace: each byte once and in order. `offset` is the next one that he gets."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._total: int | None = None

    def look_again(self) -> None:
        """What is stored may be more than was found."""
        self._total = None

    def found(self, size: int, total: int) -> None:
        """He was given `size` stored bytes; `total` are stored in all."""
        self.offset += size
        self._total = total

    def next(self, stream: LiveStream | None, most: int) -> bytes | Literal["stored", "gap", "nothing"]:
        """What to do now: give him these live bytes, or look at what is stored, or have a gap filled, or wait."""
        if self._total is None or self.offset < self._total:
            return "stored"
        if stream is None:
            return "nothing"
        live = stream.get(self.offset, most)
        if live:
            self.offset += len(live)
            return live
        return "gap" if stream.begins_after(self.offset) else "nothing"

    def reset(self, offset: int) -> bool:
        """Live bytes from `offset` on were not what is stored. Whether he has seen them, and goes back."""
        if self.offset <= offset:
            return False
        self.offset = offset
        self._total = None
        return True
