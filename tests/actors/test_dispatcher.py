"""Handing out, and putting right what no event would: on the real store."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from iac.actors.dispatcher import Dispatcher
from iac.actors.local_runner import LocalRunner
from iac.domain import reconciling
from iac.domain.lifecycle import Cancel
from iac.domain.records import Task
from iac.domain.work import RunTask
from iac.errors import NotFound, Unavailable
from iac.executor.accessor_local import Changes, LocalDataAccessor
from iac.store import creation, tasks, workspaces
from iac.store.creation import NewTask
from iac.store.database import Database
from iac.store.log_cache import LogCache
from iac.store.sealing import Keyring
from tests.contract.platforms import StorePlatform
from tests.contract.test_accessor_contract import planned


@dataclass
class Office:
    """A dispatcher with a runner that nobody works for: orders stay in the channel."""

    platform: StorePlatform
    local: LocalRunner = field(default_factory=lambda: LocalRunner(plan_limit=2))
    changed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher(self.platform.database, self.local, self.changed.append)

    async def create(self, action: str = "plan") -> int:
        asked = NewTask(action=action)  # type: ignore[arg-type]
        create = creation.create
        database, keyring = self.platform.database, self.platform.keyring
        return (await database.tx(create, keyring, self.platform.workspace, asked, by="test")).id

    async def status(self, task_id: int) -> str:
        return (await self.platform.task(task_id)).status

    def delivered(self) -> list[RunTask]:
        orders = []
        while True:
            try:
                orders.append(self.local._to_worker.receive_nowait())
            except trio.WouldBlock:
                return orders

    async def cancel(self, task_id: int) -> None:
        event = Cancel(cancel_id="can-1", reason="user", by="test")
        await self.platform.database.tx(tasks.move, task_id, event)


@pytest.fixture
async def office(database: Database, tmp_path: Path) -> Office:
    keyring = Keyring("a-key-for-the-tests")
    heard = Changes(task=lambda _: None, log=lambda _: None)
    log_cache = LogCache(database, tmp_path / "logs")
    platform = StorePlatform(database, keyring, LocalDataAccessor(database, keyring, heard, log_cache), log_cache)
    await platform.prepare()
    return Office(platform)


async def test_a_look_hands_out_what_can_run_and_says_why_the_rest_waits(office: Office) -> None:
    first, second, third = [await office.create() for _ in range(3)]

    await office.dispatcher.look()

    orders = office.delivered()
    assert [order.task_id for order in orders] == [first, second]
    assert [await office.status(task) for task in (first, second, third)] == ["assigned", "assigned", "queued"]
    assert set(office.changed) == {first, second}
    wait = office.dispatcher.wait_of(await office.platform.task(third))
    assert wait is not None
    assert (wait.code, wait.position) == ("no_free_slot", 1)
    assert len({order.fence for order in orders}) == 2


async def test_a_task_that_waits_for_its_workspace_says_who_holds_it(office: Office) -> None:
    database, workspace = office.platform.database, office.platform.workspace
    await database.tx(workspaces.lock_for_user, workspace, user="ann", reason="moving house")
    task = await office.create("plan_and_apply")

    await office.dispatcher.look()

    wait = office.dispatcher.wait_of(await office.platform.task(task))
    assert wait is not None
    assert wait.code == "workspace_locked"
    assert "ann" in wait.message
    assert "moving house" in wait.message


async def test_an_order_that_nobody_takes_goes_back_to_the_line(office: Office) -> None:
    task = await office.create()
    office.local._orders.close()

    await office.dispatcher.look()

    held = await office.platform.task(task)
    assert (held.status, held.attempt, held.agent_id) == ("queued", 0, None)


async def test_an_assignment_whose_answer_was_lost_is_handed_out_anew(office: Office) -> None:
    order = await office.platform.order("plan")  # assigned in the database; no order ever came to the worker

    await office.dispatcher.look()
    assert await office.status(order.task_id) == "assigned", "it may just be on its way"
    await office.dispatcher.look()

    assert await office.status(order.task_id) == "queued"
    await office.dispatcher.look()
    [again] = office.delivered()
    assert (again.task_id, again.fence > order.fence) == (order.task_id, True)


async def test_a_plan_that_nobody_runs_any_more_is_tried_again_and_then_has_failed(office: Office) -> None:
    order = await office.platform.order("plan")
    for fate in ("queued", "failed"):
        await office.platform.accessor.get_task_data(order)

        await office.dispatcher.look()
        assert await office.status(order.task_id) == "running", "it may just have ended"
        await office.dispatcher.look()

        task = await office.platform.task(order.task_id)
        assert (task.status, task.reason) == (fate, "runner_lost")
        if fate == "queued":
            await office.dispatcher.look()
            [order] = office.delivered()
            assert order.attempt == 2


async def test_a_task_that_nobody_called_when_its_workspace_became_free_is_called(office: Office) -> None:
    held = await office.platform.database.tx(
        workspaces.lock_for_user, office.platform.workspace, user="ann", reason="freeze"
    )
    task = await office.create("plan_and_apply")
    await office.dispatcher.look()
    shown = office.dispatcher.wait_of(await office.platform.task(task))
    assert shown is not None
    assert (shown.code, shown.actions) == ("workspace_locked", ("unlock",))
    # Released, and whoever released it died before it could call the next one.
    await office.platform.database.tx(workspaces.unlock_for_user, held.id, user="ann", token=None, force=True)

    await office.dispatcher.look()

    assert await office.status(task) == "queued"


async def test_an_apply_that_nobody_runs_any_more_is_lost_and_keeps_the_lock(office: Office) -> None:
    order = await office.platform.confirm(await planned(office.platform))
    await office.platform.accessor.get_task_data(order)

    await office.dispatcher.look()
    await office.dispatcher.look()

    task = await office.platform.task(order.task_id)
    assert (task.status, task.reason) == ("lost", "runner_lost")
    held = await office.platform.database.tx(workspaces.get, office.platform.workspace)
    assert held.lock is not None
    assert "not known" in held.lock.reason
    assert held.state_uncertain


@pytest.mark.parametrize("status", ["assigned", "running"])
async def test_a_task_that_runs_here_is_left_alone(office: Office, status: str) -> None:
    order = await office.platform.order("plan")
    if status == "running":
        await office.platform.accessor.get_task_data(order)
    office.local.running.admit(order)

    for _ in range(3):
        await office.dispatcher.look()

    assert await office.status(order.task_id) == status


async def test_a_cancellation_that_the_runner_was_not_told_of_reaches_it(office: Office) -> None:
    """The answer to its COMMIT was lost, and with it the only one who knew."""
    order = await office.platform.order("plan")
    await office.platform.accessor.get_task_data(order)
    office.local.running.admit(order)
    await office.cancel(order.task_id)

    await office.dispatcher.look()

    told = office.local._to_canceller.receive_nowait()
    assert (told.fence, told.force) == (order.fence, False)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), Unavailable("away")])
async def test_a_look_that_breaks_is_not_the_end_of_the_dispatcher(
    office: Office, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    read, looks = office.platform.database.read, 0

    async def breaks_once(*args: object) -> object:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise error
        return await read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(office.platform.database, "read", breaks_once)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.dispatcher.run)
        await office.dispatcher.settled(within=10)
        office.dispatcher.wake()
        await office.dispatcher.settled(within=10)
        assert looks == 2
        nursery.cancel_scope.cancel()


async def test_a_task_that_waited_for_too_long_has_failed(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.local.draining = True
    task = await office.create()
    monkeypatch.setattr(reconciling, "QUEUE_TIMEOUT", timedelta(0))

    await office.dispatcher.look()

    held = await office.platform.task(task)
    assert (held.status, held.reason) == ("failed", "queue_timeout")


@pytest.mark.parametrize("case", ["timed out", "missing", "refused"])
async def test_a_task_that_is_cancelled_under_its_hands_does_not_disturb_the_dispatcher(
    office: Office, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    if case == "missing":
        order = await office.platform.order("plan")
        task = order.task_id
        await office.dispatcher.look()
    else:
        task = await office.create()
    other = await office.create()
    rows = await office.platform.database.tx(tasks.waiting_and_running)
    await office.cancel(task)

    async def stale(_: object) -> tuple[list[Task], datetime]:
        return rows

    monkeypatch.setattr(tasks, "waiting_and_running", stale)
    if case == "timed out":
        monkeypatch.setattr(reconciling, "QUEUE_TIMEOUT", timedelta(0))

    await office.dispatcher.look()

    assert await office.status(task) == "cancelled"
    assert await office.status(other) == ("failed" if case == "timed out" else "assigned")


@pytest.mark.parametrize("error", [Unavailable("away"), NotFound("gone")])
async def test_a_look_that_fails_is_not_the_last_one(
    office: Office, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    look, failures = office.dispatcher.look, 2

    async def failing() -> None:
        nonlocal failures
        if failures:
            failures -= 1
            office.dispatcher.wake()
            raise error
        await look()

    monkeypatch.setattr(office.dispatcher, "look", failing)
    task = await office.create()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.dispatcher.run)
        with trio.fail_after(60):
            while await office.status(task) != "assigned":  # noqa: ASYNC110
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_any_number_of_wakes_is_one_look(office: Office) -> None:
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1

    office.dispatcher.look = look  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.dispatcher.run)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(100):
            office.dispatcher.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert looks <= 3, "the one that is under way, one that heard the first wake, and one for all the others"
        nursery.cancel_scope.cancel()
