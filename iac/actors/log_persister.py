"""Copies logs from the server's disk into PostgreSQL, in batches, behind everybody's back; then reads the copy and compares.

Nobody waits for this: what was acknowledged is on the disk. So an outage of the database only makes the next batch larger.
"""

from __future__ import annotations

import logging

import trio

from iac.domain.log_keeping import sound
from iac.domain.records import LogStream
from iac.errors import IacError
from iac.store import log_archive
from iac.store.database import Database
from iac.store.log_archive import Piece
from iac.store.log_cache import BATCH, LogCache
from iac.store.log_files import Key

log = logging.getLogger(__name__)

EVERY = 5.0
FLUSH_WITHIN = 5.0
"""Seconds that the last copy has when the server stops. What is left then is copied after the next start."""
RESTS = 1.0
"""How long it rests after a batch, as a part of what the batch took: those who send a log now come first."""
ROWS = 64


async def log_persister(
    database: Database, log_cache: LogCache, *, every: float = EVERY, flush_within: float = FLUSH_WITHIN
) -> None:
    """Never returns. When it is cancelled it copies what there is, for `flush_within` seconds at most."""
    persister = LogPersister(database, log_cache, rests=RESTS)
    try:
        while True:
            with trio.move_on_after(every):
                await log_cache.full.wait()
            if not await _survived(persister):
                await trio.sleep(every)
    finally:
        persister.rests = 0.0
        with trio.move_on_after(flush_within, shield=True):
            await _survived(persister)


async def _survived(persister: LogPersister) -> bool:
    """One round, whatever happens in it: nobody's task may suffer because its log's copy is late."""
    try:
        await persister.round()
    except IacError as error:
        log.warning("logs wait for the database", extra={"error": error.message})
        return False
    except Exception:  # the bulkhead
        log.exception("logs are not copied into the database")
        return False
    return True


class LogPersister:
    """The work itself, one step at a time."""

    def __init__(self, database: Database, log_cache: LogCache, *, rests: float = 0.0) -> None:
        self.rests = rests
        self._database = database
        self._log_cache = log_cache

    async def round(self) -> None:
        """Copies all there is, then checks what is complete. Raises Unavailable, StorageFull."""
        while await self.copy():
            pass
        await self.check()

    async def copy(self) -> bool:
        """A batch of each stream; whether there is more. A stream that grows fast does not hold up the others."""
        self._log_cache.all_taken()
        batch, waiting, more, after, began = list[Piece](), 0, False, Key(0, 0), trio.current_time()
        while rows := await self._database.read(log_archive.behind, after, ROWS):
            for row in rows:
                pieces = await self._pieces(row)
                size = sum(piece.length for piece in pieces)
                more |= 0 < size < row.length - row.persisted
                batch, waiting = batch + pieces, waiting + size
                if waiting >= BATCH:
                    await self._database.tx(log_archive.store, batch)
                    await trio.sleep(self.rests * (trio.current_time() - began))
                    batch, waiting, began = [], 0, trio.current_time()
            after = Key(rows[-1].task_id, rows[-1].fence)
        if batch:
            await self._database.tx(log_archive.store, batch)
        return more

    async def _pieces(self, row: LogStream) -> list[Piece]:
        try:
            pieces = await self._log_cache.bytes.pieces(row, BATCH)
        except OSError as error:
            log.error("a log file cannot be read", extra={"task_id": row.task_id, "error": str(error)})
            return []
        if not pieces:
            # The file is gone or was cut: the row must not promise what nobody has.
            await self._log_cache.reconcile(row.task_id, row.fence)
        return pieces

    async def check(self) -> None:
        """Reads back each stream that is wholly in the database and has ended. A file that is not like its copy stays."""
        after = Key(0, 0)
        while rows := await self._database.read(log_archive.unchecked, after, ROWS):
            for row in rows:
                await self._check(row)
            after = Key(rows[-1].task_id, rows[-1].fence)

    async def _check(self, row: LogStream) -> None:
        try:
            on_disk = await self._log_cache.bytes.digest_on_disk(row)
        except OSError as error:
            log.error("a log file cannot be read", extra={"task_id": row.task_id, "error": str(error)})
            return
        read_back = await self._log_cache.bytes.digest_in_archive(row)
        good = sound(row, on_disk=on_disk, read_back=read_back)
        if not good:
            log.error(
                "a log in the database is not what it was made of; its file is kept",
                extra={"task_id": row.task_id, "fence": row.fence, "on_disk": on_disk, "read_back": read_back},
            )
        await self._database.single(log_archive.note_check, row.task_id, row.fence, sound=good)
