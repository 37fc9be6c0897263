"""How tasks are ended when their host wants the agent to go, on a mock clock."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from iac.actors.agent_desk import Desk, Parts
from iac.actors.canceller import canceller
from iac.actors.connection import Line
from iac.actors.departure import stop_slowly
from iac.actors.heartbeat import Pulse, Wake
from iac.actors.host import Host
from iac.actors.patience import AgentTimes, Complaints, Retries
from iac.actors.running import Running, Seat
from iac.actors.spool_room import SpoolRoom
from iac.domain.agent_state import AgentState
from iac.domain.ending import AFTER_HURRY, AFTERWARDS
from iac.domain.messages import RunTaskOrder
from iac.domain.records import Phase
from iac.errors import Unavailable
from iac.executor.log_spool import Pace


class Bench:
    """A desk with a plan and an apply that never end by themselves."""

    def __init__(self, tmp_path: Path) -> None:
        self.running = Running()
        parts = Parts(
            state=AgentState(plan_limit=3),
            line=Line(),
            pulse=Pulse(),
            wake=Wake(),
            running=self.running,
            host=Host(tmp_path),
            room=SpoolRoom(tmp_path / "tasks", 2**31),
            pace=Pace(),
            clock=lambda: 0.0,
        )
        self.desk = Desk(parts, "boot")
        self.plan, self.apply = self._seat(1, "plan"), self._seat(2, "apply")
        self.hurry = trio.Event()

    def _seat(self, number: int, action: Phase) -> Seat:
        self.desk.hear(
            RunTaskOrder(
                task_id=number,
                workspace_id="ws-a",
                action=action,
                assignment_id=f"asg-{number}",
                fence=number,
                attempt=1,
                task_token="t",
            )
        )
        seat = self.running.admit(self.desk.orders.receive_nowait())
        assert seat is not None
        return seat

    async def leave(self, within: float) -> float:
        """The seconds until even the last budget is over."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(canceller, self.desk.cancellations, self.running)
            await stop_slowly(self.desk, within, self.hurry)
            nursery.cancel_scope.cancel()
        return trio.current_time() - began


async def test_applies_are_asked_before_plans_and_in_the_end_all_are_hurried(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench, seen = Bench(tmp_path), dict[str, float]()

    async def watch() -> None:
        began = trio.current_time()
        for at in (179, 181, 254, 256, 289, 291):
            await trio.sleep_until(began + at)
            state = [bench.apply.scope.cancel_called, bench.plan.scope.cancel_called, bench.plan.hurry.is_set()]
            seen[str(at)] = sum(state)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        assert await bench.leave(300) == 300 + AFTERWARDS
    assert list(seen.values()) == [0, 1, 1, 2, 2, 3]
    assert bench.apply.hurry.is_set()
    with pytest.raises(trio.EndOfChannel):
        bench.desk.orders.receive_nowait()


async def test_a_hurry_stops_everything_at_once(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    bench = Bench(tmp_path)
    async with trio.open_nursery() as nursery:

        async def impatient() -> None:
            await trio.sleep(10)
            bench.hurry.set()

        nursery.start_soon(impatient)
        assert await bench.leave(300) == 10 + AFTER_HURRY
    assert bench.apply.hurry.is_set()
    assert bench.plan.hurry.is_set()


def test_waits_are_spread_from_the_first_on_and_have_a_limit() -> None:
    firsts = [Retries(30.0).next() for _ in range(200)]
    assert 0 <= min(firsts) < 0.2
    assert 0.8 < max(firsts) <= 1
    retries = Retries(30.0)
    waits = [retries.next() for _ in range(2000)]
    assert max(waits) <= 30
    assert max(waits[20:]) > 25
    assert min(waits[20:]) < 5
    retries.restart()
    assert retries.next() <= 1


async def test_a_trouble_is_told_when_it_begins_when_it_changes_and_once_in_a_while(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    complaints = Complaints("no luck", 60.0)
    tell = partial(complaints.tell, Unavailable("away"))
    for _ in range(10):
        tell()
        await trio.sleep(10)
    assert len(caplog.records) == 2
    complaints.tell(Unavailable("worse"))
    complaints.over()
    complaints.tell(Unavailable("worse"))
    assert len(caplog.records) == 4


def test_all_times_can_be_scaled_for_tests() -> None:
    assert AgentTimes().scaled(0.1).conflict_for == pytest.approx(24.0)
