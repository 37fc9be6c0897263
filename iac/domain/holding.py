"""One assignment as its agent holds it, and the words in which it is told of. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

from msgspec.structs import asdict

from iac.domain.ladder import Climb
from iac.domain.messages import (
    CancelAck,
    CancelTaskOrder,
    Held,
    Refusal,
    RunTaskOrder,
    TaskAccepted,
    TaskFinished,
    TaskRejected,
    Wanted,
)
from iac.domain.records import Phase
from iac.domain.work import RunTask

V = TypeVar("V")

REMEMBERED = 4096


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
    stop: Climb
    timeout_s: float = 0.0
    """As the order says; 0: no limit."""
    ended_at: float | None = None
    result_id: str = ""
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


def as_held(holding: Holding, progress: Progress, now: float) -> Held:
    running = "collecting" if holding.adopted else progress.stage or "accepted"
    stage = "finished" if holding.ended else "cancelling" if holding.stop.asked else running
    return Held(
        task_id=holding.task_id,
        fence=holding.order.fence,
        assignment_id=holding.order.assignment_id,
        action=holding.order.action,
        stage=stage,
        log_length=progress.log_length,
        log_acked=progress.log_acked,
        stop=holding.stop.report(holding.order.assignment_id, now),
    )


def accepted(order: RunTask) -> TaskAccepted:
    return TaskAccepted(task_id=order.task_id, assignment_id=order.assignment_id, fence=order.fence)


def rejected(order: RunTaskOrder | RunTask, reason: Refusal) -> TaskRejected:
    return TaskRejected(task_id=order.task_id, assignment_id=order.assignment_id, fence=order.fence, reason=reason)


def finished(holding: Holding) -> TaskFinished:
    return TaskFinished(task_id=holding.task_id, fence=holding.order.fence, result_id=holding.result_id)


def wanted_of(order: CancelTaskOrder) -> Wanted:
    return Wanted(**{name: getattr(order, name) for name in Wanted.__struct_fields__})


def not_running(wanted: Wanted) -> CancelAck:
    return CancelAck(task_id=wanted.task_id, fence=wanted.fence, cancel_id=wanted.cancel_id, stage="not_running")


def cancel_ack(holding: Holding, now: float) -> CancelAck | None:
    """How far the stop is; None when there is none that the platform has to hear of."""
    report = holding.stop.report(holding.order.assignment_id, now)
    if report is None:
        return None
    return CancelAck(task_id=holding.task_id, fence=holding.order.fence, **asdict(report))


def has_room(active: Sequence[Holding], action: Phase, *, plan_limit: int, apply_alone: bool) -> bool:
    """Whether there is a slot. How plans and applies share an agent is the scheduler's, unless it says otherwise."""
    phases = [holding.order.action for holding in active]
    if apply_alone and phases and (action == "apply" or "apply" in phases):
        return False
    return "apply" not in phases if action == "apply" else phases.count("plan") < plan_limit


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


class Past:
    """What is remembered of assignments that are not held."""

    def __init__(self) -> None:
        self._gone: OrderedDict[int, tuple[Refusal, float]] = OrderedDict()
        self._newest: OrderedDict[int, int] = OrderedDict()  # the highest fence of each task

    def ordered(self, order: RunTaskOrder) -> None:
        put(self._newest, order.task_id, order.fence)

    def remember(self, fence: int, refusal: Refusal, until: float) -> None:
        """Why it is refused from now on. What ended was not merely cancelled before it came."""
        if refusal == "already_done" or fence not in self._gone:
            put(self._gone, fence, (refusal, until))

    def refusal(self, order: RunTaskOrder) -> Refusal | None:
        """Why the order comes too late."""
        if order.fence in self._gone:
            return self._gone[order.fence][0]
        return "stale_fence" if order.fence < self._newest.get(order.task_id, 0) else None

    def forget(self, now: float) -> None:
        for fence in [fence for fence, (_, until) in self._gone.items() if until <= now]:
            del self._gone[fence]


def put(memory: OrderedDict[int, V], key: int, value: V) -> None:
    """Remembers it; the oldest entry goes when there are too many."""
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
