"""The control channel of an agent while it is open: a reader that only parses and forwards, one writer, and the line.

A frame that was sent proves nothing, so nothing is queued for a connection that is not there: what caused a message
causes it again, in the hello or the next heartbeat.
"""

from __future__ import annotations

import logging

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from iac.actors.websocket import LinkLost
from iac.domain.messages import Error, FromAgent, FromServer, Malformed, UnknownType, decode_from_server, encode

log = logging.getLogger(__name__)

QUEUED = 256
"""Messages that wait for the writer, or for the one who acts on what was read; a longer queue ends the connection."""
UNKNOWN_TYPES = 32
BAD_MESSAGE = 4400


class Line:
    """The present connection to the server, or none. `post` never waits."""

    def __init__(self) -> None:
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

    def connected(self, outbox: trio.MemorySendChannel[FromAgent], scope: trio.CancelScope) -> None:
        """`scope` ends this connection when it is cancelled."""
        self._outbox, self._scope = outbox, scope
        self._down = trio.Event()
        self._up.set()

    def disconnected(self) -> None:
        if self._outbox is not None:
            self._outbox = self._scope = None
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


async def write(websocket: WebSocketConnection, outgoing: trio.MemoryReceiveChannel[FromAgent]) -> None:
    """Sends what is posted; returns when the channel is closed and empty. Raises LinkLost."""
    async for message in outgoing:
        try:
            await websocket.send_message(encode(message))
        except ConnectionClosed as closed:
            raise _lost(closed) from None


def _lost(closed: ConnectionClosed) -> LinkLost:
    reason = closed.reason
    if reason is None:
        return LinkLost("The connection was closed.")
    told = f": {reason.reason}" if reason.reason else ""
    return LinkLost(f"The connection ended with code {reason.code}{told}.", reason.code)
