"""The bodies of the user API about people: who one is, tokens, the audit trail, and whether the server is well."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from iac.domain.bodies import Input, Name, Role, View


class Me(View, frozen=True, kw_only=True):
    name: str
    role: Role
    rights: tuple[str, ...]
    version: str


class TokenCreate(Input, frozen=True, kw_only=True):
    name: Name
    role: Role = "operator"
    expires_in_s: Annotated[int, Meta(ge=60, le=10 * 365 * 86400)] | None = None


class TokenView(View, frozen=True, kw_only=True):
    id: str
    name: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    token: str | None = None
    """Only in the answer that created it."""


class TokenList(View, frozen=True, kw_only=True):
    items: list[TokenView]


class AuditView(View, frozen=True, kw_only=True):
    id: int
    at: datetime
    actor: str
    verb: str
    subject: str
    facts: Mapping[str, Any]


class AuditPage(View, frozen=True, kw_only=True):
    items: list[AuditView]
    next_cursor: str | None


class Health(View, frozen=True, kw_only=True):
    status: Literal["ok", "starting", "draining", "degraded"]
    version: str
    database: Literal["ok", "unavailable"] | None = None
