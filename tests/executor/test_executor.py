"""A phase from the claim to the report: steps in order, each way to fail, each way to be stopped."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest
import trio

from iac.domain.lifecycle import Cancel
from iac.errors import Invalid
from tests.executor.bench import appears
from tests.executor.workbench import IMPATIENT, Workbench, becomes, fake
from tests.fakes.fake_terraform import ledger_of
from tests.fakes.memory_accessor import MemoryAccessor

PLAN_STAGES = ["fetching", "preparing", "init", "planning", "saving_plan"]
APPLY_STAGES = ["fetching", "preparing", "init", "restoring_plan", "applying", "saving_state"]


async def test_a_plan_runs_its_steps_in_order_and_is_stored_before_it_is_reported(tmp_path: Path) -> None:
    bench = fake(tmp_path)

    order = await bench.plan()

    assert bench.stages(order) == PLAN_STAGES
    assert [command for command in ("init", "plan", "show") if len(bench.starts(command)) == 1] == [
        "init",
        "plan",
        "show",
    ]
    assert bench.task(order).status == "planned"
    plan = bench.accessor.plans[order.task_id]
    assert plan.facts.digest == hashlib.sha256(plan.file).hexdigest()
    assert (plan.facts.has_changes, plan.facts.summary["add"], plan.facts.terraform_version) == (True, 1, "1.11.4")


async def test_an_apply_restores_the_plan_and_stores_the_state_before_it_reports(tmp_path: Path) -> None:
    bench = fake(tmp_path)
    order = await bench.confirmed()

    result = await bench.run(order)

    assert bench.stages(order) == APPLY_STAGES
    assert result is not None
    assert (result.status, result.outcome, result.exit_code, result.state_safe) == ("succeeded", "applied", 0, True)
    assert [stored.verdict for stored in bench.accessor.stored] == ["current"]
    [applied] = bench.starts("apply")
    assert applied[-1].endswith("plan/tfplan")
    assert "-auto-approve" not in applied


async def test_the_log_is_complete_and_the_result_says_so(tmp_path: Path) -> None:
    bench = fake(tmp_path, plan={"flood_bytes": 3_000_000})

    order = await bench.plan()

    stored, [result] = bench.accessor.log(order), bench.accessor.results
    assert result.log is not None
    assert (result.log.length, result.log.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert stored.count(b"x" * 79 + b"\n") >= 3_000_000 // 80
    assert bench.accessor.streams[order.task_id, order.fence].state == "complete"


async def test_the_stages_are_told_while_they_last(tmp_path: Path) -> None:
    bench = fake(tmp_path, plan={"ready_file": str(tmp_path / "ready"), "sleep": "forever"})
    order = bench.accessor.order()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.executor.execute, order)
        await appears(tmp_path / "ready")
        await becomes(lambda: "planning" in bench.accessor.stages)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("command", "reason", "last"),
    [("init", "init_failed", "init"), ("plan", "plan_failed", "planning"), ("show", "show_failed", "saving_plan")],
)
async def test_a_step_of_a_plan_that_fails_ends_the_plan(tmp_path: Path, command: str, reason: str, last: str) -> None:
    bench = fake(tmp_path, commands={command: {"exit": 1}})
    order = bench.accessor.order()

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.reason, result.exit_code, result.signal) == ("failed", reason, 1, None)
    assert f"terraform {command} failed with exit code 1" in (result.detail or "")
    assert bench.stages(order)[-1] == last
    assert f"[iac] failed: terraform {command} failed" in bench.log(order)
    assert order.task_id not in bench.accessor.plans
    assert not bench.place(order).exists()


async def test_an_apply_that_fails_says_so_after_its_state_is_stored(tmp_path: Path) -> None:
    bench = fake(tmp_path, apply={"exit": 1})
    order = await bench.confirmed()

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.reason, result.exit_code, result.state_safe) == ("failed", "apply_failed", 1, True)
    assert bench.stages(order) == APPLY_STAGES
    assert bench.accessor.stored[0].verdict == "current"


async def test_an_init_that_fails_in_an_apply_leaves_the_state_alone(tmp_path: Path) -> None:
    bench = fake(tmp_path, init={})
    order = await bench.confirmed()
    bench.accessor.down["save_state_version"] = 1000
    broken = fake(tmp_path, bench.accessor, init={"exit": 1})

    result = await broken.run(order)

    assert result is not None
    assert (result.status, result.reason, result.state_safe) == ("failed", "init_failed", True)
    assert bench.accessor.called["save_state_version"] == 0


@pytest.mark.parametrize("code", [3, 11, 139])
async def test_a_terraform_that_crashes_in_a_plan_is_a_failure_with_its_exit_code(tmp_path: Path, code: int) -> None:
    bench = fake(tmp_path, plan={"exit": code})

    result = await bench.run(bench.accessor.order())

    assert result is not None
    assert (result.status, result.reason, result.exit_code) == ("failed", "plan_failed", code)


async def test_a_plan_without_changes_is_told_by_its_exit_code_and_its_json(tmp_path: Path) -> None:
    empty = {
        "format_version": "1.2",
        "terraform_version": "1.11.4",
        "resource_changes": [],
        "output_changes": {},
        "planned_values": {},
        "applyable": False,
        "complete": True,
        "errored": False,
    }
    bench = fake(tmp_path, plan={"exit": 0}, show={"plan_json": empty})

    result = await bench.run(order := bench.accessor.order())

    assert result is not None
    assert result.status == "planned"
    assert bench.accessor.plans[order.task_id].facts.has_changes is False
    assert (bench.task(order).status, bench.task(order).outcome) == ("succeeded", "planned_and_finished")


async def test_a_plan_that_nobody_can_read_is_a_failure(tmp_path: Path) -> None:
    bench = fake(tmp_path, show={"lines": ["not json"]})

    result = await bench.run(order := bench.accessor.order())

    assert result is not None
    assert result.status == "failed"
    assert order.task_id not in bench.accessor.plans


async def test_a_plan_made_by_another_version_is_not_applied(tmp_path: Path) -> None:
    bench = fake(tmp_path)
    order = await bench.confirmed()
    other = Workbench(tmp_path, bench.accessor, {}, version="1.12.0")

    result = await other.run(order)

    assert result is not None
    assert (result.status, result.reason) == ("failed", "plan_mismatch")
    assert "1.11.4" in (result.detail or "")
    assert bench.starts("apply") == []


async def test_a_stored_plan_that_was_changed_is_not_applied(tmp_path: Path) -> None:
    bench = fake(tmp_path)
    order = await bench.confirmed()
    kept = bench.accessor.plans[order.task_id]
    bench.accessor.plans[order.task_id] = type(kept)(facts=kept.facts, file=kept.file + b"!", json=b"", lock_hcl=None)

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.reason) == ("failed", "plan_mismatch")
    assert bench.starts("apply") == []


async def test_a_stale_plan_fails_before_anything_runs(tmp_path: Path) -> None:
    bench = fake(tmp_path)
    order = await bench.confirmed()
    bench.accessor.set_state(b'{"version":4,"terraform_version":"1.11.4","serial":1,"lineage":"l","outputs":{}}')

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.reason) == ("failed", "plan_stale")
    assert bench.starts("apply") == []
    assert not bench.place(order).exists()


async def test_a_terraform_that_is_not_there_is_told_with_where_it_was_looked_for(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, MemoryAccessor(terraform_version="= 9.9.9"), {})

    result = await bench.run(order := bench.accessor.order())

    assert result is not None
    assert (result.status, result.reason) == ("failed", "terraform_not_found")
    assert "9.9.9" in bench.log(order)


async def test_a_bug_in_a_step_ends_that_task_only_and_shows_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = fake(tmp_path)

    def bug(*_: object) -> None:
        raise KeyError("a secret detail")

    monkeypatch.setattr("iac.executor.steps._write_inputs", bug)

    result = await bench.run(order := bench.accessor.order())

    assert result is not None
    assert (result.status, result.reason) == ("failed", "executor_error")
    assert "secret detail" not in bench.log(order)


async def test_an_accessor_that_refuses_a_plan_for_good_fails_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = fake(tmp_path)

    async def refuse(*_: object) -> None:
        raise Invalid("too odd to be stored")

    monkeypatch.setattr(bench.accessor, "save_plan", refuse)

    result = await bench.run(bench.accessor.order())

    assert result is not None
    assert (result.status, result.reason, result.detail) == ("failed", "invalid", "too odd to be stored")


# Stopped


@pytest.mark.parametrize("command", ["init", "plan", "show"])
async def test_a_cancelled_plan_stops_terraform_and_reports_it(tmp_path: Path, command: str) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, commands={command: {"ready_file": str(ready), "sleep": "forever"}})
    order = bench.accessor.order()

    result = await bench.run_and_cancel(order, ready)

    assert (result.status, result.exit_code) == ("cancelled", 1)
    assert bench.events(command) == ["start", "sigterm", "stop"]
    assert "[iac] asked Terraform to stop" in bench.log(order)
    assert "[iac] the task was cancelled" in bench.log(order)
    assert result.log is not None
    assert result.log.length == len(bench.accessor.log(order))
    assert bench.nobody_left(order)
    assert not bench.place(order).exists()


async def test_a_cancelled_apply_keeps_what_terraform_had_done(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, apply={"ready_file": str(ready), "sleep": "forever", "finish_sleep": 0.1})
    order = await bench.confirmed()

    result = await bench.run_and_cancel(order, ready)

    assert (result.status, result.state_safe) == ("cancelled", True)
    assert bench.events("apply") == ["start", "sigterm", "stop"]
    assert [stored.verdict for stored in bench.accessor.stored] == ["current"]
    assert bench.stages(order) == APPLY_STAGES


async def test_a_cancel_in_a_hurry_does_not_wait_for_terraform(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, apply={"ready_file": str(ready), "sleep": "forever", "finish_sleep": "forever"})
    order = await bench.confirmed()

    result = await bench.run_and_cancel(order, ready, force=True)

    assert (result.status, result.signal) == ("cancelled", None)
    assert "[iac] asked Terraform a second time" in bench.log(order)
    assert "two interrupts" in bench.log(order).lower()


async def test_a_terraform_that_ignores_everything_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, apply={"ready_file": str(ready), "sleep": "forever", "ignore_sigterm": -1})
    bench = Workbench(tmp_path, bench.accessor, bench.commands, policy=IMPATIENT)
    order = await bench.confirmed()

    result = await bench.run_and_cancel(order, ready)

    assert (result.status, result.signal) == ("cancelled", signal.SIGKILL)
    assert bench.events("apply") == ["start", "sigterm", "sigterm"]
    assert "killed Terraform" in bench.log(order)
    assert bench.nobody_left(order)


async def test_an_apply_that_succeeds_although_it_was_cancelled_has_succeeded(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, apply={"ready_file": str(ready), "sleep": "forever", "exit_on_sigterm": 0})
    order = await bench.confirmed()

    result = await bench.run_and_cancel(order, ready)

    assert (result.status, result.outcome, result.exit_code) == ("succeeded", "applied", 0)
    assert bench.accessor.stored[0].verdict == "current"


async def test_a_terraform_that_somebody_else_kills_is_a_failure_with_its_signal(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, apply={"ready_file": str(ready), "sleep": "forever"})
    order = await bench.confirmed()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await appears(ready)
        [start] = [entry for entry in ledger_of(bench.ledger) if entry["command"] == "apply"]
        os.kill(start["pid"], signal.SIGKILL)

    result = bench.accessor.results[-1]
    assert (result.status, result.reason, result.signal) == ("failed", "killed", signal.SIGKILL)
    assert "by something else on the host" in (result.detail or "")
    assert result.state_safe


async def test_a_cancel_that_crosses_the_claim_is_reported_all_the_same(tmp_path: Path) -> None:
    bench = fake(tmp_path)
    order = bench.accessor.order()
    bench.accessor.hold["get_task_data"] = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.executor.execute, order)
        await becomes(lambda: bench.task(order).status == "running")
        bench.accessor.move(order.task_id, Cancel(cancel_id="can-1", reason="user", by="test"))
        nursery.cancel_scope.cancel()

    assert bench.task(order).status == "cancelled"
    assert bench.accessor.streams[order.task_id, order.fence].state == "complete"
    assert ledger_of(bench.ledger) == []


async def test_a_task_that_was_cancelled_before_its_claim_is_left_alone(tmp_path: Path) -> None:
    bench = fake(tmp_path)
    order = bench.accessor.order()
    bench.accessor.move(order.task_id, Cancel(cancel_id="can-1", reason="user", by="test"))

    assert await bench.run(order) is None

    assert bench.task(order).status == "cancelled"
    assert not bench.place(order).exists()
