"""Deletes what is not needed any more of logs: files whose copy in the database was checked, and logs that are too old."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import trio

from iac.domain.agent_tokens import AFTERWARDS
from iac.domain.log_keeping import removable
from iac.errors import IacError
from iac.store import log_archive, log_files
from iac.store.database import Database
from iac.store.log_cache import LogCache
from iac.store.log_files import CachedFile

log = logging.getLogger(__name__)

EVERY = 600.0
AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long logs are kept: files beside their copy in the database, and logs at all (None: for ever)."""

    files: timedelta = timedelta(hours=24)
    logs: timedelta | None = None


async def log_cleaner(database: Database, log_cache: LogCache, keeping: Keeping, *, every: float = EVERY) -> None:
    """Never returns; ends with its scope."""
    while True:
        try:
            await clean(database, log_cache, keeping, datetime.now(UTC))
        except (IacError, OSError) as error:
            log.warning("logs were not tidied up", extra={"error": str(error)})
        except Exception:  # the bulkhead: a full disk later is better than no server now
            log.exception("logs were not tidied up")
        await trio.sleep(every)


async def clean(database: Database, log_cache: LogCache, keeping: Keeping, now: datetime) -> None:
    """One time through everything. Raises IacError, OSError; what was done until then is done."""
    for key in await database.tx(log_archive.close_forgotten, AFTERWARDS):
        log.warning("the rest of a log never came", extra={"task_id": key.task_id, "fence": key.fence})
    if keeping.logs is not None:
        while expired := await database.tx(log_archive.expire, keeping.logs, AT_ONCE):
            log.info("old logs were deleted", extra={"streams": len(expired)})
    root = log_cache.bytes.directory
    files = await trio.to_thread.run_sync(lambda: list(log_files.files_in(root)))
    for first in range(0, len(files), AT_ONCE):
        for file in await _removable(database, files[first : first + AT_ONCE], keeping, now):
            await log_cache.remove(file)
    await trio.to_thread.run_sync(log_files.tidy, root)


async def _removable(
    database: Database, files: Sequence[CachedFile], keeping: Keeping, now: datetime
) -> list[CachedFile]:
    rows = await database.read(log_archive.of_tasks, sorted({file.key.task_id for file in files}))
    return [
        file
        for file in files
        if removable(
            rows.get(file.key), modified=datetime.fromtimestamp(file.modified, UTC), now=now, keep=keeping.files
        )
    ]
