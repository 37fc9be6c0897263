"""HTTP with as little work per request as possible, so that a benchmark measures the server and not itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
import trio

RECEIVE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """`sent_at` is by CLOCK_MONOTONIC, which all processes of a machine share; `seconds` until the last byte was there."""

    body: bytes
    sent_at: float
    seconds: float


class Connection:
    """One keep-alive connection; opened again when the server has had enough of it."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
        self._stream: trio.SocketStream | None = None
        self._rest = b""

    def request(self, method: str, target: str, body: msgspec.Struct | None = None) -> bytes:
        """A request as bytes, to be sent once or often."""
        content = b"" if body is None else msgspec.json.encode(body)
        kind = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n" if content else ""
        return f"{method} {target} HTTP/1.1\r\n{self._head}{kind}\r\n".encode() + content

    async def ask(self, request: bytes) -> Answer:
        """The answer to one request; opening the connection is not counted. Raises RuntimeError unless 200 or 201."""
        stream = await self.open()
        began = time.monotonic()
        await stream.send_all(request)
        head = await self._until_end_of_head(stream)
        if not head.startswith((b"http/1.1 200 ", b"http/1.1 201 ")):
            raise RuntimeError((head + b"\n" + self._rest).decode(errors="replace"))
        body, missing = bytearray(self._rest), _length(head) - len(self._rest)
        while missing > 0:
            more = await stream.receive_some(min(RECEIVE, missing))
            if not more:
                raise RuntimeError("the server closed the connection")
            body += more
            missing -= len(more)
        spent = time.monotonic() - began
        self._rest = b""
        if b"\r\nconnection: close" in head:
            await self.close()
        return Answer(bytes(body), began, spent)

    async def close(self) -> None:
        """May be opened again."""
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = None

    async def open(self) -> trio.SocketStream:
        """The connection, made if there is none now."""
        if self._stream is None:
            self._stream, self._rest = await trio.open_tcp_stream(self._host, self._port), b""
        return self._stream

    async def _until_end_of_head(self, stream: trio.SocketStream) -> bytes:
        data = self._rest
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some(RECEIVE)
            if not more:
                raise RuntimeError("the server closed the connection")
            data += more
        head, _, self._rest = data.partition(b"\r\n\r\n")
        return head.lower()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise RuntimeError("the answer has no Content-Length")
