"""What was done, by whom: append-only, written in the transaction of the deed itself."""

from __future__ import annotations

import json

import msgspec

from iac.domain.records import AuditEntry
from iac.store.database import Connection
from iac.store.together import Along


async def note(c: Connection, actor: str, verb: str, subject: str, **facts: object) -> None:
    """`subject` is an id; `facts` never hold a secret."""
    await c.run(
        "INSERT INTO audit (actor, verb, subject, facts) VALUES (:actor, :verb, :subject, :facts)",
        actor=actor,
        verb=verb,
        subject=subject,
        facts=msgspec.json.encode(facts).decode(),
    )


def along(actor: str, verb: str, subject: str, **facts: object) -> Along:
    """The same, in the very statement of the deed: nothing is noted where nothing was done."""
    return Along(
        "noted",
        """INSERT INTO audit (actor, verb, subject, facts)
           SELECT :note_actor, :note_verb, :note_subject, :note_facts FROM done""",
        {
            "note_actor": actor,
            "note_verb": verb,
            "note_subject": subject,
            "note_facts": msgspec.json.encode(facts).decode(),
        },
    )


async def page(c: Connection, *, limit: int, before: int | None, subject: str | None) -> list[AuditEntry]:
    """Newest first."""
    rows = await c.all(
        """SELECT id, at, actor, verb, subject, facts FROM audit
           WHERE (CAST(:before AS bigint) IS NULL OR id < :before)
             AND (CAST(:subject AS text) IS NULL OR subject = :subject)
           ORDER BY id DESC LIMIT :limit""",
        before=before,
        subject=subject,
        limit=limit,
    )
    return [AuditEntry(**{**row, "facts": json.loads(row["facts"])}) for row in rows]
