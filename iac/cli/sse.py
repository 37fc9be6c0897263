"""Server-sent events: bytes in, events out. Nothing here reads from anywhere.

Lines end with LF, CR LF or CR and with nothing else: a reader that splits text the way `str.splitlines` does tears an
event apart at the first U+2028 inside of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LONGEST = 16 * 1024 * 1024
"""Bytes of one event; what is longer is not from a server of ours."""
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)")


class Malformed(Exception):
    """This is no stream of events."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """`id` is the last one that the stream gave, as the standard says."""

    name: str
    data: bytes
    id: str


@dataclass(slots=True)
class EventParser:
    """Fed with pieces of any size, gives the events that are complete."""

    _rest: bytes = b""
    _name: str = ""
    _id: str = ""
    _data: list[bytes] = field(default_factory=list)

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """Raises Malformed for an event without an end."""
        buffer, at = self._rest + piece, 0
        events: list[ServerEvent] = []
        while (line := _LINE.match(buffer, at)) is not None:
            if line[2] == b"\r" and line.end() == len(buffer):
                break  # the LF that belongs to it may be in the next piece
            at = line.end()
            event = self._take(line[1])
            if event is not None:
                events.append(event)
        self._rest = buffer[at:]
        if len(self._rest) + sum(map(len, self._data)) > LONGEST:
            raise Malformed(f"an event is over {LONGEST} bytes")
        return events

    def _take(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        return None

    def _dispatch(self) -> ServerEvent | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return ServerEvent(name or "message", b"\n".join(data), self._id) if data else None
