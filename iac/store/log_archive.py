"""Log bytes in PostgreSQL: where they come to in batches from the server's disk, and are read from when that is gone.

A chunk is gzip of a MiB or less. `log_stream.persisted` says how far a stream is here; it only grows, by comparison.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from typing import NamedTuple

from iac.domain.records import LogStream
from iac.store.database import Connection
from iac.store.log_files import Key
from iac.store.logs import COLUMNS, LARGEST_CHUNK


class Packed(NamedTuple):
    """A stored chunk."""

    start: int
    data: bytes


class Piece(NamedTuple):
    """A chunk to be stored; `length` counts its bytes before they were packed."""

    task_id: int
    fence: int
    start: int
    length: int
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


async def next_chunks(c: Connection, task_id: int, fence: int, offset: int) -> list[Packed]:
    """The next few chunks, of which the first begins at `offset`; none at the end, or where it is missing."""
    rows = await c.all(
        """SELECT start, data FROM log_chunk WHERE task_id = :id AND fence = :fence AND start >= :offset
           ORDER BY start LIMIT 4""",
        id=task_id,
        fence=fence,
        offset=offset,
    )
    return [Packed(**row) for row in rows] if rows and rows[0]["start"] == offset else []


def unpacked(found: list[Packed], offset: int, size: int) -> bytes:
    """The bytes from `offset` on that are in these chunks, `size` at most. Slow: call it in a thread."""
    if not found or found[0].start > offset:
        return b""
    data = b"".join(gzip.decompress(each.data) for each in found)
    begin = offset - found[0].start
    return data[begin : begin + size]


async def behind(c: Connection, after: Key, limit: int) -> list[LogStream]:
    """Streams with bytes that are not here, by their keys."""
    return await _unverified(c, "persisted < length", after, limit)


async def unchecked(c: Connection, after: Key, limit: int) -> list[LogStream]:
    """Streams that have ended and are wholly here, but were not read back yet."""
    return await _unverified(c, "persisted = length AND state <> 'open'", after, limit)


async def _unverified(c: Connection, condition: str, after: Key, limit: int) -> list[LogStream]:
    rows = await c.all(
        f"""SELECT {COLUMNS} FROM log_stream WHERE verified IS NULL AND expired_at IS NULL AND {condition}
            AND (task_id, fence) > (:task_id, :fence) ORDER BY task_id, fence LIMIT :limit""",
        task_id=after.task_id,
        fence=after.fence,
        limit=limit,
    )
    return [LogStream(**row) for row in rows]


async def store(c: Connection, pieces: Sequence[Piece]) -> None:
    """Stores pieces, those of a stream in order from its `persisted` on. What somebody else stored is left out."""
    wanted = []
    for (task_id, fence), group in groupby(pieces, key=lambda piece: piece[:2]):
        own = list(group)
        taken = await c.value(
            """UPDATE log_stream SET persisted = :after WHERE task_id = :id AND fence = :fence AND persisted = :before
               AND length >= :after AND expired_at IS NULL RETURNING persisted""",
            id=task_id,
            fence=fence,
            before=own[0].start,
            after=own[-1].start + own[-1].length,
        )
        if taken is not None:
            wanted += own
    await c.many("INSERT INTO log_chunk (task_id, fence, start, length, data) VALUES ($1, $2, $3, $4, $5)", wanted)


async def note_check(c: Connection, task_id: int, fence: int, *, sound: bool) -> None:
    """The stream was read back, and is what the file was; or is not, and its file must stay."""
    await c.run(
        "UPDATE log_stream SET verified = :sound WHERE task_id = :id AND fence = :fence AND state <> 'open'",
        id=task_id,
        fence=fence,
        sound=sound,
    )


async def of_tasks(c: Connection, task_ids: Sequence[int]) -> dict[Key, LogStream]:
    """All streams of these tasks."""
    rows = await c.all(f"SELECT {COLUMNS} FROM log_stream WHERE task_id = ANY(:ids)", ids=list(task_ids))
    return {Key(row["task_id"], row["fence"]): LogStream(**row) for row in rows}


async def close_forgotten(c: Connection, after: timedelta) -> list[Key]:
    """Ends the streams that are still open so long after their task's end: the rest will not come any more."""
    rows = await c.all(
        """UPDATE log_stream s SET state = 'incomplete', closed_at = now() FROM task t
           WHERE t.id = s.task_id AND t.finished_at < now() - CAST(:after AS interval)
           AND s.state = 'open' AND s.verified IS NULL AND s.expired_at IS NULL RETURNING s.task_id, s.fence""",
        after=after,
    )
    return [Key(**row) for row in rows]


async def expire(c: Connection, after: timedelta, limit: int) -> list[Key]:
    """Deletes the bytes of logs whose tasks were over so long ago; their rows tell that they were there."""
    rows = await c.all(
        """SELECT s.task_id, s.fence FROM log_stream s JOIN task t ON t.id = s.task_id
           WHERE s.expired_at IS NULL AND s.created_at < now() - CAST(:after AS interval)
           AND t.finished_at < now() - CAST(:after AS interval) AND t.status IN ('cancelled', 'succeeded', 'failed')
           ORDER BY s.created_at LIMIT :limit FOR UPDATE OF s""",
        after=after,
        limit=limit,
    )
    keys = [Key(**row) for row in rows]
    # Only now, under the rows' locks: nobody stores a chunk behind our back.
    await c.many("DELETE FROM log_chunk WHERE task_id = $1 AND fence = $2", keys)
    await c.many(
        """UPDATE log_stream SET expired_at = now(), state = CASE WHEN state = 'open' THEN 'incomplete' ELSE state END,
                                 closed_at = COALESCE(closed_at, now()) WHERE task_id = $1 AND fence = $2""",
        keys,
    )
    return keys
