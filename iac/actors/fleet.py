"""The agents that are there: what each of them is told, and what the scheduler may give it.

The rows are the truth and every message is a hint; what follows from comparing the two lists is decided in
iac.domain.agent_session and done here. What agents say is heard in iac.actors.agent_talk.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from iac.actors.agent_connection import REPLACED, RESTART, REVOKED, AgentConnection
from iac.actors.roll_call import RollCall
from iac.domain.agent_bodies import Pending
from iac.domain.agent_session import AgentSession, Effect, Move, Reissue, Send, Times
from iac.domain.leases import Leases
from iac.domain.lifecycle import Cancel, Event, Unassign
from iac.domain.messages import (
    CancelTaskOrder,
    Drain,
    FlushLogs,
    FromServer,
    LiveLog,
    LiveSubscribe,
    LiveUnsubscribe,
    RunTaskOrder,
    ServerShutdown,
    Undrain,
    Wanted,
)
from iac.domain.records import Task
from iac.domain.scheduling import Runner
from iac.domain.standings import UNDER_WAY, Standing
from iac.errors import Conflict, NotFound, Unavailable
from iac.store import assignments, standings
from iac.store.database import Database
from iac.store.identity import new_id
from iac.store.standings import Seat

log = logging.getLogger(__name__)

RECENT = 2.5
"""Heartbeats within which the other process of an identity was heard if it lives."""


def _nobody() -> None: ...


def _nobody_watches(agent_id: str, frame: LiveLog) -> None: ...


@dataclass(slots=True)
class Member:
    """One agent, while it is there and a little longer. `drain`: it was told to take nothing new."""

    agent_id: str
    session: AgentSession
    made_at: float
    connection: AgentConnection | None = None
    polled_at: float | None = None
    drain: bool = False

    def gone_for(self, now: float) -> float:
        """Seconds since it was last heard; 0 while it is connected."""
        return 0.0 if self.connection is not None else now - (self.session.heard_at or self.made_at)

    def say(self, message: FromServer) -> None:
        """Over the control channel, if there is one now; what it would have caused is caused again by the next heartbeat."""
        if self.connection is not None:
            self.connection.send(message)


class Fleet:
    """All agents. What is sync happens at once, between two messages of anybody."""

    def __init__(
        self,
        database: Database,
        times: Times,
        *,
        changed: Callable[[int], None],
        wake: Callable[[], None],
        noticed: Callable[[], None] = _nobody,
    ) -> None:
        """`changed` is told of each task that moved, `wake` when there may be something to hand out, `noticed` when an agent
        came, went, or told how it does.
        """
        self.database = database
        self.times = times
        self.roll_call = RollCall(database, noticed)
        self.noticed = noticed
        self.leases = Leases(times.lost_after)
        self.claims = Leases(times.claim_within)
        """How long what was assigned has waited for its claim; nobody prolongs these."""
        self.boot_id = new_id("boot")
        self.wake = wake
        self.draining = False
        """Nothing new is handed out."""
        self.closing = False
        """Nobody is let in any more."""
        self.changed = changed
        self.live: Callable[[str, LiveLog], None] = _nobody_watches
        """Where the live log bytes of connected agents go."""
        self._members: dict[str, Member] = {}
        self._open: set[AgentConnection] = set()

    # Who is there

    @property
    def members(self) -> Sequence[Member]:
        return list(self._members.values())

    def member(self, agent_id: str) -> Member:
        """The agent, from its first word on."""
        if agent_id not in self._members:
            self._members[agent_id] = Member(agent_id, AgentSession(self.times), trio.current_time())
        return self._members[agent_id]

    def is_leaving(self, agent_id: str) -> bool:
        """Whether the agent said that it takes nothing new: its host wants it to go."""
        member = self._members.get(agent_id)
        return member is not None and member.session.draining

    def unsent_of(self, agent_id: str) -> int:
        """How many applies the agent has whose newest state may not have come here yet, as it said last."""
        member = self._members.get(agent_id)
        return 0 if member is None else member.session.unsent_states

    def hears(self, agent_id: str) -> bool:
        """Whether the agent was heard so lately that it knows what it is told."""
        member = self._members.get(agent_id)
        return member is not None and member.session.present(trio.current_time())

    def forget(self, agent_id: str) -> None:
        self._members.pop(agent_id, None)

    def restart_leases(self, now: float) -> None:
        """Nobody could be heard, or could claim anything, so nothing that was not heard proves anything."""
        self.leases.restart(now)
        self.claims.restart(now)

    def refuse_second(self, agent_id: str, boot_id: str, now: float) -> None:
        """Raises Conflict (session_conflict) while another process with this identity is alive: a copied data directory."""
        held = self._members.get(agent_id)
        other = None if held is None else held.connection
        if other is None or other.ending or not boot_id or other.boot_id == boot_id:
            return
        if now - other.heard_at < RECENT * self.times.heartbeat:
            raise Conflict(
                "Another process with this agent's identity is connected. Give each agent a data directory of its own.",
                code="session_conflict",
            )

    def open(self, agent_id: str) -> AgentConnection:
        """A connection for the agent; it becomes the agent's own with its hello. Raises Unavailable."""
        if self.closing:
            raise Unavailable("The server is stopping; come back.", code="starting", retry_after_s=self.times.come_back)
        connection = AgentConnection(agent_id, self.times, self._live)
        self._open.add(connection)
        return connection

    def join(self, member: Member, connection: AgentConnection) -> None:
        """From now on this is the agent's connection; the one before ends."""
        if member.connection is not None and member.connection is not connection:
            member.connection.end(REPLACED, "replaced")
        member.connection = connection
        self.noticed()

    def leave(self, connection: AgentConnection) -> None:
        """The connection is over, however it ended."""
        self._open.discard(connection)
        member = self._members.get(connection.agent_id)
        if member is not None and member.connection is connection:
            member.connection = None
            self.noticed()

    # What the platform wants of them

    def deliver(self, agent_id: str, order: RunTaskOrder) -> bool:
        """Orders a task that was assigned; False when the agent is not there any more."""
        member, now = self._members.get(agent_id), trio.current_time()
        if member is None or not self._reachable(member, now):
            return False
        self._say_all(member, member.session.ordered(order, now))
        return True

    def cancel(self, agent_id: str, wanted: Wanted, *, reason: str) -> None:
        """Has an assignment stopped; if the agent is away, it hears of it when it is back."""
        member = self._members.get(agent_id)
        if member is not None:
            self._say_all(member, member.session.cancelled(wanted, reason, trio.current_time()))

    def tell(self, agent_id: str, message: LiveSubscribe | LiveUnsubscribe | FlushLogs) -> None:
        """Somebody wants to see a log, or does not any more."""
        if agent_id in self._members:
            self._members[agent_id].say(message)

    def _live(self, connection: AgentConnection, frame: LiveLog) -> None:
        member = self._members.get(connection.agent_id)
        if member is not None and member.connection is connection:
            self.live(member.agent_id, frame)

    def claimed(self, agent_id: str, fence: int) -> None:
        """The agent has fetched the data: its order need not be repeated."""
        if agent_id in self._members:
            self._members[agent_id].session.settled(fence)

    def pending(self, agent_id: str) -> Pending:
        """What the agent would be told if it had a control channel; asking for it counts as being there."""
        member = self.member(agent_id)
        member.polled_at = trio.current_time()
        orders, wanted = member.session.pending()
        return Pending(tasks=orders, cancel=wanted)

    @property
    def reachable(self) -> list[str]:
        """The agents that may be given something now."""
        now = trio.current_time()
        return sorted(member.agent_id for member in self._members.values() if self._reachable(member, now))

    def as_runners(self, seats: Sequence[Seat], found: Sequence[Task]) -> list[Runner]:
        """Those of the agents that still are there. `found` are all open tasks."""
        now = trio.current_time()
        under_way = defaultdict[str | None, list[Task]](list)
        for task in found:
            if task.status in UNDER_WAY:
                under_way[task.agent_id].append(task)
        return [
            self._runner(seat, self._members[seat.agent_id], under_way.get(seat.agent_id, ()), now)
            for seat in seats
            if seat.agent_id in self._members
        ]

    def _runner(self, seat: Seat, member: Member, under_way: Sequence[Task], now: float) -> Runner:
        session = member.session
        held = {task.id: task.phase for task in under_way}
        # What it reported and still clears away takes its slot as well.
        held |= {each.task_id: each.action for each in session.reported.values() if each.stage != "finished"}
        return Runner(
            id=seat.agent_id,
            execution_mode="agent",
            plan_limit=max(1, session.plan_limit or seat.plan_limit),
            plans=frozenset(task for task, phase in held.items() if phase == "plan"),
            applies=frozenset(task for task, phase in held.items() if phase == "apply"),
            draining=self.draining or session.draining or member.drain or not seat.takes_tasks,
            pool_id=seat.pool_id,
            workspaces=seat.workspaces,
            avoids=session.avoided(now),
            exclusive=seat.exclusive,
        )

    def _reachable(self, member: Member, now: float) -> bool:
        if not member.session.present(now):
            return False
        connected = member.connection is not None and not member.connection.ending
        return connected or (member.polled_at is not None and now - member.polled_at < self.times.suspect)

    # What follows

    async def perform(self, member: Member, effects: Sequence[Effect]) -> None:
        """Does what a session decided. Raises Unavailable; then the next heartbeat decides it again."""
        for effect in effects:
            match effect:
                case Send(message=message):
                    member.say(message)
                case Move(task_id=task_id, event=event):
                    await self.move(task_id, event)
                case Reissue(standing=standing):
                    await self._order_again(member, standing)

    async def move(self, task_id: int, event: Event) -> None:
        """A move that may come too late: then the task has gone on by itself."""
        try:
            moved = await self.database.tx(standings.move, task_id, event)
        except (Conflict, NotFound) as error:
            log.info("the task has gone on meanwhile", extra={"task_id": task_id, "error": error.message})
            return
        if moved.changed:
            extra = {"task_id": task_id, "event": type(event).__name__, "status": moved.task.status}
            log.log(logging.ERROR if moved.task.status == "lost" else logging.INFO, "a task was moved", extra=extra)
        self.changed(task_id)
        self.wake()

    async def _order_again(self, member: Member, standing: Standing) -> None:
        order = run_task(standing, await self.database.tx(assignments.reissue, standing.fence))
        self._say_all(member, member.session.ordered(order, trio.current_time()))

    def _say_all(self, member: Member, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                member.say(effect.message)

    # How they end

    async def reconsider(self, agent_ids: Sequence[str] | None = None) -> None:
        """Tells these agents (None: all) at once what was decided about them: to drain, to go on, or to leave."""
        there = [each for each in (self._members if agent_ids is None else agent_ids) if each in self._members]
        if not there:
            return
        known = await self.database.read(standings.stances, sorted(there))
        for agent_id in there:
            stance = known.get(agent_id)
            if stance is not None and stance.replaced:
                await self._leave_to_time(agent_id)
            elif stance is None or stance.out:
                await self.revoke(agent_id)
            elif agent_id in self._members:
                self.drain(self._members[agent_id], stance.drains)

    def drain(self, member: Member, drain: bool) -> None:
        """Tells an agent, once, that it takes nothing new, or that it may again."""
        if drain != member.drain:
            member.drain = drain
            member.say(Drain(reason="an admin decided so") if drain else Undrain())
            self.wake()

    async def _leave_to_time(self, agent_id: str) -> None:
        """Another one has its name. What it has begun is not stopped: it is given up when its time is over, as that of any
        agent that fell silent.
        """
        member = self.member(agent_id)
        await self.perform(member, member.session.silent())
        if member.connection is not None:
            member.connection.end(REPLACED, "replaced")
        self.forget(agent_id)

    async def revoke(self, agent_id: str) -> None:
        """The agent has no business here any more: what it runs is to be stopped, what it did not begin goes to others."""
        member = self.member(agent_id)
        found = await self.database.read(standings.of_agent, agent_id)
        for standing in found.values():
            if standing.status == "assigned":
                await self.move(standing.task_id, Unassign(fence=standing.fence))
            elif standing.fate == "held":
                cancel_id = standing.cancel_id or new_id("can")
                await self.move(standing.task_id, Cancel(cancel_id=cancel_id, reason="revoked", by="server"))
                member.say(
                    CancelTaskOrder(
                        task_id=standing.task_id,
                        fence=standing.fence,
                        cancel_id=cancel_id,
                        reason="revoked",
                        grace_s=standing.grace_s,
                    )
                )
        if member.connection is not None:
            member.connection.end(REVOKED, "revoked")
        self.forget(agent_id)

    async def shutdown(self, *, within: float, reason: str = "the server restarts") -> None:
        """Says goodbye to everybody, and waits for their connections to end. What they run goes on meanwhile."""
        self.closing = True
        for connection in list(self._open):
            connection.send(ServerShutdown(retry_after_s=self.times.come_back, reason=reason))
            connection.end(RESTART, reason)
        with trio.move_on_after(within):
            for connection in list(self._open):
                await connection.left.wait()


def run_task(standing: Standing, token: str) -> RunTaskOrder:
    """The order for an assignment, with the token that is good for it alone."""
    return RunTaskOrder(
        task_id=standing.task_id,
        workspace_id=standing.workspace_id,
        action=standing.phase,
        assignment_id=standing.assignment_id,
        fence=standing.fence,
        attempt=standing.attempt,
        task_token=token,
        timeout_s=standing.timeout_s or 0.0,
        priority=standing.priority,
    )
