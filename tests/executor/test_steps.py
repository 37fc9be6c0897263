"""The steps with the real Terraform: whose state it is, which files it sees, which lock it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iac.domain import states
from tests.executor.workbench import Workbench, fake, real
from tests.fakes.memory_accessor import MemoryAccessor

ONE = 'resource "terraform_data" "a" {\n  input = "x"\n}\n'
TWO = ONE + 'resource "terraform_data" "b" {\n  input = "y"\n}\n'
BACKENDS = {
    "s3": 'terraform {\n  backend "s3" {\n    bucket = "b"\n    key = "k"\n    region = "eu-west-1"\n  }\n}\n',
    "http": 'terraform {\n  backend "http" {\n    address = "http://127.0.0.1:1/state"\n  }\n}\n',
    "cloud": 'terraform {\n  cloud {\n    organization = "o"\n    workspaces {\n      name = "w"\n    }\n  }\n}\n',
    "local": 'terraform {\n  backend "local" {\n    path = "/nowhere/terraform.tfstate"\n  }\n}\n',
}


async def applied(bench: Workbench) -> states.StateHeader:
    """The state after a plan and its apply."""
    result = await bench.run(order := await bench.confirmed())
    assert result is not None
    assert (result.status, result.state_safe) == ("succeeded", True), bench.log(order)
    assert bench.accessor.state is not None
    return states.inspect(bench.accessor.state.data)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_whatever_backend_is_configured_the_state_stays_here(tmp_path: Path, backend: str) -> None:
    bench = real(tmp_path, {"main.tf": ONE, "backend.tf": BACKENDS[backend]})

    header = await applied(bench)

    assert header.resource_count == 1


@pytest.mark.parametrize("name", ["zzzz_override.tf", "zzz_j_override.tf.json"])
async def test_an_override_that_forces_another_backend_fails_before_anything_is_planned(
    tmp_path: Path, name: str
) -> None:
    backend = 'terraform {\n  backend "local" {\n    path = "elsewhere.tfstate"\n  }\n}\n'
    if name.endswith(".json"):
        backend = '{"terraform": {"backend": {"local": {"path": "elsewhere.tfstate"}}}}'
    bench = real(tmp_path, {"main.tf": ONE, name: backend})
    order = bench.accessor.order()

    result = await bench.run(order)

    assert result is not None
    assert (result.status, result.reason) == ("failed", "backend_not_neutralised")
    assert "planning" not in bench.stages(order)
    assert "elsewhere" in (result.detail or "")


async def test_an_override_that_forces_another_kind_of_backend_fails_before_anything_is_planned(tmp_path: Path) -> None:
    bench = real(tmp_path, {"main.tf": ONE, "zzzz_override.tf": 'terraform {\n  backend "inmem" {}\n}\n'})

    result = await bench.run(order := bench.accessor.order())

    assert result is not None
    assert (result.status, result.reason) == ("failed", "backend_not_neutralised")
    assert "planning" not in bench.stages(order)


async def test_a_second_apply_continues_the_state_of_the_first(tmp_path: Path) -> None:
    bench = real(tmp_path, {"main.tf": ONE})
    first = await applied(bench)
    again = Workbench(tmp_path / "again", bench.accessor)
    bench.accessor.bundle_facts["replace"] = ("terraform_data.a",)

    second = await applied(again)

    assert (second.lineage, second.serial > first.serial) == (first.lineage, True)
    assert [stored.verdict for stored in bench.accessor.stored] == ["current", "current"]


async def test_a_destroy_empties_the_state(tmp_path: Path) -> None:
    bench = real(tmp_path, {"main.tf": TWO})
    assert (await applied(bench)).resource_count == 2

    order = bench.accessor.confirm((await bench.plan("destroy")).task_id)
    result = await bench.run(order)

    assert result is not None
    assert result.status == "succeeded"
    assert bench.accessor.state is not None
    assert states.inspect(bench.accessor.state.data).resource_count == 0


async def test_targets_narrow_a_plan_and_replace_forces_one(tmp_path: Path) -> None:
    bench = real(tmp_path, {"main.tf": TWO}, targets=("terraform_data.b",))
    assert (await applied(bench)).resource_count == 1
    bench.accessor.bundle_facts.update(targets=(), replace=("terraform_data.b",))

    order = await bench.plan()

    summary = bench.accessor.plans[order.task_id].facts.summary
    assert (summary["add"], summary["destroy"], summary["replace"]) == (2, 1, 1)


async def test_a_refresh_changes_nothing_but_the_state(tmp_path: Path) -> None:
    bench = real(tmp_path, {"main.tf": ONE})
    await applied(bench)
    bench.accessor.archive = MemoryAccessor({"main.tf": TWO}).archive

    order = bench.accessor.order("refresh_only")
    result = await bench.run(order)

    assert result is not None
    assert result.status == "planned"
    assert bench.accessor.plans[order.task_id].facts.has_changes is False


async def test_terraform_runs_in_the_working_directory_and_sees_what_is_above_it(tmp_path: Path) -> None:
    files = {
        "modules/m/main.tf": ONE,
        "stacks/prod/main.tf": 'module "m" {\n  source = "../../modules/m"\n}\n',
        "main.tf": "this is not HCL, and nobody reads it",
    }
    bench = real(tmp_path, files, working_directory="stacks/prod")

    assert (await applied(bench)).resource_count == 1


async def test_a_working_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    bench = real(tmp_path, {"main.tf": ONE}, working_directory="stacks/prod")

    result = await bench.run(bench.accessor.order())

    assert result is not None
    assert (result.status, result.reason) == ("failed", "no_working_directory")
    assert "stacks/prod" in (result.detail or "")


async def test_generated_files_stand_beside_the_configuration(tmp_path: Path) -> None:
    generated = {"iac_resources.tf.json": json.dumps({"resource": {"terraform_data": {"g": {"input": "z"}}}}).encode()}
    bench = real(tmp_path, {"main.tf": ONE}, generated=generated)

    assert (await applied(bench)).resource_count == 2


async def test_broken_configuration_fails_with_the_diagnostics_in_the_log(tmp_path: Path) -> None:
    bench = real(tmp_path, {"main.tf": 'resource "terraform_data" {'})

    result = await bench.run(order := bench.accessor.order())

    assert result is not None
    assert (result.status, result.reason, result.exit_code) == ("failed", "init_failed", 1)
    assert "main.tf line 1" in bench.log(order)


# The dependency lock: only a stand-in writes one without a network.

LOCK, OWN = "# made by init\n", "# brought along\n"


async def test_the_lock_of_a_plan_is_kept_and_given_to_its_apply(tmp_path: Path) -> None:
    bench = fake(tmp_path, init={"write_files": {".terraform.lock.hcl": LOCK}})
    plan = await bench.plan()

    ready = tmp_path / "ready"
    other = fake(tmp_path, bench.accessor, init={"sleep": "forever", "ready_file": str(ready)})
    order = bench.accessor.confirm(plan.task_id)
    found: list[str] = []
    lock = other.place(order) / "config" / ".terraform.lock.hcl"
    await other.run_and_cancel(order, ready, before=lambda: found.append(lock.read_text()))

    assert found == [LOCK]


async def lock_that_init_finds(tmp_path: Path, accessor: MemoryAccessor) -> str:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, accessor, init={"sleep": "forever", "ready_file": str(ready)})
    order = accessor.order()
    found: list[str] = []
    lock = bench.place(order) / "config" / ".terraform.lock.hcl"
    await bench.run_and_cancel(order, ready, before=lambda: found.append(lock.read_text()))
    return found[0]


async def test_the_lock_of_the_workspace_is_given_to_a_plan(tmp_path: Path) -> None:
    accessor = MemoryAccessor({"main.tf": ONE}, lock_hcl=LOCK.encode())

    assert await lock_that_init_finds(tmp_path, accessor) == LOCK


async def test_a_lock_in_the_configuration_counts_more_than_the_workspaces(tmp_path: Path) -> None:
    accessor = MemoryAccessor({"main.tf": ONE, ".terraform.lock.hcl": OWN}, lock_hcl=LOCK.encode())

    assert await lock_that_init_finds(tmp_path, accessor) == OWN


async def test_a_workspace_may_run_opentofu(tmp_path: Path) -> None:
    accessor = MemoryAccessor({"main.tf": ONE}, engine="tofu")
    bench = Workbench(tmp_path, accessor, {}, engine="tofu")

    order = await bench.plan()

    assert "[iac] tofu 1.11.4 (path)" in bench.log(order)
    assert bench.starts("plan")
