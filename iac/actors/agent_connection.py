"""One connected agent: a reader that only parses and forwards, one writer, one handler, and an end that says why.

The reader never waits for anything but the next frame, so that pings are answered and a dead peer is noticed; the handler
may wait for the database. Whoever wants the connection to end calls `end`; the last words are sent within a budget.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from iac.actors.outbox import Outbox
from iac.domain.agent_session import Times
from iac.domain.messages import (
    Error,
    FromAgent,
    FromServer,
    Hello,
    LiveLog,
    Malformed,
    UnknownType,
    decode_from_agent,
    encode,
)
from iac.domain.rates import Bucket, Rate

log = logging.getLogger(__name__)

WAITING_FRAMES = 256
FRAMES, BYTES = Rate(50.0, 100.0), Rate(2.0 * 1024 * 1024, 4.0 * 1024 * 1024)
LAST_WORDS = 2.0
"""Seconds for what is still to be said when the connection ends."""
UNKNOWN_TYPES = 32

NORMAL, FAULT, RESTART = 1000, 1011, 1012
BAD_MESSAGE, UNAUTHENTICATED, REVOKED, BAD_VERSION, TOO_SLOW, REPLACED, TOO_FAST = (
    4400,
    4401,
    4403,
    4406,
    4408,
    4409,
    4429,
)


class Wire(Protocol):
    """An accepted WebSocket. What fails there fails by cancellation: the server cancels whoever serves a dead peer."""

    async def receive(self) -> str | bytes: ...

    async def send(self, text: str) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


Handle = Callable[["AgentConnection", FromAgent], Awaitable[None]]
Live = Callable[["AgentConnection", LiveLog], None]


def _nobody_watches(connection: AgentConnection, frame: LiveLog) -> None: ...


class AgentConnection:
    """`send` and `end` are for anybody, at any time; `run` is the actor."""

    def __init__(self, agent_id: str, times: Times, live: Live = _nobody_watches) -> None:
        """`live` gets live log bytes at once, beside what waits for the handler."""
        self.agent_id = agent_id
        self._live = live
        self.boot_id = ""
        self.conn_seq = -1
        self.conn_epoch = 0
        self.heard_at = trio.current_time()
        self.left = trio.Event()
        self._times = times
        self._outbox = Outbox()
        self._sending: FromServer | None = None
        self._ended = trio.Event()
        self._reason: tuple[int, str] = (NORMAL, "")
        self._greeted = False
        self._unknown: set[str] = set()
        self._frames, self._bytes = Bucket(FRAMES, self.heard_at), Bucket(BYTES, self.heard_at)
        self._in, self._inbox = trio.open_memory_channel[FromAgent](WAITING_FRAMES)

    @property
    def ending(self) -> bool:
        return self._ended.is_set()

    def send(self, message: FromServer) -> None:
        """As soon as the writer gets to it. An agent that does not read loses its connection."""
        if not self.ending and not self._outbox.put(message):
            self.end(TOO_FAST, "you do not read what you are sent")

    def end(self, code: int, reason: str) -> None:
        """After what was put before has been sent. The first reason counts."""
        if not self.ending:
            self._reason = (code, reason)
            self._ended.set()

    async def run(self, wire: Wire, handle: Handle) -> None:
        """Serves the connection until somebody ends it, or, by cancellation, the peer is gone."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, wire)
                nursery.start_soon(self._write, wire)
                nursery.start_soon(self._handle, handle)
                await self._until_ended()
                nursery.cancel_scope.cancel()
            with trio.move_on_after(LAST_WORDS):
                # What the writer was at comes first, perhaps a second time: every message may be doubled.
                while (message := self._sending or self._outbox.take()) is not None:
                    self._sending = None
                    await wire.send(encode(message))
                await wire.close(*self._reason)
        finally:
            self._ended.set()
            self.left.set()

    async def _read(self, wire: Wire) -> None:
        while not self.ending:
            frame = await wire.receive()
            self.heard_at = trio.current_time()
            try:
                message = decode_from_agent(frame)
            except UnknownType as unknown:
                self._answer_unknown(unknown.type)
            except Malformed as malformed:
                self.end(BAD_MESSAGE, str(malformed)[:100])
            else:
                self._forward(message)
            self._measure(len(frame))

    def _measure(self, size: int) -> None:
        wait = max(self._frames.take(1, self.heard_at), self._bytes.take(size, self.heard_at))
        if wait:
            self.send(Error(code="rate_limited", message="Too many frames or bytes.", retry_after_s=round(wait, 1)))
            self.end(TOO_FAST, "too many frames")

    def _forward(self, message: FromAgent) -> None:
        if isinstance(message, Hello) == self._greeted:
            self.end(BAD_MESSAGE, "a second hello" if self._greeted else "the first frame has to be a hello")
            return
        self._greeted = True
        if isinstance(message, LiveLog):
            self._live(self, message)
            return
        try:
            self._in.send_nowait(message)
        except trio.WouldBlock:
            self.end(TOO_FAST, "more messages than can be handled")

    def _answer_unknown(self, type_: str) -> None:
        if type_ not in self._unknown and len(self._unknown) < UNKNOWN_TYPES:
            self._unknown.add(type_)
            self.send(Error(code="unknown_type", message=f"This server does not know messages of type {type_!r}."))

    async def _write(self, wire: Wire) -> None:
        while True:
            self._sending = await self._outbox.get()
            await wire.send(encode(self._sending))
            self._sending = None

    async def _handle(self, handle: Handle) -> None:
        async for message in self._inbox:
            try:
                await handle(self, message)
            except Exception:  # the bulkhead: a bug costs the connection that met it
                log.exception("a message could not be handled", extra={"agent": self.agent_id})
                self.end(FAULT, "a fault of the server")

    async def _until_ended(self) -> None:
        """Until somebody ends it. Who does not introduce itself, or falls silent, is not there."""
        with trio.move_on_after(self._times.hello_within):
            await self._ended.wait()
        if not self._greeted:
            self.end(TOO_SLOW, "no hello")
        while not self.ending and (silent_at := self.heard_at + self._times.offline) > trio.current_time():
            with trio.move_on_at(silent_at):
                await self._ended.wait()
        self.end(TOO_SLOW, "silent for too long")
