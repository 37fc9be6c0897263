"""The control channel of an agent while it is open: a reader that only parses and forwards, one writer, and the line.

A frame that was sent proves nothing, so nothing is queued for a connection that is not there: what caused a message
causes it again, in the hello or the next heartbeat.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from iac.actors.websocket import LinkLost
from iac.domain.live import LiveBudget
from iac.domain.messages import (
    Error,
    FromAgent,
    FromServer,
    LiveLog,
    Malformed,
    UnknownType,
    decode_from_server,
    encode,
)

log = logging.getLogger(__name__)

QUEUED = 256
"""Messages that wait for the writer, or for the one who acts on what was read; a longer queue ends the connection."""
QUEUED_LIVE = 64
UNKNOWN_TYPES = 32
BAD_MESSAGE = 4400


class LiveLane:
    """Live log bytes that wait until nothing else does. `budget` is told how long sending takes, whatever is sent."""

    def __init__(self) -> None:
        self.budget = LiveBudget()
        self._frames: deque[LiveLog] = deque()
        self._sent, self._some_sent = 0, trio.Event()
        self._waiting: trio.CancelScope | None = None

    def put(self, frame: LiveLog) -> bool:
        """False when there is no room; the frame is dropped then."""
        if len(self._frames) >= QUEUED_LIVE:
            return False
        self._frames.append(frame)
        if self._waiting is not None:
            self._waiting.cancel()
        return True

    def take(self) -> LiveLog | None:
        return self._frames.popleft() if self._frames else None

    def sent(self, size: int) -> None:
        """So many live bytes were handed to the connection."""
        self._sent += size
        self._some_sent.set()

    async def on_the_way(self) -> int:
        """How many were since the last call; waits for some."""
        await self._some_sent.wait()
        size, self._sent, self._some_sent = self._sent, 0, trio.Event()
        return size

    def clear(self) -> None:
        """What waited for a connection that is over is stale."""
        self._frames.clear()
        self._sent, self._some_sent = 0, trio.Event()
        self.budget.restart()

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """The body is left when a frame comes, or there is one already."""
        with trio.CancelScope() as scope:
            self._waiting = scope
            try:
                if self._frames:
                    scope.cancel()
                yield
            finally:
                self._waiting = None


class Line:
    """The present connection to the server, or none. `post` never waits."""

    def __init__(self) -> None:
        self.live = LiveLane()
        self._outbox: trio.MemorySendChannel[FromAgent] | None = None
        self._scope: trio.CancelScope | None = None
        self._up, self._down = trio.Event(), trio.Event()
        self._down.set()
        self.hanging_up = False

    @property
    def is_up(self) -> bool:
        return self._outbox is not None

    def post(self, message: FromAgent) -> None:
        """Says it if there is a connection; one that does not take it is given up."""
        if self._outbox is None:
            return
        try:
            self._outbox.send_nowait(message)
        except trio.WouldBlock:
            log.warning("the server does not read what it is sent")
            if self._scope is not None:
                self._scope.cancel()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            return

    def show(self, frame: LiveLog) -> bool:
        """Live log bytes: behind all else, and only if there is a connection with room for them."""
        return self._outbox is not None and self.live.put(frame)

    def connected(self, outbox: trio.MemorySendChannel[FromAgent], scope: trio.CancelScope) -> None:
        """`scope` ends this connection when it is cancelled."""
        self._outbox, self._scope = outbox, scope
        self._down = trio.Event()
        self._up.set()

    def disconnected(self) -> None:
        if self._outbox is not None:
            self._outbox = self._scope = None
            self.live.clear()
            self._up = trio.Event()
            self._down.set()

    def hang_up(self) -> None:
        """For good: what was posted is still sent, then the connection ends, and no other is opened."""
        self.hanging_up = True
        if self._outbox is not None:
            self._outbox.close()

    async def wait_up(self) -> None:
        await self._up.wait()

    async def wait_down(self) -> None:
        await self._down.wait()


async def read(
    websocket: WebSocketConnection,
    heard: trio.MemorySendChannel[FromServer],
    outbox: trio.MemorySendChannel[FromAgent],
) -> None:
    """Forwards what the server says, and never does anything else: pings are answered only while it reads.

    Raises LinkLost when the connection ends, with the server's close code.
    """
    unknown: set[str] = set()
    while True:
        try:
            message = decode_from_server(await websocket.get_message())
            heard.send_nowait(message)
        except UnknownType as error:
            _answer_unknown(error.type, unknown, outbox)
        except Malformed as error:
            raise LinkLost(f"The server sent something that is no message: {error}", BAD_MESSAGE) from error
        except trio.WouldBlock:
            raise LinkLost("More messages came than could be acted on.") from None
        except ConnectionClosed as closed:
            raise _lost(closed) from None


def _answer_unknown(type_: str, unknown: set[str], outbox: trio.MemorySendChannel[FromAgent]) -> None:
    """Once for each type; a newer server may go on sending it."""
    if type_ in unknown or len(unknown) >= UNKNOWN_TYPES:
        return
    unknown.add(type_)
    try:
        outbox.send_nowait(Error(code="unknown_type", message=f"This agent does not know messages of type {type_!r}."))
    except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
        return


async def write(websocket: WebSocketConnection, outgoing: trio.MemoryReceiveChannel[FromAgent], live: LiveLane) -> None:
    """Sends what is posted, and live log bytes when nothing is; returns when the channel is closed and empty.

    Raises LinkLost.
    """
    with suppress(trio.EndOfChannel):
        while True:
            message = await _next(outgoing, live)
            began = trio.current_time()
            try:
                await websocket.send_message(encode(message))
            except ConnectionClosed as closed:
                raise _lost(closed) from None
            now = trio.current_time()
            live.budget.sent(now - began, now)
            if isinstance(message, LiveLog):
                live.sent(len(message.data))


async def gauge(websocket: WebSocketConnection, live: LiveLane) -> None:
    """Pings behind live bytes: when the pong is there they have arrived, and only then others may follow.

    A buffer on the way takes much at once and lets it through slowly; a heartbeat must not stand behind it all.
    """
    while True:
        size = await live.on_the_way()
        began = trio.current_time()
        try:
            await websocket.ping()
        except ConnectionClosed as closed:
            raise _lost(closed) from None
        now = trio.current_time()
        live.budget.arrived(size, now - began, now)


async def _next(outgoing: trio.MemoryReceiveChannel[FromAgent], live: LiveLane) -> FromAgent:
    """Raises EndOfChannel."""
    while True:
        with suppress(trio.WouldBlock):
            return outgoing.receive_nowait()
        if frame := live.take():
            return frame
        with live.interrupting():
            return await outgoing.receive()


def _lost(closed: ConnectionClosed) -> LinkLost:
    reason = closed.reason
    if reason is None:
        return LinkLost("The connection was closed.")
    told = f": {reason.reason}" if reason.reason else ""
    return LinkLost(f"The connection ended with code {reason.code}{told}.", reason.code)
