"""An agent of the simulation: the product's state and rules, a connection that fails, and jobs that take their time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from iac.domain.agent_effects import Beat, Effect, Say, Start, Stop
from iac.domain.agent_reports import NEVER_STARTED
from iac.domain.agent_state import AgentState
from iac.domain.holding import Progress
from iac.domain.messages import CancelTaskOrder, FromServer, HeartbeatAck, Welcome
from iac.domain.work import Result, RunTask
from iac.errors import IacError, LogRefused
from tests.simulation.host import Run
from tests.simulation.oracle import Violated, words
from tests.simulation.program import Program
from tests.simulation.server import Claimed
from tests.simulation.world import Act, Link

ACK_WITHIN, WELCOME_WITHIN, HEARTBEAT, TICK = 25.0, 10.0, 10.0, 2.0
ASK_WITHIN = 30.0
"""Seconds for which the first connection waits until it is told what an earlier life never began."""
CHECKPOINT = 5.0
"""Seconds between two looks at the state of an apply that runs, at least."""
DISK = 0.05
"""Seconds that it takes at most until something is on the disk for good."""


@dataclass
class Job:
    """One assignment in the hands of the executor, from the order to the report; `run` is there from the claim on."""

    order: RunTask
    run: Run | None = None
    sent: int = 0
    stopped: bool = False
    over: bool = False
    adopted: bool = False

    @property
    def ends_as(self) -> Literal["planned", "succeeded", "cancelled", "failed"]:
        assert self.run is not None
        if self.stopped or self.run.stopped or self.run.fails:
            return "cancelled" if self.stopped or self.run.stopped else "failed"
        return "planned" if self.order.action == "plan" else "succeeded"


class Agent(Program):
    """What it knows is forgotten when it is killed; what its host has on the disk is not."""

    # Its life

    def start(self) -> None:
        """Also of a host whose power is back: what an earlier life left is brought home."""
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
        self._denied: set[int] = set()
        self.host.tell = self._in_this_life_of(self._terraform_ended)
        self._come_home()

    def kill(self) -> None:
        """The program alone: Terraform and its shims go on."""
        if not self.alive:
            return
        self.alive, self._frozen = False, None
        self.host.tell = None
        if self._link is not None:
            self._send(self._server.gone(self.agent_id, self._link))

    def power_cut(self) -> None:
        self.kill()
        self.host.power_cut()

    def lose_disk(self) -> None:
        """As a pod that is deleted: the next one begins with nothing."""
        self.power_cut()
        self.host.wipe()

    # What an earlier life left (iac.actors.homecoming)

    def _come_home(self) -> None:
        disowned = set[int]()

        def answered(fence: int) -> None:
            if self._conn_seq > 0:  # nobody waits for it any more
                return
            self.host.forget(fence)
            disowned.discard(fence)
            if not disowned:
                self._connect()

        for order in list(self.host.journal.values()):
            if (run := self.host.runs.get(order.fence)) is not None:
                self._state.adopt(order, f"token-{order.fence}")
                self._jobs[order.fence] = Job(order, run, adopted=True)
            else:
                disowned.add(order.fence)
        for fence in sorted(disowned):
            self._disown(self.host.journal[fence], answered)
        self._after(ASK_WITHIN if disowned else 0.0, lambda: self._connect() if self._conn_seq == 0 else None)
        for job in list(self._jobs.values()):
            assert job.run is not None
            if job.order.action == "plan":
                self.host.kill(job.run)
            if not job.run.running:
                self._carry_log(job)

    def _disown(self, order: RunTask, answered: Callable[[int], None]) -> None:
        boot = self._boot
        result = Result(result_id=f"{order.assignment_id}:never", status="failed", reason=NEVER_STARTED)
        self._ask(lambda: self._server.report(order.fence, result, boot), lambda _: answered(order.fence))

    # The connection

    def _connect(self) -> None:
        self._conn_seq += 1
        link = self._link = Link(self._boot, self._conn_seq)
        self._connected = False
        sent_at = self.clock.read()
        hello = self._state.hello(
            agent_id=self.agent_id, boot_id=link.boot_id, conn_seq=link.conn_seq, version="", disk_free=1,
            view=lambda _: Progress(), now=self.clock.read(),
        )  # fmt: skip
        self._hello_sent_at = sent_at
        self._send(self._server.hear(self.agent_id, link, hello))
        self._after(WELCOME_WITHIN, lambda: self._lost(link) if not self._connected else None)

    def cut_off(self) -> None:
        """The other end is gone, and the kernel says so."""
        link = self._link
        if link is not None:
            self._in_this_life(lambda: self._lost(link))()

    def _lost(self, link: Link) -> None:
        if link != self._link:
            return
        self._link = None
        self._connected = False
        self._send(self._server.gone(self.agent_id, link))
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
                self._prolong_all()
                assert self._link is not None
                self._beat_on(self._link)
            case HeartbeatAck(seq=seq):
                sent_at = self._unanswered.get(seq)
                self._unanswered = {number: at for number, at in self._unanswered.items() if number > seq}
                if sent_at is not None:
                    self._perform(self._state.acknowledged(message, sent_at=sent_at, now=now))
                    self._prolong_all()
            case _:
                if isinstance(message, CancelTaskOrder) and message.fence not in self._jobs:
                    self._denied.add(message.fence)
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
        self._send(self._server.hear(self.agent_id, self._link, beat))
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
                        self._send(self._server.hear(self.agent_id, self._link, message))
                case Start(order=order):
                    self._take(order)
                case Stop(fence=fence):
                    self._stop(fence)
                case Beat():
                    self._after(0.0, self._beat)
                case _:
                    continue

    # The executor

    def _take(self, order: RunTask) -> None:
        """Written down, then called accepted, then begun."""
        if order.fence in self._denied:
            raise Violated("T7", f"assignment {order.fence} is begun by an agent that called it cancelled")
        job = self._jobs[order.fence] = Job(order)

        def noted() -> None:
            self._perform(self._state.noted(order.fence))
            if not job.over:
                self._claim(job)
                self._falter(self.freeze, self.thaw)

        def written() -> None:
            self.host.note(order)
            self._falter(self.kill, self.start)
            self._after(self._world.chance.uniform(0, DISK), noted)

        self._after(self._world.chance.uniform(0, DISK), written)
        if not self._ticking:
            self._tick()

    def _falter(self, down: Act, up: Act) -> None:
        """At the worst moments, where chance alone would rarely strike."""
        chance = self._world.chance
        if chance.random() < self.frailty:
            down()
            self._world.after(chance.choice((chance.uniform(0.1, 5), chance.uniform(30, 200))), up)

    def _claim(self, job: Job) -> None:
        fence, boot = job.order.fence, self._boot
        self._ask(lambda: self._server.claim(self.agent_id, fence, boot), lambda answer: self._claimed(job, answer))

    def _claimed(self, job: Job, answer: object) -> None:
        if job.over:
            return
        if isinstance(answer, IacError) or not self._state.may_start(job.order.fence, self.clock.read()):
            self._end(job)
            return
        assert isinstance(answer, Claimed)
        until = self._state.leased_until(job.order.fence)
        job.run = self.host.begin(job.order, serial=answer.serial, leased_until=until)
        if job.order.action == "apply":
            self._after(CHECKPOINT, lambda: self._checkpoint(job))

    def _terraform_ended(self, run: Run) -> None:
        job = self._jobs.get(run.order.fence)
        if job is not None and not job.over:
            self._carry_log(job)

    def _prolong_all(self) -> None:
        for fence in self._state.fences:
            self.host.prolong(fence, self._state.leased_until(fence))

    def _stop(self, fence: int) -> None:
        job = self._jobs.get(fence)
        if job is None or job.stopped:
            return
        job.stopped = True
        if job.run is not None:
            self.host.stop(job.run)
        else:  # not claimed, as far as we know
            job.over = True
            self._report(job, "cancelled")

    def _carry_log(self, job: Job) -> None:
        assert job.run is not None
        length, fence = job.run.length, job.order.fence
        if job.sent >= length:
            self._carry_state(job)
            return
        begin, size = job.sent, self._world.chance.randrange(1, 200)
        data = words(fence, length)[begin : begin + size]

        def stored(answer: object) -> None:
            if isinstance(answer, LogRefused):
                job.sent = int(str(answer.extras["next_offset"]))
                self._carry_log(job)
            elif isinstance(answer, int):
                job.sent = answer
                self._carry_log(job)
            else:
                self._carry_state(job)

        self._ask(lambda: self._rows.append(fence, begin, data), stored)

    def _carry_state(self, job: Job) -> None:
        run, order = job.run, job.order
        assert run is not None
        if order.action != "apply":
            self._report(job, job.ends_as)
            return
        serial, content = run.state
        self._ask(
            lambda: self._rows.push(order.task_id, order.fence, serial, content),
            lambda _: self._report(job, job.ends_as),
        )

    def _checkpoint(self, job: Job) -> None:
        """The state as it grows; one that is not answered is not repeated, for the next one has all that it has."""
        run, order = job.run, job.order
        if run is not None and run.running and not job.over:
            (serial, content), push = run.state, partial(self._rows.push, order.task_id, order.fence, whole=False)
            self._send(self._server.call(self.network, lambda: push(serial, content), _nobody_waits))
            self._after(self._world.chance.uniform(1, 4) * CHECKPOINT, lambda: self._checkpoint(job))

    def _report(self, job: Job, status: Literal["planned", "succeeded", "cancelled", "failed"]) -> None:
        fence = job.order.fence
        why = self._state.why_stopped(fence)
        if status == "cancelled" and why in ("timeout", "lease_expired"):
            status = "failed"
        unknown = job.adopted and (job.order.action == "plan" or (job.run is not None and not job.run.saw_end))
        if unknown:  # nobody saw how it ended
            status, why = "failed", "agent_crashed"
        result = Result(
            result_id=f"{job.order.assignment_id}:{why if unknown else status}",
            status=status,
            reason=why,
            outcome="applied" if status == "succeeded" else None,
            state_safe=not unknown or job.order.action == "plan",
        )

        def reported(answer: object) -> None:
            if not isinstance(answer, IacError):
                self._state.reported(fence, result.result_id)
            self._end(job)

        boot = self._boot
        self._ask(lambda: self._server.report(fence, result, boot), reported)

    def _end(self, job: Job) -> None:
        if self._jobs.pop(job.order.fence, None) is not None:
            self.host.forget(job.order.fence)
            self._perform(self._state.ended(job.order.fence, self.clock.read()))


def _nothing() -> None: ...


def _nobody_waits(answer: object) -> None: ...
