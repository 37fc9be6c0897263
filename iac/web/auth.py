"""Who calls, and what they may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

from iac.domain.records import ApiToken
from iac.errors import Forbidden, Unauthenticated
from iac.store import tokens
from iac.store.database import Database

Right = Literal["read", "write", "run", "state", "force_unlock", "admin"]
Authenticate = Callable[[str | None], Awaitable[ApiToken]]

RIGHTS: dict[str, frozenset[Right]] = {
    "viewer": frozenset({"read"}),
    "operator": frozenset({"read", "write", "run", "state"}),
    "admin": frozenset({"read", "write", "run", "state", "force_unlock", "admin"}),
}
_LONGEST = 512
NOTE_EVERY = timedelta(minutes=1)


def authenticator(database: Database) -> Authenticate:
    """Looks tokens up; the answer to a bad one does not tell why it is bad."""

    async def authenticate(header: str | None) -> ApiToken:
        if not header:
            raise Unauthenticated("Send your API token: `Authorization: Bearer <token>`.")
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _LONGEST or not token.isascii():
            raise Unauthenticated("The Authorization header is not `Bearer <token>`.")
        found = await database.read(tokens.authenticate, token)
        if found is None:
            raise Unauthenticated("The token is unknown, expired or revoked.")
        if found.last_used_at is None or datetime.now(UTC) - found.last_used_at > NOTE_EVERY:
            await database.tx(tokens.note_use, found.id)
        return found

    return authenticate


def may(caller: ApiToken, right: Right) -> bool:
    return right in RIGHTS[caller.role]


def require(caller: ApiToken, right: Right) -> None:
    """Raises Forbidden."""
    if not may(caller, right):
        raise Forbidden(f"Your token ({caller.name}, {caller.role}) lacks the right {right!r}.", right=right)
