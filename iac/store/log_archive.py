"""Log bytes in PostgreSQL: where they come to in batches from the server's disk, and are read from when that is gone.

A chunk is gzip of at most PIECE bytes. `log_stream.persisted` says how far a stream is here; it only grows, by comparison.
"""

from __future__ import annotations

import gzip
from typing import NamedTuple

from iac.store.database import Connection
from iac.store.logs import LARGEST_CHUNK


class Packed(NamedTuple):
    """A stored chunk."""

    start: int
    data: bytes


async def chunks(c: Connection, task_id: int, fence: int, offset: int, size: int) -> list[Packed]:
    """The chunks that have a byte of these, in order."""
    rows = await c.all(
        """SELECT start, data FROM log_chunk WHERE task_id = :id AND fence = :fence
           AND start < :high AND start > :lowest AND start + length > :low ORDER BY start""",
        id=task_id,
        fence=fence,
        low=offset,
        high=offset + size,
        lowest=offset - LARGEST_CHUNK,
    )
    return [Packed(**row) for row in rows]


def unpacked(found: list[Packed], offset: int, size: int) -> bytes:
    """The bytes from `offset` on that are in these chunks, `size` at most. Slow: call it in a thread."""
    if not found or found[0].start > offset:
        return b""
    data = b"".join(gzip.decompress(each.data) for each in found)
    begin = offset - found[0].start
    return data[begin : begin + size]
