"""The worker, the canceller and the local runner: slots, bulkheads, drain. No real I/O, so time is virtual."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from iac.actors.canceller import CancelTask, canceller
from iac.actors.local_runner import QUEUED_ORDERS, LocalRunner
from iac.actors.running import Running
from iac.actors.worker import Execute, worker
from iac.domain.messages import Wanted
from iac.domain.records import LOCAL, Task
from iac.domain.work import RunTask
from tests.actors.orders import order
from tests.fakes.memory_accessor import new_task

CANCEL = Wanted(task_id=1, fence=1, cancel_id="can-1")
FORCE = replace(CANCEL, force=True)


@dataclass
class Executor:
    """Runs each order for so many virtual seconds, and takes `winding` more to stop."""

    seconds: float = 10.0
    winding: float = 0.0
    began: list[tuple[float, int]] = field(default_factory=list)
    ended: list[tuple[float, int, str]] = field(default_factory=list)

    async def __call__(self, run: RunTask, hurry: trio.Event) -> None:
        self.began.append((trio.current_time(), run.fence))
        try:
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            with trio.move_on_after(self.winding, shield=True):
                await hurry.wait()
            self.ended.append((trio.current_time(), run.fence, "cancelled"))
            raise
        self.ended.append((trio.current_time(), run.fence, "done"))


@asynccontextmanager
async def local(execute: Execute) -> AsyncIterator[tuple[LocalRunner, trio.MemoryReceiveChannel[None]]]:
    runner = LocalRunner(plan_limit=2)
    wakes, woken = trio.open_memory_channel[None](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run, execute, wakes)
        await trio.testing.wait_all_tasks_blocked()
        yield runner, woken
        nursery.cancel_scope.cancel()


async def test_orders_run_side_by_side_and_free_their_seat(autojump_clock: trio.testing.MockClock) -> None:
    execute = Executor()
    async with local(execute) as (runner, woken):
        assert runner.deliver(order(1))
        assert runner.deliver(order(2))
        await trio.sleep(5)
        assert runner.running.fences == {1, 2}
        await woken.receive()

        assert trio.current_time() == 10
        await trio.sleep(1)
        assert runner.running.fences == frozenset()
    assert sorted(fence for _, fence, _ in execute.ended) == [1, 2]


async def test_the_same_order_twice_runs_once(autojump_clock: trio.testing.MockClock) -> None:
    execute = Executor()
    async with local(execute) as (runner, _):
        runner.deliver(order(1))
        runner.deliver(order(1))
        await trio.sleep(20)

    assert [fence for _, fence in execute.began] == [1]


async def test_a_cancelled_order_winds_down_and_the_others_go_on(autojump_clock: trio.testing.MockClock) -> None:
    execute = Executor(winding=3)
    async with local(execute) as (runner, _):
        runner.deliver(order(1))
        runner.deliver(order(2))
        await trio.sleep(5)
        runner.cancel(CANCEL)
        await trio.sleep(20)

    assert execute.ended == [(8, 1, "cancelled"), (10, 2, "done")]


async def test_force_shortens_the_wind_down(autojump_clock: trio.testing.MockClock) -> None:
    execute = Executor(winding=100)
    async with local(execute) as (runner, _):
        runner.deliver(order(1))
        await trio.sleep(1)
        runner.cancel(CANCEL)
        await trio.sleep(1)
        runner.cancel(FORCE)
        await trio.sleep(1)

    assert execute.ended == [(2, 1, "cancelled")]


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_cancel_works_on_either_side_of_its_order(
    autojump_clock: trio.testing.MockClock, cancel_first: bool
) -> None:
    execute = Executor()
    async with local(execute) as (runner, _):
        if cancel_first:
            runner.cancel(CANCEL)
            await trio.testing.wait_all_tasks_blocked()
        runner.deliver(order(1))
        if not cancel_first:
            runner.cancel(CANCEL)
        await trio.sleep(1)

    assert [(at, how) for at, _, how in execute.ended] == [(0, "cancelled")]


async def test_a_bug_in_one_task_leaves_the_others_alone(autojump_clock: trio.testing.MockClock) -> None:
    execute = Executor()
    ended: list[RunTask] = []

    async def sometimes(run: RunTask, hurry: trio.Event) -> None:
        if run.fence == 1:
            raise KeyError("a bug")
        await execute(run, hurry)

    to_worker, orders = trio.open_memory_channel[RunTask](10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker, orders, Running(), sometimes, ended.append)
        for fence in (1, 2):
            to_worker.send_nowait(order(fence))
        to_worker.close()

    assert [run.fence for run in ended] == [1, 2]
    assert execute.ended == [(10, 2, "done")]


async def test_a_drain_takes_nothing_new_and_waits_for_the_rest(autojump_clock: trio.testing.MockClock) -> None:
    execute = Executor()
    async with local(execute) as (runner, _):
        runner.deliver(order(1))
        await trio.sleep(1)
        runner.drain()

        assert not runner.deliver(order(2))
        assert not runner.ended.is_set()
        await runner.ended.wait()
        assert trio.current_time() == 10
    assert [fence for _, fence in execute.began] == [1]


async def test_an_order_that_was_delivered_before_the_drain_still_runs(autojump_clock: trio.testing.MockClock) -> None:
    execute = Executor()
    async with local(execute) as (runner, _):
        runner.deliver(order(1))
        runner.drain()
        await runner.ended.wait()

    assert execute.ended == [(10, 1, "done")]


async def test_a_cancel_during_the_drain_still_works(autojump_clock: trio.testing.MockClock) -> None:
    execute = Executor()
    async with local(execute) as (runner, _):
        runner.deliver(order(1))
        await trio.sleep(1)
        runner.drain()
        runner.cancel(CANCEL)
        await runner.ended.wait()

    assert execute.ended == [(1, 1, "cancelled")]


async def test_an_idle_runner_drains_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with local(Executor()) as (runner, _):
        runner.drain()
        with trio.fail_after(1):
            await runner.ended.wait()


def test_a_runner_that_is_full_takes_no_more() -> None:
    runner = LocalRunner(plan_limit=2)

    taken = [runner.deliver(order(fence)) for fence in range(QUEUED_ORDERS + 1)]

    assert taken == [True] * QUEUED_ORDERS + [False]


def test_its_slots_are_counted_from_the_rows() -> None:
    runner = LocalRunner(plan_limit=3)
    held = {"agent_id": LOCAL, "status": "running"}
    tasks = [
        changed(1, **held), changed(2, **held, phase="apply"), changed(3, **held | {"status": "lost"}),
        changed(4, **held | {"agent_id": "agent-1"}), changed(5, **held | {"status": "assigned"}),
    ]  # fmt: skip

    [shown] = runner.as_runner(tasks)

    assert (set(shown.plans), set(shown.applies), shown.plan_limit, shown.draining) == ({1, 5}, {2}, 3, False)
    assert LocalRunner(plan_limit=3, enabled=False).as_runner(tasks) == []


def changed(task_id: int, **facts: object) -> Task:
    return replace(new_task(task_id, "plan"), **facts)


async def test_the_canceller_ends_when_its_orders_end() -> None:
    running = Running()
    seat = running.admit(order(1))
    assert seat is not None
    to_canceller, orders = trio.open_memory_channel[CancelTask](1)
    to_canceller.send_nowait(CancelTask(task_id=1, fence=1))
    to_canceller.close()

    with trio.fail_after(60):
        await canceller(orders, running)

    assert seat.scope.cancel_called
