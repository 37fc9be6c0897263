"""Logs: one append-only stream for each assignment; a task's log is its streams one after the other.

Bytes are masked before they come here. A stream is never overwritten and never truncated (iac.domain.logs).
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from itertools import pairwise

from iac.domain.logs import (
    Append,
    Closed,
    Compare,
    Conflict,
    Gap,
    OverLimit,
    Settled,
    Verdict,
    accept,
    compared,
    first_difference,
)
from iac.domain.records import LogStream
from iac.domain.work import LogDigest
from iac.errors import LogRefused, NotFound, TooLarge
from iac.store.database import Connection, Row

LARGEST_CHUNK = 8 * 1024 * 1024
"""Bytes, uncompressed. No stored chunk is larger."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Masked bytes for `offset`, and the same bytes packed (outside the transaction: it takes milliseconds)."""

    offset: int
    data: bytes
    packed: bytes

    @classmethod
    def of(cls, offset: int, data: bytes) -> Chunk:
        return cls(offset, data, gzip.compress(data, 1, mtime=0))


async def append(c: Connection, task_id: int, fence: int, chunk: Chunk, *, limit: int) -> int:
    """The offset to go on at. A chunk that is stored already is no error.

    Raises NotFound, LogRefused (log_gap, log_conflict, log_closed; `next_offset` says where to go on), TooLarge.
    """
    stream = await _held(c, task_id, fence)
    length = stream["length"]
    verdict: Verdict | Settled = accept(
        length, chunk.offset, len(chunk.data), closed=stream["state"] != "open", limit=limit
    )
    if isinstance(verdict, Compare):
        stored = await _stream_bytes(c, task_id, fence, verdict.offset, verdict.size)
        verdict = compared(verdict, first_difference(stored, chunk.data[: verdict.size]))
    match verdict:
        case Append(skip=skip):
            return await _write(c, task_id, fence, length, chunk if not skip else _rest(chunk, skip))
        case Gap(expected=expected):
            raise LogRefused(f"Bytes {expected} to {chunk.offset} are missing.", code="log_gap", next_offset=expected)
        case Conflict(at=at):
            raise LogRefused(
                "Other bytes are stored there; they stay.", code="log_conflict", conflict_at=at, next_offset=length
            )
        case Closed():
            raise LogRefused("The log is closed.", code="log_closed", next_offset=length)
        case OverLimit(limit=most):
            raise TooLarge(f"The log has reached its limit of {most} bytes.", code="log_limit", limit=most)
        case _:
            return int(length)


def _rest(chunk: Chunk, skip: int) -> Chunk:
    return Chunk.of(chunk.offset + skip, chunk.data[skip:])


async def _write(c: Connection, task_id: int, fence: int, length: int, chunk: Chunk) -> int:
    if not chunk.data:
        return length
    await c.run(
        "INSERT INTO log_chunk (task_id, fence, start, length, data) VALUES (:id, :fence, :start, :length, :data)",
        id=task_id,
        fence=fence,
        start=length,
        length=len(chunk.data),
        data=chunk.packed,
    )
    after: int = await c.value(
        """UPDATE log_stream SET length = :after WHERE task_id = :id AND fence = :fence AND length = :before
           RETURNING length""",
        id=task_id,
        fence=fence,
        before=length,
        after=length + len(chunk.data),
    )
    return after


async def _held(c: Connection, task_id: int, fence: int) -> Row:
    row = await c.first(
        "SELECT length, state FROM log_stream WHERE task_id = :id AND fence = :fence FOR UPDATE",
        id=task_id,
        fence=fence,
    )
    if row is None:
        raise NotFound(f"There is no log for assignment {fence} of task {task_id}.")
    return row


