"""One assignment as its agent holds it, and the words in which it is told of. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, TypeVar

from iac.domain.messages import CancelAck, Held, Refusal, RunTaskOrder, TaskAccepted, TaskFinished, TaskRejected, Wanted
from iac.domain.work import RunTask

V = TypeVar("V")

REMEMBERED = 4096
StopStage = Literal["received", "sigterm", "sigterm2", "sigkill", "exited", "not_running"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, as its executor sees it."""

    stage: str = ""
    log_length: int = 0
    log_acked: int = 0


@dataclass(slots=True)
class Holding:
    """An assignment from its order until the server has confirmed its end. Times are seconds of the agent's clock."""

    order: RunTask
    token: str
    lease_from: float
    timeout_at: float
    ended_at: float | None = None
    result_id: str = ""
    stopping: bool = False
    forced: bool = False
    cancel_id: str | None = None
    stop_stage: StopStage = "received"
    why: str | None = None
    noted: bool = False
    """It is written down, and may be said to be accepted."""
    adopted: bool = False
    """An earlier life of this program ran it; only what it left is brought home."""

    @property
    def task_id(self) -> int:
        return self.order.task_id

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    def leased_until(self, lease_s: float) -> float:
        """When it is stopped if the server is not heard again. An apply never stops because its agent lost the server."""
        return inf if self.order.action == "apply" else self.lease_from + lease_s


View = Callable[[int], Progress]
"""How far the run with this fence is."""


def order_of(order: RunTaskOrder) -> RunTask:
    return RunTask(
        task_id=order.task_id,
        workspace_id=order.workspace_id,
        action=order.action,
        assignment_id=order.assignment_id,
        fence=order.fence,
        attempt=order.attempt,
    )


def as_held(holding: Holding, progress: Progress) -> Held:
    running = "collecting" if holding.adopted else progress.stage or "accepted"
    stage = "finished" if holding.ended else "cancelling" if holding.stopping else running
    return Held(
        task_id=holding.task_id,
        fence=holding.order.fence,
        assignment_id=holding.order.assignment_id,
        action=holding.order.action,
        stage=stage,
        log_length=progress.log_length,
        log_acked=progress.log_acked,
    )


def accepted(order: RunTask) -> TaskAccepted:
    return TaskAccepted(task_id=order.task_id, assignment_id=order.assignment_id, fence=order.fence)


def rejected(order: RunTaskOrder | RunTask, reason: Refusal) -> TaskRejected:
    return TaskRejected(task_id=order.task_id, assignment_id=order.assignment_id, fence=order.fence, reason=reason)


def finished(holding: Holding) -> TaskFinished:
    return TaskFinished(task_id=holding.task_id, fence=holding.order.fence, result_id=holding.result_id)


def not_running(wanted: Wanted) -> CancelAck:
    return CancelAck(task_id=wanted.task_id, fence=wanted.fence, cancel_id=wanted.cancel_id, stage="not_running")


def cancel_ack(holding: Holding, takes: float) -> CancelAck:
    """How far the stop is; `takes` seconds is the most that it takes from its beginning."""
    return CancelAck(
        task_id=holding.task_id,
        fence=holding.order.fence,
        cancel_id=holding.cancel_id or "",
        stage="exited" if holding.ended else holding.stop_stage,
        deadline_s=0.0 if holding.ended else takes,
    )


def load_of(active: Sequence[Holding], *, draining: bool, plan_limit: int) -> dict[str, Any]:
    """What a heartbeat says of slots."""
    phases = [holding.order.action for holding in active]
    return {
        "status": "draining" if draining else "busy" if phases else "idle",
        "plan_running": phases.count("plan"),
        "plan_limit": plan_limit,
        "apply_running": "apply" in phases,
        "current_tasks": tuple(sorted(holding.task_id for holding in active)),
        "draining": draining,
        "unsent_states": sum(holding.adopted and holding.order.action == "apply" for holding in active),
    }


def put(memory: OrderedDict[int, V], key: int, value: V) -> None:
    """Remembers it; the oldest entry goes when there are too many."""
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
