"""The control channel: opening it against servers of all kinds, reading, writing, and how it ends."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from quart import Response
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from iac.actors.connection import QUEUED, Line, LiveLane, read, write
from iac.actors.websocket import LinkFailed, LinkLost, LinkRefused, Route, open_channel
from iac.domain.messages import (
    SUBPROTOCOL,
    Error,
    FromAgent,
    FromServer,
    Goodbye,
    HeartbeatAck,
    LiveLog,
    TaskFinishedAck,
    decode_from_agent,
    encode,
)
from iac.errors import Unauthenticated
from iac.executor.proxying import proxy_for
from tests.executor.workbench import becomes
from tests.fakes.agent_api import serving
from tests.fakes.agent_platform import AgentApi
from tests.fakes.connect_proxy import a_proxy
from tests.web.hostile import make_certificate

PATIENT = 60.0
PLAIN = ssl.create_default_context()
ACK = TaskFinishedAck(task_id=1, fence=1)


def route(url: str, **more: object) -> Route:
    return Route(**{"endpoint": url, "tls": PLAIN, "within": 3.0, "close_within": 0.2, **more})  # type: ignore[arg-type]


async def failure(where: Route, headers: dict[str, str] | None = None) -> LinkFailed:
    """How opening the channel fails, in good time."""
    with trio.fail_after(PATIENT), pytest.raises(LinkFailed) as caught:
        async with open_channel(where, headers or {}):
            pass
    return caught.value


@asynccontextmanager
async def a_socket_server(handler: Callable[[WebSocketRequest], Awaitable[None]]) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, handler, "127.0.0.1", 0, None))
        yield f"http://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def a_tcp_server(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, handler, 0)
        yield f"http://localhost:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


class Ends:
    """Both ends of what `read` and `write` work on."""

    def __init__(self, size: int = QUEUED) -> None:
        self.to_desk, self.heard = trio.open_memory_channel[FromServer](size)
        self.outbox, self.outgoing = trio.open_memory_channel[FromAgent](QUEUED)


@asynccontextmanager
async def talking(script: Callable[[WebSocketConnection], Awaitable[None]]) -> AsyncIterator[WebSocketConnection]:
    """A channel whose other end does what the script says."""

    async def handler(request: WebSocketRequest) -> None:
        websocket = await request.accept(subprotocol=SUBPROTOCOL)
        try:
            await script(websocket)
        except ConnectionClosed:
            return

    async with a_socket_server(handler) as url, open_channel(route(url), {}) as channel:
        yield channel


# Opening


async def test_the_handshake_carries_token_and_subprotocol() -> None:
    async with serving() as api:
        token = api.session()
        with trio.fail_after(PATIENT):
            async with open_channel(
                route(api.url), {"Authorization": f"Bearer {token}", "X-IAC-Agent-Id": "a"}
            ) as channel:
                assert channel.subprotocol == SUBPROTOCOL
        assert api.handshakes[0]["X-Iac-Agent-Id"] == "a"


async def test_a_refusal_is_the_servers_own_error() -> None:
    async with serving() as api:
        refused = await failure(route(api.url), {"Authorization": "Bearer iacs_x"})
        assert isinstance(refused, LinkRefused)
        assert refused.status == 401
        assert isinstance(refused.error, Unauthenticated)
        assert refused.error.code == "token_expired"


async def test_a_private_authority_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path)
    async with serving(tls=(Path(chain), Path(key))) as api:
        trusting = route(api.url, tls=ssl.create_default_context(cafile=chain))
        async with open_channel(trusting, {"Authorization": f"Bearer {api.session()}"}) as channel:
            assert channel.subprotocol == SUBPROTOCOL
        assert "IAC_CA_FILE" in str(await failure(route(api.url)))


async def test_a_proxy_is_asked_for_a_tunnel(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path)
    async with serving(tls=(Path(chain), Path(key))) as api, a_proxy() as (address, asked):
        proxy = proxy_for(api.url, {"HTTPS_PROXY": f"user:pass@{address}"})
        through = route(api.url, tls=ssl.create_default_context(cafile=chain), proxy=proxy)
        async with open_channel(through, {"Authorization": f"Bearer {api.session()}"}) as channel:
            assert channel.subprotocol == SUBPROTOCOL
    assert asked[0].startswith(f"CONNECT {api.url.removeprefix('https://')} HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNz" in asked[0]


async def test_a_proxy_that_refuses_is_named() -> None:
    async with a_proxy("407 Proxy Authentication Required") as (address, _):
        proxy = proxy_for("https://iac.example.com", {"HTTPS_PROXY": address})
        refused = await failure(route("https://iac.example.com", proxy=proxy))
    assert "407" in str(refused)
    assert "HTTPS_PROXY" in str(refused)


async def test_nobody_there() -> None:
    assert "cannot be reached" in str(await failure(route("http://localhost:1")))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_server_that_never_answers_is_left_in_time(scheme: str) -> None:
    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with a_tcp_server(say_nothing) as url:
        lost = await failure(route(url.replace("http", scheme), within=0.3))
    assert isinstance(lost, LinkLost)


async def test_a_server_that_hangs_up_before_its_answer() -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)

    async with a_tcp_server(hang_up) as url:
        assert isinstance(await failure(route(url, within=0.5)), LinkLost)
        assert isinstance(await failure(route(url.replace("http", "https"))), LinkLost)


async def test_a_proxys_page_is_no_refusal_of_ours() -> None:
    async def page(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")

    async with a_tcp_server(page) as url:
        refused = await failure(route(url))
    assert isinstance(refused, LinkRefused)
    assert refused.error.code == "not_ours"


async def test_a_dead_server_is_left_without_its_goodbye() -> None:
    async with a_tcp_server(_accept_and_freeze) as url:
        with trio.fail_after(PATIENT):
            async with open_channel(route(url), {}):
                pass


async def _accept_and_freeze(stream: trio.SocketStream) -> None:
    """Answers the handshake, and then nothing any more, not even a close frame."""
    head = (await stream.receive_some(4096)).decode()
    key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}", f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"]
    await stream.send_all("\r\n".join([*lines, "", ""]).encode())
    await trio.sleep_forever()


# Reading and writing


async def test_messages_are_forwarded_and_the_close_code_is_told() -> None:
    async def script(websocket: WebSocketConnection) -> None:
        await websocket.send_message(encode(ACK))
        await websocket.send_message(encode(HeartbeatAck(seq=1)))
        await websocket.aclose(4403, "revoked")

    ends = Ends()
    async with talking(script) as channel:
        with pytest.raises(LinkLost, match="4403: revoked") as caught:
            await read(channel, ends.to_desk, ends.outbox)
    assert caught.value.code == 4403
    assert [ends.heard.receive_nowait(), ends.heard.receive_nowait()] == [ACK, HeartbeatAck(seq=1)]


async def test_an_unknown_type_is_answered_once_and_otherwise_ignored() -> None:
    async def script(websocket: WebSocketConnection) -> None:
        for _ in range(3):
            await websocket.send_message('{"type": "from_the_future", "payload": {}}')
        await websocket.send_message(encode(ACK))
        await websocket.aclose()

    ends = Ends()
    async with talking(script) as channel:
        with pytest.raises(LinkLost):
            await read(channel, ends.to_desk, ends.outbox)
    assert ends.heard.receive_nowait() == ACK
    answer = ends.outgoing.receive_nowait()
    assert isinstance(answer, Error)
    assert (answer.code, "from_the_future" in answer.message) == ("unknown_type", True)
    with pytest.raises(trio.WouldBlock):
        ends.outgoing.receive_nowait()


@pytest.mark.parametrize("frame", ["no json", '{"type": "heartbeat_ack", "payload": {"seq": "x"}}', b"\x00binary"])
async def test_what_is_no_message_ends_the_connection(frame: str | bytes) -> None:
    async def script(websocket: WebSocketConnection) -> None:
        await websocket.send_message(frame)
        await websocket.get_message()

    ends = Ends()
    async with talking(script) as channel:
        with trio.fail_after(PATIENT), pytest.raises(LinkLost) as caught:
            await read(channel, ends.to_desk, ends.outbox)
    assert caught.value.code == 4400


async def test_more_than_can_be_acted_on_ends_the_connection() -> None:
    async def script(websocket: WebSocketConnection) -> None:
        while True:
            await websocket.send_message(encode(ACK))

    ends = Ends(size=3)
    async with talking(script) as channel:
        with trio.fail_after(PATIENT), pytest.raises(LinkLost, match="More messages"):
            await read(channel, ends.to_desk, ends.outbox)


async def test_what_was_posted_is_sent_in_order_before_the_line_is_hung_up() -> None:
    got: list[FromAgent] = []

    async def script(websocket: WebSocketConnection) -> None:
        while True:
            got.append(decode_from_agent(await websocket.get_message()))

    ends, line = Ends(), Line()
    async with talking(script) as channel:
        line.connected(ends.outbox, trio.CancelScope())
        for number in range(5):
            line.post(Goodbye(reason=str(number)))
        line.hang_up()
        line.post(Goodbye(reason="too late"))
        await write(channel, ends.outgoing, LiveLane())
    assert [message.reason for message in got if isinstance(message, Goodbye)] == list("01234")


async def test_writing_on_a_closed_channel_is_a_lost_link() -> None:
    async def script(websocket: WebSocketConnection) -> None:
        await websocket.aclose(1012, "deploy")

    ends = Ends()
    async with talking(script) as channel:
        with pytest.raises(LinkLost):
            await read(channel, ends.to_desk, ends.outbox)
        ends.outbox.send_nowait(Goodbye(reason="x"))
        with pytest.raises(LinkLost) as caught:
            await write(channel, ends.outgoing, LiveLane())
    assert caught.value.code == 1012


# The line


async def test_a_line_drops_what_nobody_could_hear() -> None:
    line = Line()
    line.post(Goodbye(reason="x"))
    await line.wait_down()
    ends = Ends()
    line.connected(ends.outbox, trio.CancelScope())
    await line.wait_up()
    assert line.is_up
    with pytest.raises(trio.WouldBlock):
        ends.outgoing.receive_nowait()
    line.disconnected()
    line.disconnected()
    await line.wait_down()
    assert not line.is_up


async def test_a_line_whose_server_does_not_read_is_given_up() -> None:
    line, scope = Line(), trio.CancelScope()
    outbox, _outgoing = trio.open_memory_channel[FromAgent](2)
    line.connected(outbox, scope)
    for _ in range(2):
        line.post(Goodbye(reason="x"))
    assert not scope.cancel_called
    line.post(Goodbye(reason="x"))
    assert scope.cancel_called


async def test_a_cancellation_from_outside_is_no_lost_link() -> None:
    async def script(websocket: WebSocketConnection) -> None:
        await websocket.get_message()

    ends = Ends()
    with trio.move_on_after(0.1) as scope:
        async with talking(script) as channel:
            await read(channel, ends.to_desk, ends.outbox)
    assert scope.cancelled_caught


async def test_a_bug_in_the_body_is_not_taken_for_a_lost_link() -> None:
    async with serving(AgentApi()) as api:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with open_channel(route(api.url), {"Authorization": f"Bearer {api.session()}"}):
                raise KeyError("bug")
        assert caught.group_contains(KeyError)


async def test_a_server_that_is_busy_says_when_to_come_back() -> None:
    api = AgentApi()
    api.refuse_channel = lambda: Response(status=503)
    async with serving(api):
        refused = await failure(route(api.url))
    assert isinstance(refused, LinkRefused)
    assert refused.status == 503


async def test_live_bytes_wait_until_nothing_else_does() -> None:
    heard: list[FromAgent] = []
    live, ends = LiveLane(), Ends()

    async def listen(websocket: WebSocketConnection) -> None:
        while True:
            heard.append(decode_from_agent(await websocket.get_message()))

    async with talking(listen) as channel, trio.open_nursery() as nursery:
        frames = [LiveLog(task_id=1, fence=1, offset=number, data=b"x") for number in range(3)]
        assert all(live.put(frame) for frame in frames[:2])
        ends.outbox.send_nowait(Goodbye(reason="one"))
        ends.outbox.send_nowait(Goodbye(reason="two"))
        nursery.start_soon(write, channel, ends.outgoing, live)
        with trio.fail_after(PATIENT):
            await becomes(lambda: len(heard) == 4)
            live.put(frames[2])  # wakes the one who waits for something to send
            await becomes(lambda: len(heard) == 5)
        assert heard == [Goodbye(reason="one"), Goodbye(reason="two"), *frames]
        nursery.cancel_scope.cancel()
