"""What is collected before a plan is tried again, and what is collected while the server lives on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trio

from iac.actors import recovery
from iac.actors.recovery import give_up_what_was_running, left_behind
from iac.domain.lifecycle import Lose
from iac.domain.reconciling import CUT_OFF, NOT_REPORTED, RUNNER_LOST
from iac.errors import Conflict, Unavailable
from iac.executor import workdir
from iac.store import tasks
from iac.store.database import Database
from tests.actors.crashed import Crashed
from tests.actors.test_recovery import ended
from tests.contract.test_accessor_contract import state


@pytest.fixture
async def crashed(database: Database, tmp_path: Path) -> Crashed:
    return await Crashed.prepare(database, tmp_path / "tasks")


async def test_a_plan_that_is_being_collected_is_not_handed_out_before_that(crashed: Crashed) -> None:
    order, place = await crashed.running_plan()
    await crashed.log_so_far(order, place, b"planning\nhalf a li")
    left = left_behind(crashed.tasks)
    crashed.salvage.hold(left)

    assert await give_up_what_was_running(crashed.platform.database, crashed.running.fences) == []
    process = crashed.process(place)
    await crashed.salvage.collect(left)

    assert await ended(process) == -9
    task = await crashed.platform.task(order.task_id)
    assert (task.status, task.attempt, task.reason) == ("queued", 1, "server_restarted")
    assert await crashed.log(order) == f"planning\nhalf a li\n[iac] {CUT_OFF}\n"
    assert (await crashed.platform.log(order))[1] == "complete"
    assert crashed.running.fences == frozenset()
    assert left_behind(crashed.tasks) == []


async def test_a_plan_whose_rest_cannot_be_collected_is_tried_again_all_the_same(crashed: Crashed) -> None:
    order, place = await crashed.running_plan()
    place.masked.write_bytes(b"{")
    left = left_behind(crashed.tasks)
    crashed.salvage.hold(left)

    await crashed.salvage.collect(left)

    assert (await crashed.platform.task(order.task_id)).status == "queued"
    assert crashed.running.fences == frozenset()


async def test_what_was_given_up_in_this_life_is_collected_without_a_restart(crashed: Crashed) -> None:
    """The executor of an apply could not report for longer than it tries: the database was away."""
    order, place = await crashed.running_apply()
    await crashed.log_so_far(order, place, b'creating\n{"@level":"info","@message":"cut')
    workdir.write_file(place.state, state(1))
    workdir.write_file(place.root / "ended.json", b'{"number":2,"label":"apply","exit_code":0}')

    await crashed.salvage.look()
    assert (await crashed.platform.task(order.task_id)).status == "running", "somebody may be at it"
    event = Lose(fence=order.fence, reason=RUNNER_LOST, detail=NOT_REPORTED)
    await crashed.platform.database.tx(tasks.move, order.task_id, event)
    await crashed.salvage.look()

    task = await crashed.platform.task(order.task_id)
    assert (task.status, task.outcome) == ("succeeded", "applied")
    assert await crashed.platform.states() == [("current", 1, state(1))]
    assert (await crashed.platform.log(order))[1] == "complete"
    assert left_behind(crashed.tasks) == []


async def test_a_look_that_breaks_is_not_the_last_one(crashed: Crashed, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, enough = 0, trio.Event()

    def breaks(_: object) -> list[object]:
        nonlocal looks
        looks += 1
        if looks == 2:
            trio.from_thread.run_sync(enough.set)
        raise OSError("no descriptors")

    monkeypatch.setattr(recovery, "left_behind", breaks)
    patient = dataclasses.replace(crashed.salvage, again=0.01)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(patient.run, [])
            await enough.wait()
            nursery.cancel_scope.cancel()


async def test_a_directory_that_cannot_be_collected_now_is_looked_at_again_only_if_that_may_help(
    crashed: Crashed, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, place = await crashed.running_apply()
    await give_up_what_was_running(crashed.platform.database)
    tried: list[object] = []
    answers = [Unavailable("away"), Conflict("never")]

    async def answer(_: object) -> None:
        tried.append(_)
        raise answers[len(tried) - 1]

    monkeypatch.setattr(type(crashed.salvage.accessor), "get_left_behind", lambda _self, order: answer(order))
    for _ in range(4):
        await crashed.salvage.look()

    assert len(tried) == 2
    assert place.root.exists()
    assert order.fence not in crashed.running.fences
