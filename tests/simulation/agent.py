"""An agent of the simulation: the product's state and rules, a connection that fails, and jobs that take their time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from iac.domain.agent_effects import Beat, Effect, Say, Start, Stop
from iac.domain.agent_state import AgentState
from iac.domain.holding import Progress
from iac.domain.messages import FromServer, HeartbeatAck, Welcome
from iac.domain.work import Result, RunTask
from iac.errors import IacError, LogRefused
from tests.simulation.oracle import Oracle, words
from tests.simulation.rows import Rows
from tests.simulation.server import Claimed, Server
from tests.simulation.world import Act, Clock, Link, Network, World

ACK_WITHIN, WELCOME_WITHIN, ANSWER_WITHIN, HEARTBEAT, TICK = 25.0, 10.0, 10.0, 10.0, 1.0
STOP_TAKES = {"plan": 45.0, "apply": 100.0}


@dataclass
class Job:
    """One assignment in the hands of the executor, from the claim to the report."""

    order: RunTask
    ends_at: float = 0.0
    serial: int = 0
    sent: int = 0
    length: int = 0
    running: bool = False
    stopped: bool = False
    over: bool = False
    fails: bool = False

    @property
    def ends_as(self) -> Literal["planned", "succeeded", "cancelled", "failed"]:
        if self.stopped or self.fails:
            return "cancelled" if self.stopped else "failed"
        return "planned" if self.order.action == "plan" else "succeeded"


class Agent:
    """A host. When its power goes, all that runs on it ends, and what it knew is forgotten."""

    def __init__(self, agent_id: str, world: World, rows: Rows, oracle: Oracle) -> None:
        self.agent_id, self._world, self._rows, self._oracle = agent_id, world, rows, oracle
        self.clock = Clock.any_of(world)
        self.network = Network(world)
        self.server: Server | None = None
        self.alive = False
        self.life = 0

    # Power

    def power_on(self) -> None:
        if self.alive:
            return
        self.alive = True
        self.life += 1
        self._state = AgentState(plan_limit=2, disk_reserve=0)
        self._jobs: dict[int, Job] = {}
        self._conn_seq = 0
        self._tries = 0
        self._link: Link | None = None
        self._connected = False
        self._seq = 0
        self._unanswered: dict[int, float] = {}
        self._ticking = False
        self._connect()

    def power_off(self) -> None:
        if not self.alive:
            return
        self.alive = False
        for job in self._jobs.values():
            if job.running:
                self._oracle.ended(job.order.task_id, job.order.fence)
        if self._link is not None:
            self.network.up(self._server.gone(self.agent_id, self._link))

    @property
    def _server(self) -> Server:
        assert self.server is not None
        return self.server

    def _in_this_life(self, act: Act) -> Act:
        life = self.life

        def acted() -> None:
            if self.alive and life == self.life:
                act()

        return acted

    def _after(self, seconds: float, act: Act) -> None:
        self.clock.after(seconds, self._in_this_life(act))

    # The connection

    def _connect(self) -> None:
        self._conn_seq += 1
        link = self._link = Link(f"{self.agent_id}-{self.life}", self._conn_seq)
        self._connected = False
        sent_at = self.clock.read()
        hello = self._state.hello(
            agent_id=self.agent_id, boot_id=link.boot_id, conn_seq=link.conn_seq, version="", disk_free=1,
            view=lambda _: Progress(), now=self.clock.read(),
        )  # fmt: skip
        self._hello_sent_at = sent_at
        self.network.up(self._server.hear(self.agent_id, link, hello))
        self._after(WELCOME_WITHIN, lambda: self._lost(link) if not self._connected else None)

    def cut_off(self) -> None:
        """The other end is gone, and the kernel says so."""
        if self.alive and self._link is not None:
            self._lost(self._link)

    def _lost(self, link: Link) -> None:
        if link != self._link:
            return
        self._link = None
        self._connected = False
        self.network.up(self._server.gone(self.agent_id, link))
        limit = min(30.0, 2.0**self._tries)
        self._tries = min(self._tries + 1, 10)
        self._after(self._world.chance.uniform(0, limit), self._connect)

    def hear(self, link: Link, message: FromServer) -> Act:
        """The arrival of a message."""

        def heard() -> None:
            if link == self._link:
                self._hear(message)

        return self._in_this_life(heard) if self.alive else _nothing

    def _hear(self, message: FromServer) -> None:
        now = self.clock.read()
        match message:
            case Welcome():
                if self._connected:
                    return
                self._connected, self._tries = True, 0
                self._unanswered.clear()
                self._perform(self._state.welcomed(message, sent_at=self._hello_sent_at, now=now))
                assert self._link is not None
                self._beat_on(self._link)
            case HeartbeatAck(seq=seq):
                sent_at = self._unanswered.get(seq)
                self._unanswered = {number: at for number, at in self._unanswered.items() if number > seq}
                if sent_at is not None:
                    self._perform(self._state.acknowledged(message, sent_at=sent_at, now=now))
            case _:
                self._perform(self._state.hear(message, now=now, disk_free=1))

    def _beat_on(self, link: Link) -> None:
        if link != self._link:
            return
        now = self.clock.read()
        if self._unanswered and now - min(self._unanswered.values()) >= ACK_WITHIN:
            self._lost(link)
            return
        self._beat()
        self._after(HEARTBEAT, lambda: self._beat_on(link))

    def _beat(self) -> None:
        if not self._connected or self._link is None:
            return
        self._seq += 1
        self._unanswered[self._seq] = self.clock.read()
        beat = self._state.heartbeat(
            agent_id=self.agent_id, boot_id=self._link.boot_id, seq=self._seq, usage=(0.0, 0.0), disk_free=1,
            view=lambda _: Progress(), now=self.clock.read(),
        )  # fmt: skip
        self.network.up(self._server.hear(self.agent_id, self._link, beat))
        self._perform(self._state.unheard())

    def _tick(self) -> None:
        """Goes on while there is something that time could bring about."""
        self._ticking = bool(self._jobs)
        if self._ticking:
            self._perform(self._state.tick(self.clock.read()))
            self._after(TICK, self._tick)

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Say(message=message):
                    if self._connected and self._link is not None:
                        self.network.up(self._server.hear(self.agent_id, self._link, message))
                case Start(order=order):
                    job = self._jobs[order.fence] = Job(order)
                    self._perform(self._state.noted(order.fence))
                    self._claim(job)
                    if not self._ticking:
                        self._tick()
                case Stop(fence=fence):
                    self._stop(fence)
                case Beat():
                    self._after(0.0, self._beat)
                case _:
                    continue

    # The executor

    def _ask(self, ask: Callable[[], object], then: Callable[[object], None]) -> None:
        """A request that is repeated until it is answered; `then` gets the answer or the IacError, once."""
        life, answered = self.life, False

        def replied(answer: object) -> None:
            nonlocal answered
            if self.alive and life == self.life and not answered:
                answered = True
                then(answer)

        def once_more() -> None:
            if not answered:
                self.network.up(self._server.call(self, ask, replied))
                self._after(ANSWER_WITHIN + self._world.chance.uniform(0.2, 10.0), once_more)

        once_more()

    def _claim(self, job: Job) -> None:
        self._ask(lambda: self._server.claim(self.agent_id, job.order.fence), lambda answer: self._claimed(job, answer))

    def _claimed(self, job: Job, answer: object) -> None:
        if job.over:
            return
        if isinstance(answer, IacError) or not self._state.may_start(job.order.fence, self.clock.read()):
            self._end(job)
            return
        assert isinstance(answer, Claimed)
        chance = self._world.chance
        job.serial = answer.serial + 1
        job.running, job.fails = True, chance.random() < 0.2
        self._oracle.started(job.order.task_id, job.order.fence, job.order.action)
        job.ends_at = self.clock.read() + chance.choice((chance.uniform(0.5, 60), chance.uniform(60, 300)))
        self._until_it_ends(job)

    def _until_it_ends(self, job: Job) -> None:
        left = job.ends_at - self.clock.read()
        if left > 1e-6:
            self._after(left, lambda: self._until_it_ends(job))
        elif job.running:
            job.running = False
            self._oracle.ended(job.order.task_id, job.order.fence)
            job.length = self._world.chance.randrange(0, 400)
            self._carry_log(job)

    def _stop(self, fence: int) -> None:
        job = self._jobs.get(fence)
        if job is None or job.stopped:
            return
        job.stopped = True
        if job.running:
            within = self._world.chance.uniform(0, STOP_TAKES[job.order.action])
            job.ends_at = min(job.ends_at, self.clock.read() + within)
            self._until_it_ends(job)
        elif job.ends_at == 0.0:  # not claimed, as far as we know
            job.over = True
            self._report(job, "cancelled")

    def _carry_log(self, job: Job) -> None:
        if job.sent >= job.length:
            self._carry_state(job)
            return
        begin, size = job.sent, self._world.chance.randrange(1, 200)
        data = words(job.order.fence, job.length)[begin : begin + size]

        def stored(answer: object) -> None:
            if isinstance(answer, LogRefused):
                job.sent = int(str(answer.extras["next_offset"]))
                self._carry_log(job)
            elif isinstance(answer, int):
                job.sent = answer
                self._carry_log(job)
            else:
                self._carry_state(job)

        self._ask(lambda: self._rows.append(job.order.fence, begin, data), stored)

    def _carry_state(self, job: Job) -> None:
        if job.order.action != "apply":
            self._report(job, job.ends_as)
            return
        order, serial = job.order, job.serial
        self._ask(
            lambda: self._rows.push(order.task_id, order.fence, serial, f"state of {order.fence}"),
            lambda _: self._report(job, job.ends_as),
        )

    def _report(self, job: Job, status: Literal["planned", "succeeded", "cancelled", "failed"]) -> None:
        fence = job.order.fence
        why = self._state.why_stopped(fence)
        if status == "cancelled" and why in ("timeout", "lease_expired"):
            status = "failed"
        result_id = f"{job.order.assignment_id}:{status}"
        result = Result(
            result_id=result_id, status=status, reason=why, outcome="applied" if status == "succeeded" else None
        )

        def reported(answer: object) -> None:
            if not isinstance(answer, IacError):
                self._state.reported(fence, result.result_id)
            self._end(job)

        self._ask(lambda: self._server.report(fence, result), reported)

    def _end(self, job: Job) -> None:
        if self._jobs.pop(job.order.fence, None) is not None:
            self._perform(self._state.ended(job.order.fence, self.clock.read()))


def _nothing() -> None: ...
