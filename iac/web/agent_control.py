"""The control channel: who may open it, told before the upgrade with a real answer, and then the agent's connection."""

from __future__ import annotations

import logging
from functools import partial
from typing import cast

import trio
from quart import Websocket, websocket
from quart_trio import QuartTrio

from iac.actors import agent_talk
from iac.domain.messages import PROTOCOL, SUBPROTOCOL
from iac.domain.rates import Rates
from iac.domain.records import AgentRecord
from iac.errors import Forbidden, UpgradeRequired
from iac.web.agent_auth import HANDSHAKES, within
from iac.web.agent_routes import TAG
from iac.web.auth import Authenticate
from iac.web.platform import Platform
from iac.web.routing import Api, Call, NoQuery

log = logging.getLogger(__name__)

CONTROL = "/api/v1/agents/control"


class _Wire:
    """Quart's WebSocket as an agent's connection wants it."""

    def __init__(self, socket: Websocket) -> None:
        self._socket = socket

    async def receive(self) -> str | bytes:
        return await self._socket.receive()

    async def send(self, text: str) -> None:
        await self._socket.send(text)

    async def close(self, code: int, reason: str) -> None:
        await self._socket.close(code, reason[:120])


def declare(api: Api, platform: Platform) -> None:
    """What a plain GET of the channel's path is told; the channel itself is installed by `install`."""

    @api.operation(
        "GET", CONTROL, "The control channel: a WebSocket; see the protocol's description", tag=TAG, right=None,
        auth="session", status=101, also=(426,), conflicts=("session_conflict",),
    )  # fmt: skip
    async def open_control_channel(call: Call[None, NoQuery]) -> None:
        raise _not_spoken()


def install(app: QuartTrio, platform: Platform, authenticate: Authenticate) -> None:
    """Puts the WebSocket on the app."""
    handshakes = Rates(HANDSHAKES)

    async def control() -> None:
        socket = cast(Websocket, websocket._get_current_object())  # type: ignore[attr-defined]
        record: AgentRecord = await authenticate("session", socket.headers.get("Authorization"))
        _check(socket, record)
        within(handshakes, record.id, "connections")
        platform.fleet.refuse_second(record.id, socket.headers.get("X-IAC-Boot-Id", ""), trio.current_time())
        connection = platform.fleet.open(record.id)
        try:
            await socket.accept(subprotocol=SUBPROTOCOL)
            # What the handshake said is of no use any more, and there are thousands of these connections.
            socket.headers.clear()
            socket.scope["headers"] = ()
            await connection.run(_Wire(socket), partial(agent_talk.hear, platform.fleet))
        finally:
            platform.fleet.leave(connection)

    app.add_websocket(CONTROL, endpoint="agent_control", view_func=control)


def _check(socket: Websocket, record: AgentRecord) -> None:
    if SUBPROTOCOL not in socket.requested_subprotocols:
        raise _not_spoken()
    claimed = socket.headers.get("X-IAC-Agent-Id")
    if claimed is not None and claimed != record.id:
        raise Forbidden("This session is another agent's.", code="wrong_scope")


def _not_spoken() -> UpgradeRequired:
    return UpgradeRequired(
        f"Open this path as a WebSocket with the subprotocol {SUBPROTOCOL}.", min=PROTOCOL, max=PROTOCOL
    )
