"""The server's view of one agent: what it was sent, what it said it holds, and what follows. Pure: time is an argument.

No message is trusted to arrive. The rows (`Standing`) and the agent's own list are compared at every hello and heartbeat,
and whatever is still wanted is said again until it shows. Methods change the view and return effects for the actor.

    the rows say                     the agent says it has it      the agent does not list it
    held, unclaimed                  fine                          the order is sent again
    held, claimed                    its lease goes on             after a hello, or two heartbeats: lost
    held, being cancelled            cancel, until it shows        likewise
    lost (an apply)                  taken up again                stays lost
    ended                            it may forget it              fine
    gone, or unknown                 it has to stop                fine
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from iac.domain.ladder import FORCE_AFTER, OVERDUE, StopReport
from iac.domain.lifecycle import Event, Heard, Lose, Stopping, Unassign
from iac.domain.messages import (
    Abandon,
    CancelTaskOrder,
    FromServer,
    Heartbeat,
    HeartbeatAck,
    Held,
    Hello,
    Lease,
    RunTaskOrder,
    TaskFinishedAck,
    TaskRejected,
    Verdict,
    Wanted,
)
from iac.domain.standings import Standing

NO_RECORD = "agent_has_no_record"


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """All times of the control channel, in seconds (protocol 2.2)."""

    heartbeat: float = 10.0
    lease: float = 60.0
    lost_after: float = 120.0
    suspect: float = 30.0
    offline: float = 60.0
    hello_within: float = 10.0
    resend_order: float = 15.0
    resend_cancel: float = 5.0
    insist: float = 600.0
    """A cancellation is repeated so long; after that only heartbeats tell of it."""
    claim_within: float = 300.0
    avoid: float = 30.0
    settle: float = 30.0
    """A claim younger than this may be missing in a list that was long on its way; a slower connection is replaced."""
    tick: float = 1.0
    look: float = 5.0
    come_back: float = 10.0
    """Agents spread their return over this when the server restarts."""
    force_after: float = FORCE_AFTER
    """A cancellation may be forced after so long."""
    overdue: float = OVERDUE
    """How long beyond its grace a stop may take."""
    session: float = 3600.0
    """How long a session lasts; agents renew it in time."""
    session_overlap: float = 120.0
    """How long a session goes on after the next one was made."""

    def scaled(self, by: float) -> Times:
        return Times(**{name: getattr(self, name) * by for name in self.__struct_fields__})


class Send(msgspec.Struct, frozen=True):
    """Say this to the agent; if it cannot be said now, what caused it will cause it again."""

    message: FromServer


class Move(msgspec.Struct, frozen=True):
    """Move the task in the store; it may refuse, because it has gone on meanwhile."""

    task_id: int
    event: Event


class Reissue(msgspec.Struct, frozen=True):
    """Give the assignment a new token and order it again: the token of the first order is not known any more."""

    standing: Standing


Effect = Send | Move | Reissue
Do = Literal["continue", "cancel", "abandon", "forget", "report"]


def judge(held: Held, standing: Standing | None) -> tuple[Do, tuple[Effect, ...]]:
    """What becomes of an assignment that the agent says it has; None: nobody knows of it, or it is another agent's."""
    if standing is None:
        return "abandon", (Send(Abandon(task_id=held.task_id, fence=held.fence, mode="kill_if_plan")),)
    match standing.fate:
        case "ended":
            return "forget", (Send(TaskFinishedAck(task_id=held.task_id, fence=held.fence)),)
        case "gone":
            mode: Literal["kill", "stop_and_report"] = "kill" if standing.phase == "plan" else "stop_and_report"
            return "abandon", (Send(Abandon(task_id=held.task_id, fence=held.fence, mode=mode)),)
        case "lost":
            back = (Move(standing.task_id, Heard(fence=standing.fence)),)
            return "continue" if standing.wanted is None else "cancel", back
        case "held":
            return "continue" if standing.wanted is None else "cancel", ()


