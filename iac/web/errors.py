"""Errors as answers: one form, one place."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from iac.errors import IacError

log = logging.getLogger(__name__)

_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large"}


AsPage = Callable[[int, str, Mapping[str, object]], Awaitable[Response | None]]
"""Status, message (or none) and what else is known, as a page for people; None where JSON is wanted."""


def _nobody(error: IacError) -> None: ...


async def _no_page(status: int, message: str, extras: Mapping[str, object]) -> None: ...


def error_body(code: str, message: str, *, retryable: bool, extras: Mapping[str, object]) -> bytes:
    own = {"code": code, "message": message, "retryable": retryable}
    return msgspec.json.encode({"error": {**extras, **own}})


def answer_for(error: IacError) -> Response:
    """The answer that an error of ours is."""
    body = error_body(error.code, error.message, retryable=error.retryable, extras=error.extras)
    headers = {"Retry-After": _seconds(error.extras.get("retry_after_s"))} if error.retryable else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="iac"'
    return Response(body, status=error.status, content_type="application/json", headers=headers)


def _seconds(after: object) -> str:
    return str(max(1, math.ceil(after))) if isinstance(after, int | float) else "2"


def install(app: QuartTrio, seen: Callable[[IacError], None] = _nobody, as_page: AsPage = _no_page) -> None:
    """Maps everything that a handler may raise. `seen` is told of each error of ours."""

    async def ours(error: IacError) -> Response:
        seen(error)
        return await as_page(error.status, error.message, error.extras) or answer_for(error)

    async def http(error: HTTPException) -> Response:
        status = error.code or 500
        message = {
            404: "There is nothing at this path; /api/v1/openapi.json lists what there is.",
            405: "This path does not take that method.",
        }.get(status, error.description or error.name)
        if (page := await as_page(status, "", {})) is not None:
            return page
        body = error_body(_CODES.get(status, "http_error"), message, retryable=False, extras={})
        allow = {"Allow": error.get_headers()[-1][1]} if status == 405 and len(error.get_headers()) > 1 else {}
        return Response(body, status=status, content_type="application/json", headers=allow)

    async def bug(error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        message = "A fault of the server; its log has the details."
        if (page := await as_page(500, message, {})) is not None:
            return page
        body = error_body("internal", message, retryable=False, extras={})
        return Response(body, status=500, content_type="application/json")

    app.register_error_handler(IacError, ours)
    app.register_error_handler(HTTPException, http)
    app.register_error_handler(Exception, bug)
