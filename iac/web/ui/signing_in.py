"""Signing in with an API token, and out again. The token goes in a form's body once, and never into an address."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from iac.errors import IacError, NotFound, RateLimited, Unauthenticated
from iac.web.agent_auth import asked_path, peer
from iac.web.platform import Platform
from iac.web.ui import answers, rendering
from iac.web.ui.gate import (
    CSRF_FIELD,
    CSRF_HEADER,
    Gate,
    drop_cookie,
    is_secure,
    keep_cookie,
    require_csrf,
    require_same_origin,
)
from iac.web.ui.models.parts import View
from iac.web.ui.pages import frame


class SignIn(View, frozen=True, kw_only=True):
    """`next` is where one goes from here; `refused` why the last try failed."""

    next: str
    refused: str = ""
    secure: bool


class _Form(msgspec.Struct, frozen=True):
    token: str = ""
    next: str = "/"


def install(app: QuartTrio, platform: Platform, gate: Gate) -> None:
    """Puts the pages on the app."""
    routes: tuple[tuple[str, Any, str], ...] = (
        ("ui_login", partial(_show, gate), "GET"),
        ("ui_sign_in", partial(_sign_in, platform, gate), "POST"),
    )
    for endpoint, view, method in routes:
        app.add_url_rule("/login", endpoint=endpoint, view_func=view, methods=[method])
    app.add_url_rule("/logout", endpoint="ui_sign_out", view_func=partial(_sign_out, gate), methods=["POST"])


async def _show(gate: Gate) -> Response:
    then = answers.local_path(request.args.get("next", "/"))
    me = await gate.who()
    if answers.asked_by_script():  # a page whose stream was told that its session is over: it may have been another tab
        return answers.signed_out() if me is None else answers.told(signed_in={"csrf": me.csrf, "name": me.name})
    if me is not None:
        return answers.see(then)
    return _page(then)


def _page(then: str, refused: str = "", status: int = 200, headers: dict[str, str] | None = None) -> Response:
    secure = is_secure() or request.host.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")
    view = SignIn(title="Sign in", next=then, refused=refused, secure=secure)
    return answers.html(rendering.page("login.html", **{**frame(None), "page": view}), status, headers)


async def _sign_in(platform: Platform, gate: Gate) -> Response:
    require_same_origin()
    sent = (await request.form).to_dict()
    form = _Form(token=sent.get("token", "").strip(), next=answers.local_path(sent.get("next", "/")))
    try:
        fresh = await gate.sign_in(form.token)
    except (Unauthenticated, RateLimited) as error:
        platform.incidents.see(error, asked_path(), peer())
        return _refused(form, error)
    response = answers.see(form.next)
    if answers.asked_by_script():
        response = answers.told(done=True, signed_in={"csrf": fresh.csrf, "name": fresh.name})
    keep_cookie(response, fresh.cookie)
    return response


def _refused(form: _Form, error: IacError) -> Response:
    says = "This token is unknown, expired or revoked." if form.token else "Paste an API token to sign in."
    says = error.message if isinstance(error, RateLimited) else says
    if answers.asked_by_script():
        return answers.refused(error.status, says, "token")
    wait = {"Retry-After": str(error.extras["retry_after_s"])} if isinstance(error, RateLimited) else None
    return _page(form.next, says, error.status, wait)


async def _sign_out(gate: Gate) -> Response:
    require_same_origin()
    me = await gate.who()
    response = answers.see("/login")
    if me is not None:
        form = (await request.form).to_dict()
        require_csrf(me, request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD, ""))
        with suppress(NotFound):  # it was done in another tab, a moment ago
            await gate.sign_out(me)
    drop_cookie(response)
    return response
