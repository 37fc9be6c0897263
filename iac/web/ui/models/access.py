"""API tokens, and the audit trail: what was done, by whom, to what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from iac.domain.records import ApiToken, AuditEntry
from iac.web.ui.models.listing import Ways, address, ways_part
from iac.web.ui.models.parts import Part, Parts, View
from iac.web.ui.models.sheets import TOKENS
from iac.web.ui.models.words import Badge

FILE = "access.html"
AUDIT, PAGE = "/audit", 50
LONGEST_FACT = 200
ROLES: Mapping[str, str] = {
    "viewer": "Sees everything, changes nothing",
    "operator": "Runs and changes workspaces",
    "admin": "Also agents, tokens and others' locks",
}
_GOOD = Badge("Good", "good", "check")


class ApiTokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """A token, which nobody can read again. `revoke` is where that is done; empty for one that is good for nothing."""

    id: str
    name: str
    role: str
    badge: Badge
    by: str
    created: datetime
    used: datetime | None
    ends: datetime | None
    revoke: str
    own: bool


class ApiTokens(View, frozen=True, kw_only=True):
    tokens: Parts


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`subject` is the id of what things were done to; `before` the entry that the page comes after."""

    subject: str = ""
    before: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.before < 2**63:
            raise ValueError("`before` is not an entry's number")

    def href(self, **changes: object) -> str:
        return address(AUDIT, self, **{"before": 0, **changes})


class Fact(msgspec.Struct, frozen=True):
    name: str
    value: str


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """`only` is the list of what was done to the same thing, `href` the thing's page if it has one."""

    id: int
    at: datetime
    actor: str
    verb: str
    subject: str
    href: str
    only: str
    facts: tuple[Fact, ...]


class Nothing(msgspec.Struct, frozen=True):
    subject: str


class Audit(View, frozen=True, kw_only=True):
    query: AuditQuery
    rows: Parts
    ways: Parts


def api_tokens(tokens: Sequence[ApiToken], *, own: str, now: datetime) -> ApiTokens:
    """Those that are good first, the newest of them first. `own` is the token of whoever looks."""
    shown = sorted(tokens, key=lambda each: (not is_good(each, now), -each.created_at.timestamp()))
    rows = tuple(Part(each.id, f"{FILE}:token", _row(each, own=own, now=now)) for each in shown)
    return ApiTokens(title="API tokens", tokens=Parts("tokens", rows))


def is_good(token: ApiToken, now: datetime) -> bool:
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > now)


def _row(token: ApiToken, *, own: str, now: datetime) -> ApiTokenRow:
    good = is_good(token, now)
    bad = Badge("Expired", "calm", "dash") if token.revoked_at is None else Badge("Revoked", "bad", "slash")
    return ApiTokenRow(
        id=token.id,
        name=token.name,
        role=token.role,
        badge=_GOOD if good else bad,
        by=token.created_by,
        created=token.created_at,
        used=token.last_used_at,
        ends=token.expires_at if good else None,
        revoke=f"{TOKENS}/{token.id}/revoke" if good else "",
        own=token.id == own,
    )


def audit(query: AuditQuery, entries: Sequence[AuditEntry]) -> Audit:
    """`entries` are a page's, and one more if there are more."""
    rows = tuple(Part(f"audit-{each.id}", f"{FILE}:entry", audit_row(each)) for each in entries[:PAGE])
    older = query.href(before=entries[PAGE - 1].id) if len(entries) > PAGE else ""
    ways = Ways(older, query.href() if query.before else "")
    return Audit(
        title="Audit trail",
        address=query.href(before=query.before),
        query=query,
        rows=Parts("entries", rows or (Part("no-entries", f"{FILE}:nothing", Nothing(query.subject)),)),
        ways=ways_part(ways),
    )


def audit_row(each: AuditEntry) -> AuditRow:
    return AuditRow(
        id=each.id,
        at=each.at,
        actor=each.actor,
        verb=each.verb,
        subject=each.subject,
        href=page_of(each.subject),
        only=AuditQuery(subject=each.subject).href(),
        facts=tuple(Fact(name, _told(value)) for name, value in each.facts.items() if value not in (None, "")),
    )


def page_of(subject: str) -> str:
    """The page of a thing, by its id; empty for what has none."""
    kind, _, rest = subject.partition("-")
    if kind == "task" and rest.isdecimal():
        return f"/tasks/{rest}"
    place = {"agent": "/agents", "pool": "/agents/pools", "ws": "/workspaces"}.get(kind)
    return f"{place}/{quote(subject, safe='')}" if place and rest else ""


def _told(value: Any) -> str:  # noqa: ANN401 - whatever JSON has
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= LONGEST_FACT else f"{text[:LONGEST_FACT]}…"
