"""API tokens and the audit trail, for admins."""

from __future__ import annotations

import msgspec

from iac.domain.bodies import Role
from iac.domain.records import ApiToken
from iac.errors import NotFound
from iac.store import audit, tokens
from iac.store.identity import new_token
from iac.web.platform import Platform
from iac.web.routing import NoQuery
from iac.web.ui import answers
from iac.web.ui.models.access import AUDIT, PAGE, ApiTokens, Audit, AuditQuery, api_tokens
from iac.web.ui.models.access import audit as audit_view
from iac.web.ui.models.parts import Leave
from iac.web.ui.models.sheets import TOKENS, ApiTokenAsked, TokenMade, api_token_sheet
from iac.web.ui.pages import Done, Made, PageCall, Ui
from iac.web.ui.pool_tokens import lifetime_of, named

EVERYTHING = ("workspaces",)
"""Whatever is written rings every topic: one is enough."""


class ApiTokenForm(msgspec.Struct, frozen=True):
    """`lifetime` in seconds, 0 for ever."""

    name: str = ""
    role: Role = "operator"
    lifetime: int = 0


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the pages and deeds on the table."""
    _tokens(ui, platform)
    _audit(ui, platform)


def _tokens(ui: Ui, platform: Platform) -> None:
    @ui.page(TOKENS, "access/tokens.html", right="admin", topics=EVERYTHING, personal=True)
    async def list_tokens_page(call: PageCall[NoQuery]) -> ApiTokens:
        found = await platform.read(tokens.listed)
        return api_tokens(found, own=call.me.token.id, now=await platform.read(tokens.now))

    @ui.page(f"{TOKENS}/new", "access/new_token.html", right="admin")
    async def show_new_token(call: PageCall[NoQuery]) -> ApiTokenAsked:
        return api_token_sheet(None, bare=answers.asked_by_script())

    @ui.page(f"{TOKENS}/<token_id>/revoke", "access/revoke.html", right="admin")
    async def show_revoke_token(call: PageCall[NoQuery]) -> ApiTokenAsked:
        token = await _token(platform, call.path["token_id"])
        return api_token_sheet(token, own=token.id == call.me.token.id, bare=answers.asked_by_script())

    @ui.deed(TOKENS, "admin", form=ApiTokenForm)
    async def make_token(call: PageCall[ApiTokenForm]) -> Made:
        form, name, lifetime = call.query, named(call.query.name), lifetime_of(call.query.lifetime)
        expires, token = None if lifetime is None else await platform.read(tokens.now) + lifetime, new_token()
        await platform.write(tokens.create, token, name=name, role=form.role, by=call.me.name, expires_at=expires)
        view = TokenMade(title=f"Token {name}", token=token, says="", back=TOKENS, bare=answers.asked_by_script())
        return Made(template="agents/made.html", view=view)

    @ui.deed(f"{TOKENS}/<token_id>/revoke", "admin", form=Leave)
    async def revoke_token_page(call: PageCall[Leave]) -> Done:
        token = await _token(platform, call.path["token_id"])
        await platform.write(tokens.revoke, token.id, by=call.me.name)
        leave = call.query.leave or token.id == call.me.token.id  # then to the sign-in
        return Done(says=f"{token.name} is revoked.", back=TOKENS, location=TOKENS if leave else None)


async def _token(platform: Platform, token_id: str) -> ApiToken:
    found = next((each for each in await platform.read(tokens.listed) if each.id == token_id), None)
    if found is None:
        raise NotFound("There is no such token.", kind="token")
    return found


def _audit(ui: Ui, platform: Platform) -> None:
    @ui.page(AUDIT, "access/audit.html", right="admin", query=AuditQuery, topics=EVERYTHING)
    async def list_audit_page(call: PageCall[AuditQuery]) -> Audit:
        q = call.query
        asked = msgspec.structs.replace(q, subject=q.subject.strip())
        found = await platform.read(
            audit.page, limit=PAGE + 1, before=asked.before or None, subject=asked.subject or None
        )
        return audit_view(asked, found)
