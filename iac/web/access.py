"""Who one is, API tokens, the audit trail, and whether the server is well."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from quart import Response

from iac import __version__
from iac.domain import access_bodies, bodies
from iac.domain.records import ApiToken
from iac.errors import Unavailable
from iac.store import audit, tokens
from iac.store.database import Connection
from iac.store.identity import new_token
from iac.web import views
from iac.web.auth import RIGHTS
from iac.web.paging import cut
from iac.web.platform import Platform
from iac.web.routing import JSON, Api, Call, NoQuery

TOKENS = "/api/v1/tokens"


class AuditQuery(msgspec.Struct, frozen=True):
    limit: bodies.Limit = 50
    cursor: int | None = None
    subject: str | None = None


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""
    _people(api, platform)
    _health(api, platform)


def _people(api: Api, platform: Platform) -> None:
    @api.operation(
        "GET", "/api/v1/me", "Who the token is and what it may do", tag="Access", right="read", answer=access_bodies.Me
    )
    async def show_me(call: Call[None, NoQuery]) -> access_bodies.Me:
        role: bodies.Role = call.caller.role if call.caller is not None else "viewer"
        return access_bodies.Me(name=call.by, role=role, rights=tuple(sorted(RIGHTS[role])), version=__version__)

    @api.operation("GET", TOKENS, "List API tokens", tag="Access", right="admin", answer=access_bodies.TokenList)
    async def list_tokens(call: Call[None, NoQuery]) -> access_bodies.TokenList:
        return access_bodies.TokenList(items=[_token(record) for record in await platform.read(tokens.listed)])

    @api.operation(
        "POST", TOKENS, "Create an API token; it is shown once", tag="Access", right="admin", status=201,
        body=access_bodies.TokenCreate, answer=access_bodies.TokenView,
    )  # fmt: skip
    async def create_token(call: Call[access_bodies.TokenCreate, NoQuery]) -> access_bodies.TokenView:
        body, token = call.body, new_token()
        lifetime = None if body.expires_in_s is None else timedelta(seconds=body.expires_in_s)
        expires = None if lifetime is None else await platform.read(tokens.now) + lifetime
        record = await platform.write(
            tokens.create, token, name=body.name, role=body.role, by=call.by, expires_at=expires
        )
        return _token(record, token)

    @api.operation(
        "DELETE", f"{TOKENS}/<token_id>", "Revoke an API token, but not the last one of an admin", tag="Access",
        right="admin", status=204, conflicts=("last_admin",),
    )  # fmt: skip
    async def revoke_token(call: Call[None, NoQuery]) -> None:
        await platform.write(tokens.revoke, call.path["token_id"], by=call.by)

    @api.operation(
        "GET", "/api/v1/audit", "What was done, newest first", tag="Access", right="admin",
        query=AuditQuery, answer=access_bodies.AuditPage,
    )  # fmt: skip
    async def list_audit(call: Call[None, AuditQuery]) -> access_bodies.AuditPage:
        q = call.query
        found = await platform.read(audit.page, limit=q.limit + 1, before=q.cursor, subject=q.subject)
        page, cursor = cut(found, q.limit, lambda record: record.id)
        return access_bodies.AuditPage(items=[views.audit_entry(record) for record in page], next_cursor=cursor)


def _token(record: ApiToken, token: str | None = None) -> access_bodies.TokenView:
    return access_bodies.TokenView(**msgspec.structs.asdict(record), token=token)


def _health(api: Api, platform: Platform) -> None:
    @api.operation(
        "GET",
        "/healthz",
        "Whether the process lives",
        tag="Health",
        right=None,
        answer=access_bodies.Health,
        unavailable=None,
    )
    async def show_health(call: Call[None, NoQuery]) -> access_bodies.Health:
        return access_bodies.Health(status="draining" if platform.draining.is_set() else "ok", version=__version__)

    @api.operation(
        "GET",
        "/readyz",
        "Whether it can serve: database reachable, not stopping",
        tag="Health",
        right=None,
        answer=access_bodies.Health,
        unavailable=access_bodies.Health,
    )
    async def show_readiness(call: Call[None, NoQuery]) -> Response | access_bodies.Health:
        if platform.draining.is_set():
            return _not_ready("draining", None)
        try:
            await platform.read(_select_one)
        except Unavailable:
            return _not_ready("degraded", "unavailable")
        return access_bodies.Health(status="ok", version=__version__, database="ok")


def _not_ready(status: str, database: str | None) -> Response:
    body = {"status": status, "version": __version__, "database": database}
    return Response(msgspec.json.encode(body), status=503, content_type=JSON)


async def _select_one(c: Connection) -> None:
    await c.value("SELECT 1")
