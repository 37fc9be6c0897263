"""Does what the schedule says to the programs and the wires of a soak, and mends it again."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import trio

from tests.harness.chaos_proxy import ChaosProxy
from tests.soak.programs import Postgres, Program
from tests.soak.record import Record
from tests.soak.schedule import Fault, kind_of
from tests.soak.user import User

RECOVERS_WITHIN = 90.0
"""Seconds; an agent that was told to come back later, or was turned away for coming too often, takes a while."""
LOOK = 0.1
APPLIES_WITHIN = 8.0
SLOW = 8_000
"""Bytes/s: 64 kbit/s."""


@dataclass
class Troubles:
    """`behind` says which agent is behind each wire."""

    programs: Mapping[str, Program]
    postgres: Postgres
    wires: Mapping[str, ChaosProxy]
    behind: Mapping[str, str]
    user: User
    record: Record

    @property
    def targets(self) -> list[str]:
        return ["postgres", *self.programs, *self.wires]

    async def run(self, faults: Sequence[Fault]) -> None:
        """All of them, each at its time; ends when the last is mended and what it broke works again."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for fault in faults:
                await trio.sleep_until(began + fault.at)
                nursery.start_soon(self._one, fault)

    async def _one(self, fault: Fault) -> None:
        if fault.kind == "host dies":
            await _until_it_applies(self.programs[fault.target])
        self.record.faults.append(fault)
        self._break(fault)
        await trio.sleep(fault.lasts)
        self._mend(fault)
        began = trio.current_time()
        with trio.move_on_after(RECOVERS_WITHIN) as late:
            await self._recovered(fault.target, datetime.now(UTC))
        what = f"{kind_of(fault.target)}: {fault.kind}"
        if late.cancelled_caught:
            self.record.complain(f"{fault.target} ({fault.kind}) did not recover within {RECOVERS_WITHIN:.0f} s")
        else:
            self.record.took(what, trio.current_time() - began)

    def _break(self, fault: Fault) -> None:
        if fault.target in self.wires:
            _cut(self.wires[fault.target], fault)
        elif fault.target == "postgres":
            match fault.kind:
                case "stop immediately":
                    self.postgres.signal(signal.SIGQUIT)
                case "kill":
                    self.postgres.signal(signal.SIGKILL)
                case "kill a backend":
                    self.postgres.kill_a_backend()
        else:
            program = self.programs[fault.target]
            match fault.kind:
                case "kill":
                    program.kill()
                case "freeze":
                    program.signal(signal.SIGSTOP)
                case "host dies":
                    program.kill_host()

    def _mend(self, fault: Fault) -> None:
        if fault.target in self.wires:
            self.wires[fault.target].passes()
        elif fault.target == "postgres":
            self.postgres.start()
        elif fault.kind == "freeze":
            self.programs[fault.target].signal(signal.SIGCONT)
        else:
            self.programs[fault.target].start()

    async def _recovered(self, target: str, mended: datetime) -> None:
        """An agent was heard again; or the server answers from its database."""
        agent = self.behind.get(target, target if target.startswith("agent") else None)
        while True:
            await trio.sleep(LOOK)
            if agent is None:
                if await self.user.ask("GET", "/workspaces", params={"limit": 1}) is not None:
                    return
                continue
            found = await self.user.ask("GET", "/agents", params={"limit": 50})
            for each in () if found is None else found["items"]:
                heard = each["last_seen_at"] if each["name"] == named(agent) else None
                if heard is not None and datetime.fromisoformat(heard) > mended:
                    return


async def _until_it_applies(program: Program) -> None:
    """A host that dies while an apply runs on it is the worst; but it dies in any case."""
    with trio.move_on_after(APPLIES_WITHIN):
        while not program.applies():  # noqa: ASYNC110 - another process does
            await trio.sleep(LOOK)


def named(agent: str) -> str:
    """What an agent calls itself."""
    return agent.replace(" ", "-")


def _cut(wire: ChaosProxy, fault: Fault) -> None:
    match fault.kind:
        case "black hole":
            wire.blackhole()
        case "up is lost":
            wire.up.blackhole()
        case "down is lost":
            wire.down.blackhole()
        case "reset":
            wire.reset()
        case "connections are forgotten":
            wire.forget()
        case "slow link":
            wire.up.rate(SLOW)
            wire.down.rate(SLOW)
        case "delay":
            wire.up.delay(0.4)
            wire.down.delay(0.4)
        case "answers are cut off":
            wire.cut_answer("/api/v1/agents", times=20)
        case "requests come twice":
            wire.duplicate("/api/v1/agents", times=20)
