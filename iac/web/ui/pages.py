"""The UI's own table: its pages and its deeds, each declared once. Routes, navigation and live streams are made from it.

A page's handler gets a decoded `PageCall` and returns a `View`; a deed's handler does one thing and returns a `Done`,
or `Made` if what it made can be shown only once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
import trio
from quart import Response, g, request
from quart_trio import QuartTrio

from iac.domain.uploads import Upload
from iac.errors import Forbidden, Invalid
from iac.web import sse
from iac.web.auth import Right
from iac.web.routing import KIB, NoQuery
from iac.web.ui import answers, rendering
from iac.web.ui.gate import (
    CSRF_FIELD,
    CSRF_HEADER,
    Gate,
    SignedIn,
    is_csrf,
    require_csrf,
    require_same_origin,
)
from iac.web.ui.live import SILENCE, LiveView, LiveViews
from iac.web.ui.models.parts import View

Q = TypeVar("Q")
LIVE = "/ui/live"
FORM_LIMIT = 480 * KIB
"""The largest form, in bytes as browsers encode it: a variable's value may have 64 KiB, and each byte become three."""
Navigation = tuple[tuple[str, str], ...]
"""Names and addresses of pages."""


@dataclass(frozen=True, slots=True)
class PageCall(Generic[Q]):
    """A decoded request. `query` is the address's, or a deed's form; `uploads` are the files that came with that."""

    me: SignedIn
    path: Mapping[str, Any]
    query: Q
    uploads: tuple[Upload, ...] = ()


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A deed is done: what to say, and where to go if not back to the page that asked for it."""

    says: str
    location: str | None = None
    back: str = "/"
    """Where a browser without scripts goes."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A deed has made something that is shown once, and only to whoever asked for it: in the dialog, or as a page."""

    template: str
    view: View


Beside = Callable[[Mapping[str, Any], str], Awaitable[sse.Talker]]
"""What else goes along with a page's stream where its script asks for it with `log=`; the text says from where on."""
PageHandler = Callable[[PageCall[Any]], Awaitable[View]]
DeedHandler = Callable[[PageCall[Any]], Awaitable[Done | Made]]


@dataclass(frozen=True, slots=True)
class Page:
    """A page at a path. `nav` is its name in the navigation, if it is there; `topics` ring when it may have changed.

    What a live page shows depends on the role of who looks, and on nothing else about them, unless it is `personal`.
    """

    path: str
    name: str
    template: str
    handler: PageHandler
    right: Right = "read"
    query: type = NoQuery
    nav: str = ""
    topics: Callable[[Mapping[str, Any]], tuple[str, ...]] | tuple[str, ...] = ()
    personal: bool = False
    beside: Beside | None = None


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that a form or a button does, by POST. `limit` is the most bytes that the form may have, files and all."""

    path: str
    name: str
    handler: DeedHandler
    right: Right
    form: type = NoQuery
    limit: int = FORM_LIMIT

    @property
    def endpoint(self) -> str:
        return f"ui_do_{self.name}"


@dataclass(slots=True)
class Ui:
    """Collects pages and deeds; `register` puts them on an app."""

    pages: list[Page] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)

    def page(self, path: str, template: str, **declared: Any) -> Callable[[PageHandler], PageHandler]:  # noqa: ANN401 - the fields of Page
        def declare(handler: PageHandler) -> PageHandler:
            self.pages.append(Page(path, handler.__name__, template, handler, **declared))
            return handler

        return declare

    def deed(self, path: str, right: Right, **declared: Any) -> Callable[[DeedHandler], DeedHandler]:  # noqa: ANN401 - the fields of Deed
        def declare(handler: DeedHandler) -> DeedHandler:
            self.deeds.append(Deed(path, handler.__name__, handler, right, **declared))
            return handler

        return declare

    @property
    def navigation(self) -> Navigation:
        """The names and addresses of pages that are in it."""
        return tuple((page.nav, page.path) for page in self.pages if page.nav)

    def register(self, app: QuartTrio, gate: Gate, views: LiveViews) -> None:
        for page in self.pages:
            served = _Served(page, gate, views, self.navigation)
            app.add_url_rule(page.path, endpoint=f"ui_{page.name}", view_func=served.show, methods=["GET"])
            if page.topics:
                path = f"{LIVE}{page.path}"
                app.add_url_rule(path, endpoint=f"ui_live_{page.name}", view_func=served.stream, methods=["GET"])
        for deed in self.deeds:
            view = partial(_do, deed, gate, self.navigation)
            app.add_url_rule(deed.path, endpoint=deed.endpoint, view_func=view, methods=["POST"])


@dataclass(frozen=True, slots=True)
class _Served:
    page: Page
    gate: Gate
    views: LiveViews
    navigation: Navigation

    async def show(self, **path: object) -> Response:
        me = await _let_in(self.gate)
        if me is None:
            return _stranger()
        call = self._call(me, path)
        view, picture = await self._look(call)
        context = {**frame(me, self.navigation), "page": view, "live": self._live(picture)}
        response = answers.html(rendering.page(self.page.template, **context))
        # Not where it is fetched into another page: the address is that page's.
        if answers.asked_by_script() and view.address and answers.came_from().partition("?")[0] == request.path:
            response.headers["HX-Push-Url"] = view.address
        if not answers.asked_by_script():
            await self.gate.rotate(me, response)
        return response

    async def stream(self, **path: object) -> Response:
        me = await self.gate.who()
        if me is None:
            signed_out = sse.encoded(sse.Event("signed-out", {}), "")
            return Response(signed_out, content_type=sse.CONTENT_TYPE, headers=sse.HEADERS)
        if request.method == "HEAD":  # there would be no end of what is not sent
            return Response(b"", content_type=sse.CONTENT_TYPE, headers=sse.HEADERS)
        last = request.headers.get("Last-Event-ID") or request.args.get("since", "")
        since, _, place = last.partition(sse.BETWEEN)
        self.views.refuse_crowd(me.session.id)
        live = self._view(self._call(me, path))
        parts = self.views.stream(live, since, me.session.id, _now_and_then(self.gate, me))
        if self.page.beside is not None and "log" in request.args:
            place = place or request.args["log"]
            body = sse.told(parts, await self.page.beside(path, place), ids=(since, place))
        else:
            body = sse.told(parts)
        response = Response(body, content_type=sse.CONTENT_TYPE, headers=sse.HEADERS)
        response.timeout = None
        return response

    def _call(self, me: SignedIn, path: Mapping[str, Any]) -> PageCall[Any]:
        """Raises Forbidden, Invalid."""
        _require(me, self.page.right)
        return PageCall(me, path, decoded(request.args.to_dict(), self.page.query))

    async def _look(self, call: PageCall[Any]) -> tuple[View, str]:
        return await self._view(call).look() if self.page.topics else (await self.page.handler(call), "")

    def _view(self, call: PageCall[Any]) -> LiveView:
        page = self.page
        viewer = call.me.session.id if page.personal else call.me.role
        key = (page.name, viewer, tuple(sorted(call.path.items())), call.query)
        topics = page.topics(call.path) if callable(page.topics) else page.topics
        return self.views.of(key, partial(page.handler, call), topics)

    def _live(self, picture: str) -> str:
        """The address of the page's stream; empty for a page that does not change by itself."""
        if not self.page.topics:
            return ""
        query = request.query_string.decode("ascii", "replace")
        return f"{LIVE}{request.path}?{query + '&' if query else ''}since={picture}"


