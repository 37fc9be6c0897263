"""A program of the simulation that may die, stand still, and begin anew: what was meant for one life is not for the next."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.host import Host, Run
from tests.simulation.oracle import Oracle
from tests.simulation.rows import Rows
from tests.simulation.server import Server
from tests.simulation.world import Act, Clock, Network, Weather, World

ANSWER_WITHIN = 10.0


class Program:
    """An agent's, on its host, without what it does."""

    def __init__(self, agent_id: str, world: World, weather: Weather, rows: Rows, oracle: Oracle) -> None:
        self.agent_id, self._world, self._rows = agent_id, world, rows
        self.clock = Clock.any_of(world)
        self.network = Network(world, weather)
        self.host = Host(world, self.clock, oracle)
        self.server: Server | None = None
        self.alive = False
        self.life = 0
        self.frailty = world.chance.choice((0.0, 0.0, 0.0, 0.3))
        """How likely it is killed, or stands still, just when it has taken a task."""
        self._frozen: list[Act] | None = None

    def freeze(self) -> None:
        """As SIGSTOP does: what comes meanwhile waits. Terraform goes on."""
        if self.alive and self._frozen is None:
            self._frozen = []

    def thaw(self) -> None:
        waiting, self._frozen = self._frozen or [], None
        for act in waiting:
            act()

    @property
    def _boot(self) -> str:
        return f"{self.agent_id}-{self.life}"

    @property
    def _server(self) -> Server:
        assert self.server is not None
        return self.server

    def _in_this_life(self, act: Act) -> Act:
        return self._in_life(self.life, act)

    def _in_life(self, life: int, act: Act) -> Act:
        def acted() -> None:
            if not self.alive or life != self.life:
                return
            if self._frozen is not None:
                self._frozen.append(acted)
            else:
                act()

        return acted

    def _in_this_life_of(self, act: Callable[[Run], None]) -> Callable[[Run], None]:
        return lambda run: self._in_this_life(lambda: act(run))()

    def _send(self, act: Act) -> None:
        """What it has sent arrives even if it is dead by then; but not when the next one has begun, whose connections are
        others: these are closed.
        """
        life = self.life
        self.network.up(lambda: act() if life == self.life else None)

    def _after(self, seconds: float, act: Act) -> None:
        self.clock.after(seconds, self._in_this_life(act))

    def _ask(self, ask: Callable[[], object], then: Callable[[object], None]) -> None:
        """A request that is repeated until it is answered; `then` gets the answer or the IacError, once."""
        life, answered = self.life, False

        def replied(answer: object) -> None:
            self._in_life(life, lambda: take(answer))()

        def take(answer: object) -> None:
            nonlocal answered
            if not answered:
                answered = True
                then(answer)

        def once_more() -> None:
            if not answered:
                self._send(self._server.call(self.network, ask, replied))
                self._after(ANSWER_WITHIN + self._world.chance.uniform(0.2, 10.0), once_more)

        once_more()
