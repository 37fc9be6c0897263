"""Whether the log that an agent reports is the log that is stored: the same length, the same sha256."""

from __future__ import annotations

import gzip
import hashlib
import logging

import trio
from msgspec.structs import replace

from iac.domain.records import AssignmentRecord
from iac.domain.work import LogDigest
from iac.errors import LogRefused
from iac.store import logs
from iac.store.database import Database

log = logging.getLogger(__name__)

REMEMBERED = 10_000
_DIVERGED = -1
"""A length that no stream has: the stream is closed as incomplete."""


async def settle_log(database: Database, held: AssignmentRecord, digest: LogDigest, mismatched: set[int]) -> LogDigest:
    """The digest to close the stream with. `mismatched` remembers whom a difference was told to already.

    Raises LogRefused (log_incomplete with `next_offset`; log_mismatch, once, for the sender to look again).
    """
    stream = await database.read(logs.stream, held.task_id, held.fence)
    if stream.state != "open":
        return digest
    if stream.length < digest.length:
        raise LogRefused(
            f"The log has {stream.length} of {digest.length} bytes; send the rest first.",
            code="log_incomplete",
            next_offset=stream.length,
        )
    if stream.length == digest.length and await _sha256(database, held) == digest.sha256:
        mismatched.discard(held.fence)
        return digest
    if held.fence not in mismatched and len(mismatched) < REMEMBERED:
        mismatched.add(held.fence)
        raise LogRefused(
            "The stored log has another sha256 than you say, or is longer. What is stored stays; report again to accept.",
            code="log_mismatch",
            next_offset=stream.length,
        )
    log.error("a log diverged from its agent's", extra={"task_id": held.task_id, "fence": held.fence})
    mismatched.discard(held.fence)
    return replace(digest, length=_DIVERGED)


async def _sha256(database: Database, held: AssignmentRecord) -> str:
    digest, offset = hashlib.sha256(), 0
    while packed := await database.read(logs.packed_from, held.task_id, held.fence, offset):
        offset += await trio.to_thread.run_sync(_fold, digest, packed)
    return digest.hexdigest()


def _fold(digest: hashlib._Hash, packed: list[bytes]) -> int:
    size = 0
    for each in packed:
        data = gzip.decompress(each)
        digest.update(data)
        size += len(data)
    return size
