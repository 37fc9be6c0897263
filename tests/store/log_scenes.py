"""A stream with a cache to begin a story of logs with."""

from __future__ import annotations

from hashlib import sha256

from iac.actors.log_persister import LogPersister
from iac.domain.records import LogStream, Task
from iac.domain.work import LogDigest
from iac.store import logs
from iac.store.database import Database
from iac.store.log_cache import LogCache
from tests.store import given

LIMIT = 1 << 30


def said(data: bytes) -> LogDigest:
    """What an honest sender says of its log."""
    return LogDigest(length=len(data), sha256=sha256(data).hexdigest())


async def a_stream(database: Database, workspace: str = "w") -> Task:
    await given.a_workspace(database, workspace)
    return await given.running(database, await given.a_task(database, workspace, "plan"))


async def append(cache: LogCache, task: Task, offset: int, data: bytes, *, limit: int = LIMIT) -> int:
    return await cache.append(task.id, task.fence, offset, data, limit=limit)


async def whole(cache: LogCache, task: Task, *, step: int = 1 << 20) -> bytes:
    """The task's log, read in pieces of `step` bytes."""
    data = b""
    while True:
        part = await cache.read(task.id, len(data), step)
        if not part.data:
            return data
        data += part.data
        assert part.next_offset == len(data)


async def close(database: Database, cache: LogCache, task: Task, digest: LogDigest, *, strict: bool = False) -> None:
    async with cache.ending(task.id, task.fence, digest, strict=strict) as end:
        if end is not None:
            await database.tx(logs.close, task.id, task.fence, end)


async def row_of(database: Database, task: Task) -> LogStream:
    return await database.read(logs.stream, task.id, task.fence)


async def persisted(database: Database, cache: LogCache) -> None:
    """Everything that is on the disk is in the database too, and checked where it has ended."""
    await LogPersister(database, cache).round()
