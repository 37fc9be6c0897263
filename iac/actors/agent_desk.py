"""Where an agent's threads meet: messages and facts come in, the state decides, and its effects are carried out here.

All methods are sync, so nothing comes between a decision and its act.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
import trio

from iac import __version__
from iac.actors.canceller import CancelTask
from iac.actors.connection import Line
from iac.actors.heartbeat import Pulse, Wake
from iac.actors.host import Host
from iac.actors.live_streamer import LiveStreamer
from iac.actors.running import Running
from iac.actors.spool_room import SpoolRoom
from iac.domain.agent_effects import Beat, Effect, Flush, Say, Start, Stop
from iac.domain.agent_state import AgentState
from iac.domain.holding import Progress
from iac.domain.ladder import STAGES, LadderStep
from iac.domain.messages import (
    CancelTaskOrder,
    Error,
    FromServer,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Hello,
    LiveSubscribe,
    LiveUnsubscribe,
    RunTaskOrder,
    Wanted,
    Welcome,
)
from iac.domain.records import Phase
from iac.domain.work import Result, RunTask, TaskData
from iac.executor.log_spool import LogSpool, Pace

log = logging.getLogger(__name__)

QUEUED_ORDERS = 256
LEAST_CHUNK, MOST_CHUNK = 64 * 1024, 6 * 1024 * 1024
"""A chunk has at most 8 MiB on the wire, and what is cut from a log at its end may come on top of it."""
DRAINED, DETACHED = "agent_drained", "runner_detached"
"""Why it stops what runs, when its host wants it to go."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a desk works with. `clock` counts seconds, suspended ones too."""

    state: AgentState
    line: Line
    pulse: Pulse
    wake: Wake
    running: Running
    host: Host
    room: SpoolRoom
    pace: Pace
    clock: Callable[[], float]


def _no_spool(fence: int) -> LogSpool | None:
    return None


def _nobody(fence: int, until: float) -> None: ...


def _cannot(fence: int) -> bool:
    return False