class _Order(msgspec.Struct):
    order: RunTaskOrder
    made_at: float
    sent_at: float
    accepted: bool = False


class _Cancel(msgspec.Struct):
    order: CancelTaskOrder
    made_at: float
    sent_at: float
    acked: bool = False


class AgentSession:
    """One agent, from its first hello (or heartbeat over HTTP) on, over all its connections."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._orders: dict[int, _Order] = {}  # by fence, as everything here
        self._cancels: dict[int, _Cancel] = {}
        self._missed: frozenset[int] = frozenset()
        self._avoid: dict[int, float] = {}
        self._last: tuple[str, int] = ("", -1)
        self._connection: tuple[str, int] = ("", -1)
        self.reported: dict[int, Held] = {}
        self.heard_at: float | None = None
        self.draining = False
        self.plan_limit: int | None = None
        self.unsent_states = 0

    def present(self, now: float) -> bool:
        """Whether it was heard so lately that it may be given something new."""
        return self.heard_at is not None and now - self.heard_at < self._times.suspect

    def avoided(self, now: float) -> frozenset[int]:
        """The tasks that it refused a moment ago."""
        self._avoid = {task: until for task, until in self._avoid.items() if now < until}
        return frozenset(self._avoid)

    # What the platform wants of it

    def ordered(self, order: RunTaskOrder, now: float) -> list[Effect]:
        """A task was assigned to it."""
        self._orders[order.fence] = _Order(order, made_at=now, sent_at=now)
        return [Send(order)]

    def cancelled(self, wanted: Wanted, reason: str, now: float) -> list[Effect]:
        """Somebody wants an assignment stopped; also one that the agent has not heard of yet."""
        self._orders.pop(wanted.fence, None)
        return self._cancel(wanted, reason, now)

    @property
    def unclaimed(self) -> frozenset[int]:
        """The fences of the orders that it has not taken up yet."""
        return frozenset(self._orders)

    def settled(self, fence: int) -> None:
        """The order needs no more repeating: it was taken up, or taken back."""
        self._orders.pop(fence, None)

    def pending(self) -> tuple[tuple[RunTaskOrder, ...], tuple[Wanted, ...]]:
        """What it would be told if it asked: orders that were not taken up, cancellations that were not answered."""
        orders = tuple(entry.order for entry in self._orders.values())
        asked = (entry.order for entry in self._cancels.values() if not entry.acked)
        return orders, tuple(
            Wanted(
                task_id=order.task_id,
                fence=order.fence,
                cancel_id=order.cancel_id,
                force=order.force,
                grace_s=order.grace_s,
            )
            for order in asked
        )

    def tick(self, now: float) -> list[Effect]:
        """What is due: orders and cancellations that nobody answered, orders that nobody took up in time."""
        effects: list[Effect] = []
        for fence, entry in list(self._orders.items()):
            if now - entry.made_at >= self._times.claim_within:
                del self._orders[fence]
                effects.append(Move(entry.order.task_id, Unassign(fence=fence)))
            elif not entry.accepted and now - entry.sent_at >= self._times.resend_order:
                entry.sent_at = now
                effects.append(Send(entry.order))
        self._cancels = {
            fence: each for fence, each in self._cancels.items() if now - each.made_at < self._times.insist
        }
        for cancel in self._cancels.values():
            if not cancel.acked and now - cancel.sent_at >= self._times.resend_cancel:
                cancel.sent_at = now
                effects.append(Send(cancel.order))
        return effects

    def silent(self) -> list[Effect]:
        """It was not heard for so long, or said goodbye: what it did not take up goes to others."""
        given_up = list(self._orders.values())
        self._orders.clear()
        return [Move(entry.order.task_id, Unassign(fence=entry.order.fence)) for entry in given_up]

    # What it says

    def outdated(self, hello: Hello) -> bool:
        """Whether the same program was heard on this connection, or a later one, before: what it lists may be long over."""
        return self._connection[0] == hello.boot_id and hello.conn_seq <= self._connection[1]

    def hello(
        self, hello: Hello, standings: Mapping[int, Standing], now: float
    ) -> tuple[tuple[Verdict, ...], list[Effect]]:
        """The verdicts for the welcome, and what else follows. `standings` are those of all that it lists, and of all
        assignments that are or were left with it, by fence.
        """
        self._heard(hello.tasks, now, draining=hello.draining, plan_limit=hello.plan_limit)
        if self._last[0] != hello.boot_id:
            for asked in self._cancels.values():
                asked.acked = False  # the process that answered is gone
        self._last, self._connection = (hello.boot_id, -1), (hello.boot_id, hello.conn_seq)
        verdicts, effects = [], list[Effect]()
        for held in hello.tasks:
            do, follows = judge(held, standings.get(held.fence))
            verdicts.append(Verdict(task_id=held.task_id, fence=held.fence, do=do))
            effects += [*follows, *self._listed_stop(held, standings)]
        self._missed = frozenset()
        effects += self._absent(standings, now, hello=True)
        return tuple(verdicts), effects + self._wanted(standings.values(), now)

    def heartbeat(
        self, beat: Heartbeat, standings: Mapping[int, Standing], now: float
    ) -> tuple[HeartbeatAck, list[Effect]]:
        """The answer, and what else follows. One that was overtaken by a later one only shows that the agent lives."""
        if self.overtaken(beat):
            self.heard_at = now
            return self._ack(beat, standings), []
        self._last = (beat.boot_id, beat.seq)
        self.unsent_states = beat.unsent_states
        self._heard(beat.tasks, now, draining=beat.draining, plan_limit=beat.plan_limit)
        effects = list[Effect]()
        for held in beat.tasks:
            effects += [*judge(held, standings.get(held.fence))[1], *self._listed_stop(held, standings)]
        effects += self._absent(standings, now, hello=False)
        return self._ack(beat, standings), effects + self._wanted(standings.values(), now)

    def overtaken(self, beat: Heartbeat) -> bool:
        """Whether a later one of the same program was heard before."""
        return self._last[0] == beat.boot_id and beat.seq <= self._last[1]

    def heartbeat_unchecked(self, beat: Heartbeat, now: float) -> HeartbeatAck:
        """The answer while the rows cannot be read: nobody else can be given anything now either."""
        self._heard(beat.tasks, now, draining=beat.draining, plan_limit=beat.plan_limit)
        leases = tuple(Lease(task_id=held.task_id, fence=held.fence) for held in beat.tasks)
        return HeartbeatAck(seq=beat.seq, leases=leases, degraded=True)

    def accepted(self, fence: int) -> None:
        if fence in self._orders:
            self._orders[fence].accepted = True

    def rejected(self, message: TaskRejected, now: float) -> list[Effect]:
        """It does not take the task; somebody else may, and it is not asked again for a while."""
        self._orders.pop(message.fence, None)
        self._avoid[message.task_id] = now + self._times.avoid
        return [Move(message.task_id, Unassign(fence=message.fence))]

    def cancel_acked(self, fence: int, cancel_id: str) -> None:
        """It has heard of the cancellation: that need not be repeated."""
        entry = self._cancels.get(fence)
        if entry is not None and entry.order.cancel_id == cancel_id:
            entry.acked = True

    def stopping(self, task_id: int, fence: int, report: StopReport, standing: Standing | None) -> list[Effect]:
        """How far it says that a stop is; written down when the rows do not know it yet."""
        self.cancel_acked(fence, report.cancel_id)
        if standing is None or standing.fate not in ("held", "lost"):
            return []
        forced = report.forced and not standing.cancel_force
        known = standing.status != "running" and standing.cancel_stage == report.stage and not forced
        return [] if known else [Move(task_id, Stopping(fence=fence, report=report))]

    def finished(self, task_id: int, fence: int, result_id: str, standing: Standing | None) -> list[Effect]:
        """Nothing of the assignment is left on its host: the slot is free. Told again until it is acknowledged."""
        self.reported.pop(fence, None)
        self._cancels.pop(fence, None)
        fate = "gone" if standing is None else standing.fate
        if fate in ("held", "lost"):
            return []  # its result has not come yet
        verdict: Literal["accepted", "fenced"] = "accepted" if fate == "ended" else "fenced"
        return [Send(TaskFinishedAck(task_id=task_id, fence=fence, result_id=result_id, verdict=verdict))]

    # Parts of the above

    def _heard(self, tasks: Iterable[Held], now: float, *, draining: bool, plan_limit: int) -> None:
        self.heard_at = now
        self.draining = draining
        self.plan_limit = plan_limit
        self.reported = {held.fence: held for held in tasks}
        for fence in self.reported:
            self.accepted(fence)

    def _ack(self, beat: Heartbeat, standings: Mapping[int, Standing]) -> HeartbeatAck:
        known = [standings[held.fence] for held in beat.tasks if held.fence in standings]
        return HeartbeatAck(
            seq=beat.seq,
            leases=tuple(
                Lease(task_id=standing.task_id, fence=standing.fence)
                for standing in known
                if standing.fate in ("held", "lost")
            ),
            cancel=tuple(wanted for standing in known if (wanted := standing.wanted) is not None),
        )

    def _listed_stop(self, held: Held, standings: Mapping[int, Standing]) -> list[Effect]:
        if held.stop is None:
            return []
        return self.stopping(held.task_id, held.fence, held.stop, standings.get(held.fence))

    def _absent(self, standings: Mapping[int, Standing], now: float, *, hello: bool) -> list[Effect]:
        """What follows for the assignments that it should have and does not list. A hello is believed at once."""
        effects = list[Effect]()
        missed = set[int]()
        for fence, standing in standings.items():
            if standing.status != "assigned":
                self._orders.pop(fence, None)
            if fence in self.reported or standing.fate != "held":
                continue
            entry = self._orders.get(fence)
            if entry is None and self._surely(standing, hello=hello):
                effects.append(_given_up(standing))
            elif entry is None:
                missed.add(fence)
            elif hello:
                entry.sent_at = now
                effects.append(Send(entry.order))
            else:
                entry.accepted = False  # it is repeated again: whoever accepted it does not have it any more
        self._missed = frozenset(missed)
        return effects

    def _surely(self, standing: Standing, *, hello: bool) -> bool:
        # A list that was on its way when the task was claimed cannot have it yet.
        # (A clock that was set back since makes this negative, and must not keep it fresh for an hour.)
        fresh = standing.claimed_for_s is not None and abs(standing.claimed_for_s) < self._times.settle
        return not fresh and (hello or standing.fence in self._missed)

    def _wanted(self, standings: Iterable[Standing], now: float) -> list[Effect]:
        """Cancellations that are in the rows and that this life of the server has not told it yet."""
        effects = list[Effect]()
        for standing in standings:
            wanted = standing.wanted
            known = self._cancels.get(standing.fence)
            if standing.fate in ("ended", "gone"):
                self._cancels.pop(standing.fence, None)
            elif wanted is not None and (known is None or known.order.force != wanted.force):
                effects += self._cancel(wanted, standing.cancel_reason or "user", now)
        return effects

    def _cancel(self, wanted: Wanted, reason: str, now: float) -> list[Effect]:
        order = CancelTaskOrder(
            task_id=wanted.task_id,
            fence=wanted.fence,
            cancel_id=wanted.cancel_id,
            reason=reason,
            force=wanted.force,
            grace_s=wanted.grace_s,
        )
        self._cancels[wanted.fence] = _Cancel(order, made_at=now, sent_at=now)
        return [Send(order)]


def _given_up(standing: Standing) -> Effect:
    if standing.status == "assigned":
        return Reissue(standing)
    detail = "The agent has no record of it: its data directory was lost, or it is another one."
    return Move(standing.task_id, Lose(fence=standing.fence, reason=NO_RECORD, detail=detail))
