"""What server and agent say to each other over the control channel. Pure: no I/O, no clock.

One envelope, `{"type", "payload"}`, and two unions, one for each direction, so that a peer cannot send the other's messages.
Every message is a hint to compare lists now: it may be lost, doubled or late, and every handler is idempotent on its key.
Unknown keys are ignored; an unknown type is answered once and otherwise ignored; whatever is not a message at all ends the
connection. `heartbeat`, `run_task` and `cancel_task` carry exactly the seed's fields (3.3) and more beside them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from iac.domain.ladder import StopReport, StopStage
from iac.domain.records import Phase

PROTOCOL = 1
SUBPROTOCOL = "iac.agent.v1"
LARGEST_FRAME = 256 * 1024
"""Bytes of a frame; a larger one ends the connection."""

Stage = str
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""What the database can hold: one message with more must not spoil what is stored together with it."""
Word = Annotated[str, Meta(max_length=200)]
"""Text that names something: no peer needs more."""
Mode = Literal["finish", "cancel"]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all payloads."""


class Confidential(Message, frozen=True, kw_only=True):
    """Base of what has a secret in it: whatever prints it prints its kind and no more."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


class Held(Message, frozen=True, kw_only=True):
    """An assignment as its agent has it."""

    task_id: Number
    fence: Number
    assignment_id: str = ""
    action: Phase = "plan"
    stage: Stage = ""
    log_length: Number = 0
    log_acked: Number = 0
    stop: StopReport | None = None
    """How far it is being stopped: what `cancel_ack` said, for where that was not heard."""


class Hello(Message, frozen=True, kw_only=True):
    """The first frame of a connection: who this is, and what it holds."""

    agent_id: Word
    boot_id: Word
    conn_seq: Number
    protocol_versions: tuple[int, ...] = (PROTOCOL,)
    version: Word = ""
    plan_limit: int = 3
    draining: bool = False
    tasks: tuple[Held, ...] = ()
    disk_free: int = 0
    clock: float | None = None
    """The agent's time, in seconds since 1970: only so that people can see a clock that is wrong."""


class Heartbeat(Message, frozen=True, kw_only=True):
    """Every few seconds, and at once when a slot changes. Usages are shares between 0 and 1."""

    agent_id: str
    status: Literal["idle", "busy", "draining"]
    plan_running: int
    plan_limit: int
    apply_running: bool
    current_tasks: tuple[Number, ...]
    cpu_usage: float
    mem_usage: float
    seq: Number = 0
    boot_id: Word = ""
    tasks: tuple[Held, ...] = ()
    draining: bool = False
    disk_free: int = 0
    spool_bytes: int = 0
    unsent_states: int = 0


class TaskAccepted(Message, frozen=True, kw_only=True):
    task_id: Number
    assignment_id: str
    fence: Number


Refusal = Literal["at_capacity", "draining", "disk_low", "unsupported", "no_terraform", "already_done", "stale_fence"]


class TaskRejected(Message, frozen=True, kw_only=True):
    task_id: Number
    assignment_id: str
    fence: Number
    reason: Refusal


class TaskStage(Message, frozen=True, kw_only=True):
    """For people; the last one counts."""

    task_id: Number
    fence: Number
    stage: Stage


class CancelAck(Message, frozen=True, kw_only=True):
    """How far a stop is, at each stage; see StopReport. One with a `reason` is the agent's own."""

    task_id: Number
    fence: Number
    cancel_id: Word
    stage: StopStage
    reason: Word = ""
    forced: bool = False
    since_s: float = 0.0
    next_s: float | None = None
    kill_s: float | None = None
    deadline_s: float = 0.0

    @property
    def report(self) -> StopReport:
        return StopReport(**{name: getattr(self, name) for name in StopReport.__struct_fields__})


class TaskFinished(Message, frozen=True, kw_only=True):
    """The result was reported and taken, nothing of the task is left on the host: its slot is free."""

    task_id: Number
    fence: Number
    result_id: str = ""


class LiveLog(Message, frozen=True, kw_only=True):
    """Log bytes while somebody watches: best effort, never stored. `data` is base64."""

    task_id: Number
    fence: Number
    offset: Number
    data: bytes


class DrainAck(Message, frozen=True, kw_only=True):
    running: tuple[Number, ...] = ()


class Goodbye(Message, frozen=True, kw_only=True):
    """A voluntary end: whatever was not claimed is queued again at once."""

    reason: str
    running: tuple[Number, ...] = ()


class Error(Message, frozen=True, kw_only=True):
    code: str
    message: str
    re: str | None = None
    retry_after_s: float | None = None


class Verdict(Message, frozen=True, kw_only=True):
    """What to do with one of the tasks that the hello told of."""

    task_id: int
    fence: int
    do: Literal["continue", "cancel", "abandon", "forget", "report"]


class LogTimes(Message, frozen=True, kw_only=True):
    chunk_bytes: int = 5 * 1024 * 1024
    interval_s: float = 30.0
    max_bytes: int = 256 * 1024 * 1024


class Welcome(Message, frozen=True, kw_only=True):
    """The answer to a hello: the times that hold from now on, and what to do with what the agent holds."""

    protocol_version: int
    conn_epoch: int
    server_boot_id: str
    heartbeat_interval_s: float
    lease_s: float
    lost_after_s: float
    log: LogTimes = LogTimes()
    decisions: tuple[Verdict, ...] = ()
    drain: bool = False
    apply_alone: bool = False
    """The agent refuses an apply beside plans, and plans beside an apply: the pool's `apply_exclusivity` is "agent"."""


class Lease(Message, frozen=True, kw_only=True):
    task_id: int
    fence: int


