"""The network that misbehaves does what its verbs say, and nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio

from tests.faults.scene import Message, noting
from tests.harness.chaos_proxy import ChaosProxy, chaos_proxy
from tests.harness.frames import BINARY, Frame, Frames, frame
from tests.harness.http_wire import Source

PATIENT = 60.0
A_WHILE = 0.2
"""Seconds in which something would have come that must not."""
UPGRADE = b"GET /control HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n"


@dataclass
class Site:
    """Answers each request with its number and body, and a control channel with its own messages."""

    url: str = ""
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)
    """What came over control channels."""

    async def serve(self, stream: trio.SocketStream) -> None:
        source, body = Source(stream, lambda: 65536), bytearray()

        async def keep(data: bytes) -> None:
            body.extend(data)

        try:
            while (head := await source.head()) is not None:
                body.clear()
                await source.body(head.length or 0, keep)
                self.requests.append((head.path, bytes(body)))
                if head.upgrade:
                    await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                    while data := await source.some():
                        self.said.append(data)
                        await stream.send_all(data)
                    return
                answer = f"{len(self.requests)} ".encode() + body
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


@asynccontextmanager
async def behind_a_proxy() -> AsyncIterator[tuple[Site, ChaosProxy]]:
    site = Site()
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, site.serve, 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        site.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with chaos_proxy(site.url) as proxy:
            with trio.fail_after(PATIENT):
                yield site, proxy
        nursery.cancel_scope.cancel()


async def a_client(proxy: ChaosProxy) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", int(proxy.url.rpartition(":")[2]))


async def ask(stream: trio.SocketStream, path: str = "/a", body: bytes = b"") -> tuple[bytes, bytes]:
    """The status line and the body of the answer."""
    await stream.send_all(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return await answer_of(stream)


async def answer_of(stream: trio.SocketStream) -> tuple[bytes, bytes]:
    source, body = Source(stream, lambda: 65536), bytearray()

    async def keep(data: bytes) -> None:
        body.extend(data)

    head = await source.until_blank_line()
    length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
    await source.body(int(length or b"0"), keep)
    return head.partition(b"\r\n")[0], bytes(body)


@asynccontextmanager
async def a_channel(proxy: ChaosProxy) -> AsyncIterator[trio.SocketStream]:
    async with await a_client(proxy) as stream:
        await stream.send_all(UPGRADE)
        status, _ = await answer_of(stream)
        assert status.startswith(b"HTTP/1.1 101")
        yield stream


async def message_of(stream: trio.SocketStream, frames: Frames) -> object:
    while True:
        data = await stream.receive_some()
        assert data, "the channel ended"
        for each in frames.feed(bytes(data)):
            return json.loads(each.payload)


def said(**message: object) -> bytes:
    return frame(json.dumps(message).encode(), masked=True)


async def hears_nothing(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(A_WHILE) as quiet:
        await stream.receive_some()
    return quiet.cancelled_caught


async def test_requests_and_answers_pass_one_after_the_other() -> None:
    async with behind_a_proxy() as (site, proxy), await a_client(proxy) as stream:
        big = bytes(range(256)) * 1000
        assert await ask(stream, body=b"x") == (b"HTTP/1.1 200 OK", b"1 x")
        assert await ask(stream, "/b", big) == (b"HTTP/1.1 200 OK", b"2 " + big)
        assert site.requests == [("/a", b"x"), ("/b", big)]
        assert proxy.seen == [("POST", "/a"), ("POST", "/b")]


async def test_a_chunked_request_passes_without_a_look() -> None:
    async with behind_a_proxy() as (site, proxy), await a_client(proxy) as stream:
        await stream.send_all(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert await answer_of(stream) == (b"HTTP/1.1 200 OK", b"1 ")
        assert site.requests == [("/a", b"")]


async def test_delay_keeps_every_byte_so_long() -> None:
    async with behind_a_proxy() as (_, proxy), await a_client(proxy) as stream:
        proxy.up.delay(0.15)
        proxy.down.delay(0.1)
        began = trio.current_time()
        assert await ask(stream) == (b"HTTP/1.1 200 OK", b"1 ")
        assert trio.current_time() - began >= 0.25
        proxy.passes()
        assert await ask(stream) == (b"HTTP/1.1 200 OK", b"2 ")


async def test_all_connections_share_a_rate() -> None:
    async with behind_a_proxy() as (_, proxy), await a_client(proxy) as one, await a_client(proxy) as other:
        proxy.up.rate(20_000)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for stream in (one, other):
                nursery.start_soon(ask, stream, "/a", bytes(4000))
        assert trio.current_time() - began >= 8000 / 20_000


async def test_in_a_black_hole_nobody_is_told_anything_and_its_connections_stay_dead() -> None:
    async with behind_a_proxy() as (site, proxy), await a_client(proxy) as stream:
        await ask(stream)
        proxy.blackhole()
        await stream.send_all(b"POST /lost HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        async with await a_client(proxy) as late:
            await late.send_all(b"POST /lost HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            assert await hears_nothing(late)
        assert await hears_nothing(stream)
        proxy.passes()
        await stream.send_all(b"POST /lost HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert await hears_nothing(stream)
        async with await a_client(proxy) as fresh:
            assert (await ask(fresh, "/found"))[0] == b"HTTP/1.1 200 OK"
        assert [path for path, _ in site.requests] == ["/a", "/found"]


async def test_a_one_way_black_hole_takes_only_that_way() -> None:
    async with behind_a_proxy() as (site, proxy), a_channel(proxy) as stream:
        proxy.down.blackhole()
        await stream.send_all(said(type="up"))
        assert await hears_nothing(stream)
        assert len(site.said) == 1


async def test_what_is_held_comes_later() -> None:
    async with behind_a_proxy() as (_, proxy), a_channel(proxy) as stream:
        sent: list[Message] = []
        proxy.up.rewrite(noting(sent, "late"))
        proxy.up.hold()
        for number in range(20):
            await stream.send_all(said(type="late", number=number))
        assert await hears_nothing(stream)
        assert len(sent) == 20  # it was seen on its way
        proxy.passes()
        assert await message_of(stream, Frames()) == {"type": "late", "number": 0}


async def test_a_reset_is_felt_at_once() -> None:
    async with behind_a_proxy() as (_, proxy), a_channel(proxy) as stream:
        assert proxy.connections == 1
        proxy.reset()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_a_half_closed_channel_still_carries_the_other_way() -> None:
    async with behind_a_proxy() as (site, proxy), a_channel(proxy) as stream:
        proxy.down.half_close()
        assert await stream.receive_some() == b""
        await stream.send_all(said(type="up"))
        while not site.said:  # noqa: ASYNC110 - inside the deadline of the whole test
            await trio.sleep(0.01)


async def test_a_connection_is_cut_after_so_many_bytes() -> None:
    async with behind_a_proxy() as (site, proxy), await a_client(proxy) as stream:
        proxy.up.cut_after(1000)
        await ask(stream, body=bytes(100))
        with pytest.raises(trio.BrokenResourceError):
            await ask(stream, body=bytes(1000))
        assert len(site.requests) == 1


async def test_handshakes_are_refused_and_plain_requests_pass() -> None:
    async with behind_a_proxy() as (site, proxy):
        proxy.refuse_upgrade()
        async with await a_client(proxy) as stream:
            await stream.send_all(UPGRADE)
            status, page = await answer_of(stream)
            assert (status.split()[1], b"<html>" in page) == (b"403", True)
        async with await a_client(proxy) as stream:
            assert await ask(stream) == (b"HTTP/1.1 200 OK", b"1 ")
        proxy.passes()
        async with a_channel(proxy):
            assert [path for path, _ in site.requests] == ["/a", "/control"]


async def test_a_page_stands_in_for_the_server_so_many_times() -> None:
    async with behind_a_proxy() as (site, proxy):
        proxy.answer(502, "<html>bad gateway</html>", path="/data", times=1)
        for expected in (b"502", b"200"):
            async with await a_client(proxy) as stream:
                status, _ = await ask(stream, "/tasks/7/data", body=b"some body")
                assert status.split()[1] == expected
        assert site.requests == [("/tasks/7/data", b"some body")]


async def test_an_answer_is_cut_and_the_server_does_not_know() -> None:
    async with behind_a_proxy() as (site, proxy):
        proxy.cut_answer("/data")
        async with await a_client(proxy) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await ask(stream, "/data")
        async with await a_client(proxy) as stream:
            assert (await ask(stream, "/data"))[1] == b"2 "
        assert len(site.requests) == 2


async def test_a_request_is_doubled_and_only_the_second_answer_arrives() -> None:
    async with behind_a_proxy() as (site, proxy), await a_client(proxy) as stream:
        proxy.duplicate("/status", method="POST")
        assert (await ask(stream, "/status", body=b"done"))[1] == b"2 done"
        assert (await ask(stream, "/status", body=b"done"))[1] == b"3 done"
        assert site.requests == [("/status", b"done")] * 3


async def test_messages_are_rewritten_both_ways_and_other_frames_pass() -> None:
    async with behind_a_proxy() as (site, proxy), a_channel(proxy) as stream:
        proxy.up.rewrite(lambda message: [] if message["type"] == "drop" else [message])
        proxy.down.rewrite(lambda message: [message, {**message, "again": True}])
        frames, heard = Frames(), list[Frame]()
        await stream.send_all(said(type="drop") + frame(b"\x00", BINARY, masked=True) + said(type="x" * 70_000))
        while len(heard) < 3:
            heard += frames.feed(bytes(await stream.receive_some()))
        binary, first, again = heard
        assert binary.payload == b"\x00"
        assert json.loads(first.payload) == {"type": "x" * 70_000}
        assert json.loads(again.payload) == {"type": "x" * 70_000, "again": True}
        assert b"drop" not in b"".join(site.said)


async def test_the_server_may_move() -> None:
    async with behind_a_proxy() as (site, proxy), behind_a_proxy() as (other, _):
        proxy.leads_to(other.url)
        async with await a_client(proxy) as stream:
            await ask(stream)
        assert (len(site.requests), len(other.requests)) == (0, 1)
