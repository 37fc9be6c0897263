"""Opening the control channel: TCP, perhaps through a proxy, TLS, the WebSocket handshake. Each with a deadline.

trio-websocket's own `open_websocket` is not used: it turns a refused certificate into a time-out of a minute, knows no
proxies, and hangs when it leaves a dead server. Here every failure is one LinkFailed that says why.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from iac.actors.supervision import leaves, ungrouped
from iac.domain.messages import LARGEST_FRAME, SUBPROTOCOL
from iac.errors import IacError
from iac.executor.proxying import Proxy, port_of
from iac.executor.remote_client import API, error_of, explain

QUEUED_FRAMES = 64
"""Frames that wait for the reader; at one, the default, pings go unanswered while it works."""
SEND_BUFFER, NOT_SENT = 64 * 1024, 16 * 1024
"""Bytes that the kernel holds back at most."""
LARGEST_PROXY_ANSWER = 16 * 1024


class LinkFailed(Exception):
    """The control channel cannot be had, or is gone."""


class LinkLost(LinkFailed):
    """It broke. `code` is the WebSocket close code, None when there was none; `wait` the seconds that the server wants."""

    def __init__(self, message: str, code: int | None = None, wait: float | None = None) -> None:
        super().__init__(message)
        self.code, self.wait = code, wait


class LinkRefused(LinkFailed):
    """The server, or a proxy, answered the handshake with an error."""

    def __init__(self, status: int, error: IacError) -> None:
        super().__init__(error.message)
        self.status, self.error = status, error


@dataclass(frozen=True, slots=True)
class Route:
    """Where the control channel is, and how one gets there. `within` and `close_within` are seconds."""

    endpoint: str
    tls: ssl.SSLContext
    proxy: Proxy | None = None
    within: float = 10.0
    close_within: float = 1.0


@asynccontextmanager
async def open_channel(route: Route, headers: Mapping[str, str]) -> AsyncIterator[WebSocketConnection]:
    """The open channel; closed, with a word to the server if that takes no time, when the body ends.

    Raises LinkFailed; a LinkFailed of the body comes out as itself, too.
    """
    with ungrouped(LinkFailed), _translated():
        stream = await _reach(route)
        try:
            async with trio.open_nursery() as nursery:
                websocket = await _handshake(nursery, stream, route, headers)
                try:
                    yield websocket
                finally:
                    # The peer may be dead: its goodbye is waited for only so long, and then the scope ends it all.
                    with trio.move_on_after(route.close_within, shield=True):
                        await websocket.aclose()
                    nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(stream)


@contextmanager
def _translated() -> Iterator[None]:
    """trio-websocket refuses from a task of its own: what the server answered comes in a group."""
    try:
        yield
    except* ConnectionRejected as group:
        error = next(leaves(group))
        if isinstance(error, ConnectionRejected):
            raise _refused(error) from None


def _refused(error: ConnectionRejected) -> LinkRefused:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in error.headers}
    return LinkRefused(error.status_code, error_of(error.status_code, error.body or b"", headers))


async def _handshake(
    nursery: trio.Nursery, stream: trio.abc.Stream, route: Route, headers: Mapping[str, str]
) -> WebSocketConnection:
    parts = urlsplit(route.endpoint)
    try:
        with trio.fail_after(route.within):
            return await wrap_client_stream(
                nursery,
                stream,  # type: ignore[arg-type]  # any stream will do, whatever the annotation says
                parts.netloc,
                f"{parts.path.rstrip('/')}{API}/agents/control",
                subprotocols=[SUBPROTOCOL],
                extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
                message_queue_size=QUEUED_FRAMES,
                max_message_size=4 * LARGEST_FRAME,
            )
    except (ConnectionClosed, trio.TooSlowError, OSError, trio.BrokenResourceError) as error:
        raise LinkLost(f"The WebSocket handshake failed: {error!r}") from error


async def _reach(route: Route) -> trio.abc.Stream:
    parts = urlsplit(route.endpoint)
    host, port = parts.hostname or "", port_of(parts)
    try:
        with trio.fail_after(route.within):
            if route.proxy is None:
                stream: trio.abc.Stream = await _connected(host, port)
            else:
                stream = await _through(route.proxy, route.tls, f"[{host}]" if ":" in host else host, port)
            return await _secured(stream, route.tls, host) if parts.scheme == "https" else stream
    except trio.TooSlowError:
        raise LinkLost(f"The server did not answer within {route.within:g} s.") from None
    except OSError as error:
        raise LinkLost(explain(error)) from error


async def _connected(host: str, port: int) -> trio.SocketStream:
    """A connection in which little waits out of our sight: on a slow link a heartbeat must not queue behind a log."""
    stream = await trio.open_tcp_stream(host, port)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT)
    return stream


async def _secured(stream: trio.abc.Stream, tls: ssl.SSLContext, host: str) -> trio.abc.Stream:
    """The TLS handshake, done here so that its failure is told as what it is."""
    secured = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise LinkLost(explain(error)) from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


async def _through(proxy: Proxy, tls: ssl.SSLContext, host: str, port: int) -> trio.abc.Stream:
    """A tunnel to the server."""
    stream: trio.abc.Stream = await _connected(proxy.host, proxy.port)
    if proxy.secure:
        stream = await _secured(stream, tls, proxy.host)
    try:
        await stream.send_all(_connect(proxy, f"{host}:{port}"))
        status = (await _answer(stream)).partition(b"\r\n")[0]
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise LinkLost("The proxy closed the connection.") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    if status.split(b" ")[1:2] != [b"200"]:
        await trio.aclose_forcefully(stream)
        raise LinkLost(
            f"The proxy {proxy.host}:{proxy.port} said {status.decode('latin-1')!r} (see HTTPS_PROXY, NO_PROXY)."
        )
    return stream


def _connect(proxy: Proxy, target: str) -> bytes:
    lines: Sequence[str] = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization is not None:
        lines = [*lines, f"Proxy-Authorization: {proxy.authorization}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _answer(stream: trio.abc.Stream) -> bytes:
    """The head of the proxy's answer; the server behind it says nothing before it is spoken to."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = await stream.receive_some(4096)
        if not more or len(head) > LARGEST_PROXY_ANSWER:
            raise LinkLost("The proxy gave no proper answer.")
        head += more
    return head
