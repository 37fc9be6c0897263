"""An agent that does exactly what a test tells it: the wire, and nothing of the real agent's own sense."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from iac.domain.agent_bodies import DataBody, PlanBody, Registered
from iac.domain.messages import (
    SUBPROTOCOL,
    FromAgent,
    FromServer,
    Heartbeat,
    HeartbeatAck,
    Held,
    Hello,
    Refusal,
    RunTaskOrder,
    TaskAccepted,
    TaskFinished,
    TaskRejected,
    Welcome,
    decode_from_server,
    encode,
)
from iac.domain.work import PlanFacts

PATIENT = 90.0
M = TypeVar("M")
_numbers = count(1)


def packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@asynccontextmanager
async def control_channel(
    url: str, headers: Mapping[str, str], *, subprotocols: Sequence[str] = (SUBPROTOCOL,)
) -> AsyncIterator[WebSocketConnection]:
    """An accepted WebSocket. Raises ConnectionRejected."""
    parts = urlsplit(url)
    # Our own stream: trio-websocket leaves the one that it opens to the garbage collector when it is rejected.
    async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 80) as stream:
        async with trio.open_nursery() as nursery:
            socket = await wrap_client_stream(
                nursery,
                stream,
                parts.netloc,
                "/api/v1/agents/control",
                subprotocols=subprotocols,
                extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            )
            try:
                yield socket
            finally:
                with trio.move_on_after(1, shield=True):
                    await socket.aclose()
                nursery.cancel_scope.cancel()


class Link:
    """An open control channel. Messages that a test does not ask for are kept in `heard`."""

    def __init__(self, agent: ScriptedAgent, socket: WebSocketConnection) -> None:
        self._agent = agent
        self.socket = socket
        self.heard: list[FromServer] = []

    async def say(self, message: FromAgent) -> None:
        await self.socket.send_message(encode(message))

    async def get(self, kind: type[M], **facts: object) -> M:
        """The next message of that kind with these fields."""
        with trio.fail_after(PATIENT):
            while True:
                message = decode_from_server(await self.socket.get_message())
                self.heard.append(message)
                if isinstance(message, kind) and all(getattr(message, name) == value for name, value in facts.items()):
                    return message

    async def closed(self) -> tuple[int, str]:
        """The code and the reason with which the server ends the channel."""
        with trio.fail_after(PATIENT), suppress(ConnectionClosed):
            while True:
                self.heard.append(decode_from_server(await self.socket.get_message()))
        assert self.socket.closed is not None
        return self.socket.closed.code, self.socket.closed.reason or ""

    async def hello(self, *tasks: Held, **facts: Any) -> Welcome:
        """Says hello and returns the welcome."""
        await self.say(self._agent.hello(*tasks, **facts))
        return await self.get(Welcome)

    async def beat(self, *tasks: Held, **facts: Any) -> HeartbeatAck:
        beat = self._agent.heartbeat(*tasks, **facts)
        await self.say(beat)
        return await self.get(HeartbeatAck, seq=beat.seq)

    async def accept(self, order: RunTaskOrder) -> None:
        await self.say(acceptance(order))

    async def finish(self, order: RunTaskOrder, result_id: str = "r") -> None:
        await self.say(TaskFinished(task_id=order.task_id, fence=order.fence, result_id=result_id))


class ScriptedAgent:
    """Registers, connects, claims, reports: each step when it is told to."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        pool_token: str,
        *,
        name: str = "agent",
        boot: str = "boot-of-the-agent",
        instance: str | None = None,
    ) -> None:
        self.use(http)
        self.instance = instance or f"instance-of-{name}"
        self.pool_token = pool_token
        self.name = name
        self.boot = boot
        self.registered: Registered | None = None
        self._seq = count(1)
        self._conn = count(1)

    def use(self, http: httpx.AsyncClient) -> None:
        """`http` speaks to the server; its own token is not used."""
        self.http = http
        self.url = str(http.base_url).rstrip("/")

    @property
    def id(self) -> str:
        assert self.registered is not None
        return self.registered.agent_id

    @property
    def session(self) -> str:
        assert self.registered is not None
        return self.registered.session_token

    async def call(
        self, method: str, path: str, token: str, *, expect: int | None = None, **request: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", **request.pop("headers", {})}
        response = await self.http.request(method, f"/api/v1{path}", headers=headers, **request)
        wanted = response.is_success if expect is None else response.status_code == expect
        assert wanted, f"{method} {path}: {response.status_code} {response.text[:1000]}"
        return response

    async def register(self, **facts: Any) -> Registered:
        body = {"name": self.name, "instance_id": self.instance, "boot_id": self.boot, **facts}
        response = await self.call("POST", "/agents/register", self.pool_token, json=body)
        self.registered = msgspec.json.decode(response.content, type=Registered)
        return self.registered

    @asynccontextmanager
    async def connected(self, *, session: str | None = None, **headers: str) -> AsyncIterator[Link]:
        """An open control channel, before any hello. Raises ConnectionRejected."""
        sent = {"Authorization": f"Bearer {session or self.session}", "X-IAC-Agent-Id": self.id, **headers}
        async with control_channel(self.url, sent) as socket:
            yield Link(self, socket)

    def hello(self, *tasks: Held, **facts: Any) -> Hello:
        usual = {"agent_id": self.id, "boot_id": self.boot, "conn_seq": next(self._conn), "tasks": tasks}
        return Hello(**{**usual, **facts})

    def heartbeat(self, *tasks: Held, **facts: Any) -> Heartbeat:
        usual: dict[str, Any] = {
            "agent_id": self.id,
            "status": "busy" if tasks else "idle",
            "plan_running": len(tasks),
            "plan_limit": 3,
            "apply_running": False,
            "current_tasks": tuple(held.task_id for held in tasks),
            "cpu_usage": 0.1,
            "mem_usage": 0.2,
            "seq": next(self._seq),
            "boot_id": self.boot,
            "tasks": tasks,
        }
        return Heartbeat(**{**usual, **facts})

    async def claim(self, order: RunTaskOrder, *, expect: int = 200) -> DataBody:
        response = await self.task(order, "GET", "/data", expect=expect)
        assert response.headers["Cache-Control"] == "no-store"
        return msgspec.json.decode(response.content, type=DataBody)

    async def task(self, order: RunTaskOrder, method: str, path: str, **request: Any) -> httpx.Response:
        """A call with the order's task token."""
        return await self.call(method, f"/agents/tasks/{order.task_id}{path}", order.task_token, **request)

    async def log(self, order: RunTaskOrder, data: bytes, offset: int = 0, **request: Any) -> httpx.Response:
        body = {"offset": offset, "data": packed(data), "checksum": sha256(data), "length": len(data)}
        return await self.task(order, "POST", "/logs/chunk", json=body, **request)

    async def plan(self, order: RunTaskOrder, data: DataBody, *, has_changes: bool = True) -> None:
        """Stores a plan for what it was given."""
        file = b"the plan of task " + str(order.task_id).encode()
        state = data.state_version
        body = PlanBody(
            facts=PlanFacts(
                digest=sha256(file),
                bundle_digest=data.bundle_digest,
                serial=None if state is None else state.serial,
                lineage=None if state is None else state.lineage,
                terraform_version="1.11.4",
                has_changes=has_changes,
                summary={"add": int(has_changes)},
            ),
            sha256=sha256(file),
            file=file,
            json=b'{"format_version": "1.2"}',
        )
        await self.task(order, "POST", "/plan", content=msgspec.json.encode(body), headers=JSON)

    async def status(
        self, order: RunTaskOrder, status: str, *, log: bytes | None = b"", **facts: Any
    ) -> httpx.Response:
        """Reports; `log` is all that the log has."""
        digest = None if log is None else {"length": len(log), "sha256": sha256(log)}
        body = {"status": status, "result_id": f"r-{order.fence}", "log": digest, **facts}
        expect = body.pop("expect", None)
        return await self.task(order, "PUT", "/status", json=body, expect=expect)

    async def state(self, order: RunTaskOrder, data: bytes, **request: Any) -> httpx.Response:
        body = {"state": packed(data), "sha256": sha256(data), **request.pop("body", {})}
        return await self.task(order, "POST", "/state", json=body, **request)


JSON = {"Content-Type": "application/json"}


def refusal(order: RunTaskOrder, reason: Refusal = "at_capacity") -> TaskRejected:
    return TaskRejected(task_id=order.task_id, assignment_id=order.assignment_id, fence=order.fence, reason=reason)


def acceptance(order: RunTaskOrder) -> TaskAccepted:
    return TaskAccepted(task_id=order.task_id, assignment_id=order.assignment_id, fence=order.fence)


def held(order: RunTaskOrder, stage: str = "plan") -> Held:
    """The assignment as its agent lists it."""
    return Held(
        task_id=order.task_id, fence=order.fence, assignment_id=order.assignment_id, action=order.action, stage=stage
    )
