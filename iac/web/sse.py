"""Server-sent events: what has something to tell yields events and pauses; together they are one stream of bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import msgspec
import trio

from iac.actors.bell import first_of

STILL_HERE = b": still here\n\n"
"""A comment: proxies and clients learn that the stream lives."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
CONTENT_TYPE = "text/event-stream; charset=utf-8"
BETWEEN = "~"
"""Stands between the ids of those that talk in one stream."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event with JSON as its data. With the id a browser comes back after its connection broke."""

    name: str
    data: object
    id: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing to tell until one of the bells rings, or until this moment of trio's clock."""

    bells: tuple[trio.Event, ...]
    until: float

    @classmethod
    def of(cls, *bells: trio.Event, within: float) -> Pause:
        """`within` so many seconds from now."""
        return cls(bells, trio.current_time() + within)

    @property
    def heard(self) -> bool:
        return any(bell.is_set() for bell in self.bells)


Talker = AsyncGenerator[Event | Pause | bytes, None]
"""Bytes are a comment, or another thing that is no event. Closed when the stream is."""


class _Voice:
    """A talker, how far it is, and the pause that it makes."""

    def __init__(self, talker: Talker, event_id: str) -> None:
        self.talker, self.id = talker, event_id
        self.pause: Pause | None = None

    @property
    def ready(self) -> bool:
        return self.pause is None or self.pause.heard or trio.current_time() >= self.pause.until


async def told(first: Talker, *others: Talker, ids: tuple[str, ...] = ("",)) -> AsyncIterator[bytes]:
    """What they say, each a step at a time in turns, until the first one ends.

    An event's id is the ids of all, so who comes back with it goes on with each where he was; `ids` are those to begin with.
    """
    voices = [_Voice(talker, event_id) for talker, event_id in zip((first, *others), ids, strict=True)]
    talking = list(voices)
    try:
        while True:
            ready = [voice for voice in talking if voice.ready]
            for voice in ready:
                said = await anext(voice.talker, None)
                voice.pause = said if isinstance(said, Pause) else None
                if said is None and voice is voices[0]:
                    return
                if said is None:
                    talking.remove(voice)
                elif isinstance(said, Event):
                    voice.id = said.id or voice.id
                    yield encoded(said, BETWEEN.join(each.id for each in voices) if said.id else "")
                elif isinstance(said, bytes):
                    yield said
            if not ready:
                await _silence([voice.pause for voice in talking if voice.pause is not None])
    finally:
        for voice in voices:
            await voice.talker.aclose()


async def _silence(pauses: list[Pause]) -> None:
    bells = {bell for pause in pauses for bell in pause.bells}
    until = min(pause.until for pause in pauses)
    await first_of(*bells, within=max(0.0, until - trio.current_time()))


def encoded(event: Event, event_id: str) -> bytes:
    shown = f"id: {event_id}\n" if event_id else ""
    return shown.encode() + b"event: " + event.name.encode() + b"\ndata: " + msgspec.json.encode(event.data) + b"\n\n"
