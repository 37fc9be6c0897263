"""What went wrong, as a page with a way on for people, and as something that a page's script can show."""

from __future__ import annotations

from collections.abc import Mapping

from quart import Response, g, request

from iac.web.ui import answers, rendering
from iac.web.ui.gate import SignedIn
from iac.web.ui.models.parts import View
from iac.web.ui.pages import frame, sign_in_path

API = ("/api/", "/healthz", "/readyz", "/metrics")
_TITLES = {
    400: "That request makes no sense",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not like this",
    413: "Too large",
    422: "That does not fit",
    429: "Too much at once",
    503: "Not now",
    507: "The server's disk is full",
}
_HELP = {
    403: "Ask an admin for a token with another role, then sign in with it.",
    404: "It may have been deleted or renamed, or the address has a typo.",
    405: "Go back, load the page again, and retry from there.",
    422: "The address, or what you sent, has a value that does not exist.",
    429: "Wait a moment, then load the page again.",
    503: "The database cannot be reached, or the server is stopping. Tasks that run go on meanwhile; load the page again "
    "in a moment.",
    507: "Nothing that was acknowledged is lost. Free some space, then try again.",
}


class Mistake(View, frozen=True, kw_only=True):
    status: int
    message: str
    help: str
    retry: bool


def answer(status: int, message: str, extras: Mapping[str, object]) -> Response | None:
    """The error as a browser wants it; None for a program, which gets JSON."""
    if request.path.startswith(API):
        return None
    if answers.asked_by_script():
        return _for_script(status, message, extras)
    if "text/html" not in request.headers.get("Accept", ""):
        return None
    if status == 401:
        return answers.see(sign_in_path())
    mistake = Mistake(
        title=_TITLES.get(status, "Something broke" if status >= 500 else "That did not work"),
        status=status,
        message=message,
        help=_HELP.get(status, "The server's log has the details." if status >= 500 else ""),
        retry=status in (429, 503, 507) or status == 500,
    )
    me: SignedIn | None = getattr(g, "me", None)
    return answers.html(rendering.page("mistake.html", **{**frame(me), "page": mistake}), status)


def _for_script(status: int, message: str, extras: Mapping[str, object]) -> Response:
    """Shown where it happened: at the form that was sent, with its field, or as a toast."""
    if status == 401:
        return answers.see(sign_in_path())
    form, path = request.headers.get("HX-Trigger", ""), str(extras.get("path", "$"))
    if form.endswith("-form") and status < 500:
        field = path.removeprefix("$.").partition("[")[0] if path != "$" else ""
        return answers.told(status=status, refused={"form": form, "field": field, "says": message})
    return answers.told(status=status, toast={"says": message, "tone": "bad"})
