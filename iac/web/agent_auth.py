"""Whose token it is: one authenticator for users, pools, agents and assignments, and how much each may do in a time.

A good token always gets in. Bad ones of agents are answered slowly, and guessed ones after some from one address with 429,
so that nobody can try tokens faster than that, while an agent behind the same address is not locked out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import trio
from quart import has_request_context, request, websocket

from iac.domain.agent_tokens import PREFIXES
from iac.domain.rates import Rate, Rates
from iac.domain.records import AgentRecord, ApiToken, AssignmentRecord, PoolToken
from iac.errors import Forbidden, RateLimited
from iac.store import assignments, pools, registering, tokens
from iac.store.database import Database
from iac.web.auth import Auth, Authenticate, bearer, good_for_nothing

SLOWLY = 0.2
NOTE_EVERY = timedelta(minutes=1)
FAILURES = Rate(per_second=0.1, burst=10)
REGISTERS = Rate(per_second=10 / 60, burst=20)
HANDSHAKES = Rate(per_second=6 / 60, burst=10)
CHUNKS = Rate(per_second=1.0, burst=60)
NOTES = Rate(per_second=2.0, burst=60)
RESULTS = Rate(per_second=0.5, burst=30)
STATES = Rate(per_second=10 / 60, burst=10)
CHECKPOINTS = Rate(per_second=1.0, burst=10)
"""Apart from the states that an apply ends with: those must never wait because of these."""


def authenticator(database: Database) -> Authenticate:
    """Looks tokens up, those of each kind where that kind is kept. Raises Unauthenticated, RateLimited."""
    failures = Rates(FAILURES)

    async def pool(token: str) -> PoolToken | None:
        return await database.tx(pools.authenticate_pool, token, peer())

    async def session(token: str) -> AgentRecord | None:
        return await database.read(registering.authenticate_session, token)

    async def task(token: str) -> AssignmentRecord | None:
        found = await database.read(assignments.by_token, token)
        if found is None or (found.scope == "dead" and found.first_read_at is not None):
            return None
        return found  # one that nobody used yet may be told what became of its task

    async def user(token: str) -> ApiToken | None:
        found = await database.read(tokens.authenticate, token)
        if found is not None and (found.last_used_at is None or datetime.now(UTC) - found.last_used_at > NOTE_EVERY):
            await database.tx(tokens.note_use, found.id)
        return found

    known: dict[str, Callable[[str], Awaitable[Any]]] = {"pool": pool, "session": session, "task": task, "user": user}

    async def authenticate(kind: Auth, header: str | None) -> Any:  # noqa: ANN401 - the record of that kind
        token = bearer(header)
        found = await known[_kind_of(kind, token)](token)
        if found is not None:
            return found
        if kind != "user":
            # After an outage of hours a whole fleet behind one address has sessions that are over: none of it guesses.
            guessed = not await database.read(registering.ever_given, token)
            await _slowly(failures, guessed=guessed)
        raise good_for_nothing()

    return authenticate


def _kind_of(kind: Auth, token: str) -> str:
    if not kind.startswith("session_or_"):
        return kind
    return "session" if token.startswith(PREFIXES["session"]) else kind.removeprefix("session_or_")


async def _slowly(failures: Rates, *, guessed: bool) -> None:
    wait = failures.take(peer(), trio.current_time()) if guessed else 0.0
    await trio.sleep(SLOWLY)
    if wait:
        raise RateLimited("Too many bad tokens from your address.", retry_after_s=round(wait, 1))


def peer() -> str:
    """The address that the request, or the WebSocket, comes from."""
    scope = request.scope if has_request_context() else websocket.scope
    client = scope.get("client")
    return str(client[0]) if client else ""


def asked_path() -> str:
    """The path of the request, or of the WebSocket."""
    return str(request.path if has_request_context() else websocket.path)


def within(rates: Rates, sender: object, what: str) -> None:
    """Raises RateLimited when the sender had its share."""
    wait = rates.take(str(sender), trio.current_time())
    if wait:
        raise RateLimited(f"Too many {what}; go on in {wait:.1f} s.", retry_after_s=round(wait, 1))


@contextmanager
def one_of(taken: Counter[str], sender: str, most: int, what: str) -> Iterator[None]:
    """Holds one of the `most` places that the sender has. Raises RateLimited when all are taken."""
    if taken[sender] >= most:
        raise RateLimited(f"Too many {what}.", retry_after_s=1.0)
    taken[sender] += 1
    try:
        yield
    finally:
        taken[sender] -= 1
        if not taken[sender]:
            del taken[sender]


def own(caller: AgentRecord, agent_id: str) -> None:
    """Raises Forbidden unless the path is about the caller itself."""
    if caller.id != agent_id:
        raise Forbidden("This session is another agent's.", code="wrong_scope")
