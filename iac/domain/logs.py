"""The rules of a log stream: what the server does with a chunk, and what is kept of a log that is too long.

The server never overwrites and never truncates. An append is decided by the durable length alone; bytes that are there
already are compared, never written again. So lost, doubled, late and reordered chunks cannot harm a log.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from iac.domain.work import LogDigest
from iac.errors import Invalid

# The marker's line is never longer than this.
MARKER_ROOM = 128


class Append(msgspec.Struct, frozen=True):
    """Write the chunk's bytes from `skip` on at the stream's end."""

    skip: int = 0


class Duplicate(msgspec.Struct, frozen=True):
    """All of it is stored already: success, nothing to write."""


class Compare(msgspec.Struct, frozen=True):
    """First compare the chunk's first `size` bytes with the stored ones from `offset` on, then ask `compared`."""

    offset: int
    size: int
    data_len: int
    closed: bool


class Gap(msgspec.Struct, frozen=True):
    """Bytes are missing before this chunk; `expected` is where to go on."""

    expected: int


class OverLimit(msgspec.Struct, frozen=True):
    """The stream would grow over `limit` bytes."""

    limit: int


class Closed(msgspec.Struct, frozen=True):
    """The stream takes no new bytes."""


class Conflict(msgspec.Struct, frozen=True):
    """Stored bytes differ from the chunk's; the first difference is at stream offset `at`. The stored ones win."""

    at: int


Verdict = Append | Duplicate | Compare | Gap | OverLimit | Closed
Settled = Append | Duplicate | Conflict | Closed


def accept(length: int, offset: int, data_len: int, *, closed: bool, limit: int) -> Verdict:
    """What to do with `data_len` bytes for `offset` when `length` bytes are durable. All counts are bytes.

    Raises Invalid for a negative offset. The caller holds the stream's lock from here until the new length is durable.
    """
    if offset < 0:
        raise Invalid("A log chunk's offset cannot be negative.", path="$.offset")
    end = offset + data_len
    if end <= length:
        return Compare(offset, data_len, data_len, closed) if data_len else Duplicate()
    if closed:
        return Closed()
    # A gap before the limit: the sender goes on at `expected` and may well fit from there.
    if offset > length:
        return Gap(length)
    if end > limit:
        return OverLimit(limit)
    return Compare(offset, length - offset, data_len, closed) if offset < length else Append()


def compared(asked: Compare, differs_at: int | None) -> Settled:
    """The verdict after the comparison. `differs_at` counts from the chunk's first byte; None means equal."""
    if differs_at is not None:
        return Closed() if asked.closed else Conflict(asked.offset + differs_at)
    return Append(asked.size) if asked.size < asked.data_len else Duplicate()


def first_difference(stored: bytes, sent: bytes) -> int | None:
    """Index of the first byte that differs, or None. The shorter one's end is a difference."""
    if stored == sent:
        return None
    low, high = 0, min(len(stored), len(sent))
    while low < high:
        middle = (low + high) // 2
        if stored[low : middle + 1] == sent[low : middle + 1]:
            low = middle + 1
        else:
            high = middle
    return low


StreamEnd = Literal["complete", "incomplete", "diverged"]


class End(msgspec.Struct, frozen=True):
    """How a stream of `length` stored bytes ends. `sha256` is the sender's word."""

    state: StreamEnd
    length: int
    sha256: str
    truncated_bytes: int


def ending(length: int, sha256: str, said: LogDigest) -> End:
    """The end of a stream by what is stored and what its sender says that it sent: "no byte lost" is decided here."""
    state: StreamEnd = "complete"
    if length < said.length:
        state = "incomplete"
    elif length > said.length or sha256 != said.sha256:
        state = "diverged"
    return End(state, length, said.sha256, said.truncated_bytes)


class Capped:
    """Keeps a log within `limit` bytes: its head and its tail, where the error message is, and a line in between.

    The last `tail_size` bytes of the room are filled at `finish`; memory stays under three times that. The output never
    exceeds `limit`, the line included.
    """

    def __init__(self, limit: int, tail_size: int) -> None:
        if not MARKER_ROOM < tail_size <= limit:
            raise ValueError(f"the tail must be over {MARKER_ROOM} bytes and within the limit: {tail_size}, {limit}")
        self._limit = limit
        self._tail_size = tail_size
        self._head_left = limit - tail_size
        self._tail = bytearray()
        self._beyond_head = 0
        self._fresh_line = True

    @property
    def truncated_bytes(self) -> int:
        """How many bytes are left out, as of now."""
        return self._beyond_head - self._kept()

    def feed(self, masked: bytes) -> bytes:
        """The part that belongs to the head."""
        head, rest = masked[: self._head_left], masked[self._head_left :]
        self._head_left -= len(head)
        if head:
            self._fresh_line = head.endswith(b"\n")
        self._remember(rest)
        return head

    def finish(self) -> bytes:
        """The tail, after the line that says what is missing, if something is."""
        left_out = self.truncated_bytes
        if not left_out:
            return bytes(self._tail)
        line = f"[iac: {left_out} bytes left out: the log reached its limit of {self._limit} bytes]\n"
        return (b"" if self._fresh_line else b"\n") + line.encode() + bytes(self._tail[-self._kept() :])

    def _remember(self, rest: bytes) -> None:
        self._beyond_head += len(rest)
        self._tail += rest[-self._tail_size :]
        if len(self._tail) > 2 * self._tail_size:
            del self._tail[: -self._tail_size]

    def _kept(self) -> int:
        fits = self._beyond_head <= self._tail_size
        return self._beyond_head if fits else self._tail_size - MARKER_ROOM
