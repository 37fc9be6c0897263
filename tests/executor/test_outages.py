"""The platform is away, or refuses, or breaks: nothing is lost, nothing is doubled, Terraform is not disturbed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import trio

from iac.domain.work import RunTask
from iac.errors import Forbidden, StorageFull, Unavailable
from iac.executor.run import ExecutorPolicy
from tests.executor.bench import appears
from tests.executor.workbench import POLICY, Workbench, becomes, fake
from tests.fakes.memory_accessor import MemoryAccessor

METHODS = ["get_task_data", "save_task_log", "note_stage", "save_plan", "update_task"]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("steps", "executor", "log_carrier"):
        monkeypatch.setattr(f"iac.executor.{module}.RETRY_FIRST", 0.01)


def whole(bench: Workbench, order: RunTask) -> bool:
    """Whether the stored log is exactly what the executor says it sent, each stage marked once."""
    result, stored = bench.accessor.results[-1], bench.accessor.log(order)
    assert result.log is not None
    assert (result.log.length, result.log.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    stages = bench.stages(order)
    return len(stages) == len(set(stages)) == (5 if order.action == "plan" else 6)


@pytest.mark.parametrize("method", METHODS)
async def test_a_plan_outlasts_an_outage_of_the_platform(tmp_path: Path, method: str) -> None:
    bench = fake(tmp_path, plan={"flood_bytes": 500_000})
    bench.accessor.down[method] = 4

    order = await bench.plan()

    assert whole(bench, order)
    assert len(bench.starts("plan")) == 1
    assert not bench.place(order).exists()


@pytest.mark.parametrize("method", METHODS)
async def test_a_plan_outlasts_answers_that_are_lost(tmp_path: Path, method: str) -> None:
    bench = fake(tmp_path, plan={"flood_bytes": 500_000})
    bench.accessor.unheard[method] = 3

    order = await bench.plan()

    assert whole(bench, order)
    assert bench.log(order).count("x" * 79 + "\n") == 500_000 // 80


@pytest.mark.parametrize("fault", ["down", "unheard"])
@pytest.mark.parametrize("method", ["save_task_log", "save_state_version", "update_task"])
async def test_an_apply_outlasts_an_outage_and_stores_its_state_once(tmp_path: Path, method: str, fault: str) -> None:
    bench = fake(tmp_path, apply={"flood_bytes": 500_000})
    order = await bench.confirmed()
    getattr(bench.accessor, fault)[method] = 4

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.state_safe) == ("succeeded", True)
    assert [(stored.verdict, stored.serial) for stored in bench.accessor.stored] == [("current", 1)]
    assert whole(bench, order)
    assert not bench.place(order).exists()


async def test_a_log_that_flickers_all_the_time_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = fake(tmp_path, plan={"flood_bytes": 4_000_000})
    append, calls = bench.accessor.save_task_log, 0

    async def flicker(order: RunTask, offset: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise Unavailable("before")
        after = await append(order, offset, data[: 1 + len(data) // 2])
        if calls % 3 == 1:
            raise Unavailable("after")
        return after

    monkeypatch.setattr(bench.accessor, "save_task_log", flicker)

    order = await bench.plan()

    assert whole(bench, order)
    assert bench.log(order).count("x" * 79 + "\n") == 4_000_000 // 80


async def test_a_full_disk_of_the_platform_is_an_outage_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = fake(tmp_path)
    order = await bench.confirmed()
    full = {"save_task_log": 2, "save_state_version": 2, "update_task": 2}
    for method in list(full):
        usual = getattr(bench.accessor, method)

        async def refuse(*arguments, method=method, usual=usual):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
            if full[method]:
                full[method] -= 1
                raise StorageFull("no room")
            return await usual(*arguments)

        monkeypatch.setattr(bench.accessor, method, refuse)

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.state_safe) == ("succeeded", True)
    assert set(full.values()) == {0}
    assert whole(bench, order)


@pytest.mark.parametrize("error", [Forbidden("the platform will not"), KeyError("a bug"), ZeroDivisionError()])
async def test_an_apply_goes_on_although_nobody_takes_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    bench = fake(tmp_path, apply={"flood_bytes": 500_000})
    order = await bench.confirmed()

    async def refuse(*_: object) -> int:
        raise error

    monkeypatch.setattr(bench.accessor, "save_task_log", refuse)

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.state_safe, result.log) == ("succeeded", True, None)
    assert bench.events("apply") == ["start", "stop"]
    # What nobody took is kept, and the stream stays open for it.
    assert (bench.place(order) / "raw.log").stat().st_size > 500_000
    assert bench.accessor.streams[order.task_id, order.fence].state == "open"


async def test_an_apply_goes_on_although_nobody_wants_to_know_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = fake(tmp_path)
    order = await bench.confirmed()

    async def refuse(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(bench.accessor, "note_stage", refuse)
    monkeypatch.setattr(bench.accessor, "note_progress", refuse)

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.state_safe) == ("succeeded", True)
    assert whole(bench, order)


def quickly(**budgets: float) -> ExecutorPolicy:
    known = {name: getattr(POLICY, name) for name in ExecutorPolicy.__dataclass_fields__}
    return ExecutorPolicy(**{**known, **budgets})


async def test_a_state_that_nobody_takes_in_time_is_kept_and_said_to_be_unsafe(tmp_path: Path) -> None:
    accessor = MemoryAccessor()
    bench = Workbench(tmp_path, accessor, {}, policy=quickly(store_within=0.2))
    order = await bench.confirmed()
    accessor.down["save_state_version"] = 10**6

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.state_safe) == ("succeeded", False)
    assert "the state was NOT stored" in bench.log(order)
    assert (bench.place(order) / "state" / "terraform.tfstate").exists()
    assert bench.task(order).status == "lost"


async def test_a_log_that_nobody_takes_in_time_is_kept_and_the_result_is_told_nevertheless(tmp_path: Path) -> None:
    accessor = MemoryAccessor()
    bench = Workbench(tmp_path, accessor, {}, policy=quickly(log_drain_within=0.2))
    order = await bench.confirmed()
    accessor.down["save_task_log"] = 10**6

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.state_safe, result.log) == ("succeeded", True, None)
    assert (bench.place(order) / "raw.log").exists()


async def test_a_result_that_nobody_hears_in_time_keeps_the_directory(tmp_path: Path) -> None:
    accessor = MemoryAccessor()
    bench = Workbench(tmp_path, accessor, {}, policy=quickly(report_within=0.2))
    order = accessor.order()
    accessor.down["update_task"] = 10**6

    assert await bench.run(order) is None

    assert bench.place(order).exists()
    assert bench.task(order).status == "running"


async def test_a_cancel_during_an_outage_still_stores_state_log_and_result(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, apply={"ready_file": str(ready), "sleep": "forever"})
    order = await bench.confirmed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await appears(ready)
        bench.accessor.down |= {"save_task_log": 5, "save_state_version": 5, "update_task": 5}
        nursery.cancel_scope.cancel()

    result = bench.accessor.results[-1]
    assert (result.status, result.state_safe) == ("cancelled", True)
    assert [stored.verdict for stored in bench.accessor.stored] == ["current"]
    assert whole(bench, order)
    assert not bench.place(order).exists()


async def test_a_second_cancel_while_the_state_is_on_its_way_changes_nothing(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, apply={"ready_file": str(ready), "sleep": "forever"})
    order = await bench.confirmed()
    bench.accessor.hold["save_state_version"] = held = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await appears(ready)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await becomes(lambda: bench.accessor.called["save_state_version"] == 1)
            nursery.cancel_scope.cancel()
            held.set()

    assert bench.accessor.results[-1].state_safe


async def test_an_order_that_was_taken_away_while_it_ran_ends_without_effect(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, plan={"ready_file": str(ready), "sleep": 0.5})
    order = bench.accessor.order()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.executor.execute, order)
        await appears(ready)
        again = bench.accessor.take_away(order)

    assert bench.accessor.results == []
    assert bench.accessor.plans == {}
    assert bench.task(order).status == "assigned"
    result = await bench.run(again)
    assert result is not None
    assert result.status == "planned"
