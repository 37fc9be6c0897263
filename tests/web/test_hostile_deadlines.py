"""Clients that take their time: each wait for one ends, and none of them keeps the server from stopping."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trio.testing

from iac.errors import StartFailed
from iac.web.connection_limits import Limits
from iac.web.serving import serve_http
from tests.web.hostile import (
    BIG,
    GET,
    KIB,
    MIB,
    PATIENCE,
    Client,
    Footprint,
    Server,
    chunked,
    eventually,
    make_app,
    make_certificate,
    post,
    serving,
    status,
    upgrade,
)

HURRIED = Limits(headers_within=0.3, keep_alive=0.3, body_grace=0.3, body_rate=MIB, send_within=0.3)
EVENTS = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"


async def drip(client: Client, start: bytes, drop: bytes) -> float:
    """Send `start`, then a drop every now and then until the server has had enough; how long it had patience."""
    began = trio.current_time()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def keep_sending() -> None:
                await client.send(start)
                while True:
                    await client.send(drop)
                    await trio.sleep(0.02)

            nursery.start_soon(keep_sending)
            await client.rest()
            nursery.cancel_scope.cancel()
    return trio.current_time() - began


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"", b""),
        (b"G", b""),
        (GET[:-2], b"X-More: yes\r\n"),
        (post("/echo", length=60 * KIB), b""),
        (post("/echo", length=60 * KIB), b"x"),
        (chunked("/upload", b"start"), b"1\r\nx\r\n"),
        (post("/echo", length=200 * KIB), b"x"),
    ],
    ids=["silent", "one-byte", "headers", "no-body", "body", "chunks", "refused-body"],
)
async def test_a_request_that_never_gets_complete_is_dropped(start: bytes, drop: bytes) -> None:
    async with serving(HURRIED) as server:
        before = Footprint.now()
        client = await server.connect()
        assert await drip(client, start, drop) < 2.0
        await server.let_go()
        await before.regained()
        assert server.errors == []


async def test_a_second_request_has_to_come_as_quickly_as_the_first() -> None:
    async with serving(Limits(headers_within=0.3)) as server:
        client = await server.connect()
        await client.get()
        assert await drip(client, GET[:-2], b"X-More: yes\r\n") < 2.0


async def test_a_body_that_keeps_its_pace_may_take_longer_than_the_grace() -> None:
    async with serving(Limits(body_grace=0.2, body_rate=10 * KIB)) as server:
        client = await server.connect()
        began = trio.current_time()
        await client.send(post("/echo", length=64 * KIB))
        for _ in range(16):
            await client.send(bytes(4 * KIB))
            await trio.sleep(0.03)
        assert status(await client.until(b"\r\n\r\n")) == 200
        assert trio.current_time() - began > 0.4


async def test_an_idle_connection_is_closed_after_its_time_and_not_before() -> None:
    async with serving(Limits(keep_alive=0.5)) as server:
        client = await server.connect()
        for _ in range(3):
            assert status(await client.get()) == 200
        began = trio.current_time()
        assert await client.rest() == b""
        assert 0.4 < trio.current_time() - began < 2.0


async def test_slow_handlers_streams_and_websockets_outlive_every_deadline() -> None:
    async with serving(HURRIED) as server:
        stream, slow, socket = [await server.connect() for _ in range(3)]
        await stream.send(EVENTS)
        await socket.send(upgrade())
        await slow.send(b"GET /slow?seconds=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(await slow.until(b"\r\n\r\n")) == 200
        for _ in range(3):
            await stream.until(b"tick")
        await socket.send(b"\x81\x82" + bytes(4) + b"hi")
        await socket.until(b"\x81\x02hi")


@pytest.mark.parametrize("path", ["/big", "/lump", "/flood"])
async def test_a_client_that_does_not_read_is_dropped(path: str) -> None:
    async with serving(HURRIED) as server:
        before = Footprint.now()
        client = await server.connect()
        await client.send(upgrade(path) if path == "/flood" else f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await eventually(lambda: Footprint.now().files > before.files + 1)
        await eventually(lambda: Footprint.now().files <= before.files + 1)  # only our own end is left
        assert len(await client.rest()) < BIG
        assert client.was_reset  # and the kernel does not keep what was not read
        await server.let_go()
        await before.regained()
        assert server.errors == []


async def test_a_client_that_reads_slowly_gets_everything() -> None:
    async with serving(Limits(send_within=0.3)) as server:
        client = await server.connect()
        await client.send(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = 0
        while data := await client.receive():
            received += len(data)
            await trio.sleep(0.002)
        assert received > BIG


# ---- stopping


async def half_open(server: Server) -> None:
    for packet in (b"", GET[:-2], post("/upload", b"half", length=8), chunked("/upload", b"half")):
        await (await server.connect()).send(packet)


async def idle(server: Server) -> None:
    for _ in range(10):
        await (await server.connect()).get()


async def not_reading(server: Server) -> None:
    for path in ("/big", "/lump"):
        await (await server.connect()).send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await trio.testing.wait_all_tasks_blocked(0.05)  # until all buffers are full


async def streaming(server: Server) -> None:
    for _ in range(3):
        client = await server.connect()
        await client.send(EVENTS)
        await client.until(b"tick")


async def refused(server: Server) -> None:
    for packet in (post("/upload", length=200 * MIB), b"GET / HTTP/3.0\r\n\r\n", b"nonsense\r\n\r\n"):
        client = await server.connect()
        await client.send(packet)
        await client.until(b"\r\n\r\n")


@pytest.mark.parametrize("crowd", [half_open, idle, not_reading, streaming, refused])
async def test_the_server_stops_within_a_second_whoever_is_connected(crowd: object) -> None:
    async with serving(graceful=PATIENCE) as server:
        assert callable(crowd)
        await crowd(server)
        assert await server.stop() < 1.0
        assert server.errors == []


async def test_a_request_in_flight_is_answered_before_the_server_stops() -> None:
    async with serving() as server:
        client = await server.connect()
        await client.send(b"GET /slow?seconds=0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: server.busy == {"/slow"})
        server.draining.set()
        reply = await client.rest()
        assert status(reply) == 200
        assert b"connection: close" in reply.lower()
        assert await server.stop() < 1.0


async def test_a_request_that_outlasts_the_grace_is_cancelled() -> None:
    async with serving(graceful=0.2) as server:
        client = await server.connect()
        await client.send(b"GET /slow?seconds=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: server.busy == {"/slow"})
        assert await server.stop() < 1.0
        assert server.busy == set()


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


async def test_the_same_holds_behind_tls(certificate: tuple[str, str]) -> None:
    trust = ssl.create_default_context(cafile=certificate[0])
    async with serving(Limits(headers_within=0.5), tls=certificate) as server:
        before = Footprint.now()
        silent, plain, halfway = [await server.connect() for _ in range(3)]
        await plain.send(GET)
        await halfway.send(b"\x16\x03\x01\x02\x00\x01\x00")
        over = await server.connect(trust)
        await over.send(post("/upload", length=200 * MIB))
        assert status(await over.rest()) == 413
        for client in (silent, plain, halfway):
            await client.rest()
        await server.let_go()
        await before.regained()
        kept, last = await server.connect(trust), await server.connect(trust)
        assert status(await kept.get()) == 200
        await last.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.connect()
        assert await server.stop() < 1.0
        assert server.errors == []


# ---- starting


async def start(bind: str, tls: tuple[str, str] | None = None) -> None:
    draining = trio.Event()
    draining.set()
    with trio.fail_after(PATIENCE):
        await serve_http(make_app(draining), bind=bind, tls=tls, draining=draining, graceful=0)


@pytest.mark.parametrize(
    ("bind", "complaint", "code"),
    [
        ("127.0.0.1:{port}", "in use", 69),
        ("127.0.0.1:99999", "host:port", 78),
        ("localhost", "host:port", 78),
        (":x", "host:port", 78),
    ],
)
async def test_an_address_that_cannot_be_used_is_told_in_one_line(bind: str, complaint: str, code: int) -> None:
    async with serving() as server:
        with pytest.raises(StartFailed, match=complaint) as failure:
            await start(bind.format(port=server.port))
        assert failure.value.exit_code == code


async def test_a_certificate_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "cert.pem")
    with pytest.raises(StartFailed, match="certificate") as failure:
        await start("127.0.0.1:0", (missing, missing))
    assert failure.value.exit_code == 78


async def test_ipv6_is_served() -> None:
    await start("[::1]:0")
