"""What went wrong, as a page with a way on for people, and as something that a page's script can show."""

from __future__ import annotations

from collections.abc import Mapping

from quart import Response, g, has_request_context, request

from iac.errors import IacError
from iac.web.errors import AsPage
from iac.web.ui import answers, rendering
from iac.web.ui.gate import Gate, SignedIn
from iac.web.ui.models.parts import View
from iac.web.ui.pages import Navigation, frame, sign_in_path

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
_MESSAGES = {404: "No page has this address.", 405: "This address is for something else than you asked of it."}
_HELP = {
    403: "Ask an admin for a token with another role, then sign in with it.",
    404: "What you look for may have been deleted or renamed, or the address has a typo.",
    405: "Go back, load the page again, and retry from there.",
    422: "The address, or what you sent, has a value that does not exist.",
    429: "Wait a moment, then load the page again.",
    503: "The database cannot be reached, or the server is stopping. Tasks that run go on meanwhile; load the page again "
    "in a moment.",
    507: "Nothing that was acknowledged is lost. Free some space, then try again.",
}
_WORTH_ANOTHER_TRY = frozenset({429, 500, 503, 507})


class Mistake(View, frozen=True, kw_only=True):
    status: int
    message: str
    help: str
    retry: bool


def pages(gate: Gate, navigation: Navigation) -> AsPage:
    """Errors as browsers want them; for programs None, they get JSON."""

    async def answer(status: int, message: str, extras: Mapping[str, object]) -> Response | None:
        if not has_request_context() or request.path.startswith(API):  # a WebSocket is no page
            return None
        if answers.asked_by_script():
            return _for_script(status, message or _MESSAGES.get(status, ""), extras)
        if "text/html" not in request.headers.get("Accept", ""):
            return None
        if status == 401:
            return answers.see(sign_in_path())
        context = frame(await _who(gate, status), navigation)
        view = _mistake(status, message or _of_address(status, request.path))
        return answers.html(rendering.page("mistake.html", **{**context, "page": view}), status)

    return answer


def _of_address(status: int, path: str) -> str:
    """What may be wrong with an address that no page has; empty where the usual words do."""
    if status == 404 and path.startswith("/tasks/"):
        return "There is no such task: a task's address has its number, such as /tasks/12."
    return ""


def _mistake(status: int, message: str) -> Mistake:
    return Mistake(
        title=_TITLES.get(status, "Something broke" if status >= 500 else "That did not work"),
        status=status,
        message=message or _MESSAGES.get(status, ""),
        help=_HELP.get(status, "The server's log has the details." if status >= 500 else ""),
        retry=status in _WORTH_ANOTHER_TRY,
    )


async def _who(gate: Gate, status: int) -> SignedIn | None:
    """Whose page it was, as far as that can be known now."""
    if hasattr(g, "me") or status >= 500:
        me: SignedIn | None = getattr(g, "me", None)
        return me
    try:
        return await gate.who()
    except IacError:
        return None


def _for_script(status: int, message: str, extras: Mapping[str, object]) -> Response:
    """Shown where it happened: at the form that was sent, with its field, or as a toast."""
    if status == 401:
        return answers.signed_out()
    path = str(extras.get("path", "$"))
    return answers.refused(status, message, path.removeprefix("$.").partition("[")[0] if path != "$" else "")
