"""Who is in front of the browser: the cookie, how long it is good, and whether a change was asked for by our own page.

A change needs all three: the cookie, the session's own CSRF token in the form or in `X-CSRF-Token`, and headers that say
that the request comes from a page of this server.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import trio
from quart import Response, has_request_context, request

from iac.domain.browser_session import BrowserSession
from iac.domain.rates import Rates
from iac.domain.records import ApiToken
from iac.errors import Forbidden, RateLimited
from iac.store import browser_sessions, tokens
from iac.store.database import Database
from iac.web.agent_auth import FAILURES, SLOWLY, peer
from iac.web.auth import RIGHTS, Auth, Authenticate, Right, good_for_nothing

NOTE_EVERY = timedelta(minutes=1)
ROTATE_EVERY = timedelta(hours=1)
CSRF_FIELD, CSRF_HEADER = "csrf", "X-CSRF-Token"
_ENTROPY = 32
_LONGEST = 512


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The person, for one request."""

    session: BrowserSession
    cookie: str

    @property
    def token(self) -> ApiToken:
        return self.session.token

    @property
    def name(self) -> str:
        return self.token.name

    @property
    def role(self) -> str:
        return self.token.role

    @property
    def csrf(self) -> str:
        return self.session.csrf

    def may(self, right: Right) -> bool:
        return right in RIGHTS[self.token.role]


@dataclass(frozen=True, slots=True)
class Fresh:
    """A session that has just begun: its cookie, and what a page of it needs."""

    cookie: str = field(repr=False)
    csrf: str = field(repr=False)
    name: str


class Gate:
    """Lets people in, knows them again, lets them out."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._failures = Rates(FAILURES)

    async def who(self) -> SignedIn | None:
        """Who sent the request; None for nobody, or one whose session is over. Raises Unavailable."""
        cookie = request.cookies.get(cookie_name())
        if not cookie or len(cookie) > _LONGEST or not cookie.isascii():
            return None
        session = await self._database.read(browser_sessions.of_cookie, cookie)
        if session is None:
            return None
        if datetime.now(UTC) - session.seen_at > NOTE_EVERY:
            await self._database.single(browser_sessions.note_use, session.id)
        return SignedIn(session, cookie)

    async def is_good(self, who: SignedIn) -> bool:
        """Whether the session still goes on."""
        return await self._database.read(browser_sessions.is_good, who.session.id)

    async def sign_in(self, token: str) -> Fresh:
        """A new session for the owner of an API token, instead of the one that the browser had. A good token always gets in.

        Raises Unauthenticated, slowly; RateLimited after several bad ones from one address.
        """
        found = None
        if token and len(token) <= _LONGEST and token.isascii():
            found = await self._database.read(tokens.authenticate, token)
        if found is None:
            wait = self._failures.take(peer(), trio.current_time())
            await trio.sleep(SLOWLY)
            if wait:
                raise RateLimited(
                    f"Too many bad tokens from your address; wait {wait:.0f} s.", retry_after_s=round(wait, 1)
                )
            raise good_for_nothing()
        fresh = Fresh(secrets.token_urlsafe(_ENTROPY), secrets.token_urlsafe(_ENTROPY), found.name)
        await self._database.tx(
            browser_sessions.begin, fresh.cookie, fresh.csrf, found, instead_of=request.cookies.get(cookie_name())
        )
        return fresh

    async def sign_out(self, who: SignedIn) -> None:
        """Raises NotFound when that has been done."""
        await self._database.tx(browser_sessions.end, who.session.id, by=who.name)

    async def rotate(self, who: SignedIn, response: Response) -> None:
        """Gives the browser a new cookie if the old one was in use for long; the session goes on."""
        if datetime.now(UTC) - who.session.rotated_at < ROTATE_EVERY:
            return
        cookie = secrets.token_urlsafe(_ENTROPY)
        if await self._database.single(browser_sessions.rotate, who.cookie, cookie):
            keep_cookie(response, cookie, until=who.session.expires_at)


def signed_in_or(authenticate: Authenticate, gate: Gate) -> Authenticate:
    """Tokens as before; and where a user's is asked for and none is given, the session of our own page's script."""

    async def authenticate_either(kind: Auth, header: str | None) -> Any:  # noqa: ANN401 - the record of that kind
        if header is None and "user" in kind and has_request_context() and cookie_name() in request.cookies:
            who = await gate.who()
            if who is None:
                raise good_for_nothing()
            if request.method not in ("GET", "HEAD"):
                require_csrf(who, request.headers.get(CSRF_HEADER, ""))
            return who.token
        return await authenticate(kind, header)

    return authenticate_either


def require_csrf(who: SignedIn, given: str) -> None:
    """Raises Forbidden (csrf) unless the request was made by one of our pages, in this very session."""
    require_same_origin()
    if not is_csrf(who, given):
        raise Forbidden("This page is from before you signed in again. Load it anew and try once more.", code="csrf")


def is_csrf(who: SignedIn, given: str) -> bool:
    """Whether it is the word that this session's own pages know."""
    return hmac.compare_digest(given.encode(), who.csrf.encode())


def require_same_origin() -> None:
    """Raises Forbidden (csrf) for a request that another site's page, or no page at all, has sent.

    Browsers say where a request comes from by Sec-Fetch-Site, where they do not (plain HTTP) by Origin. The scheme is not
    compared: TLS may end at a proxy before us.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = urlsplit(request.headers.get("Origin", ""))
    same = site == "same-origin" if site is not None else bool(origin.netloc) and origin.netloc == request.host
    if not same:
        raise Forbidden("This request did not come from a page of this server.", code="csrf")


def cookie_name() -> str:
    """Cookies are not told apart by port, and two servers on one host must not sign each other's people out."""
    host, _, port = request.host.rpartition(":")
    name = f"iac-{port}" if host and port.isdecimal() else "iac"
    return f"__Host-{name}" if is_secure() else name


def keep_cookie(response: Response, cookie: str, *, until: datetime | None = None) -> None:
    """Has the browser keep the cookie, from every script's eyes."""
    lasts = browser_sessions.WHOLE if until is None else until - datetime.now(UTC)
    response.set_cookie(
        cookie_name(),
        cookie,
        max_age=int(lasts.total_seconds()),
        path="/",
        httponly=True,
        samesite="Lax",
        secure=is_secure(),
    )


def drop_cookie(response: Response) -> None:
    response.delete_cookie(cookie_name(), path="/", httponly=True, samesite="Lax", secure=is_secure())


def origin() -> str:
    """The server's address as this browser knows it."""
    return f"{'https' if is_secure() else 'http'}://{request.host}"


def is_secure() -> bool:
    """Whether the browser speaks TLS, to us or to a proxy that says so. Who lies here only loses his own cookie."""
    return bool(request.scheme == "https") or request.headers.get("X-Forwarded-Proto") == "https"
