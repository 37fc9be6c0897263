"""One accepted connection, from its first byte to its end."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr

from iac.web.connection_limits import ContainedConfig, Patience, Phase
from iac.web.containment import ContainedProtocol

log = logging.getLogger("iac.web.http")

RECEIVE_BYTES = 64 * 1024


class ContainedConnection:
    """Owns one accepted stream until it ends, whatever the peer or our own code does. Await it to run it."""

    def __init__(
        self,
        app: AppWrapper,
        config: ContainedConfig,
        context: WorkerContext,
        state: LifespanState,
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream],
    ) -> None:
        self._app, self._config, self._context, self._state = app, config, context, state
        self._stream = stream
        self._limits = config.limits
        self._patience = Patience(config.limits, trio.current_time())
        self._protocol: ContainedProtocol | None = None
        self._scope = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._resume = False
        self._ending = False
        self._send_lock = trio.Lock()
        self._sending: trio.CancelScope | None = None

    def __await__(self) -> Generator[Any, None, None]:
        return self.run().__await__()

    async def run(self) -> None:
        """Serve the stream until it is over; never raises but `Cancelled`. The caller closes the stream."""
        self._config.drains.add(self._drain)
        try:
            with self._scope:
                self._rearm(0)
                await self._serve()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer went away
        except* Exception as failures:
            # The one bulkhead: a bug in the stack costs the connection that met it, not the server.
            log.error("a connection failed", exc_info=failures)
        finally:
            self._config.drains.discard(self._drain)

    def _drain(self) -> None:
        """The server stops: end now if idle, and from now on do not wait for a peer that makes no progress."""
        self._rearm(0)
        if self._sending is not None:
            self._sending.deadline = min(self._sending.deadline, self._send_deadline())

    async def _serve(self) -> None:
        secure = isinstance(self._stream, trio.SSLStream)
        if isinstance(self._stream, trio.SSLStream):
            await self._stream.do_handshake()
        sock = self._socket
        async with trio.open_nursery() as nursery:
            group = TaskGroup()
            group._nursery = nursery
            self._protocol = ContainedProtocol(
                self._app,
                self._config,
                self._context,
                group,
                ConnectionState(self._state),
                secure,
                parse_socket_addr(sock.family, sock.getpeername()),
                parse_socket_addr(sock.family, sock.getsockname()),
                self._on_protocol_event,
            )
            await self._read(self._protocol)

    @property
    def _socket(self) -> trio.socket.SocketType:
        transport = self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        return transport.socket

    async def _read(self, protocol: ContainedProtocol) -> None:
        """Feed the protocol. Only this task does, so that what arrives is acted on in order."""
        discarded = 0
        while discarded < self._limits.linger_bytes:
            if self._resume:
                self._resume = False
                await protocol.resume()
                self._rearm(0)
            with trio.CancelScope() as self._reading:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            if self._reading.cancelled_caught:
                continue
            if not data:
                break
            if self._ending:
                discarded += len(data)
            else:
                await protocol.handle(RawData(bytes(data)))
                self._rearm(len(data))
        self._scope.cancel()  # nobody is left to answer: whatever still runs for this peer ends

    def _rearm(self, arrived: int) -> None:
        """Give the peer the time that is due to it now."""
        if not self._ending:
            phase = Phase.HEADERS if self._protocol is None else self._protocol.phase
            draining = self._config.draining.is_set()
            self._scope.deadline = self._patience.until(phase, arrived, trio.current_time(), draining=draining)

    async def _on_protocol_event(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Closed):
            self._end()
        elif isinstance(event, Updated) and event.idle:
            self._await_the_next_request()

    def _await_the_next_request(self) -> None:
        # No checkpoint in here: quart-trio cancels the task that comes along as soon as its answer is sent, which is how
        # the stock server loses its keep-alive timer.
        self._rearm(0)
        if self._protocol is not None and self._protocol.pending:
            self._resume = True
            self._reading.cancel()

    def _end(self) -> None:
        """Close, at once if there is nothing more to come, else after the client had time to read our answer.

        Closing with unread bytes makes the kernel reset the connection, and the answer would be lost with it.
        """
        if self._protocol is None or self._protocol.all_read:
            self._scope.cancel()
        elif not self._ending:
            self._ending = True
            self._scope.deadline = trio.current_time() + self._limits.linger
            if isinstance(self._stream, trio.SocketStream):
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)

    async def _send(self, data: bytes) -> None:
        async with self._send_lock:
            if not data:
                return
            view = memoryview(data)
            try:
                await self._send_piece(view[: self._limits.send_piece])
                for start in range(self._limits.send_piece, len(view), self._limits.send_piece):
                    await trio.lowlevel.checkpoint_if_cancelled()
                    await self._send_piece(view[start : start + self._limits.send_piece])
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._scope.cancel()
            except trio.Cancelled:
                self._scope.cancel()  # half an answer is on its way: nothing that follows could be understood
                raise

    async def _send_piece(self, piece: memoryview) -> None:
        with trio.CancelScope(shield=True, deadline=self._send_deadline()) as self._sending:
            await self._stream.send_all(piece)
        if self._sending.cancelled_caught:
            log.info("dropped a client that does not read")
            # Reset, or the kernel would keep trying to deliver what it has buffered.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._scope.cancel()

    def _send_deadline(self) -> float:
        draining = self._config.draining.is_set()
        return trio.current_time() + (self._limits.drain_patience if draining else self._limits.send_within)
