"""A real server to be unkind to, and the clients that are."""

from __future__ import annotations

import base64
import logging
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from quart import Response, request, websocket
from quart_trio import QuartTrio

from iac.errors import IacError
from iac.web.connection_limits import Limits
from iac.web.containment import install
from iac.web.serving import serve_http

KIB, MIB = 1024, 1024 * 1024
ECHO_LIMIT, UPLOAD_LIMIT, BIG = 64 * KIB, MIB, 50 * MIB
PATIENCE = 3.0  # for anything that should happen at once, on a busy machine

GET = b"GET /json HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_GET = b"GET /json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
KEY = base64.b64encode(b"0123456789abcdef").decode()


def body_limit(method: str, path: str) -> int:
    """The test application's limits."""
    return {"/upload": UPLOAD_LIMIT}.get(path, ECHO_LIMIT if method == "POST" else 0)


@dataclass
class Server:
    """A running server and what it showed of itself."""

    port: int
    trust: ssl.SSLContext | None
    app: QuartTrio
    draining: trio.Event
    stopped: trio.Event = field(default_factory=trio.Event)
    errors: list[str] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    @property
    def busy(self) -> set[str]:
        """The paths of the handlers that run now."""
        busy: set[str] = self.app.extensions["busy"]
        return busy

    async def connect(self, trust: ssl.SSLContext | None = None) -> Client:
        tcp = await trio.open_tcp_stream("127.0.0.1", self.port)
        stream = (
            tcp if trust is None else trio.SSLStream(tcp, trust, server_hostname="localhost", https_compatible=True)
        )
        client = Client(stream)
        self.clients.append(client)
        return client

    async def reply_to(self, *packets: bytes) -> bytes:
        """What the server says to these packets until it ends the connection."""
        client = await self.connect()
        for packet in packets:
            await client.send(packet)
        reply = await client.rest()
        await client.close()
        return reply

    async def let_go(self) -> None:
        """Close what the test has opened and left open."""
        for client in self.clients:
            await trio.aclose_forcefully(client.stream)

    async def answers(self) -> bool:
        """Whether an ordinary client is served."""
        client = await self.connect(self.trust)
        await client.send(LAST_GET)
        reply = await client.rest()
        await client.close()
        return status(reply) == 200

    async def stop(self) -> float:
        """Stop it; the seconds that took."""
        began = trio.current_time()
        self.draining.set()
        with trio.fail_after(PATIENCE):
            await self.stopped.wait()
        return trio.current_time() - began


class Client:
    """One connection that can do what no well-behaved client does."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self._tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._buffer = bytearray()
        self.was_reset = False

    async def send(self, data: bytes) -> None:
        with suppress(trio.BrokenResourceError):  # refused before all was sent: the answer is still there to be read
            await self.stream.send_all(data)

    async def pour(self, size: int) -> int:
        """Send zeros until `size` of them are sent or the server has had enough; how many were sent."""
        for sent in range(0, size, MIB):
            try:
                await self.stream.send_all(bytes(MIB))
            except trio.BrokenResourceError:
                return sent
        return size

    async def receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(256 * KIB))
        except trio.BrokenResourceError:
            self.was_reset = True
            return b""

    async def rest(self) -> bytes:
        """Everything until the server ends the connection, which it has to do soon."""
        with trio.fail_after(PATIENCE):
            while data := await self.receive():
                self._buffer += data
        return bytes(self._buffer)

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`, consumed."""
        with trio.fail_after(PATIENCE):
            while mark not in self._buffer:
                data = await self.receive()
                assert data, f"the connection ended before {mark!r}: {bytes(self._buffer)!r}"
                self._buffer += data
        end = self._buffer.index(mark) + len(mark)
        taken = bytes(self._buffer[:end])
        del self._buffer[:end]
        return taken

    async def get(self) -> bytes:
        """One ordinary request on this connection; its status line and headers."""
        await self.send(GET)
        head = await self.until(b"\r\n\r\n")
        await self.until(b"}")
        await self.until(b"\n")
        return head

    async def finish_sending(self) -> None:
        await self._tcp.send_eof()

    async def close(self) -> None:
        await self.stream.aclose()

    async def reset(self) -> None:
        """Close with RST, as a crashed or filtered peer."""
        self._tcp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()


def status(reply: bytes) -> int:
    """The status of the first answer in `reply`."""
    assert reply.startswith(b"HTTP/1.1 "), reply[:200]
    return int(reply.split(b" ", 2)[1])


def post(path: str, body: bytes = b"", *, length: int | None = None, headers: str = "") -> bytes:
    """A POST that announces `length` bytes, whatever it sends."""
    length = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n".encode() + body


def chunked(path: str, *chunks: bytes) -> bytes:
    """A POST of chunks, without the end."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def upgrade(path: str = "/ws", *, connection: bytes = b"Upgrade", headers: bytes = b"") -> bytes:
    """A WebSocket handshake."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n".encode()
    return head + b"Sec-WebSocket-Key: " + KEY.encode() + b"\r\nConnection: " + connection + b"\r\n" + headers + b"\r\n"


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """A final client frame, masked with zeros."""
    if len(payload) < 126:
        size = struct.pack(">B", 0x80 | len(payload))
    elif len(payload) < 65536:
        size = struct.pack(">BH", 0xFE, len(payload))
    else:
        size = struct.pack(">BQ", 0xFF, len(payload))
    return bytes([0x80 | opcode]) + size + bytes(4) + payload


