"""The machine below an agent of the simulation: its disk, and Terraform with its shims, which outlive the program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from iac.domain.records import Phase
from iac.domain.work import RunTask
from tests.simulation.oracle import Oracle
from tests.simulation.world import Clock, World

STOP_TAKES: dict[Phase, float] = {"plan": 45.0, "apply": 100.0}
"""Seconds within which a Terraform that is told to stop has ended; at last it is killed."""


@dataclass
class Run:
    """One Terraform and its directory. `saw_end`: its shim has written down how it ended."""

    order: RunTask
    serial: int
    """Of the state that it begins with."""
    ends_at: float
    fails: bool
    length: int
    """Bytes that it has printed when it ends."""
    running: bool = True
    stopped: bool = False
    saw_end: bool = False
    leased_until: float = inf
    written: int = 0
    """How often it has written its state."""

    @property
    def state(self) -> tuple[int, str]:
        """The serial of the state on the disk, and its content."""
        serial = self.serial + self.written
        return serial, f"serial {serial} of {self.order.fence}"


@dataclass
class Host:
    """`journal` and `runs` are what a restarted program finds again; after `wipe` there is nothing to be found."""

    world: World
    clock: Clock
    oracle: Oracle
    journal: dict[int, RunTask] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    tell: Callable[[Run], None] | None = None
    """Who is told that a Terraform ended: the program, while there is one."""

    def note(self, order: RunTask) -> None:
        """Written down for good."""
        self.journal[order.fence] = order

    def forget(self, fence: int) -> None:
        """Nothing of it is left."""
        self.runs.pop(fence, None)
        self.journal.pop(fence, None)

    def begin(self, order: RunTask, *, serial: int, leased_until: float) -> Run:
        """Terraform runs, below a shim that has the dead man's handle of a plan."""
        chance = self.world.chance
        takes = chance.choice((chance.uniform(0.5, 60), chance.uniform(60, 300)))
        run = Run(order, serial, self.clock.read() + takes, chance.random() < 0.2, chance.randrange(0, 400))
        self.runs[order.fence] = run
        self.oracle.started(order.task_id, order.fence, order.action, order.attempt)
        self._until_it_ends(run)
        self.prolong(order.fence, leased_until)
        if order.action == "apply":
            self._write(run)
        return run

    def prolong(self, fence: int, until: float) -> None:
        """Until then a plan may go on without its agent."""
        run = self.runs.get(fence)
        if run is not None and run.running and run.order.action == "plan" and until != run.leased_until:
            watched = run.leased_until < inf
            run.leased_until = until
            if not watched:
                self._watch(run)

    def stop(self, run: Run, *, within: float | None = None) -> None:
        """As the ladder does: SIGTERM, and SIGKILL at last."""
        if run.running and not run.stopped:
            run.stopped = True
            takes = self.world.chance.uniform(0, STOP_TAKES[run.order.action] if within is None else within)
            run.ends_at = min(run.ends_at, self.clock.read() + takes)
            self._until_it_ends(run)

    def kill(self, run: Run) -> None:
        """At once."""
        self._ended(run, seen=False)

    def power_cut(self) -> None:
        """Everything that runs is gone, and nobody saw how."""
        for run in list(self.runs.values()):
            self._ended(run, seen=False)

    def wipe(self) -> None:
        """The disk is another one."""
        self.journal.clear()
        self.runs.clear()

    def _write(self, run: Run) -> None:
        """A resource was made, and the state says so."""
        if run.running:
            run.written += 1
            self.clock.after(self.world.chance.uniform(1, 40), lambda: self._write(run))

    def _watch(self, run: Run) -> None:
        left = run.leased_until - self.clock.read()
        if not run.running:
            return
        if left > 1e-6:
            self.clock.after(left, lambda: self._watch(run))
        else:
            self.stop(run)

    def _until_it_ends(self, run: Run) -> None:
        left = run.ends_at - self.clock.read()
        if left > 1e-6:
            self.clock.after(left, lambda: self._until_it_ends(run))
        else:
            self._ended(run, seen=True)

    def _ended(self, run: Run, *, seen: bool) -> None:
        if not run.running:
            return
        run.running, run.saw_end = False, seen
        self.oracle.ended(run.order.task_id, run.order.fence)
        if self.tell is not None:
            self.tell(run)
