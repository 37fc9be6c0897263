"""Errors as answers: one form, one place."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

import msgspec
from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from iac.errors import IacError

log = logging.getLogger(__name__)

_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large"}


def _nobody(error: IacError) -> None: ...


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


def install(app: QuartTrio, seen: Callable[[IacError], None] = _nobody) -> None:
    """Maps everything that a handler may raise. `seen` is told of each error of ours."""

    async def ours(error: IacError) -> Response:
        seen(error)
        return answer_for(error)

    async def http(error: HTTPException) -> Response:
        status = error.code or 500
        message = {
            404: "There is nothing at this path; /api/v1/openapi.json lists what there is.",
            405: "This path does not take that method.",
        }.get(status, error.description or error.name)
        body = error_body(_CODES.get(status, "http_error"), message, retryable=False, extras={})
        allow = {"Allow": error.get_headers()[-1][1]} if status == 405 and len(error.get_headers()) > 1 else {}
        return Response(body, status=status, content_type="application/json", headers=allow)

    async def bug(error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        body = error_body("internal", "A fault of the server; its log has the details.", retryable=False, extras={})
        return Response(body, status=500, content_type="application/json")

    app.register_error_handler(IacError, ours)
    app.register_error_handler(HTTPException, http)
    app.register_error_handler(Exception, bug)
