"""The state of an apply that runs is sent as it grows, and whatever becomes of that, the apply does not notice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from iac.domain import states
from iac.executor import workdir
from iac.executor.checkpoints import whole_state, with_checkpoints
from iac.executor.run import Run, StepFailed, sha256
from tests.executor.bench import appears
from tests.executor.test_left_state import state
from tests.executor.workbench import POLICY, Workbench, becomes, fake, real

OFTEN = replace(POLICY, checkpoint_every=0.02)


def waiting(tmp_path: Path, **manners: Any) -> Workbench:
    """One whose apply has written a first state, and works on until the file `go` is there."""
    apply = {"early_state": {}, "ready_file": str(tmp_path / "ready"), "until": str(tmp_path / "go"), **manners}
    bench = fake(tmp_path, apply=apply)
    bench.policy = OFTEN
    bench.__post_init__()
    return bench


def serials(bench: Workbench) -> list[int]:
    return [states.inspect(data).serial for data in bench.accessor.checkpoints]


async def test_a_checkpoint_comes_while_the_apply_runs_and_goes_when_it_has_ended(tmp_path: Path) -> None:
    bench = waiting(tmp_path)
    order = await bench.confirmed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await becomes(lambda: bool(bench.accessor.stored))
        assert [(kept.verdict, kept.serial) for kept in bench.accessor.stored] == [("checkpoint", 1)]
        assert bench.accessor.state is None
        (tmp_path / "go").touch()

    assert [(kept.verdict, kept.serial) for kept in bench.accessor.stored] == [("current", 2)]
    assert serials(bench)[0] == 1
    assert bench.task(order).status == "succeeded"


async def test_what_did_not_change_is_not_sent_again(tmp_path: Path) -> None:
    bench = waiting(tmp_path)
    order = await bench.confirmed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await becomes(lambda: bool(bench.accessor.checkpoints))
        place = bench.place(order) / "state" / "terraform.tfstate"
        place.write_bytes(place.read_bytes())  # touched, and the same
        await appears(tmp_path / "ready")
        place.write_bytes(state(7))
        await becomes(lambda: 7 in serials(bench))
        (tmp_path / "go").touch()

    assert [serial for serial in serials(bench) if serial < 8] == [1, 7]


async def test_a_state_that_was_there_before_is_no_checkpoint(tmp_path: Path) -> None:
    bench = fake(
        tmp_path, apply={"ready_file": str(tmp_path / "ready"), "until": str(tmp_path / "go"), "no_state": True}
    )
    bench.policy = OFTEN
    bench.__post_init__()
    bench.accessor.set_state(state(3))
    order = await bench.confirmed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await appears(tmp_path / "ready")
        place = bench.place(order) / "state" / "terraform.tfstate"
        place.touch()
        place.write_bytes(state(4))
        await becomes(lambda: bool(bench.accessor.checkpoints))
        (tmp_path / "go").touch()

    assert serials(bench) == [4]


@pytest.mark.parametrize("fault", ["down", "unheard"])
async def test_a_checkpoint_that_is_not_taken_is_tried_again_with_the_newest(tmp_path: Path, fault: str) -> None:
    bench = waiting(tmp_path)
    order = await bench.confirmed()
    {"down": bench.accessor.down, "unheard": bench.accessor.unheard}[fault]["save_state_version"] = 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await becomes(lambda: bench.accessor.called["save_state_version"] > 0)
        (bench.place(order) / "state" / "terraform.tfstate").write_bytes(state(7))
        await becomes(lambda: 7 in serials(bench))
        (tmp_path / "go").touch()

    assert bench.task(order).status == "succeeded"
    assert [kept.verdict for kept in bench.accessor.stored][-1] == "current"


async def test_a_platform_that_never_answers_does_not_hold_the_apply_up(tmp_path: Path) -> None:
    bench = waiting(tmp_path)
    order = await bench.confirmed()
    bench.accessor.hold["save_state_version"] = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await becomes(lambda: bench.accessor.called["save_state_version"] == 1)
        (tmp_path / "go").touch()
        await becomes(lambda: bench.events("apply")[-1] == "stop")
        # The checkpoint was given up, and the last state is on its way.
        await becomes(lambda: bench.accessor.called["save_state_version"] == 2)
        bench.accessor.hold["save_state_version"].set()

    assert bench.task(order).status == "succeeded"


async def test_an_assignment_that_was_taken_away_sends_one_checkpoint_and_no_more(tmp_path: Path) -> None:
    bench = fake(tmp_path)
    order = await bench.confirmed()
    data = await bench.accessor.get_task_data(order)
    run = Run(order, data, workdir.create(tmp_path / "own", order), OFTEN)
    taken = bench.accessor.tasks[order.task_id]
    bench.accessor.tasks[order.task_id] = msgspec.structs.replace(taken, fence=order.fence + 1)
    run.workdir.state.write_bytes(state(1))

    async def work() -> str:
        """Until nobody watches any more."""
        *_, watched = trio.lowlevel.current_task().child_nurseries
        await becomes(lambda: not watched.child_tasks)
        return "done"

    assert await with_checkpoints(run, bench.accessor, work) == "done"

    assert [(kept.verdict, kept.partial) for kept in bench.accessor.stored] == [("quarantined", True)]


async def test_what_the_work_raises_passes_as_it_is(tmp_path: Path) -> None:
    bench = fake(tmp_path)
    order = await bench.confirmed()
    run = Run(order, await bench.accessor.get_task_data(order), workdir.create(tmp_path / "own", order), OFTEN)

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise StepFailed("apply_failed", "it says so")

    with pytest.raises(StepFailed, match="it says so"):
        await with_checkpoints(run, bench.accessor, work)


async def test_checkpoints_go_on_while_terraform_is_asked_to_stop(tmp_path: Path) -> None:
    bench = waiting(tmp_path, finish_sleep=60)
    order = await bench.confirmed()
    place = bench.place(order) / "state" / "terraform.tfstate"

    async def then() -> None:
        await becomes(lambda: "sigterm" in bench.events("apply"))
        place.write_bytes(state(7))
        await becomes(lambda: 7 in serials(bench))
        hurry.set()

    hurry = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(then)

                async def cancel() -> None:
                    await becomes(lambda: bool(bench.accessor.checkpoints))
                    scope.cancel()

                nursery.start_soon(cancel)
                await bench.executor.execute(order, hurry)
    assert serials(bench)[:2] == [1, 7]


@pytest.mark.parametrize("size", [0, 40, -1])
async def test_a_torn_file_is_no_state_until_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path, whole = tmp_path / "terraform.tfstate", state(3)
    path.write_bytes(whole[:size])
    with monkeypatch.context() as patched:
        patched.setattr("iac.executor.checkpoints.HUNT_WITHIN", 0.2)
        assert await whole_state(path) is None
    path.write_bytes(whole)
    found = await whole_state(path)
    assert found is not None
    assert (found.data, found.sha256) == (whole, sha256(whole))


async def test_a_file_that_is_not_there_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iac.executor.checkpoints.HUNT_WITHIN", 0.05)
    assert await whole_state(tmp_path / "nowhere") is None


async def test_terraform_itself_leaves_a_state_to_send_after_each_resource(tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = json.dumps(f"while [ ! -e {go} ]; do sleep 0.05; done")
    bench = real(
        tmp_path,
        {
            "main.tf": f"""
resource "terraform_data" "first" {{}}
resource "terraform_data" "second" {{
  depends_on = [terraform_data.first]
  provisioner "local-exec" {{
    command = {command}
  }}
}}
"""
        },
    )
    bench.policy = OFTEN
    bench.__post_init__()
    order = await bench.confirmed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await becomes(lambda: bool(bench.accessor.checkpoints))
        header = states.inspect(bench.accessor.checkpoints[0])
        assert header.resource_count == 1
        go.touch()

    assert bench.task(order).status == "succeeded"
    assert [kept.verdict for kept in bench.accessor.stored] == ["current"]
