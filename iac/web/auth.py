"""Who calls, and what they may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from iac.domain.records import ApiToken
from iac.errors import Forbidden, Unauthenticated

Right = Literal["read", "write", "run", "state", "force_unlock", "admin"]
Auth = Literal["user", "pool", "session", "task", "session_or_pool", "session_or_user"]
"""The kinds of tokens that an operation may take; see iac.domain.agent_tokens for those of agents."""
Authenticate = Callable[[Auth, str | None], Awaitable[Any]]
"""From the Authorization header to the record that its token stands for."""

RIGHTS: dict[str, frozenset[Right]] = {
    "viewer": frozenset({"read"}),
    "operator": frozenset({"read", "write", "run", "state"}),
    "admin": frozenset({"read", "write", "run", "state", "force_unlock", "admin"}),
}
_LONGEST = 512


def bearer(header: str | None) -> str:
    """The token in an Authorization header. Raises Unauthenticated."""
    if not header:
        raise Unauthenticated("Send your API token: `Authorization: Bearer <token>`.")
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST or not token.isascii():
        raise Unauthenticated("The Authorization header is not `Bearer <token>`.")
    return token


def good_for_nothing() -> Unauthenticated:
    """The answer to a bad token does not tell why it is bad."""
    return Unauthenticated("The token is unknown, expired or revoked.")


def may(caller: ApiToken, right: Right) -> bool:
    return right in RIGHTS[caller.role]


def require(caller: ApiToken, right: Right) -> None:
    """Raises Forbidden."""
    if not may(caller, right):
        raise Forbidden(f"Your token ({caller.name}, {caller.role}) lacks the right {right!r}.", right=right)