async def close(c: Connection, task_id: int, fence: int, digest: LogDigest | None) -> None:
    """Ends a stream: complete when the sender's length is what is stored, else incomplete."""
    await c.run(
        """UPDATE log_stream SET state = CASE WHEN length = :length THEN 'complete' ELSE 'incomplete' END,
                                 sha256 = :sha256, truncated_bytes = :truncated
           WHERE task_id = :id AND fence = :fence AND state = 'open'""",
        id=task_id,
        fence=fence,
        length=-1 if digest is None else digest.length,
        sha256=None if digest is None else digest.sha256,
        truncated=0 if digest is None else digest.truncated_bytes,
    )


async def streams(c: Connection, task_id: int) -> list[LogStream]:
    """The streams of a task in the order in which they make up its log."""
    rows = await c.all(
        """SELECT task_id, fence, phase, length, state, sha256, truncated_bytes FROM log_stream
           WHERE task_id = :id ORDER BY fence""",
        id=task_id,
    )
    return [LogStream(**row) for row in rows]


async def is_open(c: Connection, task_id: int, fence: int) -> bool:
    """Whether this assignment's log still takes bytes."""
    state = await c.value(
        "SELECT state FROM log_stream WHERE task_id = :id AND fence = :fence", id=task_id, fence=fence
    )
    return bool(state == "open")


async def stream_length(c: Connection, task_id: int, fence: int) -> int:
    """How many bytes of this assignment's log are stored for good."""
    return int(
        await c.value("SELECT length FROM log_stream WHERE task_id = :id AND fence = :fence", id=task_id, fence=fence)
        or 0
    )


async def stream(c: Connection, task_id: int, fence: int) -> LogStream:
    """The stream of one assignment. Raises NotFound."""
    row = await c.first(
        """SELECT task_id, fence, phase, length, state, sha256, truncated_bytes FROM log_stream
           WHERE task_id = :id AND fence = :fence""",
        id=task_id,
        fence=fence,
    )
    if row is None:
        raise NotFound(f"There is no log for assignment {fence} of task {task_id}.")
    return LogStream(**row)


async def packed_from(c: Connection, task_id: int, fence: int, offset: int) -> list[bytes]:
    """The next few stored chunks, gzip as they are kept, of which the first begins at `offset`; empty at the end."""
    rows = await c.all(
        """SELECT data FROM log_chunk WHERE task_id = :id AND fence = :fence AND start >= :offset
           ORDER BY start LIMIT 4""",
        id=task_id,
        fence=fence,
        offset=offset,
    )
    return [row["data"] for row in rows]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a task's log: bytes from `offset`, and how much there is in all right now."""

    offset: int
    data: bytes
    total: int

    @property
    def next_offset(self) -> int:
        return self.offset + len(self.data)


async def read(c: Connection, task_id: int, offset: int, limit: int) -> Part:
    """Up to `limit` bytes of the task's whole log from `offset`; empty at its end."""
    parts = await streams(c, task_id)
    ends = [0]
    for stream in parts:
        ends.append(ends[-1] + stream.length)
    wanted = min(offset + limit, ends[-1])
    pieces = []
    for stream, (start, end) in zip(parts, pairwise(ends), strict=True):
        low, high = max(offset, start), min(wanted, end)
        if low < high:
            pieces.append(await _stream_bytes(c, task_id, stream.fence, low - start, high - low))
    return Part(offset, b"".join(pieces), ends[-1])


async def _stream_bytes(c: Connection, task_id: int, fence: int, offset: int, size: int) -> bytes:
    rows = await c.all(
        """SELECT start, data FROM log_chunk WHERE task_id = :id AND fence = :fence
           AND start < :high AND start > :lowest AND start + length > :low ORDER BY start""",
        id=task_id,
        fence=fence,
        low=offset,
        high=offset + size,
        lowest=offset - LARGEST_CHUNK,
    )
    if not rows:
        return b""
    data = b"".join(gzip.decompress(row["data"]) for row in rows)
    begin = offset - rows[0]["start"]
    return data[begin : begin + size]
