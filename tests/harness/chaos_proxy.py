"""A network that misbehaves on demand: a TCP proxy whose verbs may be switched while it runs.

    async with chaos_proxy(server.url) as proxy:
        ... an agent with the endpoint proxy.url ...
        proxy.up.delay(0.1)          # towards the server; seconds on the way
        proxy.down.rate(8_000)       # towards the agent; bytes/s that all connections share
        proxy.blackhole()            # both ways: bytes are accepted and vanish, nobody is told
        proxy.passes()               # whatever comes from now on gets through

Verbs of one way (`up`, `down`): delay, rate, blackhole, hold, cut_after, half_close, rewrite (of control messages).
Verbs of the proxy: blackhole, forget, reset, refuse_upgrade, answer (a page of its own), cut_answer, duplicate, leads_to.

A connection that lost bytes in a black hole stays dead after it, as one does whose NAT entry is gone; one that was held
goes on. Requests are told apart by Content-Length; a chunked request's connection is passed on without a look.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from typing import Literal
from urllib.parse import urlsplit

import trio

from tests.harness.chaos_way import READ, Lane, Way
from tests.harness.frames import Frames, frame
from tests.harness.http_wire import Head, Put, Source, length_of

BUFFER = 16 * 1024
"""Bytes that the kernel keeps for the proxy: a slow link has to be felt by those who send."""
ON_THE_WAY = 2
"""Pieces that are taken from a sender before its receiver has them."""


@dataclass(eq=False)
class _Rule:
    """What is done with requests like this, so many times."""

    path: str
    method: str | None
    left: float
    act: Literal["page", "cut", "twice"]
    page: bytes = b""
    upgrade: bool | None = None

    def fits(self, head: Head) -> bool:
        as_wanted = self.method in (None, head.method) and self.upgrade in (None, head.upgrade)
        return self.left > 0 and as_wanted and self.path in head.path


class ChaosProxy:
    """`seen` are the requests that came, as (method, path), whatever became of them."""

    def __init__(self, target: str) -> None:
        self.leads_to(target)
        self.url = ""
        self.up, self.down = Way(), Way()
        self.seen: list[tuple[str, str]] = []
        self._rules: list[_Rule] = []
        self._open: set[_Connection] = set()

    def leads_to(self, url: str) -> None:
        """Where new connections go."""
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 80)

    @property
    def connections(self) -> int:
        return len(self._open)

    def passes(self) -> None:
        """No fault of any kind for what comes from now on."""
        self.up.passes()
        self.down.passes()
        self._rules.clear()

    def blackhole(self) -> None:
        self.up.blackhole()
        self.down.blackhole()

    def forget(self) -> None:
        """As a NAT that drops its entries: open connections are dead from now on, new ones pass."""
        self.up.forget()
        self.down.forget()

    def reset(self) -> None:
        """Both ends of every open connection get an RST."""
        for connection in list(self._open):
            connection.reset()

    def refuse_upgrade(self, status: int = 403) -> None:
        """WebSocket handshakes get a page of the proxy's; plain requests pass."""
        page = _page(status, "<html><body>Blocked by policy</body></html>", "text/html")
        self._rules.append(_Rule("", None, inf, "page", page, upgrade=True))

    def answer(
        self,
        status: int,
        body: str = "<html><body>Sign in</body></html>",
        *,
        path: str = "",
        method: str | None = None,
        times: float = inf,
        content_type: str = "text/html",
    ) -> None:
        """Requests whose path contains `path` are answered here; the server does not see them."""
        self._rules.append(_Rule(path, method, times, "page", _page(status, body, content_type)))

    def cut_answer(self, path: str, *, method: str | None = None, times: float = 1) -> None:
        """The server gets the request and answers; the connection is reset before the answer arrives."""
        self._rules.append(_Rule(path, method, times, "cut"))

    def duplicate(self, path: str, *, method: str | None = None, times: float = 1) -> None:
        """The server gets the request twice, one after the other; only the second answer arrives."""
        self._rules.append(_Rule(path, method, times, "twice"))

    # For connections

    def rule_for(self, head: Head) -> _Rule | None:
        """The first rule that fits is used up by one."""
        self.seen.append((head.method, head.path))
        for rule in self._rules:
            if rule.fits(head):
                rule.left -= 1
                return rule
        return None

    async def reach(self) -> trio.SocketStream:
        host, port = self._target
        return await trio.open_tcp_stream(host, port)

    async def serve(self, client: trio.SocketStream) -> None:
        if self.up.mode == "hole":
            await _swallow(client)
            return
        try:
            server = await self.reach()
        except OSError:
            _abort(client)
            return
        connection = _Connection(self, client, server)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)


@asynccontextmanager
async def chaos_proxy(target: str) -> AsyncIterator[ChaosProxy]:
    """A proxy in front of that URL (http), on a port of its own, as long as the body runs."""
    proxy = ChaosProxy(target)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)  # those that it accepts inherit it
    proxy.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()


