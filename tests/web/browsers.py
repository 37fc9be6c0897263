"""One who follows a log over server-sent events, as a browser does it: at his own pace, from where he was."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import trio

from iac.cli.sse import EventParser, ServerEvent
from tests.harness.server import PATIENT, TOKEN


@dataclass
class Browser:
    """What he was told so far. `log` begins with byte `began`; resets cut it."""

    stream: trio.SocketStream
    rest: bytes = b""
    began: int = 0
    log: bytearray = field(default_factory=bytearray)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    last_id: str = ""
    _parser: EventParser = field(default_factory=EventParser)
    _waiting: list[ServerEvent] = field(default_factory=list)

    async def next(self) -> str:
        """The name of the next event, empty at the end of the stream; the log must go on where it was."""
        with trio.fail_after(PATIENT):
            while not self._waiting:
                piece = self.rest or bytes(await self.stream.receive_some(65536))
                self.rest = b""
                if not piece:
                    return ""
                self._waiting += self._parser.feed(piece)
        event = self._waiting.pop(0)
        self.last_id = event.id
        self._take(event.name, json.loads(event.data))
        return event.name

    async def until(self, log: bytes) -> None:
        """Until he was told all of this, and not a byte besides."""
        while bytes(self.log) != log:
            assert await self.next(), f"the stream ended after {bytes(self.log[-200:])!r}"
            assert len(self.log) <= len(log), bytes(self.log[-200:])

    async def until_event(self, name: str) -> dict[str, Any]:
        while (found := await self.next()) != name:
            assert found, f"the stream ended without {name}"
        return self.events[-1][1]

    def _take(self, name: str, data: dict[str, Any]) -> None:
        self.events.append((name, data))
        if name == "log":
            assert data["offset"] == self.began + len(self.log), "neither a gap nor a repetition"
            self.log += base64.b64decode(data["data"])
            assert data["next_offset"] == self.began + len(self.log)
        if name == "reset":
            del self.log[max(0, data["offset"] - self.began) :]
            self.began = min(self.began, data["offset"])


@asynccontextmanager
async def watching(url: str, task: int, *, offset: int = 0, last_id: str | None = None) -> AsyncIterator[Browser]:
    """Follows the log; the connection is cut when the body ends."""
    address = urlsplit(url)
    began = offset if last_id is None else int(last_id.partition(":")[0])
    # In HTTP/1.0 the body is as it is, to the end of the connection.
    lines = [
        f"GET /api/v1/tasks/{task}/logs/stream?offset={offset} HTTP/1.0",
        f"Host: {address.netloc}",
        f"Authorization: Bearer {TOKEN}",
        *([] if last_id is None else [f"Last-Event-ID: {last_id}"]),
    ]
    stream = await trio.open_tcp_stream(address.hostname or "", address.port or 80)
    async with stream:
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await stream.receive_some(65536)
            assert piece, head
            head += piece
        head, _, rest = head.partition(b"\r\n\r\n")
        assert head.split()[1] == b"200", head
        yield Browser(stream, rest, began)
