"""What an agent holds, and what follows from what it hears: facts in, effects out. Pure; time is an argument.

Every message of the server is a hint to look again, so each handler is idempotent: on the assignment's fence, which is
unique over all tasks, or on the cancellation's id. `now` and `sent_at` are seconds of one clock that counts suspended
time too; wall clocks are never compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Literal

from iac.domain.agent_effects import Beat, Effect, Flush, Say, Start, Stop
from iac.domain.holding import (
    Holding,
    Past,
    View,
    accepted,
    as_held,
    cancel_ack,
    finished,
    has_room,
    load_of,
    not_running,
    order_of,
    rejected,
    wanted_of,
)
from iac.domain.ladder import Climb, Ladder, StopStage
from iac.domain.messages import (
    Abandon,
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
        ladders: Mapping[Phase, Ladder] | None = None,
        disk_reserve: int = DISK_RESERVE,
    ) -> None:
        """`ladders`: how patiently a plan or an apply is stopped, where the server does not say it."""
        self._plan_limit = plan_limit
        self._lease_s = lease_s
        self._ladders = ladders or {"plan": Ladder(30.0), "apply": Ladder(300.0)}
        self._disk_reserve = disk_reserve
        self._held: dict[int, Holding] = {}
        self._past = Past()
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

    @property
    def unasked(self) -> list[RunTask]:
        """The assignments that nobody wants to be stopped."""
        return [holding.order for holding in self._active() if not holding.stop.asked]

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
        return None if holding is None else holding.stop.why

    def times_out(self, fence: int) -> float:
        """When its phase is stopped because it took too long."""
        holding = self._held.get(fence)
        return inf if holding is None else holding.stop.timeout_at

    def hello(
        self, *, agent_id: str, boot_id: str, conn_seq: int, version: str, disk_free: int, view: View, now: float
    ) -> Hello:
        return Hello(
            agent_id=agent_id,
            boot_id=boot_id,
            conn_seq=conn_seq,
            version=version,
            plan_limit=self._plan_limit,
            draining=self.draining,
            tasks=self._tasks(view, now),
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
        now: float,
        spool_bytes: int = 0,
    ) -> Heartbeat:
        load = load_of(self._active(), draining=self.draining, plan_limit=self._plan_limit)
        load |= {"cpu_usage": usage[0], "mem_usage": usage[1], "disk_free": disk_free, "spool_bytes": spool_bytes}
        return Heartbeat(agent_id=agent_id, boot_id=boot_id, seq=seq, tasks=self._tasks(view, now), **load)

    def _tasks(self, view: View, now: float) -> tuple[Held, ...]:
        return tuple(as_held(holding, view(fence), now) for fence, holding in sorted(self._held.items()))

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
                    effects += self._stop(fence, now)
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
            effects += self._drain(None, inf, now)
        return effects

    def hear(self, message: FromServer, *, now: float, disk_free: int) -> list[Effect]:
        """Every other message; one that asks for nothing has no effects."""
        match message:
            case RunTaskOrder():
                return self._run(message, now, disk_free)
            case CancelTaskOrder(reason=reason):
                return self._cancel(wanted_of(message), now, why="timeout" if reason == "timeout" else None)
            case TaskFinishedAck(fence=fence):
                self._close(fence, now)
            case Abandon(fence=fence, mode=mode):
                return self._abandon(fence, mode, now)
            case Drain(mode=mode, deadline_s=deadline_s):
                return self._drain(mode, inf if deadline_s is None else now + deadline_s, now)
            case Undrain():
                self._told_to_drain, self._drain_until = False, inf
                return [Beat()]
            case FlushLogs(fence=fence):
                return [Flush(fence)] if fence in self._held else []
        return []

    def told_cancelling(self, fence: int, now: float) -> list[Effect]:
        """An answer over HTTP said that the task is to be stopped: good enough when nothing else gets through."""
        return self._stop(fence, now)

    # What happens here.

    def adopt(self, order: RunTask, token: str, *, timeout_at: float = inf, grace_s: float | None = None) -> None:
        """An earlier life of this program ran it. Nothing new is taken until what it left was brought home."""
        stop = Climb(self._ladders[order.action], timeout_at)
        stop.patient(grace_s)
        self._held[order.fence] = Holding(order=order, token=token, lease_from=inf, stop=stop, noted=True, adopted=True)

    def claimed(self, fence: int, now: float, *, timeout_s: float | None, grace_s: float | None) -> None:
        """The server gave out the data: the phase begins, and its time with it."""
        if holding := self._held.get(fence):
            holding.stop.begin(now, timeout_s=timeout_s or holding.timeout_s, grace_s=grace_s)

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

    def stepped(self, fence: int, stage: StopStage, now: float) -> list[Effect]:
        """A stopped Terraform was signalled."""
        if holding := self._held.get(fence):
            holding.stop.climbed(stage, now)
        return [] if holding is None else self._acked(holding, now)

    def ended(self, fence: int, now: float) -> list[Effect]:
        """Nothing of the task is left on the host. It is reported again and again until the server confirms.

        Without a result nothing is: that the task is not listed any more tells the server all there is to know.
        """
        holding = self._held.get(fence)
        if holding is None:
            return []
        holding.ended_at = now
        told = self.stepped(fence, "exited", now) if holding.stop.asked else []
        if not holding.result_id:
            self._close(fence, now)
        return [*told, Say(finished(holding)), Beat()]

    def leave(self) -> list[Effect]:
        """The host wants this program to end: nothing new is taken."""
        self._leaving = True
        return [Beat()]

    def stop_all(self, phase: Phase | None, *, force: bool, why: str, now: float) -> list[Effect]:
        """Stops what runs, of one phase or all of it."""
        effects: list[Effect] = []
        for holding in self._active():
            if phase in (None, holding.order.action):
                effects += self._stop(holding.order.fence, now, force=force, why=why)
        return effects

    def tick(self, now: float) -> list[Effect]:
        """What time alone brings about: leases and time limits that are over, a drain whose deadline has come."""
        self._past.forget(now)
        effects: list[Effect] = []
        for holding in self._active():
            if self._expired(holding, now):
                effects += self._stop(holding.order.fence, now, why="lease_expired")
            elif holding.stop.due(now):
                effects += self._stop(holding.order.fence, now, why="timeout")
        if now >= self._drain_until:
            self._drain_until = inf
            effects += self.stop_all(None, force=False, why="agent_drained", now=now)
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
            stop=Climb(self._ladders[order.action]),
            timeout_s=order.timeout_s,
        )
        self._past.ordered(order)
        return [Start(holding.order), Beat()]

    def _refusal(self, order: RunTaskOrder, disk_free: int) -> Refusal | None:
        if past := self._past.refusal(order):
            return past
        if self.draining:
            return "draining"
        if disk_free < self._disk_reserve:
            return "disk_low"
        active = self._active()
        # Two copies of one task must not overlap, not even here.
        room = has_room(active, order.action, plan_limit=self._plan_limit, apply_alone=self._apply_alone)
        if order.task_id in self.running or not room:
            return "at_capacity"
        # What an earlier life could not bring home goes first.
        return "at_capacity" if any(holding.adopted for holding in active) else None

    def _cancel(self, wanted: Wanted, now: float, why: str | None = None) -> list[Effect]:
        holding = self._held.get(wanted.fence)
        if holding is None:
            self._past.remember(wanted.fence, "stale_fence", now + TOMBSTONE)
            return [Say(not_running(wanted))]
        holding.stop.cancel_id = wanted.cancel_id
        if holding.ended:
            return [*self._acked(holding, now), Say(finished(holding))]
        holding.stop.patient(wanted.grace_s)
        return self._stop(wanted.fence, now, force=wanted.force, why=why) or self._acked(holding, now)

    def _stop(self, fence: int, now: float, *, force: bool = False, why: str | None = None) -> list[Effect]:
        """Once; and once more, to hurry."""
        holding = self._held.get(fence)
        if holding is None or holding.ended or not holding.stop.ask(now, force=force, why=why):
            return []
        return [*self._acked(holding, now), Stop(holding.task_id, fence, force)]

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
            return self._stop(fence, now, force=True)
        return [] if mode == "kill_if_plan" else self._stop(fence, now, force=mode == "kill")

    def _drain(self, mode: Literal["finish", "cancel"] | None, until: float, now: float) -> list[Effect]:
        self._told_to_drain, self._drain_until = True, until
        stops = self.stop_all(None, force=False, why="agent_drained", now=now) if mode == "cancel" else []
        return [Say(DrainAck(running=self.running)), Beat(), *stops]

    def _close(self, fence: int, now: float) -> None:
        holding = self._held.get(fence)
        if holding is not None and holding.ended:
            del self._held[fence]
            self._past.remember(fence, "already_done", now + CLOSED)

    def _acked(self, holding: Holding, now: float) -> list[Effect]:
        ack = cancel_ack(holding, now)
        return [] if ack is None else [Say(ack)]