class Wanted(Message, frozen=True, kw_only=True):
    """A cancellation that is still to be obeyed."""

    task_id: int
    fence: int
    cancel_id: str
    force: bool = False
    grace_s: float | None = None


class HeartbeatAck(Message, frozen=True, kw_only=True):
    seq: int
    leases: tuple[Lease, ...] = ()
    cancel: tuple[Wanted, ...] = ()
    drain: bool = False
    degraded: bool = False


class RunTaskOrder(Confidential, frozen=True, kw_only=True):
    """Sent after the assignment is committed; again until it is accepted. `task_token` is good for this one alone."""

    task_id: int
    workspace_id: str
    action: Phase
    assignment_id: str
    fence: int
    attempt: int
    task_token: str
    timeout_s: float = 0.0
    priority: int = 0


class CancelTaskOrder(Message, frozen=True, kw_only=True):
    task_id: int
    fence: int
    cancel_id: str
    reason: str = "user"
    force: bool = False
    grace_s: float | None = None


class TaskFinishedAck(Message, frozen=True, kw_only=True):
    task_id: int
    fence: int
    result_id: str = ""
    verdict: Literal["accepted", "duplicate", "fenced"] = "accepted"


class Abandon(Message, frozen=True, kw_only=True):
    """The assignment is not this agent's any more."""

    task_id: int
    fence: int
    mode: Literal["kill", "stop_and_report", "kill_if_plan"]


class Drain(Message, frozen=True, kw_only=True):
    reason: str
    mode: Mode = "finish"
    deadline_s: float | None = None


class Undrain(Message, frozen=True, kw_only=True):
    reason: str = ""


class ServerShutdown(Message, frozen=True, kw_only=True):
    """Close code 1012 follows; come back after a random part of `retry_after_s`."""

    retry_after_s: float
    reason: str = ""


class LiveSubscribe(Message, frozen=True, kw_only=True):
    task_id: int
    fence: int
    from_offset: int
    ttl_s: float = 30.0


class LiveUnsubscribe(Message, frozen=True, kw_only=True):
    task_id: int
    fence: int


class FlushLogs(Message, frozen=True, kw_only=True):
    task_id: int
    fence: int


FromAgent = (
    Hello
    | Heartbeat
    | TaskAccepted
    | TaskRejected
    | TaskStage
    | CancelAck
    | TaskFinished
    | LiveLog
    | DrainAck
    | Goodbye
    | Error
)
FromServer = (
    Welcome
    | HeartbeatAck
    | RunTaskOrder
    | CancelTaskOrder
    | TaskFinishedAck
    | Abandon
    | Drain
    | Undrain
    | ServerShutdown
    | LiveSubscribe
    | LiveUnsubscribe
    | FlushLogs
    | Error
)

_NAMES: dict[type[Message], str] = {
    Hello: "hello", Heartbeat: "heartbeat", TaskAccepted: "task_accepted", TaskRejected: "task_rejected",
    TaskStage: "task_stage", CancelAck: "cancel_ack", TaskFinished: "task_finished", LiveLog: "live_log",
    DrainAck: "drain_ack", Goodbye: "goodbye", Error: "error", Welcome: "welcome", HeartbeatAck: "heartbeat_ack",
    RunTaskOrder: "run_task", CancelTaskOrder: "cancel_task", TaskFinishedAck: "task_finished_ack", Abandon: "abandon",
    Drain: "drain", Undrain: "undrain", ServerShutdown: "server_shutdown", LiveSubscribe: "live_subscribe",
    LiveUnsubscribe: "live_unsubscribe", FlushLogs: "flush_logs",
}  # fmt: skip


class Malformed(Exception):
    """The frame is no message of this protocol; the connection has to end."""


class UnknownType(Exception):
    """A message from a newer peer: answered once, then ignored. `type` names it."""

    def __init__(self, type_: str) -> None:
        super().__init__(f"unknown message type {type_!r}")
        self.type = type_


class _Envelope(msgspec.Struct, frozen=True):
    type: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    id: str | None = None


_envelope = msgspec.json.Decoder(_Envelope)


def _decoders(union: Any) -> dict[str, msgspec.json.Decoder[Any]]:  # noqa: ANN401 - a union is no type to annotate with
    return {_NAMES[kind]: msgspec.json.Decoder(kind) for kind in get_args(union)}


_from_agent, _from_server = _decoders(FromAgent), _decoders(FromServer)


def encode(message: FromAgent | FromServer) -> str:
    """The text frame of a message."""
    return msgspec.json.encode({"type": _NAMES[type(message)], "payload": message}).decode()


def decode_from_agent(frame: str | bytes) -> FromAgent:
    """Raises Malformed, UnknownType."""
    found: FromAgent = _decode(frame, _from_agent)
    return found


def decode_from_server(frame: str | bytes) -> FromServer:
    """Raises Malformed, UnknownType."""
    found: FromServer = _decode(frame, _from_server)
    return found


def _decode(frame: str | bytes, known: dict[str, msgspec.json.Decoder[Any]]) -> Any:  # noqa: ANN401
    if isinstance(frame, bytes):
        raise Malformed("binary frames are not part of the protocol")
    if len(frame.encode("utf-8", "surrogatepass")) > LARGEST_FRAME:
        raise Malformed(f"a frame has at most {LARGEST_FRAME} bytes")
    try:
        envelope = _envelope.decode(frame)
        decoder = known.get(envelope.type)
        if decoder is None:
            raise UnknownType(envelope.type[:64])
        return decoder.decode(envelope.payload)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Malformed(str(error)) from error
    except (RecursionError, OverflowError) as error:
        raise Malformed("nested too deeply, or a number that nothing has") from error
