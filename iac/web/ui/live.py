"""Pages that stay up to date: what changed rings, the page's view is looked at once for all who watch it, and each browser
is sent what differs from what it has.

A view is a page with its query, as one role sees it. Nothing is queued for a browser: it gets the difference between what it
has and what is there now, when it has taken the one before. So a slow one costs nothing, and misses nothing.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from iac.actors.news import TROUBLE, News
from iac.errors import NotFound, RateLimited, Unavailable
from iac.store.identity import new_id
from iac.web import sse
from iac.web.ui import rendering
from iac.web.ui.models.parts import NOTHING, Shape, View, difference, shape_of

SILENCE = 15.0
"""Seconds after which a view is looked at though nothing rang (time changes things too), and browsers hear that we live."""
GATHER = 0.25
"""Seconds for which changes are gathered before they are sent: they come in bursts."""
TROUBLED = 2.0
REMEMBERED = 16
MOST_VIEWS = 64
MOST_STREAMS, MOST_OF_ONE = 1000, 24

StillGood = Callable[[], Awaitable[bool]]
Look = Callable[[], Awaitable[View]]


@dataclass(slots=True)
class Picture:
    """A view as of one look."""

    id: str
    view: View
    shape: Shape
    drawn: dict[str, str] = field(default_factory=dict)

    def draw(self, part_id: str) -> str:
        """The HTML of a part, drawn once for all."""
        if part_id not in self.drawn:
            found = next(part for parts in self.view.lists for part in parts.parts if part.id == part_id)
            self.drawn[part_id] = str(rendering.part(found))
        return self.drawn[part_id]


class LiveView:
    """One page with one query, as one role sees it."""

    def __init__(self, look: Look, topics: Sequence[str], news: News, boot: str) -> None:
        self._look, self._topics, self._news, self._boot = look, topics, news, boot
        self._lock = trio.Lock()
        self._heard: tuple[trio.Event, ...] = ()
        self._looked_at = -SILENCE
        self._number = 0
        self._picture: Picture | None = None
        self._before = deque[tuple[str, Shape]](maxlen=REMEMBERED)
        self.watchers = 0

    async def look(self) -> tuple[View, str]:
        """What is there now, and the id of the picture that it is. Raises whatever the page raises."""
        async with self._lock:
            return await self._look_anew()

    async def newest(self) -> Picture:
        """What is there now as far as anybody told; looked at once for all who ask at the same time."""
        async with self._lock:
            fresh = trio.current_time() - self._looked_at < SILENCE / 2
            if self._picture is None or not fresh or any(event.is_set() for event in self._heard):
                await self._look_anew()
            assert self._picture is not None  # noqa: S101 - the look has made one
            return self._picture

    async def _look_anew(self) -> tuple[View, str]:
        # Listened to before looking: what comes after the look rings.
        heard = self.listen()
        view = await self._look()
        shape = shape_of(view.lists)
        self._heard, self._looked_at = heard, trio.current_time()
        if self._picture is None or shape != self._picture.shape:
            self._number += 1
            self._picture = Picture(f"{self._boot}.{self._number}", view, shape)
            self._before.append((self._picture.id, shape))
        return view, self._picture.id

    def listen(self) -> tuple[trio.Event, ...]:
        return tuple(self._news.listen(topic) for topic in (*self._topics, TROUBLE))

    def shape_at(self, picture_id: str) -> Shape:
        """What a browser has that was last sent this; nothing if that is not remembered."""
        return next((shape for known, shape in self._before if known == picture_id), NOTHING)

    def forget(self) -> None:
        """Nobody needs it any more. The bells of single things forget them; those of many things are always in use."""
        for topic in self._topics:
            if "-" in topic:
                self._news.ring(topic)


class LiveViews:
    """The views that were looked at lately, and who watches them."""

    def __init__(self, news: News, draining: trio.Event) -> None:
        self._news, self._draining = news, draining
        self._boot = new_id("boot").removeprefix("boot-")
        self._views = OrderedDict[Hashable, LiveView]()
        self._streams = Counter[str]()

    def of(self, key: Hashable, look: Look, topics: Sequence[str]) -> LiveView:
        """The view with this key, made if need be."""
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = LiveView(look, topics, self._news, self._boot)
            self._make_room()
        self._views.move_to_end(key)
        return view

    def _make_room(self) -> None:
        unwatched = [key for key, view in self._views.items() if not view.watchers][:-1]
        for key in unwatched[: max(0, len(self._views) - MOST_VIEWS)]:
            self._views.pop(key).forget()

    def refuse_crowd(self, session_id: str) -> None:
        """Raises RateLimited when there are as many streams as there may be, of this session or of all."""
        if self._streams[session_id] >= MOST_OF_ONE or self._streams.total() >= MOST_STREAMS:
            raise RateLimited("Too many pages are open; close some.", retry_after_s=SILENCE)

    @contextmanager
    def _watching(self, view: LiveView, session_id: str) -> Iterator[None]:
        self._streams[session_id] += 1
        view.watchers += 1
        try:
            yield
        finally:
            view.watchers -= 1
            self._streams -= Counter([session_id])

    async def stream(self, view: LiveView, since: str, session_id: str, still_good: StillGood) -> sse.Talker:
        """Events from the picture `since` on, until the session or the server ends.

        `patch` has what changed, `trouble` says that what is shown may be old (the next patch or `calm` ends it), `gone`
        that it is not there any more, and `signed-out` that the person has to sign in again.
        """
        seen, troubled = view.shape_at(since), False
        with self._watching(view, session_id):
            yield b"retry: 2000\n\n"
            while not self._draining.is_set():
                heard = view.listen()
                try:
                    if not await still_good():
                        yield sse.Event("signed-out", {})
                        return
                    picture = await view.newest()
                except NotFound:
                    yield sse.Event("gone", {})
                    return
                except Unavailable:
                    if not troubled:
                        yield sse.Event("trouble", {})
                    troubled = True
                    yield sse.Pause.of(self._draining, within=TROUBLED)
                    continue
                patch = difference(seen, picture.shape)
                seen = picture.shape
                if not patch.empty:
                    parts = {part: picture.draw(part) for part in patch.parts}
                    yield sse.Event("patch", {"lists": patch.lists, "parts": parts}, picture.id)
                elif troubled:
                    yield sse.Event("calm", {})
                troubled = False
                pause = sse.Pause.of(*heard, self._draining, within=SILENCE)
                yield pause
                if not pause.heard:
                    yield sse.STILL_HERE
                else:
                    yield sse.Pause.of(self._draining, within=GATHER)