class _Connection:
    def __init__(self, proxy: ChaosProxy, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._scope = trio.CancelScope()
        self._frames_up, self._frames_down = Frames(), Frames()
        self._upgrading = self._upgraded = self._cut = False
        self._turns = {client: trio.Lock(), server: trio.Lock()}
        """A page of the proxy's own may be due while the server's last answer is still on its way to the client."""

    def reset(self) -> None:
        _abort(self._client)
        _abort(self._server)
        self._scope.cancel()

    async def run(self) -> None:
        proxy = self._proxy
        with self._scope:
            async with self._client, self._server, trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, proxy.up, self._client, self._server, self._requests)
                nursery.start_soon(self._carry, proxy.down, self._server, self._client, self._answers)

    async def _carry(
        self,
        way: Way,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        read: Callable[[Way, Source, Put], Awaitable[None]],
    ) -> None:
        lane = way.enter(sink)
        on_the_way, arriving = trio.open_memory_channel[tuple[float, bytes]](inf)

        async def put(data: bytes) -> None:
            on_the_way.send_nowait((trio.current_time() + way.seconds, data))
            # A sender feels a slow receiver; but what is held is taken all the same, or nobody would know what was sent.
            while way.mode != "hold" and on_the_way.statistics().current_buffer_used > ON_THE_WAY:
                lane.taken = trio.Event()
                await lane.taken.wait()
            await trio.lowlevel.checkpoint()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deliver, way, lane, arriving)
                try:
                    await read(way, Source(source, way.appetite), put)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    if way.mode != "hole":
                        self.reset()
                async with on_the_way:
                    await put(b"")
        finally:
            way.leave(lane)

    async def _deliver(self, way: Way, lane: Lane, arriving: trio.MemoryReceiveChannel[tuple[float, bytes]]) -> None:
        async for due, data in arriving:
            lane.taken.set()
            await trio.sleep_until(due)
            await lane.go_on.wait()
            if way.mode == "hole" or lane.lost:
                lane.lost = True
                continue
            if lane.shut:
                continue
            try:
                await self._hand_over(way, lane, data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.reset()
        if lane.lost:
            await trio.sleep_forever()  # the end that hears nothing must not hear of an end either

    async def _hand_over(self, way: Way, lane: Lane, data: bytes) -> None:
        if not data:
            await lane.sink.send_eof()
            return
        piece = READ if way.bytes_per_s is None else max(64, int(way.bytes_per_s / 20))
        for start in range(0, len(data), piece):
            part = data[start : start + piece]
            await way.turn(len(part))
            if lane.carried + len(part) > way.longest:
                self.reset()
                return
            lane.carried += len(part)
            async with self._turns[lane.sink]:
                await lane.sink.send_all(part)

    async def _requests(self, way: Way, source: Source, put: Put) -> None:
        """What the client says: requests one by one, until one of them becomes a control channel."""
        while (head := await source.head()) is not None:
            rule = self._proxy.rule_for(head)
            if rule is not None and rule.act == "page":
                await source.body(head.length or 0, _nowhere)
                async with self._turns[self._client]:
                    await self._client.send_all(rule.page)
                    await self._client.send_eof()
                return
            self._cut = rule is not None and rule.act == "cut"
            if rule is not None and rule.act == "twice":
                request = bytearray(head.raw)
                await source.body(head.length or 0, _into(request))
                await self._say_beside(bytes(request))
                await put(bytes(request))
            else:
                self._upgrading = head.upgrade
                await put(head.raw)
                await source.body(head.length or 0, put)
            if head.upgrade or head.length is None:
                while data := await source.some():
                    for out in _rewritten(way, data, self._frames_up) if head.upgrade else (data,):
                        await put(out)
                return

    async def _say_beside(self, request: bytes) -> None:
        """The same request on a connection of its own; its answer is read and forgotten."""
        async with await self._proxy.reach() as server:
            await server.send_all(request)
            source = Source(server, lambda: READ)
            with suppress(trio.BrokenResourceError):
                await source.body(length_of(await source.until_blank_line()) or 0, _nowhere)

    async def _answers(self, way: Way, source: Source, put: Put) -> None:
        while data := await source.some():
            if self._cut:
                self.reset()
            elif self._upgraded:
                for out in _rewritten(way, data, self._frames_down):
                    await put(out)
            elif self._upgrading:
                source.unread(data)
                answer = await source.until_blank_line()
                self._upgraded, self._upgrading = answer.startswith(b"HTTP/1.1 101"), False
                await put(answer)
            else:
                await put(data)


def _rewritten(way: Way, data: bytes, frames: Frames) -> Iterator[bytes]:
    for each in frames.feed(data):
        if way.change is None or not each.is_text:
            yield each.raw
        else:
            for message in way.change(json.loads(each.payload)):
                if isinstance(message, bytes):
                    yield message
                else:
                    yield frame(json.dumps(message).encode(), masked=each.masked)


async def _nowhere(data: bytes) -> None: ...


def _into(buffer: bytearray) -> Put:
    async def put(data: bytes) -> None:
        buffer.extend(data)

    return put


async def _swallow(client: trio.SocketStream) -> None:
    async with client:
        with suppress(trio.BrokenResourceError):
            while await client.receive_some(READ):
                pass
        await trio.sleep_forever()


def _abort(stream: trio.SocketStream) -> None:
    """Closes it with an RST."""
    with suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def _page(status: int, body: str, content_type: str) -> bytes:
    data = body.encode()
    head = f"HTTP/1.1 {status} A Proxy Says\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n"
    return (head + "Connection: close\r\n\r\n").encode() + data
