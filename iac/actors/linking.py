"""Keeping the control channel open: one connection after the other, and what each end of one means (protocol 2.4)."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio
from trio_websocket import WebSocketConnection

from iac import __version__
from iac.actors.agent_desk import Desk
from iac.actors.connection import QUEUED, Line, gauge, read, write
from iac.actors.heartbeat import Pulse, Wake, heartbeat
from iac.actors.patience import AgentTimes, Complaints, Retries, wait_asked_for
from iac.actors.session import EXIT_CONFLICT, EXIT_REFUSED, EXIT_VERSION, Session
from iac.actors.websocket import LinkFailed, LinkLost, LinkRefused, Route, open_channel
from iac.domain.messages import Error, FromAgent, FromServer, ServerShutdown, Welcome
from iac.errors import StartFailed

log = logging.getLogger(__name__)

RESTART, UNAUTHENTICATED, REVOKED, BAD_VERSION, REPLACED = 1012, 4401, 4403, 4406, 4409
UPGRADE_REQUIRED = 426
LONGEST_WAIT = 300.0
"""Seconds; a server that wants us to wait longer is asked again anyway."""


@dataclass(frozen=True, slots=True)
class Linked:
    """What a connection needs. `clock` is the desk's."""

    desk: Desk
    session: Session
    line: Line
    pulse: Pulse
    wake: Wake
    route: Route
    times: AgentTimes
    clock: Callable[[], float]


class ShutOut(StartFailed):
    """The agent was revoked: what runs has to stop now, not only when it is done."""


async def keep_linked(link: Linked) -> None:
    """Opens the channel again and again; returns when the line is hung up.

    Raises StartFailed: 4 when the server does not speak our protocol, 5 when another process has our identity, and what
    the session raises; ShutOut (3).
    """
    times = link.times
    retries, complaints = Retries(times.retry_most), Complaints("no control channel", times.complain_every)
    trouble = _Trouble(link.session, times)
    while not link.line.hanging_up:
        began = trio.current_time()
        try:
            await connect_once(link, on_welcome=complaints.over)
        except LinkFailed as failure:
            lasted = trio.current_time() - began
            if lasted >= times.steady_after:
                retries.restart()
                trouble.restart()
            wait = trouble.with_(failure)
            complaints.tell(failure)
            await trio.sleep(retries.next() if wait is None else wait)


class _Trouble:
    """What the end of a connection asks for: a wait in seconds, None for the usual one, or the end of the program."""

    def __init__(self, session: Session, times: AgentTimes) -> None:
        self._session, self._times = session, times
        self._conflict_since: float | None = None

    def restart(self) -> None:
        self._conflict_since = None

    def with_(self, failure: LinkFailed) -> float | None:
        """Raises StartFailed."""
        code, wait = _code_of(failure)
        if code != REPLACED:
            self._conflict_since = None
        match code:
            case _ if code == UNAUTHENTICATED:
                self._session.expire()
            case _ if code == REVOKED and not self._session.approved:
                self._session.expire()  # registering again tells whether an admin has approved us meanwhile
            case _ if code == REVOKED:
                raise ShutOut(f"The server has shut this agent out: {failure}", exit_code=EXIT_REFUSED)
            case _ if code == BAD_VERSION:
                raise StartFailed(f"{failure} This agent is {__version__}.", exit_code=EXIT_VERSION)
            case _ if code == REPLACED:
                self._in_conflict(failure)
            case _ if code == RESTART and wait is not None:
                return random.uniform(0, min(wait, LONGEST_WAIT))  # noqa: S311 - to spread agents, not to hide
        return None if wait is None else min(wait, LONGEST_WAIT)

    def _in_conflict(self, failure: LinkFailed) -> None:
        now = trio.current_time()
        if self._conflict_since is None:
            self._conflict_since = now
        if now - self._conflict_since >= self._times.conflict_for:
            raise StartFailed(
                f"Another agent runs with this one's identity ({failure}). Give each agent a data directory of its own; "
                "never copy one.",
                exit_code=EXIT_CONFLICT,
            )


