"""What every answer of the UI has: headers that allow a page nothing but our own files, and what a script may be told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from quart import Response, request

from iac.web.ui import packing

CSP = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: a form's Origin would be `null`, and we could not tell our own pages by it.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def html(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body, sent = text.encode(), {**HEADERS, **(headers or {}), "Vary": "Accept-Encoding, Sec-Fetch-Site"}
    if len(body) >= packing.LEAST and packing.may_pack_page():
        body, sent = packing.packed(body), {**sent, "Content-Encoding": "gzip"}
    return Response(body, status=status, content_type="text/html; charset=utf-8", headers=sent)


def see(location: str) -> Response:
    """Go there, with GET."""
    if asked_by_script():
        return Response(b"", status=204, headers={**HEADERS, "HX-Redirect": location})
    return Response(b"", status=303, headers={**HEADERS, "Location": location})


def told(headers: Mapping[str, str] | None = None, status: int = 204, **events: object) -> Response:
    """Nothing to show, but something to tell the page's script: events by name, with their details."""
    # ASCII, as headers are.
    return Response(b"", status=status, headers={**HEADERS, **(headers or {}), "HX-Trigger": json.dumps(events)})


def refused(status: int, message: str, field: str = "", **events: object) -> Response:
    """What went wrong, for a page's script: at the form that was sent, with its field, or as a toast."""
    form = request.headers.get("HX-Trigger", "")
    if form.endswith("-form") and status < 500:
        return told(None, status, **events, refused={"form": form, "field": field, "says": message})
    return told(None, status, **events, toast={"says": message, "tone": "bad"})


def signed_out() -> Response:
    """For a page's script: its session is over. The page lets one sign in again, and keeps what was typed."""
    return told(signed_out=True)


def asked_by_script() -> bool:
    """Whether htmx asks, and not a person who follows a link or sends a form."""
    return request.headers.get("HX-Request") == "true"


def local_path(text: str) -> str:
    """The text if it is a path of this server, else `/`: what comes after signing in is never another site."""
    parts = urlsplit(text)
    fine = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return text if fine and text.isprintable() and "\\" not in text else "/"


def came_from() -> str:
    """The path that the browser shows, for one who has to sign in before going on there."""
    shown = request.headers.get("HX-Current-URL") if asked_by_script() else None
    if request.method == "POST" and urlsplit(request.headers.get("Referer", "")).netloc == request.host:
        shown = shown or request.headers["Referer"]  # where the form was: what it is sent to may be no page
    parts = urlsplit(shown or request.full_path)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return local_path(path)