class Desk:
    """One agent's. `orders` and `cancellations` are where the worker and the canceller get their work."""

    def __init__(self, parts: Parts, boot_id: str) -> None:
        self._parts, self._state, self._boot_id = parts, parts.state, boot_id
        self._to_worker, self.orders = trio.open_memory_channel[RunTask](QUEUED_ORDERS)
        self._to_canceller, self.cancellations = trio.open_memory_channel[CancelTask](QUEUED_ORDERS)
        self._conn_seq = 0
        self._spool_of: Callable[[int], LogSpool | None] = _no_spool
        self._prolong: Callable[[int, float], None] = _nobody
        self._detachable: Callable[[int], bool] = _cannot
        self._left: set[int] = set()
        self._in_a_hurry = False
        self.streamer = LiveStreamer(self._spool, parts.line.show, parts.line.live.budget)

    def follow(
        self,
        spool_of: Callable[[int], LogSpool | None],
        prolong: Callable[[int, float], None],
        detachable: Callable[[int], bool],
    ) -> None:
        """Where the logs of the runs are to be found, who is told that a run's lease goes on, and who knows whether one is
        an apply whose Terraform can go on without us.
        """
        self._spool_of, self._prolong, self._detachable = spool_of, prolong, detachable

    # What is said

    def hello(self, agent_id: str) -> Hello:
        """The first frame of the next connection."""
        self._conn_seq += 1
        hello = self._state.hello(
            agent_id=agent_id,
            boot_id=self._boot_id,
            conn_seq=self._conn_seq,
            version=__version__,
            disk_free=self._parts.host.disk_free(),
            view=self._progress,
            now=self._parts.clock(),
        )
        return msgspec.structs.replace(hello, clock=time.time())

    def heartbeat(self, agent_id: str, seq: int) -> Heartbeat:
        return self._state.heartbeat(
            agent_id=agent_id,
            boot_id=self._boot_id,
            seq=seq,
            usage=self._parts.host.usage(),
            disk_free=self._parts.host.disk_free(),
            spool_bytes=self._parts.room.used,
            view=self._progress,
            now=self._parts.clock(),
        )

    def beat(self, agent_id: str, seq: int) -> None:
        """A heartbeat, and with it the ends that nobody has confirmed."""
        self._parts.line.post(self.heartbeat(agent_id, seq))
        self._perform(self._state.unheard())

    def goodbye(self, reason: str) -> None:
        """The last words; the line is closed behind them."""
        self._parts.line.post(Goodbye(reason=reason, running=self._state.running))
        self._parts.line.hang_up()

    # What is heard

    def welcomed(self, welcome: Welcome, *, sent_at: float) -> None:
        """The answer to a hello; `sent_at` by the desk's clock."""
        pace = self._parts.pace
        pace.chunk = min(max(welcome.log.chunk_bytes, LEAST_CHUNK), MOST_CHUNK)
        pace.interval = welcome.log.interval_s
        self._perform(self._state.welcomed(welcome, sent_at=sent_at, now=self._parts.clock()))
        self._prolong_all()

    def hear(self, message: FromServer) -> None:
        match message:
            case HeartbeatAck():
                sent_at = self._parts.pulse.answered(message.seq)
                if sent_at is not None:
                    now = self._parts.clock()
                    self._perform(self._state.acknowledged(message, sent_at=sent_at, now=now))
                    self._prolong_all()
            case LiveSubscribe() | LiveUnsubscribe():
                self.streamer.hear(message)
            case Error():
                log.warning("the server complains", extra={"code": message.code, "error": message.message})
            case _:
                disk_free = self._free() if isinstance(message, RunTaskOrder) else 0
                self._perform(self._state.hear(message, now=self._parts.clock(), disk_free=disk_free))

    def wanted(self, wanted: Wanted) -> None:
        """A cancellation that came over HTTP."""
        self.hear(CancelTaskOrder(**msgspec.structs.asdict(wanted)))

    # What the runs say

    def adopt(self, order: RunTask, token: str, *, timeout_at: float, grace_s: float | None) -> None:
        """What an earlier life of this program left; to be told before the first connection."""
        self._state.adopt(order, token, timeout_at=timeout_at, grace_s=grace_s)

    def claimed(self, order: RunTask, data: TaskData) -> None:
        """The server gave out the data."""
        timeout_s, grace_s = (None, None) if data.limits is None else (data.limits.timeout_s, data.limits.grace_s)
        self._state.claimed(order.fence, self._parts.clock(), timeout_s=timeout_s, grace_s=grace_s)

    def noted(self, order: RunTask) -> None:
        """The order is written down."""
        self._perform(self._state.noted(order.fence))

    def not_noted(self, order: RunTask) -> None:
        """The order could not be written down, and is not begun."""
        self._perform(self._state.not_noted(order.fence))

    def token_of(self, order: RunTask) -> str | None:
        return self._state.token_of(order.fence)

    def leased_until(self, order: RunTask) -> float:
        return self._state.leased_until(order.fence)

    def times_out(self, order: RunTask) -> float:
        return self._state.times_out(order.fence)

    def leaves(self, order: RunTask) -> bool:
        return order.fence in self._left

    def kills(self, order: RunTask) -> bool:
        return self._in_a_hurry and order.action == "plan"

    def may_start(self, order: RunTask) -> bool:
        return self._state.may_start(order.fence, self._parts.clock())

    def why_stopped(self, order: RunTask) -> str | None:
        return self._state.why_stopped(order.fence)

    def task_status(self, order: RunTask, status: str) -> None:
        """What an answer over HTTP said of the task."""
        if status == "cancelling":
            self._perform(self._state.told_cancelling(order.fence, self._parts.clock()))

    def log_interval(self, order: RunTask, seconds: float) -> None:
        """The server wants the log of this task more often, or less: somebody watches it, or nobody does."""
        if spool := self._spool_of(order.fence):
            spool.interval = seconds

    def reported(self, order: RunTask, result: Result) -> None:
        self._state.reported(order.fence, result.result_id)

    def stepped(self, order: RunTask, step: LadderStep) -> None:
        """Terraform was signalled."""
        if stage := STAGES.get(step):
            self._perform(self._state.stepped(order.fence, stage, self._parts.clock()))

    def ended(self, order: RunTask) -> None:
        """The worker is done with it. What was left to itself is still ours, until we are gone."""
        if order.fence in self._left:
            return
        self._perform(self._state.ended(order.fence, self._parts.clock()))

    # What time and the host bring

    @property
    def busy(self) -> tuple[int, ...]:
        """The tasks that take a slot."""
        return self._state.running

    def tick(self) -> None:
        found = ((fence, self._spool_of(fence)) for fence in self._state.fences)
        self._parts.room.look({fence: spool for fence, spool in found if spool is not None})
        self._perform(self._state.tick(self._parts.clock()))

    def leave(self) -> None:
        """Nothing new is taken; the worker ends with its last task."""
        self._perform(self._state.leave())
        self._to_worker.close()

    def stop_all(self, phase: Phase | None, *, force: bool, detach: bool = False) -> None:
        why = DETACHED if detach else DRAINED
        self._perform(self._state.stop_all(phase, force=force, why=why, now=self._parts.clock()))

    def hurry(self) -> None:
        """From now on plans get no second SIGTERM."""
        self._in_a_hurry = True

    def let_go(self) -> None:
        """Every apply whose Terraform runs goes on without us."""
        for order in self._state.unasked:
            if order.fence not in self._left and self._detachable(order.fence):
                log.warning("an apply is left to itself", extra={"task_id": order.task_id})
                self._left.add(order.fence)
                self._cancel(CancelTask(task_id=order.task_id, fence=order.fence))

    def _free(self) -> int:
        """Bytes of the disk that a new task may count on."""
        return 0 if self._parts.room.is_scarce else self._parts.host.disk_free()

    def _spool(self, fence: int) -> LogSpool | None:
        return self._spool_of(fence)

    def _prolong_all(self) -> None:
        for fence in self._state.fences:
            self._prolong(fence, self._state.leased_until(fence))

    def _progress(self, fence: int) -> Progress:
        spool = self._spool_of(fence)
        if spool is None:
            return Progress()
        return Progress(spool.stage or "", spool.length, spool.stored)

    def _cancel(self, order: CancelTask) -> None:
        try:
            self._to_canceller.send_nowait(order)
        except trio.WouldBlock:
            # The channel only keeps order; the act itself is sync and may as well be done here.
            self._parts.running.cancel(order.fence, force=order.force)

    def _perform(self, effects: Iterable[Effect]) -> None:
        parts = self._parts
        for effect in effects:
            match effect:
                case Say(message=message):
                    parts.line.post(message)
                case Start(order=order):
                    self._to_worker.send_nowait(order)
                case Stop(task_id=task_id, fence=fence, force=force):
                    self._cancel(CancelTask(task_id=task_id, fence=fence, force=force))
                case Flush(fence=fence):
                    if spool := self._spool_of(fence):
                        spool.flush()
                case Beat():
                    parts.wake.ring()
