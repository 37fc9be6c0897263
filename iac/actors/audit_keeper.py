"""Keeps the audit: seals what was written, and writes down what was turned away, counted so that no flood can fill it."""

from __future__ import annotations

import logging
from collections import Counter

import trio

from iac.errors import IacError, RateLimited, Unauthenticated
from iac.store import audit, audit_chain
from iac.store.database import Connection, Database

log = logging.getLogger(__name__)

EVERY = 5.0
AT_ONCE = 500
MOST_KINDS = 1000
"""Kinds of incidents that are told apart between two looks; of more, only how many there were is written."""


class Incidents:
    """What was turned away since it was last written down. `see` is for anybody, at any time."""

    def __init__(self) -> None:
        self._seen = Counter[tuple[str, str, str]]()

    def see(self, error: IacError, where: str, sender: str) -> None:
        """Counts an answer if it is one that the audit wants to know of. `where` is a path, without secrets."""
        verb = {"session_conflict": "session.conflict"}.get(error.code)
        if isinstance(error, RateLimited):
            verb = "rate.limited"
        elif isinstance(error, Unauthenticated):
            verb = "token.refused"
        if verb is None:
            return
        known = (verb, sender, where)
        if known not in self._seen and len(self._seen) >= MOST_KINDS:
            known = (verb, "", "")
        self._seen[known] += 1

    def take(self) -> Counter[tuple[str, str, str]]:
        seen, self._seen = self._seen, Counter()
        return seen

    def give_back(self, seen: Counter[tuple[str, str, str]]) -> None:
        """They could not be written down."""
        self._seen += seen


async def audit_keeper(database: Database, incidents: Incidents, *, every: float = EVERY) -> None:
    """Never returns; ends with its scope."""
    while True:
        seen = incidents.take()
        try:
            if seen:
                await database.tx(_write_down, seen)
                seen.clear()
            while await database.tx(audit_chain.seal, most=AT_ONCE) == AT_ONCE:
                pass
        except IacError as error:
            log.warning("the audit is not sealed", extra={"error": error.message})
        except Exception:  # the bulkhead: an unsealed audit is better than no server
            log.exception("the audit is not sealed")
        incidents.give_back(seen)
        await trio.sleep(every)


async def _write_down(c: Connection, seen: Counter[tuple[str, str, str]]) -> None:
    for (verb, sender, where), times in sorted(seen.items()):
        await audit.note(c, "server", verb, sender or "many", path=where, times=times)
