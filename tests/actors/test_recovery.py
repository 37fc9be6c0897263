"""After a kill every task has a stated fate, and what is on the disk comes home: log, state, nothing twice."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from iac.actors.dispatcher import order_of
from iac.actors.recovery import give_up_what_was_running, left_behind
from iac.domain.reconciling import CUT_OFF
from iac.domain.records import LOCAL
from iac.domain.work import RunTask
from iac.executor import workdir
from iac.store import tasks, workspaces
from iac.store.database import Database
from tests.actors.crashed import Crashed
from tests.contract.platforms import SECRET
from tests.contract.test_accessor_contract import planned, result, state
from tests.contract.test_accessor_streams import push


@pytest.fixture
async def crashed(database: Database, tmp_path: Path) -> Crashed:
    return await Crashed.prepare(database, tmp_path / "tasks")


# The fates


async def test_what_was_assigned_is_queued_again(crashed: Crashed) -> None:
    order = await crashed.platform.order("plan")

    [changed] = await give_up_what_was_running(crashed.platform.database)

    assert (changed.id, changed.status, changed.attempt) == (order.task_id, "queued", 0)


async def test_a_plan_that_was_running_is_tried_once_more_and_says_why(crashed: Crashed) -> None:
    order, _ = await crashed.running_plan()
    for fate in ("queued", "failed"):
        if fate == "failed":
            order = await again(crashed, order)

        await give_up_what_was_running(crashed.platform.database)

        task = await crashed.platform.task(order.task_id)
        assert (task.status, task.reason, task.detail) == (fate, "server_restarted", CUT_OFF)


async def again(crashed: Crashed, order: RunTask) -> RunTask:
    """The next attempt, claimed."""
    task = await crashed.platform.database.tx(
        partial(tasks.assign, agent_id=LOCAL, assignment_id="asg-2"), order.task_id
    )
    following = order_of(task)
    await crashed.platform.accessor.get_task_data(following)
    return following


async def test_a_plan_that_was_being_cancelled_is_cancelled(crashed: Crashed) -> None:
    order, _ = await crashed.running_plan()
    await crashed.platform.cancel(order.task_id)

    await give_up_what_was_running(crashed.platform.database)

    task = await crashed.platform.task(order.task_id)
    assert (task.status, task.reason) == ("cancelled", "user")


@pytest.mark.parametrize("cancelling", [False, True])
async def test_an_apply_that_was_running_is_lost_and_the_lock_says_why(crashed: Crashed, cancelling: bool) -> None:
    order, _ = await crashed.running_apply()
    if cancelling:
        await crashed.platform.cancel(order.task_id)

    await give_up_what_was_running(crashed.platform.database)

    task = await crashed.platform.task(order.task_id)
    held = await crashed.platform.database.tx(workspaces.get, crashed.platform.workspace)
    assert (task.status, task.reason) == ("lost", "server_restarted")
    assert held.lock is not None
    assert (held.lock.owner, held.state_uncertain) == (str(order.task_id), True)
    assert CUT_OFF in held.lock.reason


async def test_what_rested_is_left_as_it_is(crashed: Crashed) -> None:
    waiting = await planned(crashed.platform)
    over = await crashed.platform.order("plan")
    await crashed.platform.accessor.get_task_data(over)
    await crashed.platform.accessor.update_task(over, result(over, "failed"))

    assert await give_up_what_was_running(crashed.platform.database) == []

    assert (await crashed.platform.task(waiting.task_id)).status == "planned"


# The directories


async def test_a_directory_that_was_never_used_is_removed(crashed: Crashed) -> None:
    (crashed.tasks / "1-2" / "config").mkdir(parents=True)
    (crashed.tasks / "1-2" / "assignment.json").write_bytes(b"")

    await crashed.collect()

    assert left_behind(crashed.tasks) == []


async def test_a_directory_that_lost_its_order_but_was_used_is_kept(crashed: Crashed) -> None:
    _, place = await crashed.running_apply()
    workdir.write_file(place.raw_log, b"applying\n")
    workdir.write_file(place.state, state(1))
    place.assignment.write_bytes(b"")

    await crashed.collect()

    assert place.state.read_bytes() == state(1)


async def test_the_directory_of_a_task_that_is_gone_is_removed_with_its_processes(crashed: Crashed) -> None:
    order, place = await crashed.running_plan()
    process = crashed.process(place)
    await crashed.platform.accessor.update_task(order, result(order, "failed"))
    await crashed.platform.database.tx(workspaces.delete, crashed.platform.workspace, force=True, by="test")

    await crashed.collect()

    assert await ended(process) == -9
    assert left_behind(crashed.tasks) == []


async def test_a_plan_that_was_cut_off_is_stopped_and_its_log_is_whole(crashed: Crashed) -> None:
    order, place = await crashed.running_plan()
    raw = f"planning with {SECRET.value}\nhalf a li".encode()
    await crashed.log_so_far(order, place, raw)
    process = crashed.process(place, "import signal; print('up', flush=True); signal.pause()")
    await give_up_what_was_running(crashed.platform.database)

    await crashed.collect()

    assert await ended(process) == -9
    assert await crashed.log(order) == f"planning with ***\nhalf a li\n[iac] {CUT_OFF}\n"
    assert (await crashed.platform.log(order))[1] == "complete"
    assert left_behind(crashed.tasks) == []


async def test_an_apply_that_goes_on_is_waited_for_then_log_and_state_come_home(crashed: Crashed) -> None:
    order, place = await crashed.running_apply()
    await crashed.log_so_far(order, place, b'creating\n{"@level":"info","@message":"cut')
    process = crashed.process(place)
    await give_up_what_was_running(crashed.platform.database)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crashed.collect)
        await admitted(crashed, order.fence)
        assert process.poll() is None
        assert await crashed.log(order) == "creating\n"
        with place.raw_log.open("ab") as raw:
            raw.write(f' off","type":"log"}}\nand {SECRET.value}\n'.encode())
        workdir.write_file(place.state, state(1))
        process.terminate()
        assert await ended(process) == 0

    assert (await crashed.log(order)).startswith(f"creating\ncut off\nand ***\n[iac] {CUT_OFF}\n")
    assert (await crashed.log(order)).count("[iac]") == 2
    assert await crashed.platform.states() == [("current", 1, state(1))]
    task = await crashed.platform.task(order.task_id)
    assert task.status == "lost"
    assert task.detail == f"{CUT_OFF} Afterwards state 1 was stored (current). Check it, then resolve the task."
    assert left_behind(crashed.tasks) == []


async def test_a_cancel_reaches_a_terraform_that_outlived_its_server(crashed: Crashed) -> None:
    order, place = await crashed.running_apply()
    process = crashed.process(place)
    await give_up_what_was_running(crashed.platform.database)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crashed.collect)
        await admitted(crashed, order.fence)
        crashed.running.cancel(order.fence, force=False)

    assert await ended(process) == 0, "it had the time to end by itself"
    assert left_behind(crashed.tasks) == []


async def test_force_reaches_it_too_while_it_is_given_time(crashed: Crashed) -> None:
    order, place = await crashed.running_apply()
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    process = crashed.process(place, deaf)
    await give_up_what_was_running(crashed.platform.database)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crashed.collect)
        await admitted(crashed, order.fence)
        crashed.running.cancel(order.fence, force=False)
        await trio.testing.wait_all_tasks_blocked()
        crashed.running.cancel(order.fence, force=True)
        with trio.fail_after(60):
            assert await ended(process) == -9


async def test_a_recovery_that_is_interrupted_is_finished_by_the_next_start(crashed: Crashed) -> None:
    order, place = await crashed.running_apply()
    await crashed.log_so_far(order, place, b'creating\n{"@level":"info","@message":"cut')
    process = crashed.process(place)
    await give_up_what_was_running(crashed.platform.database)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crashed.collect)
        await admitted(crashed, order.fence)
        nursery.cancel_scope.cancel()
    assert process.poll() is None, "the end of a server is not the end of an apply"
    assert await crashed.log(order) == "creating\n"

    with place.raw_log.open("ab") as raw:
        raw.write(b' off","type":"log"}\n')
    workdir.write_file(place.state, state(1))
    process.terminate()
    assert await ended(process) == 0
    await crashed.collect()

    assert (await crashed.log(order)).startswith(f"creating\ncut off\n[iac] {CUT_OFF}\n")
    assert (await crashed.platform.log(order))[1] == "complete"
    assert await crashed.platform.states() == [("current", 1, state(1))]


async def test_a_secret_output_that_the_apply_changed_is_still_masked_as_before(crashed: Crashed) -> None:
    old, new = (
        state(serial).replace(
            b'"outputs": {}', b'"outputs": {"o": {"value": "%s", "type": "string", "sensitive": true}}' % value
        )
        for serial, value in ((1, b"the-old-secret"), (2, b"the-new-secret"))
    )
    await crashed.platform.upload_state(old)
    order = await crashed.platform.confirm(await planned(crashed.platform))
    data = await crashed.platform.accessor.get_task_data(order)
    assert "the-old-secret" in data.sensitive_values
    place = workdir.create(crashed.tasks, order, data.sensitive_values)
    workdir.write_file(place.plan, b"the plan")
    raw = b"was the-old-secret\n" * 3
    workdir.write_file(place.raw_log, raw)
    await crashed.platform.accessor.save_task_log(order, 0, b"was ***\n")
    workdir.write_file(place.state, new)
    await give_up_what_was_running(crashed.platform.database)
    # The first recovery stored the state, and died before the log.
    await crashed.platform.accessor.save_state_version(order, push(new))

    await crashed.collect()

    log = await crashed.log(order)
    assert "the-old-secret" not in log
    assert log.startswith("was ***\nwas ***\nwas ***\n[iac]")


@pytest.mark.parametrize("cancelling", [False, True])
async def test_an_apply_that_never_came_to_its_plan_was_never_begun_and_is_over(
    crashed: Crashed, cancelling: bool
) -> None:
    await crashed.platform.upload_state(state(5))
    order, place = await crashed.running_apply()
    place.plan.unlink()
    workdir.write_file(place.state, state(5)[:20])  # it was being written
    if cancelling:
        await crashed.platform.cancel(order.task_id)
    await give_up_what_was_running(crashed.platform.database)

    await crashed.collect()

    task = await crashed.platform.task(order.task_id)
    ended = ("cancelled", "user") if cancelling else ("failed", "never_started")
    assert (task.status, task.reason) == ended
    assert "nothing was changed" in (task.detail or "")
    held = await crashed.platform.database.tx(workspaces.get, crashed.platform.workspace)
    assert held.lock is None
    assert [verdict for verdict, _, _ in await crashed.platform.states()] == ["current"]
    assert left_behind(crashed.tasks) == []


async def test_a_state_that_cannot_be_read_stays_where_it_is_and_the_task_says_where(crashed: Crashed) -> None:
    order, place = await crashed.running_apply()
    workdir.write_file(place.state, b"{")
    await give_up_what_was_running(crashed.platform.database)

    await crashed.collect()

    task = await crashed.platform.task(order.task_id)
    assert str(place.root) in (task.detail or "")
    assert place.state.read_bytes() == b"{"


async def test_a_task_that_had_ended_keeps_its_own_words(crashed: Crashed) -> None:
    order, place = await crashed.running_plan()
    await crashed.log_so_far(order, place, b"all of it\n")
    reported = result(order, "failed", reason="plan_failed", detail="the log says why")
    await crashed.platform.accessor.update_task(order, msgspec.structs.replace(reported, log=None))

    await crashed.collect()

    task = await crashed.platform.task(order.task_id)
    assert (task.reason, task.detail) == ("plan_failed", "the log says why")
    assert CUT_OFF not in await crashed.log(order)
    assert left_behind(crashed.tasks) == []


async def test_a_state_that_was_missing_is_stored_although_the_log_is_closed(crashed: Crashed) -> None:
    order, place = await crashed.running_apply()
    await crashed.log_so_far(order, place, b"all of it\n")
    unsafe = result(order, "succeeded", log=b"all of it\n", state_safe=False)
    await crashed.platform.accessor.update_task(order, unsafe)
    workdir.write_file(place.state, state(1))

    await crashed.collect()

    task = await crashed.platform.task(order.task_id)
    assert (task.status, task.detail) == (
        "lost", "Afterwards state 1 was stored (current). Check it, then resolve the task."
    )  # fmt: skip
    assert await crashed.platform.log(order) == (b"all of it\n", "complete")
    assert left_behind(crashed.tasks) == []


async def test_a_recovery_holds_no_seat_for_what_does_not_run(crashed: Crashed) -> None:
    await crashed.running_plan()
    await crashed.running_apply()
    await give_up_what_was_running(crashed.platform.database)

    await crashed.collect()

    assert crashed.running.fences == frozenset()


async def test_one_strange_directory_does_not_keep_the_others(
    crashed: Crashed, caplog: pytest.LogCaptureFixture
) -> None:
    strange, place = await crashed.running_plan()
    place.masked.write_bytes(b"{")
    other, _ = await crashed.running_plan()
    await give_up_what_was_running(crashed.platform.database)

    await crashed.collect()

    assert [order for _, order in left_behind(crashed.tasks)] == [strange]
    assert (await crashed.platform.log(other))[1] == "complete"


async def ended(process: subprocess.Popen[bytes]) -> int:
    with trio.fail_after(60):
        code: int = await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
    if process.stdout is not None:
        process.stdout.close()
    return code


async def admitted(crashed: Crashed, fence: int) -> None:
    with trio.fail_after(60):
        while fence not in crashed.running.fences:  # noqa: ASYNC110
            await trio.sleep(0.01)
