"""python -m bench.load URL CONNECTIONS SECONDS: asks for one URL over and over; prints what it saw as JSON.

A process of its own, with as little work per request as possible, so that it measures the server and not itself. The
API token comes in BENCH_TOKEN.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
import trio

RECEIVE = 256 * 1024
WARM_UP = 0.5


class Seen(msgspec.Struct, frozen=True):
    """What the load saw; `latencies` in ms, sorted."""

    seconds: float
    latencies: list[float]

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * percent / 100))]


class Connection:
    """One keep-alive connection; opened again when the server has had enough of it."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._host, self._port, self._request = host, port, request
        self._stream: trio.SocketStream | None = None
        self._rest = b""

    async def ask(self) -> float:
        """Milliseconds for one request; opening the connection is not counted. Raises RuntimeError unless 200."""
        if self._stream is None:
            self._stream, self._rest = await trio.open_tcp_stream(self._host, self._port), b""
        began = trio.current_time()
        await self._stream.send_all(self._request)
        head = await self._until_end_of_head(self._stream)
        if not head.startswith(b"http/1.1 200 "):
            raise RuntimeError(head.decode(errors="replace"))
        missing = _length(head) - len(self._rest)
        while missing > 0:
            missing -= len(await self._stream.receive_some(RECEIVE)) or missing + 1
        spent = (trio.current_time() - began) * 1000
        self._rest = b""
        if b"\r\nconnection: close" in head:
            await self._stream.aclose()
            self._stream = None
        return spent

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


async def put_under_load(url: str, token: str, connections: int, seconds: float) -> Seen:
    """Each connection asks for the URL again as soon as it has the answer."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    head = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    latencies: list[float] = []

    async def one(counted_from: float) -> None:
        connection = Connection(parts.hostname or "127.0.0.1", parts.port or 80, head.encode())
        while True:
            spent = await connection.ask()
            if trio.current_time() >= counted_from:
                latencies.append(spent)

    with trio.move_on_after(WARM_UP + seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(one, trio.current_time() + WARM_UP)
    return Seen(seconds, sorted(latencies))


def main(arguments: Sequence[str]) -> None:
    url, connections, seconds = arguments
    seen = trio.run(put_under_load, url, os.environ["BENCH_TOKEN"], int(connections), float(seconds))
    sys.stdout.buffer.write(msgspec.json.encode(seen))


if __name__ == "__main__":
    main(sys.argv[1:])
