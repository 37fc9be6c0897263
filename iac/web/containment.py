"""One connection's failure ends that connection only.

Hypercorn 0.18 on Trio lets any exception of one connection end the whole server, and quart-trio 0.12 forgets idle
connections. This module replaces the part of hypercorn that owns a connection and adjusts the part that speaks HTTP/1.1:

- `iac.web.connection` owns the socket: one cancel scope with one deadline per connection, sends that give up on a peer
  that does not read, a bulkhead against errors, and an end that lets the client read the last answer;
- `ContainedProtocol` refuses with 400 what h11 lets pass and the layers above stumble over: HTTP/2 preambles, bytes that
  are not ASCII where ASCII is decoded, WebSocket data before the handshake is answered;
- `install` gives the application per-path body limits and makes sending to a dead WebSocket a checkpoint.

It reaches into private parts, so hypercorn, quart and quart-trio are pinned; tests/web/test_hostile_clients.py has the
packets that kill the stock server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import h11
import trio
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, Data, EndBody, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.typing import ASGISendCallable
from quart import Quart, request
from quart.wrappers import Request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection, TrioASGIWebsocketConnection
from wsproto.connection import ConnectionState as WebsocketState

from iac.web.connection_limits import ContainedConfig, LimitedBody, Limits, Phase

DECODED_AS_ASCII = frozenset({b"connection", b"upgrade", b"sec-websocket-protocol"})
_INSTALLED = "iac.containment"


@dataclass(frozen=True)
class _Installed:
    body_limit: Callable[[str, str], int]
    limits: Limits


def install(app: QuartTrio, *, body_limit: Callable[[str, str], int], limits: Limits | None = None) -> None:
    """Make `app` safe to serve with `iac.web.serving`; call it before registering other `before_request` functions.

    `body_limit(method, path)` is the largest body in bytes that a request may have; a larger one raises
    `iac.errors.TooLarge` before the handler runs if its length was announced, else where the handler reads it.
    Quart's own time limits are switched off: `limits` replaces them with ones that long transfers can meet.
    """
    app.extensions[_INSTALLED] = _Installed(body_limit, limits or Limits())
    app.asgi_http_class = _HTTPConnection
    app.asgi_websocket_class = _WebsocketConnection
    app.config.update(BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
    app.before_request(_refuse_a_body_that_is_too_large)


def limits_of(app: QuartTrio) -> Limits:
    """The limits that `install` was given; `LookupError` if it was not called."""
    return _installed(app).limits


def _installed(app: Quart) -> _Installed:
    return cast(_Installed, app.extensions[_INSTALLED])


async def _refuse_a_body_that_is_too_large() -> None:
    if isinstance(request.body, LimitedBody) and request.body.refusal is not None:
        raise request.body.refusal


class _HTTPConnection(TrioASGIHTTPConnection):
    def _create_request_from_scope(self, send: ASGISendCallable) -> Request:
        request = super()._create_request_from_scope(send)
        limit = _installed(self.app).body_limit(request.method, request.path)
        request.max_content_length = limit
        request.body = LimitedBody(request.content_length, limit)
        return request


class _WebsocketConnection(TrioASGIWebsocketConnection):
    async def send_data(self, send: ASGISendCallable, data: str | bytes) -> None:
        await super().send_data(send, data)
        # Hypercorn returns at once when the peer is gone: without this a loop that only sends would stop the process.
        await trio.lowlevel.checkpoint()


def _refuse(reason: str) -> h11.RemoteProtocolError:
    return h11.RemoteProtocolError(reason, error_status_hint=400)


def _check(head: h11.Request) -> None:
    """Raises `h11.RemoteProtocolError` for a request that is good for h11, but not for what comes after it."""
    names = {name for name, _ in head.headers}
    if head.http_version not in {b"1.0", b"1.1"}:
        raise _refuse("only HTTP/1.1 is spoken here")
    if not head.target.startswith((b"/", b"http://", b"https://")):
        raise _refuse("the target has to be a path")
    if {b"content-length", b"transfer-encoding"} <= names:
        raise _refuse("two lengths for one body")
    if any(name in DECODED_AS_ASCII and not value.isascii() for name, value in head.headers):
        raise _refuse("not ASCII")


def _without_extensions(head: h11.Request) -> h11.Request:
    """Compressed WebSocket messages could grow a thousandfold in memory, so they are never agreed on."""
    kept = [(name, value) for name, value in head.headers if name != b"sec-websocket-extensions"]
    if len(kept) == len(head.headers):
        return head
    return h11.Request(method=head.method, target=head.target, headers=kept, http_version=head.http_version)


class ContainedProtocol(H11Protocol):
    """HTTP/1.1 and WebSocket for one connection; nothing else, whatever the client asks for."""

    config: ContainedConfig

    @property
    def phase(self) -> Phase:
        """What the connection waits for now."""
        state = self.connection.their_state
        if state is h11.IDLE:
            return Phase.HEADERS if self.pending else Phase.WAITING
        return Phase.BODY if state is h11.SEND_BODY else Phase.BUSY

    @property
    def pending(self) -> int:
        """Bytes that have arrived and were not acted on yet."""
        return len(self.connection.trailing_data[0])

    @property
    def all_read(self) -> bool:
        """Whether the client has sent all that we expected and nothing beyond."""
        return self.connection.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED} and not self.pending

    async def handle(self, event: Event) -> None:
        """Take bytes from the peer and act on them."""
        if isinstance(event, RawData):
            try:
                self._take(event.data)
            except h11.RemoteProtocolError as error:
                await self._end_with(error.error_status_hint)
            else:
                await self.resume()

    async def resume(self) -> None:
        """Act on all that has arrived; returns when more is needed, or when an answer has to be sent first."""
        try:
            while await self._step():
                pass
        except h11.RemoteProtocolError as error:
            await self._end_with(error.error_status_hint)

    def _take(self, data: bytes) -> None:
        if isinstance(self.stream, WSStream) and not self.stream.handshake.accepted:
            raise _refuse("data before the handshake was answered")
        if self.connection.their_state is h11.MUST_CLOSE:
            return  # it said that this request is its last: noise after it must not spoil the answer
        self.connection.receive_data(data)
        # Once it has our whole answer, what it sends is its next request, though our handler may not have returned yet.
        answered = self.connection.our_state is h11.DONE
        if self.phase is Phase.BUSY and not answered and self.pending > self.config.limits.pipelined_bytes:
            raise _refuse("too many requests sent ahead")

    async def _step(self) -> bool:
        if self.connection.they_are_waiting_for_100_continue:
            await self._send_h11_event(
                h11.InformationalResponse(status_code=100, headers=self.config.response_headers("h11"))
            )
        event = self.connection.next_event()
        if isinstance(event, h11.Request):
            await self._begin(event)
        elif event is h11.PAUSED or event is h11.NEED_DATA or self.stream is None:
            return False
        elif isinstance(event, h11.Data):
            await self.stream.handle(Body(stream_id=STREAM_ID, data=bytes(event.data)))
        elif isinstance(event, h11.EndOfMessage):
            await self.stream.handle(EndBody(stream_id=STREAM_ID))
        else:
            await self.stream.handle(cast(StreamEvent, event))
            await self._end_if_we_closed_it()
        return True

    async def _begin(self, head: h11.Request) -> None:
        _check(head)
        await self._create_stream(_without_extensions(head))
        if isinstance(self.connection, H11WSConnection) and self.connection.buffer:
            raise _refuse("data before the handshake was answered")
        if self.stream is not None and self.stream.closed:
            await self.send(Closed())  # the stream has refused by itself, and told nobody

    async def _end_if_we_closed_it(self) -> None:
        """A message that is too big makes wsproto close, but neither the handler nor the connection learns of it."""
        stream = self.stream
        if not isinstance(stream, WSStream) or stream.state is not ASGIWebsocketState.CONNECTED:
            return
        if stream.connection.state is WebsocketState.LOCAL_CLOSING:
            await self._end_with(400)

    async def _end_with(self, status: int) -> None:
        """Answer `status` if no answer was begun, and close."""
        parser = self.connection.h11_connection if isinstance(self.connection, H11WSConnection) else self.connection
        stream, self.stream = self.stream, None  # first, so that a handler that answers meanwhile is not heard
        if parser.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(status)
        await self.send(Closed())
        if stream is not None:
            await stream.handle(StreamClosed(stream_id=STREAM_ID))

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what the application answers, telling the client if the connection ends with it."""
        if self.stream is None:
            # The request was refused meanwhile. A checkpoint, because the handler may send in a loop without any.
            await trio.lowlevel.checkpoint()
            return
        if isinstance(event, Response) and event.status_code >= 200 and self._ends_with_this_answer():
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        try:
            await super().stream_send(event)
        except trio.Cancelled:
            if not isinstance(event, Data):  # a WebSocket's frames stand alone; the parts of an answer do not
                self.stream = None
                await self.send(Closed())
            raise

    def _ends_with_this_answer(self) -> bool:
        return self.config.draining.is_set() or self.connection.their_state is h11.SEND_BODY