def _code_of(failure: LinkFailed) -> tuple[int | None, float | None]:
    """The close code, or the one that says the same as a refused handshake; and the wait that the server wants."""
    if isinstance(failure, LinkLost):
        return failure.code, failure.wait
    if not isinstance(failure, LinkRefused):
        return None, None
    same = {401: UNAUTHENTICATED, 403: REVOKED, UPGRADE_REQUIRED: BAD_VERSION}.get(failure.status)
    if failure.status == 409 and failure.error.code == "session_conflict":
        same = REPLACED
    ours = failure.error.code != "not_ours"  # a proxy's 401 or 403 says nothing about us
    return same if ours else None, wait_asked_for(failure.error)


async def connect_once(link: Linked, *, on_welcome: Callable[[], None]) -> None:
    """One connection from the handshake to its end; returns when the line was hung up. Raises LinkFailed, StartFailed."""
    token = await link.session.token()
    headers = {
        "Authorization": f"Bearer {token}",
        "X-IAC-Agent-Id": link.session.agent_id,
        "X-IAC-Boot-Id": link.session.boot_id,
    }
    talk = _Talk(link, on_welcome)
    try:
        async with open_channel(link.route, headers) as websocket:
            await talk.run(websocket)
    except LinkLost as lost:
        raise LinkLost(str(lost), lost.code, talk.wait_asked_for()) from lost


class _Talk:
    """What is said on one connection."""

    def __init__(self, link: Linked, on_welcome: Callable[[], None]) -> None:
        self._link, self._on_welcome = link, on_welcome
        self._outbox, self._outgoing = trio.open_memory_channel[FromAgent](QUEUED)
        self._to_desk, self._heard = trio.open_memory_channel[FromServer](QUEUED)
        self._wait: float | None = None

    async def run(self, websocket: WebSocketConnection) -> None:
        """Reader, writer, and the one who acts on what was read; returns when the line was hung up. Raises LinkLost."""
        link = self._link
        async with trio.open_nursery() as nursery:
            sent_at = link.clock()
            self._outbox.send_nowait(link.desk.hello(link.session.agent_id))
            nursery.start_soon(read, websocket, self._to_desk, self._outbox)
            nursery.start_soon(self._obey, nursery.cancel_scope, sent_at)
            nursery.start_soon(gauge, websocket, link.line.live)
            await write(websocket, self._outgoing, link.line.live)
            nursery.cancel_scope.cancel()
        if not link.line.hanging_up:
            raise LinkLost("The server does not read what it is sent.")

    async def _obey(self, scope: trio.CancelScope, sent_at: float) -> None:
        link = self._link
        welcome = await self._welcome()
        link.line.connected(self._outbox, scope)
        try:
            link.pulse.restart()
            link.desk.welcomed(welcome, sent_at=sent_at)
            self._on_welcome()
            log.info("connected", extra={"agent": link.session.agent_id, "epoch": welcome.conn_epoch})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat, welcome.heartbeat_interval_s)
                async for message in self._heard:
                    self._heed(message)
                    link.desk.hear(message)
        finally:
            link.line.disconnected()

    async def _welcome(self) -> Welcome:
        """The answer to the hello. What comes before it is a hint that will be repeated."""
        within = self._link.times.welcome_within
        with trio.move_on_after(within):
            async for message in self._heard:
                self._heed(message)
                if isinstance(message, Welcome):
                    return message
        raise LinkLost(f"The server did not answer the hello within {within:g} s.")

    async def _beat(self, every: float) -> None:
        link = self._link
        send = partial(link.desk.beat, link.session.agent_id)
        within = link.times.ack_within
        await heartbeat(send, link.pulse, link.wake, every=every, ack_within=within, clock=link.clock)

    def wait_asked_for(self) -> float | None:
        """When to come back, if the server said so: perhaps in words that came right before the end, not looked at yet."""
        with suppress(trio.WouldBlock):
            while True:
                self._heed(self._heard.receive_nowait())
        return self._wait

    def _heed(self, message: FromServer) -> None:
        if isinstance(message, ServerShutdown | Error) and message.retry_after_s is not None:
            self._wait = message.retry_after_s
