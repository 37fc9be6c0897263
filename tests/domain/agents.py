"""An agent's state in the hands of a test, and the words to talk to it."""

from __future__ import annotations

from typing import Any

from iac.domain.agent_effects import Effect, Say, Start, Stop
from iac.domain.agent_state import DISK_RESERVE, AgentState
from iac.domain.holding import Progress
from iac.domain.messages import (
    CancelTaskOrder,
    FromAgent,
    FromServer,
    Heartbeat,
    HeartbeatAck,
    Lease,
    RunTaskOrder,
    TaskRejected,
    Verdict,
    Welcome,
)
from iac.domain.records import Phase

ROOM = DISK_RESERVE
WELCOME: dict[str, Any] = {
    "protocol_version": 1, "conn_epoch": 1, "server_boot_id": "b", "heartbeat_interval_s": 10.0, "lease_s": 60.0,
    "lost_after_s": 120.0,
}  # fmt: skip


def order(task_id: int = 1, action: Phase = "plan", *, fence: int | None = None, **more: Any) -> RunTaskOrder:
    facts = {"assignment_id": f"asg-{fence or task_id}", "attempt": 1, "task_token": "t1", **more}
    return RunTaskOrder(task_id=task_id, workspace_id="ws-a", action=action, fence=fence or task_id, **facts)


def cancel(fence: int = 1, *, cancel_id: str = "can-1", force: bool = False, reason: str = "user") -> CancelTaskOrder:
    return CancelTaskOrder(task_id=fence, fence=fence, cancel_id=cancel_id, force=force, reason=reason)


class Agent:
    """The state with a clock, and what it wanted last."""

    def __init__(self, plan_limit: int = 2) -> None:
        self.state = AgentState(plan_limit=plan_limit)
        self.now = 1000.0

    def hear(self, message: FromServer, *, disk_free: int = ROOM) -> list[Effect]:
        return self.state.hear(message, now=self.now, disk_free=disk_free)

    def welcome(self, *verdicts: Verdict, sent_at: float | None = None, **more: Any) -> list[Effect]:
        message = Welcome(**{**WELCOME, "decisions": verdicts, **more})
        return self.state.welcomed(message, sent_at=self.now if sent_at is None else sent_at, now=self.now)

    def ack(self, *leases: int, sent_at: float | None = None, **more: Any) -> list[Effect]:
        leased = tuple(Lease(task_id=fence, fence=fence) for fence in leases)
        message = HeartbeatAck(seq=1, leases=leased, **more)
        return self.state.acknowledged(message, sent_at=self.now if sent_at is None else sent_at, now=self.now)

    def ended(self, fence: int = 1, result_id: str = "r") -> list[Effect]:
        """With a result that the server has taken, unless it is empty."""
        self.state.reported(fence, result_id)
        return self.state.ended(fence, self.now)

    def beat(self) -> Heartbeat:
        return self.state.heartbeat(
            agent_id="a",
            boot_id="b",
            seq=1,
            usage=(0.1, 0.2),
            disk_free=ROOM,
            view=lambda fence: Progress("planning", 9, 5),
            now=self.now,
        )


def said(effects: list[Effect], kind: type[FromAgent]) -> list[Any]:
    return [effect.message for effect in effects if isinstance(effect, Say) and isinstance(effect.message, kind)]


def stops(effects: list[Effect]) -> list[tuple[int, bool]]:
    return [(effect.fence, effect.force) for effect in effects if isinstance(effect, Stop)]


def refusal(effects: list[Effect]) -> str | None:
    assert not any(isinstance(effect, Start) for effect in effects) or not said(effects, TaskRejected)
    rejected = said(effects, TaskRejected)
    return rejected[0].reason if rejected else None
