"""HTTP/1.1 requests as they come over a connection, in pieces, for something between the two ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

Put = Callable[[bytes], Awaitable[None]]


class Source:
    """One end of a connection, read in the pieces in which a request comes."""

    def __init__(self, stream: trio.SocketStream, size: Callable[[], int]) -> None:
        """`size` is the most that is read at once."""
        self._stream, self._size = stream, size
        self._unread = bytearray()

    async def some(self) -> bytes:
        """What comes next; nothing at the end."""
        if self._unread:
            data, self._unread = bytes(self._unread), bytearray()
            return data
        return bytes(await self._stream.receive_some(self._size()))

    def unread(self, data: bytes) -> None:
        self._unread[:0] = data

    async def until_blank_line(self) -> bytes:
        """Up to and with it; less if the end comes sooner."""
        found = bytearray()
        while b"\r\n\r\n" not in found:
            if not (data := await self.some()):
                return bytes(found)
            found += data
        end = found.index(b"\r\n\r\n") + 4
        self.unread(bytes(found[end:]))
        return bytes(found[:end])

    async def head(self) -> Head | None:
        """The head of the next request; None when there is none any more."""
        raw = await self.until_blank_line()
        return Head(raw) if raw.endswith(b"\r\n\r\n") else None

    async def body(self, length: int, put: Put) -> None:
        """The next `length` bytes."""
        while length and (data := await self.some()):
            self.unread(data[length:])
            await put(data[:length])
            length -= len(data[:length])


class Head:
    """A request's head. `length` is the body's, None when only the end of the connection tells."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.method, self.path, _ = raw.decode("latin-1").split(" ", 2)
        headers = _headers(raw)
        self.upgrade = headers.get("upgrade", "").lower() == "websocket"
        self.length = length_of(raw)


def length_of(head: bytes) -> int | None:
    """The length of the body behind this head; None when only the end of the connection tells."""
    headers = _headers(head)
    return None if "transfer-encoding" in headers else int(headers.get("content-length", "0"))


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines}