def make_app(draining: trio.Event, limits: Limits | None = None) -> QuartTrio:
    """An application with one route of each kind that the product has."""
    app = QuartTrio("hostile")
    install(app, body_limit=body_limit, limits=limits)
    install_routes(app, draining)
    busy: set[str] = set()
    app.extensions["busy"] = busy

    @app.errorhandler(IacError)
    async def refuse(error: IacError) -> tuple[dict[str, Any], int]:
        return {"error": {"code": error.code, "message": error.message, "retryable": error.retryable}}, error.status

    return app


def install_routes(app: QuartTrio, draining: trio.Event) -> None:
    @app.get("/json")
    async def json() -> dict[str, bool]:
        return {"ok": True}

    @app.post("/echo")
    async def echo() -> Response:
        return Response(await request.get_data())

    @app.post("/upload")
    async def upload() -> dict[str, int]:
        return {"bytes": sum([len(part) async for part in request.body])}

    @app.get("/slow")
    async def slow() -> dict[str, bool]:
        with running(app, "/slow"):
            await trio.sleep(float(request.args["seconds"]))
        return {"ok": True}

    @app.get("/events")
    async def events() -> Response:
        return Response(ticks(app, draining), content_type="text/event-stream")

    @app.get("/big")
    async def big() -> Response:
        return Response(megabytes(), headers={"Content-Length": str(BIG)})

    @app.get("/lump")
    async def lump() -> bytes:
        return bytes(BIG)

    @app.websocket("/ws")
    async def ws() -> None:
        with running(app, "/ws"):
            await trio.sleep(float(websocket.args.get("check", 0)))  # asking the database for the token
        await websocket.accept()
        while True:
            await websocket.send(await websocket.receive())

    @app.websocket("/farewell")
    async def farewell() -> None:
        await websocket.accept()
        with running(app, "/farewell"), trio.move_on_after(0.2):
            async with trio.open_nursery() as senders:
                for _ in range(2):
                    senders.start_soon(send_without_end, "x" * int(websocket.args["size"]))
        await websocket.close(1012, "bye")

    @app.websocket("/flood")
    async def flood() -> None:
        await websocket.accept()
        with running(app, "/flood"):
            await send_without_end("x" * 1000)


@contextmanager
def running(app: QuartTrio, path: str) -> Iterator[None]:
    """Note that the handler of `path` runs."""
    app.extensions["busy"].add(path)
    try:
        yield
    finally:
        app.extensions["busy"].discard(path)


async def ticks(app: QuartTrio, draining: trio.Event) -> AsyncIterator[bytes]:
    """An event stream without end, as the product's: it ends itself when the server drains."""
    with running(app, "/events"):
        while not draining.is_set():
            yield b"data: tick\n\n"
            with trio.move_on_after(0.05):
                await draining.wait()


async def send_without_end(message: str) -> None:
    """To the WebSocket that is being handled."""
    while True:
        await websocket.send(message)


async def megabytes() -> AsyncIterator[bytes]:
    """`BIG` bytes."""
    for _ in range(BIG // MIB):
        yield bytes(MIB)


class _Errors(logging.Handler):
    def __init__(self, seen: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        self._seen.append(self.format(record))


@asynccontextmanager
async def serving(
    limits: Limits | None = None,
    *,
    graceful: float = 5.0,
    tls: tuple[str, str] | None = None,
) -> AsyncIterator[Server]:
    """A server in this process on a free port; stopped at the end if the test has not done so."""
    draining = trio.Event()
    app = make_app(draining, limits)
    errors: list[str] = []
    handler = _Errors(errors)
    logging.getLogger("iac.web.http").addHandler(handler)
    try:
        async with trio.open_nursery() as nursery:
            serve = partial(serve_http, app, bind="127.0.0.1:0", tls=tls, draining=draining, graceful=graceful)
            stopped = trio.Event()
            urls = await nursery.start(_serve, serve, stopped)
            trust = None if tls is None else ssl.create_default_context(cafile=tls[0])
            server = Server(int(urls[0].rpartition(":")[2]), trust, app, draining, stopped, errors)
            assert await server.answers()
            try:
                yield server
            finally:
                await server.let_go()
            await server.stop()
    finally:
        logging.getLogger("iac.web.http").removeHandler(handler)


async def _serve(serve: partial[Any], stopped: trio.Event, *, task_status: trio.TaskStatus[list[str]]) -> None:
    await serve(task_status=task_status)
    stopped.set()


@dataclass(frozen=True)
class Footprint:
    """What this process holds."""

    tasks: int
    files: int

    @classmethod
    def now(cls) -> Footprint:
        return cls(trio.lowlevel.current_statistics().tasks_living, len(os.listdir("/proc/self/fd")))

    async def regained(self, within: float = PATIENCE) -> None:
        """Wait until no more is held than this."""
        await eventually(lambda: self._covers(Footprint.now()), within)

    def _covers(self, other: Footprint) -> bool:
        return other.tasks <= self.tasks and other.files <= self.files


async def eventually(condition: Callable[[], bool], within: float = PATIENCE) -> None:
    """Wait for something that no event tells."""
    with trio.fail_after(within):
        while not condition():  # noqa: ASYNC110 - there is no event for a count going down
            await trio.sleep(0.01)


def make_certificate(directory: Path) -> tuple[str, str]:
    """A self-signed certificate for localhost: the files of the chain and of the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, secret = directory / "cert.pem", directory / "key.pem"
    chain.write_bytes(certificate.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(chain), str(secret)