async def _let_in(gate: Gate) -> SignedIn | None:
    me = await gate.who()
    g.me = me  # for the page that tells of an error
    return me


async def _do(deed: Deed, gate: Gate, navigation: Navigation, /, **path: object) -> Response:
    me = await _let_in(gate)
    if me is None:
        return _stranger()
    form = (await request.form).to_dict()
    sent = form.pop(CSRF_FIELD, "")
    csrf = request.headers.get(CSRF_HEADER) or sent
    if answers.asked_by_script() and not is_csrf(me, csrf):
        return _put_right(me)
    require_csrf(me, csrf)
    _require(me, deed.right)
    done = await deed.handler(PageCall(me, path, decoded(form, deed.form), await _uploads()))
    if isinstance(done, Made):
        return answers.html(rendering.page(done.template, **frame(me, navigation), page=done.view))
    if not answers.asked_by_script():
        return answers.see(done.location or done.back)
    toast = {"says": done.says, "tone": "good"}
    if done.location is not None:
        return answers.told({"HX-Redirect": done.location}, later=toast)
    return answers.told(done=True, toast=toast)


def _stranger() -> Response:
    return answers.signed_out() if answers.asked_by_script() else answers.see(sign_in_path())


def _put_right(me: SignedIn) -> Response:
    """Nothing is done; but a page of ours that is from before somebody signed in again need not be loaded anew for that."""
    require_same_origin()
    says = "This page was from before you signed in again. It is put right now: send it once more."
    return answers.refused(403, says, signed_in={"csrf": me.csrf, "name": me.name})


async def _uploads() -> tuple[Upload, ...]:
    """The files of the form; a browser sends an empty one without a name where none was chosen."""
    found = [file for _, file in (await request.files).items(multi=True) if file.filename]
    return tuple([Upload(str(file.filename), await trio.to_thread.run_sync(file.read)) for file in found])


def _require(me: SignedIn, right: Right) -> None:
    if not me.may(right):
        raise Forbidden(f"You are signed in as {me.name} ({me.role}), which lacks the right {right!r}.", right=right)


def decoded(values: Mapping[str, str], kind: type[Q]) -> Q:
    """The fields of `kind` out of texts; what it has no field for is ignored. Raises Invalid with the path."""
    known: set[str] = set(kind.__struct_fields__)  # type: ignore[attr-defined]
    try:
        return msgspec.convert({name: text for name, text in values.items() if name in known}, kind, strict=False)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `")
        raise Invalid(reason, path=place.rstrip("`") or "$") from None


def sign_in_path() -> str:
    """Where one signs in, to come back after it."""
    here = answers.came_from()
    return "/login" if here == "/" else f"/login?next={rendering.segment(here)}"


def frame(me: SignedIn | None, navigation: Navigation = ()) -> dict[str, object]:
    """What the frame around every page needs."""
    return {"me": me, "navigation": navigation, "here": request.path, "live": ""}


def _now_and_then(gate: Gate, me: SignedIn) -> Callable[[], Awaitable[bool]]:
    """Whether the session goes on, asked of the database no more often than nothing happens."""
    asked_at = trio.current_time()

    async def still_good() -> bool:
        nonlocal asked_at
        if trio.current_time() - asked_at < SILENCE - 1:
            return True
        asked_at = trio.current_time()
        return await gate.is_good(me)

    return still_good
