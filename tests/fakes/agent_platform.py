"""What the platform of tests.fakes.agent_api keeps: orders, what agents said of them, and how it is to misbehave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import msgspec
import trio
from quart import Response, Websocket, request

from iac.domain.agent_bodies import (
    AssignmentFacts,
    DataBody,
    LogChunkBody,
    PlanBody,
    Register,
    Registered,
    SeedTask,
    SeedWorkspace,
    StatusBody,
)
from iac.domain.agent_tokens import Kind, make_token
from iac.domain.messages import (
    CancelTaskOrder,
    FromAgent,
    FromServer,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Lease,
    RunTaskOrder,
    TaskFinished,
    TaskFinishedAck,
    Wanted,
    Welcome,
    decode_from_agent,
    encode,
)
from iac.domain.records import Phase
from iac.domain.work import Bundle, CurrentState, SavedPlan
from iac.errors import IacError, Unauthenticated

MIB = 1024 * 1024
PATIENT = 90.0
_tokens = count(1)
M = TypeVar("M")
MAIN = b'resource "terraform_data" "a" {}\n'


def new_token(kind: Kind) -> str:
    return make_token(kind, next(_tokens).to_bytes(32, "big"))


@dataclass
class Assignment:
    """One order, and all that its agent has said of it."""

    order: RunTaskOrder
    data: DataBody
    status: str = "assigned"
    claims: int = 0
    boot_id: str = ""
    log: bytearray = field(default_factory=bytearray)
    chunks: list[LogChunkBody] = field(default_factory=list)
    notes: list[StatusBody] = field(default_factory=list)
    plan: PlanBody | None = None
    states: list[bytes] = field(default_factory=list)
    result: StatusBody | None = None
    cancel: Wanted | None = None

    @property
    def stages(self) -> list[str]:
        return [note.stage for note in self.notes if note.stage is not None]


@dataclass
class Fault:
    """The next `times` requests whose method and path fit get this answer instead; `after` lets the handler run first."""

    method: str
    path_end: str
    answer: Callable[[], Response]
    times: int = 1
    after: bool = False


class AgentApi:
    """What tests see of it. Everything that agents say is in `heard`, in the order in which it came."""

    def __init__(self) -> None:
        self.pool_token = new_token("pool")
        self.url = ""
        self.registers: list[Register] = []
        self.sessions: set[str] = set()
        self.session_lasts = 3600.0
        self.assignments: dict[int, Assignment] = {}
        self.heard: list[FromAgent] = []
        self.requests: list[tuple[str, str]] = []
        self.handshakes: list[dict[str, str]] = []
        self.faults: list[Fault] = []
        self.welcome: dict[str, Any] = {"heartbeat_interval_s": 0.2, "lease_s": 60.0}
        self.refuse_register: IacError | None = None
        self.refuse_channel: Callable[[], Response] | None = None
        self.mute = False
        """Heartbeats are not answered."""
        self.headers: dict[str, str] = {}
        self.approved = True
        self.draining = trio.Event()
        self._wires: list[trio.MemorySendChannel[FromServer | tuple[int, str]]] = []
        self._changed: dict[str, trio.Event] = defaultdict(trio.Event)
        self._agent_ids: dict[str, str] = {}

    # For tests

    def offer(
        self, action: Phase = "plan", *, announce: bool = True, main: bytes = MAIN, **order: object
    ) -> Assignment:
        """A new assignment; the connected agent is told, or finds it among the pending ones."""
        number = len(self.assignments) + 1
        told = RunTaskOrder(
            task_id=number,
            workspace_id="ws-a",
            action=action,
            assignment_id=f"asg-{number}",
            fence=100 + number,
            attempt=1,
            task_token=new_token("task"),
        )
        told = msgspec.structs.replace(told, **order)
        made = self.assignments[told.fence] = Assignment(told, _data(told, main))
        if announce:
            self.say(told)
        return made

    def cancel(self, made: Assignment, *, announce: bool = True, force: bool = False, reason: str = "user") -> None:
        order = made.order
        made.cancel = Wanted(task_id=order.task_id, fence=order.fence, cancel_id=f"can-{order.fence}", force=force)
        made.status = "cancelling" if made.result is None else made.status
        if announce:
            self.say(CancelTaskOrder(**msgspec.structs.asdict(made.cancel), reason=reason))

    def apply_of(self, planned: Assignment) -> Assignment:
        """The apply of a plan that was stored."""
        made = self.offer("apply", announce=False)
        assert planned.plan is not None
        plan = SavedPlan(
            facts=planned.plan.facts, file=planned.plan.file, json=planned.plan.json, lock_hcl=planned.plan.lock_hcl
        )
        made.data = msgspec.structs.replace(made.data, plan=plan)
        self.say(made.order)
        return made

    def say(self, message: FromServer) -> None:
        """To every connected agent."""
        for wire in self._wires:
            wire.send_nowait(message)

    def hang_up(self, code: int, reason: str = "") -> None:
        for wire in self._wires:
            wire.send_nowait((code, reason))

    @property
    def connected(self) -> int:
        return len(self._wires)

    async def until(self, condition: Callable[[], M | None]) -> M:
        """The first true value of the condition, which is looked at whenever something was heard."""
        with trio.fail_after(PATIENT):
            while not (found := condition()):
                await self._changed["any"].wait()
            return found

    async def until_heard(self, kind: type[M], **facts: object) -> M:
        """The first message of that kind with those values."""
        return await self.until(lambda: next(iter(self.of(kind, **facts)), None))

    def of(self, kind: type[M], **facts: object) -> list[M]:
        """All messages of that kind with those values, so far."""
        return [
            message
            for message in self.heard
            if isinstance(message, kind) and all(getattr(message, name) == value for name, value in facts.items())
        ]

    def fail(self, method: str, path_end: str, answer: Callable[[], Response], *, times: int = 1) -> None:
        self.faults.append(Fault(method, path_end, answer, times))

    # For the routes

    def _tell(self) -> None:
        self._changed.pop("any", trio.Event()).set()

    def note(self, message: FromAgent) -> None:
        self.heard.append(message)
        self._tell()

    def fault(self) -> Response | None:
        for fault in self.faults:
            if fault.times > 0 and fault.method == request.method and request.path.endswith(fault.path_end):
                fault.times -= 1
                return fault.answer()
        return None

    def register(self, body: Register, token: str) -> Registered:
        self.registers.append(body)
        self._tell()
        if self.refuse_register is not None:
            raise self.refuse_register
        if token != self.pool_token:
            raise Unauthenticated("This token is good for nothing here.")
        known = body.instance_id in self._agent_ids
        agent_id = self._agent_ids.setdefault(body.instance_id, f"agent-{len(self._agent_ids) + 1}")
        return Registered(
            agent_id=agent_id,
            pool_id="pool-a",
            name=body.name,
            session_token=self.session(),
            session_expires_in_s=self.session_lasts,
            instance_secret=None if known else new_token("instance"),
            approved=self.approved,
        )

    def session(self) -> str:
        token = new_token("session")
        self.sessions.add(token)
        return token

    def check_session(self, header: str | None) -> None:
        if (header or "").removeprefix("Bearer ") not in self.sessions:
            raise Unauthenticated("No such session.", code="token_expired")

    def by_token(self, task_id: int, header: str | None) -> Assignment:
        for made in self.assignments.values():
            if made.order.task_id == task_id and header == f"Bearer {made.order.task_token}":
                return made
        raise Unauthenticated("No such task token.")

    def answer(self, beat: Heartbeat) -> HeartbeatAck:
        held = [self.assignments[task.fence] for task in beat.tasks if task.fence in self.assignments]
        leases = [Lease(task_id=m.order.task_id, fence=m.order.fence) for m in held if m.result is None]
        wanted = [m.cancel for m in held if m.cancel is not None and m.result is None]
        return HeartbeatAck(seq=beat.seq, leases=tuple(leases), cancel=tuple(wanted))

    async def serve_agent(self, socket: Websocket) -> None:
        wire, said = trio.open_memory_channel[FromServer | tuple[int, str]](256)
        hello = decode_from_agent(await socket.receive())
        assert isinstance(hello, Hello)
        self.note(hello)
        facts = {"protocol_version": 1, "conn_epoch": 1, "server_boot_id": "b", "lost_after_s": 120.0, **self.welcome}
        await socket.send(encode(Welcome(**facts)))
        self._wires.append(wire)
        self._tell()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, socket, wire)
                async for message in said:
                    if isinstance(message, tuple):
                        await socket.close(*message)
                        nursery.cancel_scope.cancel()
                    else:
                        await socket.send(encode(message))
        finally:
            self._wires.remove(wire)
            self._tell()

    async def _read(self, socket: Websocket, wire: trio.MemorySendChannel[FromServer | tuple[int, str]]) -> None:
        while True:
            message = decode_from_agent(await socket.receive())
            self.note(message)
            if isinstance(message, Heartbeat) and not self.mute:
                wire.send_nowait(self.answer(message))
            if isinstance(message, TaskFinished) and not self.mute:
                made = self.assignments.get(message.fence)
                if made is None or made.result is not None:
                    wire.send_nowait(TaskFinishedAck(task_id=message.task_id, fence=message.fence))


def _data(order: RunTaskOrder, main: bytes, state: CurrentState | None = None) -> DataBody:
    bundle = Bundle(
        schema=1,
        workspace_id=order.workspace_id,
        workspace_name="a",
        action="plan_and_apply",
        engine="terraform",
        terraform_version="1.11.4",
        working_directory="",
        configuration_digest=None,
        generated={"main.tf": main},
        variables=(),
        targets=(),
        replace=(),
        lock_hcl=None,
        created_at="2030-01-01T00:00:00+00:00",
    )
    return DataBody(
        task=SeedTask(id=order.task_id, workspace_id=order.workspace_id, action=order.action),
        workspace=SeedWorkspace(workspace_id=order.workspace_id, name="a", terraform_version="1.11.4"),
        assignment=AssignmentFacts(
            assignment_id=order.assignment_id, fence=order.fence, attempt=order.attempt, log_max_bytes=16 * MIB
        ),
        bundle=bundle,
        bundle_digest="d" * 64,
        state_version=state,
    )
