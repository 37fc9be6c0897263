"""Seals the audit, and checks the seals.

Not in the transaction of the deed: a chain has one end, so all that happens would wait for each other there. A row that was
committed is sealed seconds later; positions are given in the order in which rows are found, not by id, because a row with a
lower id may be committed later.
"""

from __future__ import annotations

import json

from iac.domain.audit_chain import GENESIS, link
from iac.domain.records import AuditEntry
from iac.store.database import Connection, Row

_ROW = "id, at, actor, verb, subject, facts"
_ONE_AT_A_TIME = 7_411_203
"""The number of the advisory lock that whoever seals holds."""


async def seal(c: Connection, *, most: int = 500) -> int:
    """Seals the oldest rows that are not; how many there were, at most `most`."""
    await c.run("SELECT pg_advisory_xact_lock(:number)", number=_ONE_AT_A_TIME)
    last = await c.first("SELECT position, hash FROM audit WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1")
    position, before = (0, GENESIS) if last is None else (last["position"], last["hash"])
    rows = await c.all(f"SELECT {_ROW} FROM audit WHERE position IS NULL ORDER BY id LIMIT :most", most=most)
    ids, positions, hashes = list[int](), list[int](), list[bytes]()
    for row in rows:
        position += 1
        before = link(before, position, _entry(row))
        ids.append(row["id"])
        positions.append(position)
        hashes.append(before)
    if ids:
        await c.run(
            """UPDATE audit a SET position = b.position, hash = b.hash
               FROM unnest(CAST(:ids AS bigint[]), CAST(:positions AS bigint[]), CAST(:hashes AS bytea[]))
                    AS b (id, position, hash) WHERE a.id = b.id""",
            ids=ids,
            positions=positions,
            hashes=hashes,
        )
    return len(ids)


async def broken_at(c: Connection, *, page: int = 1000) -> int | None:
    """The position of the first row that is missing or not as it was sealed; None when the chain is whole."""
    position, before = 0, GENESIS
    while rows := await c.all(
        f"SELECT {_ROW}, position, hash FROM audit WHERE position > :position ORDER BY position LIMIT :page",
        position=position,
        page=page,
    ):
        for row in rows:
            position += 1
            before = link(before, position, _entry(row))
            if row["position"] != position or row["hash"] != before:
                return position
    return None


def _entry(row: Row) -> AuditEntry:
    values = {name: row[name] for name in ("id", "at", "actor", "verb", "subject")}
    return AuditEntry(**values, facts=json.loads(row["facts"]))
