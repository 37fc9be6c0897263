"""What an agent holds, and what follows from what it hears: facts in, effects out. Pure; time is an argument.

Every message of the server is a hint to look again, so each handler is idempotent: on the assignment's fence, which is
unique over all tasks, or on the cancellation's id. `now` and `sent_at` are seconds of one clock that counts suspended
time too; wall clocks are never compared.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from math import inf
from typing import Literal

from iac.domain.agent_effects import Beat, Effect, Flush, Say, Start, Stop
from iac.domain.holding import (
    Holding,
    StopStage,
    View,
    accepted,
    as_held,
    cancel_ack,
    finished,
    load_of,
    not_running,
    order_of,
    put,
    rejected,
)
from iac.domain.messages import (
    Abandon,
    CancelAck,
    CancelTaskOrder,
    Drain,
    DrainAck,
    FlushLogs,
    FromServer,
    Heartbeat,
    HeartbeatAck,
    Held,
    Hello,
    Refusal,
    RunTaskOrder,
    TaskFinishedAck,
    Undrain,
    Wanted,
    Welcome,
)
from iac.domain.records import Phase
from iac.domain.work import RunTask

TOMBSTONE = 600.0
"""Seconds for which a cancellation is remembered that came before its order."""
CLOSED = 7 * 86400.0
"""Seconds for which a finished assignment is remembered."""
DEAD_MAN = 13 / 12
"""Of a lease: after so long the shim of a plan stops it, should the agent be dead."""
DISK_RESERVE = 256 * 1024 * 1024
"""Bytes that must be free for a task to be taken."""


class AgentState:
    """All that one agent knows of its assignments."""

    def __init__(
        self,
        *,
        plan_limit: int,
        lease_s: float = 60.0,
        stop_takes: Mapping[Phase, float] | None = None,
        disk_reserve: int = DISK_RESERVE,
    ) -> None:
        """`stop_takes`: seconds within which a cancelled plan or apply has ended, told to the server."""
        self._plan_limit = plan_limit
        self._lease_s = lease_s
        self._stop_takes = stop_takes or {"plan": 45.0, "apply": 315.0}
        self._disk_reserve = disk_reserve
        self._held: dict[int, Holding] = {}
        self._gone: OrderedDict[int, tuple[Refusal, float]] = OrderedDict()
        self._newest: OrderedDict[int, int] = OrderedDict()  # the highest fence of each task
        self._heard_at = -inf
        self._leaving = False
        self._told_to_drain = False
        self._drain_until = inf
        self._apply_alone = False

    @property
    def draining(self) -> bool:
        return self._leaving or self._told_to_drain

    @property
    def running(self) -> tuple[int, ...]:
        """The tasks that take a slot."""
        return tuple(sorted(holding.task_id for holding in self._active()))

    @property
    def fences(self) -> tuple[int, ...]:
        """Of the assignments that are not over."""
        return tuple(sorted(holding.order.fence for holding in self._active()))

    def token_of(self, fence: int) -> str | None:
        """The task token of an assignment; the newest, should the server have sent several."""
        holding = self._held.get(fence)
        return None if holding is None else holding.token

    def leased_until(self, fence: int) -> float:
        """Until when the run may go on without us: a little longer than with us, so that there is one who stops it."""
        holding = self._held.get(fence)
        return inf if holding is None else holding.leased_until(self._lease_s * DEAD_MAN)

    def may_start(self, fence: int, now: float) -> bool:
        """Whether Terraform may be started: not a plan whose lease is over, because another agent may have it."""
        holding = self._held.get(fence)
        return holding is not None and not holding.ended and not self._expired(holding, now)

    def why_stopped(self, fence: int) -> str | None:
        """The reason of a stop that was this agent's own idea."""
        holding = self._held.get(fence)
        return None if holding is None else holding.why

    def hello(self, *, agent_id: str, boot_id: str, conn_seq: int, version: str, disk_free: int, view: View) -> Hello:
        return Hello(
            agent_id=agent_id,
            boot_id=boot_id,
            conn_seq=conn_seq,
            version=version,
            plan_limit=self._plan_limit,
            draining=self.draining,
            tasks=self._tasks(view),
            disk_free=disk_free,
        )

    def heartbeat(
        self,
        *,
        agent_id: str,
        boot_id: str,
        seq: int,
        usage: tuple[float, float],
        disk_free: int,
        view: View,
        spool_bytes: int = 0,
    ) -> Heartbeat:
        load = load_of(self._active(), draining=self.draining, plan_limit=self._plan_limit)
        load |= {"cpu_usage": usage[0], "mem_usage": usage[1], "disk_free": disk_free, "spool_bytes": spool_bytes}
        return Heartbeat(agent_id=agent_id, boot_id=boot_id, seq=seq, tasks=self._tasks(view), **load)

    def _tasks(self, view: View) -> tuple[Held, ...]:
        return tuple(as_held(holding, view(fence)) for fence, holding in sorted(self._held.items()))

    def unheard(self) -> list[Effect]:
        """The ends that the server has not confirmed yet."""
        return [Say(finished(holding)) for holding in self._held.values() if holding.ended]

    def welcomed(self, welcome: Welcome, *, sent_at: float, now: float) -> list[Effect]:
        """The answer to a hello that was sent at `sent_at`: times, and a verdict on what is held."""
        self._lease_s = welcome.lease_s
        self._told_to_drain = welcome.drain
        self._apply_alone = welcome.apply_alone
        verdicts = {verdict.fence: verdict.do for verdict in welcome.decisions}
        kept = [fence for fence in self._held if verdicts.get(fence, "continue") in ("continue", "cancel", "report")]
        self._extend(kept, sent_at)
        effects: list[Effect] = []
        for fence, do in verdicts.items():
            match do:
                case "cancel":
                    effects += self._stop(fence, force=False)
                case "abandon":
                    # How an apply is to be abandoned stands in a message of its own.
                    effects += self._abandon(fence, "kill_if_plan", now)
                case "forget":
                    self._close(fence, now)
        return effects + self.unheard()

    def acknowledged(self, ack: HeartbeatAck, *, sent_at: float, now: float) -> list[Effect]:
        """The answer to a heartbeat that was sent at `sent_at`: whose lease goes on, what is to be stopped."""
        self._extend(self._held if ack.degraded else (lease.fence for lease in ack.leases), sent_at)
        leased = {lease.fence for lease in ack.leases}
        for fence, holding in list(self._held.items()):
            # Listed as finished, and the server has no lease for it: it knows. Without a control channel no one says so.
            if not ack.degraded and fence not in leased and holding.ended_at is not None and holding.ended_at < sent_at:
                self._close(fence, now)
        effects: list[Effect] = []
        for wanted in ack.cancel:
            effects += self._cancel(wanted, now)
        if ack.drain and not self._told_to_drain:
            effects += self._drain(None, inf)
        return effects

    def hear(self, message: FromServer, *, now: float, disk_free: int) -> list[Effect]:
        """Every other message; one that asks for nothing has no effects."""
        match message:
            case RunTaskOrder():
                return self._run(message, now, disk_free)
            case CancelTaskOrder(task_id=task_id, fence=fence, cancel_id=cancel_id, force=force, reason=reason):
                wanted = Wanted(task_id=task_id, fence=fence, cancel_id=cancel_id, force=force)
                return self._cancel(wanted, now, why="timeout" if reason == "timeout" else None)
            case TaskFinishedAck(fence=fence):
                self._close(fence, now)
            case Abandon(fence=fence, mode=mode):
                return self._abandon(fence, mode, now)
            case Drain(mode=mode, deadline_s=deadline_s):
                return self._drain(mode, inf if deadline_s is None else now + deadline_s)
            case Undrain():
                self._told_to_drain, self._drain_until = False, inf
                return [Beat()]
            case FlushLogs(fence=fence):
                return [Flush(fence)] if fence in self._held else []
        return []

    def told_cancelling(self, fence: int) -> list[Effect]:
        """An answer over HTTP said that the task is to be stopped: good enough when nothing else gets through."""
        return self._stop(fence, force=False)

    # What happens here.

    def adopt(self, order: RunTask, token: str) -> None:
        """An earlier life of this program ran it. Nothing new is taken until what it left was brought home."""
        held = Holding(order=order, token=token, lease_from=inf, timeout_at=inf, noted=True, adopted=True)
        self._held[order.fence] = held

    def noted(self, fence: int) -> list[Effect]:
        """The order was written down: now it may be called accepted."""
        if holding := self._held.get(fence):
            holding.noted = True
        return [] if holding is None else [Say(accepted(holding.order))]

    def not_noted(self, fence: int) -> list[Effect]:
        """It could not be written down, and nothing of it was begun."""
        holding = self._held.pop(fence, None)
        return [] if holding is None else [Say(rejected(holding.order, "disk_low")), Beat()]

    def reported(self, fence: int, result_id: str) -> None:
        """The server took the result."""
        if holding := self._held.get(fence):
            holding.result_id = result_id

    def stepped(self, fence: int, stage: StopStage) -> list[Effect]:
        """A stopped Terraform was signalled."""
        holding = self._held.get(fence)
        if holding is None:
            return []
        holding.stop_stage = stage
        return [] if holding.cancel_id is None else [Say(self._cancel_ack(holding))]

    def ended(self, fence: int, now: float) -> list[Effect]:
        """Nothing of the task is left on the host. It is reported again and again until the server confirms.

        Without a result nothing is: that the task is not listed any more tells the server all there is to know.
        """
        holding = self._held.get(fence)
        if holding is None:
            return []
        holding.ended_at = now
        told = self.stepped(fence, "exited") if holding.stopping else []
        if not holding.result_id:
            self._close(fence, now)
        return [*told, Say(finished(holding)), Beat()]

    def leave(self) -> list[Effect]:
        """The host wants this program to end: nothing new is taken."""
        self._leaving = True
        return [Beat()]

    def stop_all(self, phase: Phase | None, *, force: bool, why: str) -> list[Effect]:
        """Stops what runs, of one phase or all of it."""
        effects: list[Effect] = []
        for holding in self._active():
            if phase in (None, holding.order.action):
                effects += self._stop(holding.order.fence, force=force, why=why)
        return effects

    def tick(self, now: float) -> list[Effect]:
        """What time alone brings about: leases and time limits that are over, a drain whose deadline has come."""
        for fence in [fence for fence, (_, until) in self._gone.items() if until <= now]:
            del self._gone[fence]
        effects: list[Effect] = []
        for holding in self._active():
            if self._expired(holding, now):
                effects += self._stop(holding.order.fence, force=False, why="lease_expired")
            elif now >= holding.timeout_at:
                effects += self._stop(holding.order.fence, force=False, why="timeout")
        if now >= self._drain_until:
            self._drain_until = inf
            effects += self.stop_all(None, force=False, why="agent_drained")
        return effects

    # The rules.

    def _active(self) -> list[Holding]:
        return [holding for holding in self._held.values() if not holding.ended]

    def _expired(self, holding: Holding, now: float) -> bool:
        return now > holding.leased_until(self._lease_s)

    def _extend(self, fences: Iterable[int], sent_at: float) -> None:
        self._heard_at = max(self._heard_at, sent_at)
        for fence in fences:
            if holding := self._held.get(fence):
                holding.lease_from = max(holding.lease_from, sent_at)

    def _run(self, order: RunTaskOrder, now: float, disk_free: int) -> list[Effect]:
        known = self._held.get(order.fence)
        if known is not None:
            known.token = order.task_token
            if known.ended:
                return [Say(finished(known))]
            return [Say(accepted(known.order))] if known.noted else []
        refusal = self._refusal(order, disk_free)
        if refusal is not None:
            return [Say(rejected(order, refusal))]
        # The server counts from when it last heard of us, so a lease starts there too, and not with the order.
        begins = self._heard_at if self._heard_at > -inf else now
        holding = self._held[order.fence] = Holding(
            order=order_of(order),
            token=order.task_token,
            lease_from=begins,
            timeout_at=now + order.timeout_s if order.timeout_s > 0 else inf,
        )
        put(self._newest, order.task_id, order.fence)
        return [Start(holding.order), Beat()]

    def _refusal(self, order: RunTaskOrder, disk_free: int) -> Refusal | None:
        if order.fence in self._gone:
            return self._gone[order.fence][0]
        if order.fence < self._newest.get(order.task_id, 0):
            return "stale_fence"
        if self.draining:
            return "draining"
        if disk_free < self._disk_reserve:
            return "disk_low"
        # Two copies of one task must not overlap, not even here.
        if order.task_id in self.running or not self._has_room(order.action):
            return "at_capacity"
        # What an earlier life could not bring home goes first.
        if any(holding.adopted for holding in self._active()):
            return "at_capacity"
        return None

    def _has_room(self, action: Phase) -> bool:
        """Whether there is a slot. How plans and applies share an agent is the scheduler's, unless it says otherwise."""
        phases = [holding.order.action for holding in self._active()]
        if self._apply_alone and phases and (action == "apply" or "apply" in phases):
            return False
        return "apply" not in phases if action == "apply" else phases.count("plan") < self._plan_limit

    def _cancel(self, wanted: Wanted, now: float, why: str | None = None) -> list[Effect]:
        holding = self._held.get(wanted.fence)
        if holding is None:
            if wanted.fence not in self._gone:
                self._remember(wanted.fence, "stale_fence", now + TOMBSTONE)
            return [Say(not_running(wanted))]
        known = holding.cancel_id == wanted.cancel_id
        holding.cancel_id = wanted.cancel_id
        if holding.ended:
            return [Say(self._cancel_ack(holding)), Say(finished(holding))]
        stops = self._stop(wanted.fence, force=wanted.force, why=why)
        if known and not stops:
            return [Say(self._cancel_ack(holding))]
        return [Say(self._cancel_ack(holding)), *stops]

    def _stop(self, fence: int, *, force: bool, why: str | None = None) -> list[Effect]:
        """Once; and once more, to hurry."""
        holding = self._held.get(fence)
        if holding is None or holding.ended or (holding.stopping and (holding.forced or not force)):
            return []
        if not holding.stopping:
            holding.why = why
        holding.stopping, holding.forced = True, force
        return [Stop(holding.task_id, fence, force)]

    def _abandon(
        self, fence: int, mode: Literal["kill", "stop_and_report", "kill_if_plan"], now: float
    ) -> list[Effect]:
        holding = self._held.get(fence)
        if holding is None:
            return []
        if holding.ended:
            self._close(fence, now)
            return []
        if holding.order.action == "plan":
            return self._stop(fence, force=True)
        return [] if mode == "kill_if_plan" else self._stop(fence, force=mode == "kill")

    def _drain(self, mode: Literal["finish", "cancel"] | None, until: float) -> list[Effect]:
        self._told_to_drain, self._drain_until = True, until
        stops = self.stop_all(None, force=False, why="agent_drained") if mode == "cancel" else []
        return [Say(DrainAck(running=self.running)), Beat(), *stops]

    def _close(self, fence: int, now: float) -> None:
        holding = self._held.get(fence)
        if holding is not None and holding.ended:
            del self._held[fence]
            self._remember(fence, "already_done", now + CLOSED)

    def _remember(self, fence: int, refusal: Refusal, until: float) -> None:
        put(self._gone, fence, (refusal, until))

    def _cancel_ack(self, holding: Holding) -> CancelAck:
        return cancel_ack(holding, self._stop_takes[holding.order.action])
