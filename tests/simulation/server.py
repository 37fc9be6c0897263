"""The server of the simulation: the product's sessions, leases and scheduler, in a shell that has no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from iac.domain import agent_reports
from iac.domain.agent_session import AgentSession, Effect, Move, Reissue, Send, Times
from iac.domain.decision import Effect as Consequence
from iac.domain.leases import Key, Leases, Metronome
from iac.domain.lifecycle import Cancel, Claim, Event, Lose, Report
from iac.domain.messages import (
    CancelAck,
    FromAgent,
    FromServer,
    Goodbye,
    Heartbeat,
    Held,
    Hello,
    RunTaskOrder,
    TaskAccepted,
    TaskFinished,
    TaskRejected,
    Wanted,
    Welcome,
)
from iac.domain.reconciling import Seen, held_by_agents, overdue
from iac.domain.records import Task
from iac.domain.scheduling import Runner, schedule
from iac.domain.standings import UNDER_WAY
from iac.domain.work import Result
from iac.errors import IacError, IllegalTransition
from tests.simulation.rows import Rows
from tests.simulation.world import Act, Clock, Link, Network

LOOK = 5.0


class Peer(Protocol):
    """An agent as its server knows it."""

    network: Network

    def hear(self, link: Link, message: FromServer) -> Act: ...

    def cut_off(self) -> None: ...


class Member(msgspec.Struct):
    session: AgentSession
    link: Link | None = None


class Claimed(msgspec.Struct, frozen=True):
    """The answer to a claim: the serial that a new state follows."""

    serial: int


class Server:
    """What it remembers is lost with each restart; the rows are not."""

    def __init__(self, clock: Clock, rows: Rows, agents: Mapping[str, Peer], times: Times) -> None:
        self._clock, self._rows, self._agents, self._times = clock, rows, agents, times
        self._oracle = rows.oracle
        self.life = 0
        self.up = False
        self._frozen: list[Act] | None = None

    # Its life

    def start(self) -> None:
        self.life += 1
        self.up = True
        now = self._clock.read()
        self._members: dict[str, Member] = {}
        self._leases = Leases(self._times.lost_after)
        self._claims = Leases(self._times.claim_within)
        self._metronome = Metronome(self._times.tick, now)
        self._look_at = now
        self._tick(self.life)
        self._dispatch_later(self.life)

    def crash(self) -> None:
        self.up = False
        for agent in self._agents.values():
            agent.cut_off()

    def freeze(self) -> None:
        """As SIGSTOP does: what comes meanwhile waits."""
        self._frozen = [] if self._frozen is None else self._frozen

    def thaw(self) -> None:
        waiting, self._frozen = self._frozen or [], None
        for act in waiting:
            act()

    def _alive(self, life: int, act: Act) -> Act:
        def acted() -> None:
            if not self.up or life != self.life:
                return
            if self._frozen is not None:
                self._frozen.append(acted)
            else:
                act()

        return acted

    def _tick(self, life: int) -> None:
        now = self._clock.read()
        if self._metronome.stalled(now):
            self._leases.restart(now)
            self._claims.restart(now)
        for agent_id, member in list(self._members.items()):
            self._perform(agent_id, member.session.tick(now))
        if now >= self._look_at:
            self._look_at = now + self._times.look
            self._look(now)
        self._clock.after(self._times.tick, self._alive(life, lambda: self._tick(life)))

    def _look(self, now: float) -> None:
        held = held_by_agents(self._rows.open_tasks())
        silent = self._leases.overdue([_key(task) for task in held], now)
        late = self._claims.overdue([_key(task) for task in held if task.status == "assigned"], now)
        seen = Seen(
            now=self._rows.now,
            silent=frozenset(fence for _, fence in silent),
            unclaimed=frozenset(fence for _, fence in late),
        )
        for task, event in overdue(held, seen):
            self._member(task.agent_id or "").session.settled(task.fence)
            self.move(task.id, event)
        for agent_id, member in list(self._members.items()):
            heard = member.session.heard_at
            if member.link is None and heard is not None and now - heard >= self._times.lost_after:
                self._perform(agent_id, member.session.silent())
                del self._members[agent_id]

    # Handing out

    def _dispatch_later(self, life: int) -> None:
        self.dispatch()
        self._clock.after(LOOK, self._alive(life, lambda: self._dispatch_later(life)))

    def dispatch(self) -> None:
        if not self.up or self._frozen is not None:
            return
        found = self._rows.open_tasks()
        if not any(task.status == "queued" for task in found):
            return
        now = self._clock.read()
        runners = [
            self._runner(agent_id, member, found, now)
            for agent_id, member in self._members.items()
            if member.link is not None and member.session.present(now)
        ]
        decided = schedule(found, runners, self._rows.now, holders={}, served={})
        for assignment in decided.assignments:
            task = self._rows.assign(assignment.task_id, assignment.runner_id)
            member = self._members[assignment.runner_id]
            self._perform(assignment.runner_id, member.session.ordered(order_of(task), now))

    def _runner(self, agent_id: str, member: Member, found: list[Task], now: float) -> Runner:
        session = member.session
        held = {task.id: task.phase for task in found if task.agent_id == agent_id and task.status in UNDER_WAY}
        held |= {each.task_id: each.action for each in session.reported.values() if each.stage != "finished"}
        return Runner(
            id=agent_id,
            execution_mode="agent",
            plan_limit=max(1, session.plan_limit or 1),
            plans=frozenset(task for task, phase in held.items() if phase == "plan"),
            applies=frozenset(task for task, phase in held.items() if phase == "apply"),
            draining=session.draining,
            avoids=session.avoided(now),
        )

    # What agents say

    def hear(self, agent_id: str, link: Link, message: FromAgent) -> Act:
        """The arrival of a message."""
        return self._alive(self.life, lambda: self._hear(agent_id, link, message))

    def _hear(self, agent_id: str, link: Link, message: FromAgent) -> None:
        member = self._member(agent_id)
        if isinstance(message, Hello):
            self._hello(agent_id, member, link, message)
            return
        if member.link != link:
            return
        now, session = self._clock.read(), member.session
        match message:
            case Heartbeat():
                self._leases.heard(agent_id, {held.fence for held in message.tasks} | session.unclaimed, now)
                fences, overtaken = {held.fence for held in message.tasks}, session.overtaken(message)
                ack, effects = session.heartbeat(message, self._rows.standings(agent_id, fences), now)
                self._perform(agent_id, [*effects, Send(ack)])
                self._dealt_with(() if overtaken else message.tasks)
            case TaskAccepted(fence=fence):
                session.accepted(fence)
            case TaskRejected(fence=fence):
                if fence in session.unclaimed:
                    self._perform(agent_id, session.rejected(message, now))
            case CancelAck(fence=fence, cancel_id=cancel_id):
                session.cancel_acked(fence, cancel_id)
            case TaskFinished(task_id=task_id, fence=fence, result_id=result_id):
                standing = self._rows.standings(agent_id, [fence]).get(fence)
                self._perform(agent_id, session.finished(task_id, fence, result_id, standing))
            case Goodbye():
                self._perform(agent_id, session.silent())
            case _:
                return
        self.dispatch()

    def _hello(self, agent_id: str, member: Member, link: Link, hello: Hello) -> None:
        if member.session.outdated(hello):
            return
        member.link = link
        now, fences = self._clock.read(), {held.fence for held in hello.tasks}
        verdicts, effects = member.session.hello(hello, self._rows.standings(agent_id, fences), now)
        self._leases.heard(agent_id, fences | member.session.unclaimed, now)
        times = self._times
        welcome = Welcome(
            protocol_version=1, conn_epoch=0, server_boot_id=str(self.life), heartbeat_interval_s=times.heartbeat,
            lease_s=times.lease, lost_after_s=times.lost_after, decisions=verdicts, apply_alone=True,
        )  # fmt: skip
        self._perform(agent_id, [Send(welcome), *effects])
        self._dealt_with(hello.tasks)
        self.dispatch()

    def _dealt_with(self, listed: Sequence[Held]) -> None:
        for held in listed:
            if held.stage != "finished" and not self._rows.told(held.fence):
                self._oracle.heard(self._rows.task_of(held.fence), held.fence)

    def gone(self, agent_id: str, link: Link) -> Act:
        """The end of a connection, as far as it is noticed."""

        def noticed() -> None:
            member = self._members.get(agent_id)
            if member is not None and member.link == link:
                member.link = None

        return self._alive(self.life, noticed)

    def _member(self, agent_id: str) -> Member:
        if agent_id not in self._members:
            self._members[agent_id] = Member(AgentSession(self._times))
        return self._members[agent_id]

    def _perform(self, agent_id: str, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message=message):
                    self._say(agent_id, message)
                case Move(task_id=task_id, event=event):
                    self.move(task_id, event)
                case Reissue(standing=standing):
                    order = order_of(self._rows.tasks[standing.task_id])
                    self._perform(agent_id, self._member(agent_id).session.ordered(order, self._clock.read()))

    def _say(self, agent_id: str, message: FromServer) -> None:
        member, agent = self._members.get(agent_id), self._agents[agent_id]
        if member is not None and member.link is not None:
            agent.network.down(agent.hear(member.link, message))

    # What changes tasks

    def move(self, task_id: int, event: Event) -> None:
        """What comes too late is no fault."""
        try:
            task, effects = self._rows.move(task_id, event)
        except IacError:
            return
        if Consequence.STOP in effects and task.cancel_id is not None and task.agent_id is not None and self.up:
            wanted = Wanted(task_id=task_id, fence=task.fence, cancel_id=task.cancel_id, force=task.cancel_force)
            session = self._member(task.agent_id).session
            self._perform(task.agent_id, session.cancelled(wanted, "user", self._clock.read()))

    def cancel(self, task_id: int, *, force: bool) -> None:
        """A user's wish."""
        if self.up and self._frozen is None:
            self.move(task_id, Cancel(cancel_id=f"can-{task_id}", reason="user", by="user", force=force))

    # The agent API; each returns when it has committed

    def call(self, network: Network, ask: Callable[[], object], reply: Callable[[object], None]) -> Act:
        """The arrival of a request. The reply gets the answer or the IacError."""

        def handle() -> None:
            try:
                answer: object = ask()
            except IacError as error:
                answer = error
            network.down(lambda: reply(answer))

        return self._alive(self.life, handle)

    def claim(self, agent_id: str, fence: int, boot_id: str) -> Claimed:
        assignment = self._rows.assignments[fence]
        task, _ = self._rows.move(assignment.task_id, Claim(fence=fence))
        assignment.claimed_by = boot_id
        self._member(agent_id).session.settled(fence)
        current = self._rows.current.get(task.workspace_id)
        return Claimed(0 if current is None else current.serial)

    def report(self, fence: int, result: Result, boot_id: str) -> None:
        assignment = self._rows.assignments[fence]
        if assignment.result_id == result.result_id:
            return
        task = self._rows.tasks[assignment.task_id]
        if agent_reports.is_outdated(result, claimed_by=assignment.claimed_by, told_by=boot_id):
            raise IllegalTransition(f"Assignment {fence} was ordered again meanwhile.")
        if agent_reports.gives_back(assignment.phase, result):
            self._rows.move(task.id, Lose(fence=fence, reason=result.reason or "", detail=""))
        else:
            if result.status == "planned" and task.fence == fence and task.status in UNDER_WAY:
                self._rows.tasks[task.id] = replace(task, plan_digest=str(fence), has_changes=True)
            self._rows.move(task.id, Report(fence=fence, result=result))
        self._rows.note_result(fence, result)
        self.dispatch()


def order_of(task: Task) -> RunTaskOrder:
    return RunTaskOrder(
        task_id=task.id,
        workspace_id=task.workspace_id,
        action=task.phase,
        assignment_id=task.assignment_id or "",
        fence=task.fence,
        attempt=task.attempt,
        task_token=f"token-{task.fence}",
    )


def _key(task: Task) -> Key:
    return task.agent_id or "", task.fence
