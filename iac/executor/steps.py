"""The steps of a plan and of an apply, one function each. A step raises StepFailed, or IacError from the platform."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import trio

from iac.domain import plans
from iac.domain.archives import ArchiveLimits, File, read_archive
from iac.domain.work import PlanFacts, ResourceProgress, SavedPlan, StatePush, StateReceipt
from iac.errors import IacError, Invalid, StorageFull, Unavailable
from iac.executor import terraform, workdir
from iac.executor.accessor import DataAccessor
from iac.executor.binaries import Binaries
from iac.executor.checkpoints import with_checkpoints
from iac.executor.left_state import StateLost, find_state, has_no_room
from iac.executor.run import Run, StepFailed, failure_of, sha256

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY_FIRST, RETRY_MOST = 0.5, 10.0


async def prepare(run: Run, binaries: Binaries, cli_config: bytes) -> None:
    """Writes the frozen inputs into the work directory and finds the Terraform they name."""
    bundle = run.data.bundle
    run.begin("preparing")
    run.workdir = workdir.Workdir(run.workdir.root, bundle.working_directory)
    run.binary = await binaries.resolve(bundle.terraform_version, bundle.engine)
    run.say(f"{run.binary.engine} {run.binary.version} ({run.binary.source})")
    await trio.to_thread.run_sync(_write_inputs, run, cli_config)
    run.environment = terraform.environment(run.workdir, run.machine, bundle.variables)


def _write_inputs(run: Run, cli_config: bytes) -> None:
    data, place = run.data, run.workdir
    files = dict(read_archive(data.archive, ArchiveLimits()).files) if data.archive is not None else {}
    workdir.write_files(place.config, files)
    if data.archive is not None and not place.cwd.is_dir():
        # Before anything of ours makes it: an empty configuration would plan to destroy everything.
        raise StepFailed(
            "no_working_directory",
            f"The configuration has no directory {data.bundle.working_directory!r}; see the workspace's settings.",
        )
    generated = {name: File(content, executable=False) for name, content in data.bundle.generated.items()}
    workdir.write_files(place.cwd, {**generated, **terraform.own_files(place)})
    variables = terraform.variable_files(data.bundle.variables)
    workdir.write_files(place.root, variables)
    run.var_files = [place.root / name for name in variables]
    with workdir.storing(place.root):
        workdir.write_file(place.cli_config, cli_config)
        _write_lock(run)
        if data.state is not None:
            workdir.write_file(place.state, data.state.data)
    run.before = data.state


def _write_lock(run: Run) -> None:
    """The plan's own lock for an apply; else the workspace's, unless the configuration brings one."""
    place, plan = run.workdir, run.data.plan
    if plan is not None and plan.lock_hcl is not None:
        workdir.write_file(place.lock_hcl, plan.lock_hcl)
    elif run.data.bundle.lock_hcl is not None and not place.lock_hcl.exists():
        workdir.write_file(place.lock_hcl, run.data.bundle.lock_hcl)


async def init(run: Run) -> None:
    """`terraform init`, and a look at which backend it really took."""
    run.begin("init")
    await run.terraform(terraform.init(), failed="init_failed")
    recorded = workdir.read_if_there(run.workdir.data / "terraform.tfstate")
    if problem := terraform.backend_problem(recorded, run.workdir):
        raise StepFailed("backend_not_neutralised", f"State must stay with this platform, but {problem}.")


async def plan(run: Run, accessor: DataAccessor) -> None:
    """`terraform plan`, then its JSON, then both stored: only a stored plan counts."""
    run.begin("planning")
    arguments = terraform.plan(run.data.bundle, run.workdir, run.var_files)
    ended = await run.terraform(arguments, allowed=(0, 2), failed="plan_failed")
    if not run.workdir.plan.exists():
        # A Go program that panics exits with 2 as well, which here would mean "there are changes".
        told = f"terraform plan ended with exit code {ended.exit_code} and left no plan: it crashed; the log says why."
        raise StepFailed("plan_failed", told, exit_code=ended.exit_code)
    run.begin("saving_plan")
    await run.terraform(terraform.show_plan(run.workdir), output=run.workdir.plan_json, failed="show_failed")
    saved, planned = await trio.to_thread.run_sync(_read_plan, run, ended.exit_code)
    await until_stored(partial(accessor.save_plan, run.order, saved, planned), within=run.policy.store_within)
    run.done = True


def _read_plan(run: Run, exit_code: int) -> tuple[SavedPlan, list[ResourceProgress]]:
    place, data = run.workdir, run.data
    file, text = place.plan.read_bytes(), place.plan_json.read_bytes()
    try:
        summary = plans.summarise(text)
        changed = plans.has_changes(summary, exit_code)
        touched = plans.touched(text)
    except Invalid as error:
        raise failure_of(error) from error
    facts = PlanFacts(
        digest=sha256(file),
        bundle_digest=data.bundle_digest,
        serial=data.state.serial if data.state else None,
        lineage=data.state.lineage if data.state else None,
        terraform_version=run.binary.version if run.binary else "",
        has_changes=changed,
        summary=msgspec.to_builtins(summary),
    )
    planned = [ResourceProgress(address=address, action=action, status="pending") for address, action in touched]
    return SavedPlan(facts=facts, file=file, json=text, lock_hcl=_new_lock(run)), planned


def _new_lock(run: Run) -> bytes | None:
    """The dependency lock that this plan was made with, wherever it came from; None when `init` needed none."""
    return workdir.read_if_there(run.workdir.lock_hcl)


async def restore_plan(run: Run) -> None:
    """Puts the stored plan back and checks that it is the one, and for the same Terraform."""
    run.begin("restoring_plan")
    plan = run.data.plan
    if plan is None:
        raise StepFailed("no_plan", "There is no stored plan to apply; plan again.")
    if sha256(plan.file) != plan.facts.digest or plan.facts.bundle_digest != run.data.bundle_digest:
        raise StepFailed("plan_mismatch", "The stored plan is not the one that was made from these inputs; plan again.")
    if run.binary is not None and run.binary.version != plan.facts.terraform_version:
        raise StepFailed(
            "plan_mismatch",
            f"The plan was made by version {plan.facts.terraform_version}, here is {run.binary.version}; plan again.",
        )
    with workdir.storing(run.workdir.root):
        # For good: without it a later start would think that the apply was never begun.
        await trio.to_thread.run_sync(partial(workdir.write_file, run.workdir.plan, plan.file, durable=True))


async def apply(run: Run, accessor: DataAccessor) -> None:
    """`terraform apply`. Whatever it comes to, the state on disk is stored before anything else happens."""
    run.begin("applying")
    try:
        work = partial(run.terraform, terraform.apply(run.workdir), failed="apply_failed")
        await with_checkpoints(run, accessor, work)
    finally:
        # The exit code alone decides: an apply that came to its end although it was told to stop is done.
        run.done = run.facts.ended is not None and run.facts.ended.exit_code == 0
        if run.facts.pid is not None and not run.left:
            with trio.move_on_after(run.policy.store_within + 1, shield=True):
                await save_state(run, accessor)


async def save_state(run: Run, accessor: DataAccessor) -> StateReceipt | None:
    """Finds the state that Terraform left, and stores it until the platform has it.

    Sets `run.state_safe`; never raises for what it finds, because the task's own result must still be told.
    """
    run.begin("saving_state")
    run.state_safe = False
    before = run.before.data if run.before is not None else None
    try:
        found = await trio.to_thread.run_sync(find_state, run.workdir, before)
        if found is None:
            run.state_safe = True
            run.say("the state did not change")
            return None
        receipt = await _stored(run, accessor, found.data)
        run.no_room = found.astray and has_no_room(run.workdir, len(found.data))
    except (IacError, OSError, StateLost) as error:
        run.state_error = error
        log.error("the state of an apply was not stored", extra={"task_id": run.order.task_id, "error": str(error)})
        run.say(f"the state was NOT stored: {error}; it stays in the work directory on this host")
        if isinstance(error, StateLost):
            await _keep_newest(run, accessor)
        return None
    run.state_safe = True
    run.say(f"state {receipt.serial} stored ({receipt.verdict})" + (f": {receipt.reason}" if receipt.reason else ""))
    return receipt


async def _stored(run: Run, accessor: DataAccessor, data: bytes, *, only_partial: bool = False) -> StateReceipt:
    push = StatePush(data=data, sha256=sha256(data), partial=only_partial)
    return await until_stored(partial(accessor.save_state_version, run.order, push), within=run.policy.store_within)


async def _keep_newest(run: Run, accessor: DataAccessor) -> None:
    """Nothing that Terraform left can be read: then the newest that could be, or what it began with, is better than nothing.

    As a checkpoint only, because the apply did more than it tells of.
    """
    newest = run.unsent or (run.before.data if run.before is not None else None)
    if newest is None:
        return
    try:
        receipt = await _stored(run, accessor, newest, only_partial=True)
    except IacError as error:
        log.error("not even a checkpoint was stored", extra={"task_id": run.order.task_id, "error": error.message})
    else:
        run.say(f"state {receipt.serial}, the newest that could be read, is known to the platform ({receipt.verdict})")


async def until_stored(call: Callable[[], Awaitable[T]], *, within: float) -> T:
    """Tries again while the platform says that trying again may help. Raises its last word, or Unavailable."""
    delay = RETRY_FIRST
    with trio.move_on_after(within):
        while True:
            try:
                return await call()
            except (Unavailable, StorageFull) as error:
                log.warning("not stored yet", extra={"error": error.message})
            await trio.sleep(delay)
            delay = min(delay * 2, RETRY_MOST)
    raise Unavailable(f"The platform did not take it within {within:g} s.")


def cli_config_of(path: Path | None) -> bytes:
    """The CLI configuration that Terraform gets: the operator's, or one that only keeps it from calling home."""
    return terraform.CLI_CONFIG if path is None else path.read_bytes()
