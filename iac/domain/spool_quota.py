"""How much of an agent's disk the raw logs may take, and what of them goes when that is reached. Pure.

First goes what the server has already, then the middle of what was not read yet: never a log's head or its tail, where
people look. What goes unread is marked in the log and counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from iac.domain.log_transform import Gap

REFUSE_AT = 0.8
"""The share of the quota from which on no new task is taken."""
KEPT = 1024 * 1024
"""Bytes at each end of a log that stay."""
WORTHWHILE = 1024 * 1024
"""Fewer bytes are not given up by themselves."""
READ_AHEAD = 1024 * 1024
"""Bytes behind what was read that may be read just now."""


class RawLog(msgspec.Struct, frozen=True):
    """An open raw log, in bytes: the disk that it takes, its length, how much was read, and how much of that is stored
    by the server; and what it has given up, both lists in their order.
    """

    fence: int
    allocated: int
    size: int
    read_to: int
    sent_to: int
    stored: tuple[Gap, ...] = ()
    dropped: tuple[Gap, ...] = ()


class GiveUp(msgspec.Struct, frozen=True):
    """These bytes of a raw log go. `dropped` ones were never read; with `extends` they continue its last gap."""

    fence: int
    kind: Literal["stored", "dropped"]
    gap: Gap
    extends: bool = False


def refuses(used: int, quota: int) -> bool:
    """Whether so many bytes of raw logs are reason enough to take no new task."""
    return used >= REFUSE_AT * quota


def to_give_up(logs: Iterable[RawLog], used: int, quota: int) -> GiveUp | None:
    """What goes next; None when there is room, or nothing worth it. The largest log goes first."""
    if used < quota:
        return None
    found = (_of(each) for each in sorted(logs, key=lambda each: each.allocated, reverse=True))
    return next((each for each in found if each is not None), None)


def _of(log: RawLog) -> GiveUp | None:
    start = max(KEPT, log.stored[-1].end if log.stored else 0)
    end = min(log.sent_to, log.size - KEPT)
    if end - start >= WORTHWHILE:
        return GiveUp(log.fence, "stored", Gap(start, end))
    start, end = max(KEPT, log.read_to + READ_AHEAD), log.size - KEPT
    last = log.dropped[-1] if log.dropped else None
    if last is not None and last.start > log.read_to:
        gap = Gap(last.start, end)
        return GiveUp(log.fence, "dropped", gap, extends=True) if end - last.end >= WORTHWHILE else None
    return GiveUp(log.fence, "dropped", Gap(start, end)) if end - start >= WORTHWHILE else None
