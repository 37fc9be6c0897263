"""One seed, one story: tasks, users, faults, and then peace, in which everything has to come to its end."""

from __future__ import annotations

from functools import partial

from iac.domain.agent_session import Times
from iac.domain.lifecycle import Confirm
from iac.domain.records import Task
from iac.errors import IacError
from tests.domain.builders import a_task
from tests.simulation.agent import Agent
from tests.simulation.oracle import Oracle, Violated
from tests.simulation.rows import Rows
from tests.simulation.server import Server
from tests.simulation.world import Clock, Weather, World

TROUBLE, PEACE, LOOK = 600.0, 4000.0, 100.0
"""Seconds: until then everything fails now and then; until then everything must have ended; how often that is looked at."""
TIMES = Times(tick=2.0)
"""The product's, but for ticks that nothing depends on."""
WORKSPACES = ("ws-a", "ws-b")
NAMES = ("one", "two", "three", "four")
RESTING = frozenset({"planned", "lost", "succeeded", "failed", "cancelled"})


class Story:
    """Some agents, two workspaces, some tasks; what happens to them is drawn from the seed."""

    def __init__(self, seed: int, times: Times | None = None) -> None:
        self.world = World(seed)
        self.oracle = Oracle()
        clock = Clock.any_of(self.world)
        self.rows = Rows(clock, self.oracle)
        count = self.world.chance.choice((1, 2, 2, 3, 4))
        weather = Weather.any_of(self.world)
        self.agents = {name: Agent(name, self.world, weather, self.rows, self.oracle) for name in NAMES[:count]}
        self.server = Server(clock, self.rows, self.agents, times or TIMES)
        for agent in self.agents.values():
            agent.server = self.server

    def run(self) -> None:
        """Raises Violated."""
        self.server.start()
        for agent in self.agents.values():
            agent.start()
        self._users()
        self._faults()
        self.world.run(TROUBLE)
        self._heal()
        while self._restless() and self.world.now < PEACE:
            self.world.run(self.world.now + LOOK)
        for task in self._restless():
            raise Violated("end", f"task {task.id} is {task.status} long after everything works again")

    def _restless(self) -> list[Task]:
        return [
            task
            for task in self.rows.tasks.values()
            if task.status not in RESTING and not self._waits_for_a_human(task)
        ]

    def _waits_for_a_human(self, task: Task) -> bool:
        """Whether somebody has to confirm, resolve or unlock what stands before it."""
        holder = self.rows.tasks.get(self.rows.locks.get(task.workspace_id, 0))
        return task.status == "pending" and holder is not None and holder.status in ("planned", "lost", "failed")

    # What people do

    def _users(self) -> None:
        chance = self.world.chance
        for number in range(1, chance.randint(2, 5)):
            created_at = chance.uniform(0, TROUBLE / 2)
            self.world.after(created_at, partial(self._create, number))
            if chance.random() < 0.4:
                force = chance.random() < 0.3
                when = chance.choice((created_at + chance.uniform(0, 1), chance.uniform(0, TROUBLE)))
                self.world.after(when, partial(self._cancel, number, force))
            for _ in range(3):
                self.world.after(chance.uniform(0, TROUBLE), partial(self._confirm, number))
            if chance.random() < 0.2:
                self.world.after(chance.uniform(0, TROUBLE), partial(self.rows.upload, chance.choice(WORKSPACES)))
            for _ in range(chance.choice((0, 0, 1, 3))):
                self.world.after(chance.uniform(0, TROUBLE), partial(self._resolve, number))

    def _create(self, number: int) -> None:
        chance = self.world.chance
        self.rows.create(
            a_task(
                id=number, workspace_id=chance.choice(WORKSPACES), execution_mode="agent",
                action=chance.choice(("plan", "plan_and_apply", "plan_and_apply")), auto_apply=chance.random() < 0.6,
                created_at=self.rows.now,
            )
        )  # fmt: skip
        self.server.dispatch()

    def _cancel(self, number: int, force: bool) -> None:
        if number in self.rows.tasks:
            self.server.cancel(number, force=force)

    def _confirm(self, number: int) -> None:
        task = self.rows.tasks.get(number)
        if task is not None and task.status == "planned" and self.server.up:
            self.rows.move(number, Confirm(by="ann", comment="", plan_digest=task.plan_digest or ""))
            self.server.dispatch()

    def _resolve(self, number: int) -> None:
        task = self.rows.tasks.get(number)
        if task is not None and task.status == "lost" and self.server.up:
            chance = self.world.chance
            self.rows.resolve(number, unlock=chance.random() < 0.8, adopt=chance.random() < 0.5)

    # What goes wrong

    def _faults(self) -> None:
        chance = self.world.chance
        kinds = (
            *(self._partition, self._partition, self._partition, self._crash, self._crash),
            *(self._freeze, self._restart, self._stall),
        )
        for _ in range(chance.randint(0, 8)):
            kind = chance.choice(kinds)
            self.world.after(chance.uniform(0, TROUBLE), kind)

    def _lasts(self) -> float:
        chance = self.world.chance
        return chance.choice((chance.uniform(0.1, 5), chance.uniform(5, 90), chance.uniform(90, 400)))

    def _restart(self) -> None:
        if self.server.up:
            self.server.thaw()
            self.server.crash()
            self.world.after(self._lasts(), self._start_again)

    def _start_again(self) -> None:
        if not self.server.up:
            self.server.start()

    def _freeze(self) -> None:
        agent = self.world.chance.choice(list(self.agents.values()))
        agent.freeze()
        self.world.after(self._lasts(), agent.thaw)

    def _stall(self) -> None:
        if self.server.up:
            self.server.freeze()
            self.world.after(self._lasts(), self.server.thaw)

    def _partition(self) -> None:
        chance = self.world.chance
        network = chance.choice(list(self.agents.values())).network
        network.cut_up, network.cut_down = chance.choice(((True, True), (True, False), (False, True)))

        def mended() -> None:
            network.cut_up = network.cut_down = False

        self.world.after(self._lasts(), mended)

    def _crash(self) -> None:
        """Of an agent's program, or of its whole host; sometimes the disk is gone as well."""
        chance = self.world.chance
        agent = chance.choice(list(self.agents.values()))
        [what] = chance.choices((agent.kill, agent.power_cut, agent.lose_disk), (6, 3, 1))
        what()
        self.world.after(self._lasts(), agent.start)

    def _heal(self) -> None:
        self.server.thaw()
        self._start_again()
        for agent in self.agents.values():
            agent.network.heal()
            agent.frailty = 0.0
            agent.thaw()
            agent.start()


def violation(seed: int, times: Times | None = None) -> str | None:
    """What this seed breaks; None if nothing."""
    try:
        Story(seed, times).run()
    except (Violated, IacError) as error:
        return f"seed {seed}: {error!r}"
    return None
