"""The rows of log streams: one append-only stream for each assignment; a task's log is its streams one after the other.

The bytes are on the server's disk (iac.store.log_cache) and, some seconds later, in the database (iac.store.log_archive).
They are masked before they come here. A stream is never overwritten (iac.domain.logs).
"""

from __future__ import annotations

from dataclasses import dataclass

from iac.domain.logs import End
from iac.domain.records import LogState, LogStream
from iac.errors import NotFound
from iac.store import audit
from iac.store.database import Connection

LARGEST_CHUNK = 8 * 1024 * 1024
"""Bytes, uncompressed. No chunk is larger, sent or stored."""
COLUMNS = """task_id, fence, phase, length, state, sha256, truncated_bytes, created_at, persisted, verified, closed_at,
    expired_at"""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a task's log: bytes from `offset`, and how much there is in all right now.

    `state` is how the last of its streams stands: while it is open, more may come, even after the task's end.
    """

    offset: int
    data: bytes
    total: int
    state: LogState = "open"

    @property
    def next_offset(self) -> int:
        return self.offset + len(self.data)


async def streams(c: Connection, task_id: int) -> list[LogStream]:
    """The streams of a task in the order in which they make up its log."""
    rows = await c.all(f"SELECT {COLUMNS} FROM log_stream WHERE task_id = :id ORDER BY fence", id=task_id)
    return [LogStream(**row) for row in rows]


async def stream(c: Connection, task_id: int, fence: int) -> LogStream:
    """The stream of one assignment. Raises NotFound."""
    row = await c.first(
        f"SELECT {COLUMNS} FROM log_stream WHERE task_id = :id AND fence = :fence", id=task_id, fence=fence
    )
    if row is None:
        raise NotFound(f"There is no log for assignment {fence} of task {task_id}.")
    return LogStream(**row)


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


async def grow(c: Connection, task_id: int, fence: int, before: int, after: int) -> bool:
    """The commit of an append: from here on `after` bytes are acknowledged. False when the row is not as it was."""
    found = await c.value(
        """UPDATE log_stream SET length = :after WHERE task_id = :id AND fence = :fence AND length = :before
           AND state = 'open' RETURNING length""",
        id=task_id,
        fence=fence,
        before=before,
        after=after,
    )
    return found is not None


async def shrink(c: Connection, task_id: int, fence: int, before: int, after: int) -> bool:
    """Says that acknowledged bytes are gone, because somebody lost the server's disk. An ended stream is incomplete then."""
    found = await c.value(
        """UPDATE log_stream SET length = :after, state = CASE WHEN state = 'open' THEN state ELSE 'incomplete' END
           WHERE task_id = :id AND fence = :fence AND length = :before AND persisted <= :after RETURNING length""",
        id=task_id,
        fence=fence,
        before=before,
        after=after,
    )
    return found is not None


async def close(c: Connection, task_id: int, fence: int, end: End) -> None:
    """Ends an open stream. The first end stands."""
    ended = await c.value(
        """UPDATE log_stream SET state = :state, sha256 = :sha256, truncated_bytes = :truncated, closed_at = now()
           WHERE task_id = :id AND fence = :fence AND state = 'open' AND length = :length RETURNING true""",
        id=task_id,
        fence=fence,
        state=end.state,
        sha256=end.sha256,
        truncated=end.truncated_bytes,
        length=end.length,
    )
    if ended and (end.state == "diverged" or end.truncated_bytes):
        verb = "log.diverged" if end.state == "diverged" else "log.truncated"
        await audit.note(c, "server", verb, f"task-{task_id}", fence=fence, dropped=end.truncated_bytes)
