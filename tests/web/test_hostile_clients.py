"""Packets that kill, hang or fool a stock server: each is answered or dropped, and the next client is served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import pytest
import trio

from iac.web.connection_limits import Limits
from iac.web.containment import ContainedProtocol
from tests.web.hostile import (
    ECHO_LIMIT,
    GET,
    KIB,
    LAST_GET,
    MIB,
    PATIENCE,
    UPLOAD_LIMIT,
    Footprint,
    Server,
    chunked,
    eventually,
    frame,
    post,
    serving,
    status,
    upgrade,
)


@asynccontextmanager
async def unharmed() -> AsyncIterator[Server]:
    """A server that has to be as it was after the test: alive, nothing logged, nothing held.

    It lingers for so long that nothing in these tests ends because the lingering did.
    """
    async with serving(Limits(linger=60.0)) as server:
        before = Footprint.now()
        yield server
        await server.let_go()
        assert await server.answers()
        await before.regained()
        assert server.errors == []


def http2_post(size: int) -> bytes:
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    headers = {":method": "POST", ":path": "/echo", ":authority": "x", ":scheme": "http", "content-length": str(size)}
    client.send_headers(1, list(headers.items()))
    client.send_data(1, bytes(16 * KIB))
    return client.data_to_send()


# ---- the five packets that end a stock server


async def test_bytes_behind_a_websocket_handshake_are_refused() -> None:
    async with unharmed() as server:
        assert status(await server.reply_to(upgrade() + frame(1, b"early"))) == 400


@pytest.mark.parametrize(
    "handshake",
    [
        upgrade(connection=b"Upgrade, \xff"),
        upgrade(headers=b"Sec-WebSocket-Protocol: \xff\xfe\r\n"),
    ],
    ids=["connection", "protocol"],
)
async def test_a_header_that_should_be_ascii_and_is_not_is_refused(handshake: bytes) -> None:
    async with unharmed() as server:
        assert status(await server.reply_to(handshake)) == 400


async def test_websocket_data_before_the_token_is_checked_is_refused_and_the_check_ends() -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(upgrade("/ws?check=60"))
        await eventually(lambda: server.busy == {"/ws"})
        await client.send(frame(1, b"early") * 3)
        assert status(await client.rest()) == 400
        await eventually(lambda: server.busy == set())


async def test_an_http2_post_over_the_limit_is_refused() -> None:
    async with unharmed() as server:
        assert status(await server.reply_to(http2_post(200 * MIB))) == 400


async def test_a_client_that_posts_too_much_and_leaves_harms_nobody() -> None:
    async with unharmed() as server:
        for leave in ("close", "reset") * 5:
            client = await server.connect()
            await client.send(post("/echo", bytes(8 * KIB), length=200 * MIB))
            await getattr(client, leave)()


# ---- HTTP/2, TLS and other things that are not HTTP/1.1


async def test_an_upgrade_to_http2_is_ignored() -> None:
    asks = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
    async with unharmed() as server:
        reply = await server.reply_to(GET[:-2] + asks)
        assert status(reply) == 200
        assert b'"ok":true' in reply


@pytest.mark.parametrize(
    "packet",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"GET ?query HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
    ids=["prior-knowledge", "http3", "tls-hello", "connect", "no-path", "nul", "path-not-ascii", "blank", "ssh"],
)
async def test_what_is_not_http_is_refused(packet: bytes) -> None:
    async with unharmed() as server:
        assert status(await server.reply_to(packet)) == 400


async def test_a_header_that_is_not_ascii_where_that_is_allowed_is_served() -> None:
    async with unharmed() as server:
        assert status(await server.reply_to(LAST_GET[:-2] + b"X-Name: J\xfcrgen\r\n\r\n")) == 200


async def test_headers_without_end_are_refused() -> None:
    async with unharmed() as server:
        assert status(await server.reply_to(GET[:-2] + b"X: " + b"a" * 40_000)) == 431


# ---- lengths


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (post("/echo", length=-5), 400),
        (post("/echo", b"hello", headers="Content-Length: 6\r\n"), 400),
        (post("/echo", b"5\r\nhello\r\n0\r\n\r\n", headers="Transfer-Encoding: chunked\r\n"), 400),
        (chunked("/echo", b"hello") + b"zzz\r\n", 400),
        (post("/echo", length=10**19), 413),
        (post("/echo", length=ECHO_LIMIT + 1), 413),
        (post("/upload", length=UPLOAD_LIMIT + 1), 413),
        (post("/nowhere", length=ECHO_LIMIT + 1), 413),
        (chunked("/echo", *[bytes(8 * KIB)] * 9), 413),
        (chunked("/upload", *[bytes(8 * KIB)] * 130), 413),
    ],
    ids=[
        "negative",
        "two-lengths",
        "length-and-chunks",
        "bad-chunk",
        "huge",
        "announced",
        "announced-upload",
        "announced-elsewhere",
        "chunked",
        "chunked-upload",
    ],
)
async def test_a_body_of_a_wrong_length_is_refused_and_the_connection_ends(packet: bytes, expected: int) -> None:
    async with unharmed() as server:
        reply = await server.reply_to(packet)
        assert status(reply) == expected
        assert b"connection: close" in reply.lower()


async def test_bodies_up_to_their_paths_limit_are_taken() -> None:
    async with unharmed() as server:
        closing = "Connection: close\r\n"
        assert status(await server.reply_to(post("/echo", bytes(ECHO_LIMIT), headers=closing))) == 200
        reply = await server.reply_to(post("/upload", bytes(UPLOAD_LIMIT), headers=closing))
        assert f'"bytes":{UPLOAD_LIMIT}'.encode() in reply
        reply = await server.reply_to(chunked("/upload", *[bytes(64 * KIB)] * 16) + b"0\r\n\r\n" + LAST_GET)
        assert f'"bytes":{UPLOAD_LIMIT}'.encode() in reply


async def test_an_upload_of_200_mb_is_told_the_limit_and_not_read() -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(post("/upload", length=200 * MIB))
        with trio.fail_after(PATIENCE):
            sent = await client.pour(200 * MIB)
        reply = await client.rest()
        assert sent < 40 * MIB  # the socket's buffers, and what the server reads on so that its answer is seen
        assert status(reply) == 413
        assert b'"code":"too_large"' in reply
        assert b'"retryable":false' in reply
        assert f"limit of {UPLOAD_LIMIT} bytes".encode() in reply


async def test_a_client_that_sends_on_after_its_refusal_is_not_reset_before_it_can_read_it() -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(post("/upload", length=3 * MIB))
        assert await client.pour(2 * MIB) == 2 * MIB
        assert status(await client.rest()) == 413
        assert not client.was_reset


async def test_an_answer_does_not_tell_what_serves_it() -> None:
    async with unharmed() as server:
        assert b"server:" not in (await server.reply_to(LAST_GET)).lower()


# ---- more than one request, or less


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with unharmed() as server:
        posts = post("/echo", b"hello") + chunked("/echo", b"again") + b"0\r\n\r\n"
        reply = await server.reply_to(GET * 3 + posts + LAST_GET)
        assert reply.count(b"HTTP/1.1 200") == 6
        assert reply.index(b"hello") < reply.index(b"again")


@pytest.mark.parametrize("header", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["plain", "upgrade"])
async def test_too_much_sent_ahead_ends_the_connection(header: bytes) -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(b"GET /slow?seconds=60 HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n" + GET * 3000)
        await client.rest()
        await eventually(lambda: server.busy == set())


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_a_client_that_sends_ahead_and_leaves_is_noticed(leave: str) -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(b"GET /slow?seconds=60 HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"trailing")
        await eventually(lambda: server.busy == {"/slow"})
        await getattr(client, leave)()
        await eventually(lambda: server.busy == set())


async def test_noise_after_a_last_request_does_not_spoil_its_answer() -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(b"GET /slow?seconds=0.1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await eventually(lambda: server.busy == {"/slow"})
        await client.send(b"\r\n")
        assert status(await client.rest()) == 200


@pytest.mark.parametrize("packet", [b"", b"GET /js", GET[:-2], post("/echo", b"half", length=8)])
async def test_half_a_request_and_no_more_is_dropped(packet: bytes) -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(packet)
        await client.finish_sending()
        assert await client.rest() == b""


# ---- WebSockets


@pytest.mark.parametrize("missing", [b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Version: "])
async def test_a_handshake_that_lacks_something_is_refused_and_the_connection_ends(missing: bytes) -> None:
    async with unharmed() as server:
        assert status(await server.reply_to(upgrade().replace(missing, b"X: "))) == 400


async def test_compression_is_not_agreed_on() -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(upgrade(headers=b"Sec-WebSocket-Extensions: permessage-deflate; \xff\r\n"))
        assert b"extensions" not in (await client.until(b"\r\n\r\n")).lower()
        await client.send(frame(1, b"hello"))
        await client.until(b"\x81\x05hello")
        await client.close()


@pytest.mark.parametrize(
    ("packet", "farewell"),
    [
        (frame(1, bytes(MIB + 1)), b"\x88\x02" + (1009).to_bytes(2, "big")),
        (b"\x82\xff" + (2**63 - 1).to_bytes(8, "big") + bytes(4 + 2 * MIB), b"\x88\x02" + (1009).to_bytes(2, "big")),
        (frame(8, (1000).to_bytes(2, "big")) + frame(1, b"late") * 50, b"\x88\x02" + (1000).to_bytes(2, "big")),
        (frame(1, b"\xff\xfe\xfd"), b""),
        (frame(5, b"x"), b""),
        (b"\x81\x02hi" + b"z" * 100, b""),
        (b"\xf1\x82" + bytes(6), b""),
    ],
    ids=["too-big", "endless", "after-close", "not-utf8", "bad-opcode", "unmasked", "reserved-bits"],
)
async def test_a_bad_message_ends_its_websocket(packet: bytes, farewell: bytes) -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(upgrade())
        await client.until(b"\r\n\r\n")
        await client.send(packet)
        assert await client.rest() == farewell


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("unread", [0, 100])
async def test_a_handler_that_only_sends_ends_when_its_client_leaves(leave: str, unread: int) -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(upgrade("/flood"))
        await client.until(b"\r\n\r\n")
        await client.send(frame(1, b"x") * unread)  # so many that the server stops reading, and sees no end there
        await client.receive()
        await getattr(client, leave)()
        await eventually(lambda: server.busy == set())


@pytest.mark.parametrize(("size", "heard"), [(1000, True), (MIB, False)], ids=["between-messages", "within-a-message"])
async def test_a_handler_that_is_cancelled_while_it_sends_says_goodbye_if_it_can(size: int, heard: bool) -> None:
    async with unharmed() as server:
        client = await server.connect()
        await client.send(upgrade(f"/farewell?size={size}"))
        await client.until(b"\r\n\r\n")
        await trio.sleep(0.3)  # not reading until the handler has been cancelled in the middle of sending
        assert server.busy == {"/farewell"}
        assert (await client.rest()).endswith(b"\x88\x05" + (1012).to_bytes(2, "big") + b"bye") == heard


# ---- the bulkhead


async def test_an_error_of_our_own_ends_one_connection_and_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    served = ContainedProtocol._step

    async def fail_on_teapots(self: ContainedProtocol) -> bool:
        if b"teapot" in self.connection.trailing_data[0]:
            raise RuntimeError("a bug")
        return await served(self)

    monkeypatch.setattr(ContainedProtocol, "_step", fail_on_teapots)
    async with serving() as server:
        before = Footprint.now()
        neighbour = await server.connect()
        await neighbour.get()
        assert await server.reply_to(b"GET /teapot HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        await neighbour.get()
        await neighbour.close()
        await before.regained()
        assert [error for error in server.errors if "a bug" in error] == server.errors != []
