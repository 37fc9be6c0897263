"""A platform in memory that speaks the agent API over real sockets, and can be told to misbehave.

It keeps the promises that the real one's own tests prove (offsets, fences, idempotence) in their simplest form.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import trio
from quart import Response, Websocket, request, websocket
from quart_trio import QuartTrio

from iac.domain.agent_bodies import (
    DataBody,
    LogChunkAnswer,
    LogChunkBody,
    LogPosition,
    Pending,
    PlanBody,
    Register,
    Registered,
    Session,
    SessionRequest,
    StateAnswer,
    StateBody,
    StatusAnswer,
    StatusBody,
)
from iac.domain.messages import (
    SUBPROTOCOL,
    Heartbeat,
    HeartbeatAck,
)
from iac.errors import BadRequest, Conflict, Fenced, IacError, LogRefused
from iac.web import containment, errors
from iac.web.serving import serve_http
from tests.fakes.agent_platform import MIB, AgentApi, Assignment

API = "/api/v1"
M = TypeVar("M")


@asynccontextmanager
async def serving(
    api: AgentApi | None = None, *, bind: str = "127.0.0.1:0", tls: tuple[Path, Path] | None = None
) -> AsyncIterator[AgentApi]:
    """The platform, listening until the body ends."""
    api = api or AgentApi()
    api.draining = trio.Event()
    files = None if tls is None else (str(tls[0]), str(tls[1]))
    async with trio.open_nursery() as nursery:
        serve = partial(serve_http, _app(api), bind=bind, tls=files, draining=api.draining, graceful=0.2)
        api.url = (await nursery.start(serve))[0].replace("127.0.0.1", "localhost")
        try:
            yield api
        finally:
            nursery.cancel_scope.cancel()


Handler = Callable[..., Awaitable[msgspec.Struct]]


def _app(api: AgentApi) -> QuartTrio:
    app = QuartTrio("agent_api", static_folder=None)
    containment.install(app, body_limit=lambda method, path: 64 * MIB)
    errors.install(app)

    def route(method: str, path: str, handler: Handler) -> None:
        async def answered(**values: object) -> Response:
            api.requests.append((method, request.path))
            if (refused := api.fault()) is not None:
                return refused
            answer = await handler(**values)
            api._tell()
            body = b"" if answer is _EMPTY else msgspec.json.encode(answer)
            return Response(body, content_type="application/json", headers=api.headers)

        app.add_url_rule(f"{API}{path}", endpoint=f"{method} {path}", view_func=answered, methods=[method])

    _agent_routes(api, route)
    _task_routes(api, route)

    async def control() -> None:
        socket: Websocket = websocket._get_current_object()  # type: ignore[attr-defined]
        api.handshakes.append(dict(socket.headers))
        api._tell()
        if api.refuse_channel is not None:
            response = api.refuse_channel()
            raise _refusal(response)
        api.check_session(socket.headers.get("Authorization"))
        await socket.accept(subprotocol=SUBPROTOCOL)
        await api.serve_agent(socket)

    app.add_websocket(f"{API}/agents/control", view_func=control)
    return app


class _Empty(msgspec.Struct):
    pass


_EMPTY = _Empty()


def _refusal(response: Response) -> IacError:
    error = Conflict("refused", code="refused")
    error.status = response.status_code  # type: ignore[misc]
    error.code = response.headers.get("X-Code", "refused")
    return error


async def _body(kind: type[M]) -> M:
    return msgspec.json.decode(await request.get_data(), type=kind)


def _agent_routes(api: AgentApi, route: Callable[[str, str, Handler], None]) -> None:
    def header() -> str:
        return request.headers.get("Authorization", "")

    async def register() -> Registered:
        return api.register(await _body(Register), header().removeprefix("Bearer "))

    async def session(agent: str) -> Session:
        api.check_session(header())
        await _body(SessionRequest)
        return Session(session_token=api.session(), session_expires_in_s=api.session_lasts)

    async def beat(agent: str) -> HeartbeatAck:
        api.check_session(header())
        message = await _body(Heartbeat)
        api.note(message)
        return api.answer(message)

    async def pending(agent: str) -> Pending:
        api.check_session(header())
        waiting = [made for made in api.assignments.values() if made.status == "assigned"]
        wanted = [made.cancel for made in api.assignments.values() if made.cancel and made.result is None]
        return Pending(tasks=tuple(made.order for made in waiting), cancel=tuple(wanted))

    route("POST", "/agents/register", register)
    route("POST", "/agents/<agent>/session", session)
    route("POST", "/agents/<agent>/heartbeat", beat)
    route("GET", "/agents/<agent>/tasks/pending", pending)


def _task_routes(api: AgentApi, route: Callable[[str, str, Handler], None]) -> None:
    def mine(task_id: int) -> Assignment:
        return api.by_token(task_id, request.headers.get("Authorization"))

    async def data(task_id: int) -> DataBody:
        made = mine(task_id)
        if made.status not in ("assigned", "running", "cancelling"):
            raise Fenced("taken away")
        made.claims, made.boot_id = made.claims + 1, request.headers.get("X-IAC-Boot-Id", "")
        made.status = "running" if made.status == "assigned" else made.status
        return made.data

    async def chunk(task_id: int) -> LogChunkAnswer:
        made, body = mine(task_id), await _body(LogChunkBody)
        raw = gzip.decompress(base64.b64decode(body.data, validate=True))
        if hashlib.sha256(raw).hexdigest() != body.checksum or body.length != len(raw):
            raise BadRequest("checksum", code="checksum_mismatch", next_offset=len(made.log))
        if body.offset > len(made.log):
            raise LogRefused("gap", next_offset=len(made.log))
        made.chunks.append(body)
        made.log += raw[len(made.log) - body.offset :]
        return LogChunkAnswer(next_offset=len(made.log))

    async def position(task_id: int) -> LogPosition:
        made = mine(task_id)
        return LogPosition(next_offset=len(made.log), closed=made.result is not None)

    async def status(task_id: int) -> StatusAnswer:
        made, body = mine(task_id), await _body(StatusBody)
        if body.status == "running":
            made.notes.append(body)
        elif made.result is None:
            made.result, made.status = body, body.status
        return StatusAnswer(status=made.status, final=made.result is not None)

    async def plan(task_id: int) -> _Empty:
        made = mine(task_id)
        made.plan = await _body(PlanBody)
        return _EMPTY

    async def state(task_id: int) -> StateAnswer:
        made, body = mine(task_id), await _body(StateBody)
        raw = gzip.decompress(base64.b64decode(body.state, validate=True))
        assert hashlib.sha256(raw).hexdigest() == body.sha256
        made.states.append(raw)
        return StateAnswer(verdict="current", serial=msgspec.json.decode(raw).get("serial"))

    route("GET", "/agents/tasks/<int:task_id>/data", data)
    route("POST", "/agents/tasks/<int:task_id>/logs/chunk", chunk)
    route("GET", "/agents/tasks/<int:task_id>/logs/chunk", position)
    route("PUT", "/agents/tasks/<int:task_id>/status", status)
    route("POST", "/agents/tasks/<int:task_id>/plan", plan)
    route("POST", "/agents/tasks/<int:task_id>/state", state)
