"""TerraformExecutor: the same for Local mode and Agent mode, because all it knows of the platform is a DataAccessor."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import partial
from math import inf
from pathlib import Path
from typing import Literal

import trio

from iac.domain import rendering
from iac.domain.log_transform import Transform
from iac.domain.redaction import Masker
from iac.domain.work import LogDigest, ResourceProgress, Result, RunTask, TaskData
from iac.errors import AlreadyFinal, Fenced, IacError, IllegalTransition, Unavailable
from iac.executor import steps, workdir
from iac.executor.accessor import DataAccessor
from iac.executor.binaries import Binaries
from iac.executor.log_carrier import Carrier, open_log
from iac.executor.log_spool import LogSpool
from iac.executor.run import FAILURES, ExecutorPolicy, Hooks, Run, StepFailed, failure_of, refused_by_host
from iac.executor.shimming import open_shim
from iac.telemetry import bound

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 0.5, 10.0
_STATUS: Mapping[str, Literal["started", "complete", "errored"]] = {"complete": "complete", "errored": "errored"}
_EMPTY = LogDigest(length=0, sha256=hashlib.sha256().hexdigest())


class TerraformExecutor:
    """Runs one phase of a task from the claim to the reported result. Several may run at once."""

    def __init__(
        self,
        accessor: DataAccessor,
        binaries: Binaries,
        *,
        tasks: Path,
        machine: Mapping[str, str],
        cli_config: bytes,
        policy: ExecutorPolicy | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        """`tasks` is the directory of the work directories; `machine` what Terraform may see of the environment."""
        self._accessor = accessor
        self._binaries = binaries
        self._tasks = tasks
        self._machine = machine
        self._cli_config = cli_config
        self._policy = policy or ExecutorPolicy()
        self._hooks = hooks or Hooks()
        self._runs: dict[int, Run] = {}

    def spool_of(self, fence: int) -> LogSpool | None:
        """The log of a running assignment; None before it begins and after it ended."""
        run = self._runs.get(fence)
        return None if run is None else run.spool

    def detachable(self, fence: int) -> bool:
        """Whether this is an apply whose `terraform apply` runs: its shim can see it to its end without us."""
        run = self._runs.get(fence)
        if run is None or run.spool is None or run.spool.stage != "applying":
            return False
        return run.facts.pid is not None and run.facts.ended is None

    def prolong(self, fence: int, until: float) -> None:
        """The lease of a running assignment goes on until then, by CLOCK_BOOTTIME."""
        if run := self._runs.get(fence):
            run.prolong(until)

    async def execute(self, order: RunTask, hurry: trio.Event | None = None) -> None:
        """Claims, runs and reports. Cancelled, it stops Terraform, stores what there is, reports, and lets it go on.

        `hurry` cuts the grace of a cancelled Terraform short.
        """
        with bound(task_id=order.task_id, fence=order.fence):
            try:
                data = await self._claim(order)
                self._hooks.claimed(order, data)
                kept = _kept_of(data, self._hooks.times_out(order))
                place = await trio.to_thread.run_sync(workdir.create, self._tasks, order, *kept)
            except (Fenced, AlreadyFinal, IllegalTransition) as error:
                log.info("the task is not ours to run", extra={"error": error.message})
            except (IacError, OSError, RuntimeError) as error:  # RuntimeError: there was no thread to be had
                log.warning("the phase cannot begin", extra={"error": str(error)})
                await self._report_at_last(order, _never_began(order, error))
            except trio.Cancelled:
                # The claim may have been heard although its answer was not: nobody else would ever report.
                await self._report_at_last(order, _cancelled_before(order, self._hooks.why_stopped(order)))
                raise
            else:
                run = Run(
                    order,
                    data,
                    place,
                    self._policy,
                    machine=self._machine,
                    hurry=trio.Event() if hurry is None else hurry,
                    hooks=self._hooks,
                )
                await self._run(run)

    async def _claim(self, order: RunTask) -> TaskData:
        delay = RETRY_FIRST
        while True:
            try:
                return await self._accessor.get_task_data(order)
            except Unavailable as error:
                log.warning("no answer to the claim yet", extra={"error": error.message})
            await trio.sleep(delay)
            delay = min(delay * 2, RETRY_MOST)

    async def _run(self, run: Run) -> None:
        self._runs[run.order.fence] = run
        try:
            await self._with_log(run)
        except OSError as error:  # the log's own file
            run.failure = refused_by_host(error)
        finally:
            del self._runs[run.order.fence]
            if not run.left:
                await self._finish_within(run)

    async def _finish_within(self, run: Run) -> None:
        with trio.move_on_after(self._policy.report_within, shield=True):
            await self._finish(run)

    async def _with_log(self, run: Run) -> None:
        secrets = run.data.sensitive_values
        carrier = Carrier(
            prepare=partial(self._accessor.ready_task_log, run.order),
            on_stage=partial(self._accessor.note_stage, run.order),
            on_progress=partial(self._note_progress, run.order, Masker(secrets)),
        )
        policy = self._policy.log(run.data.log_max_bytes)
        opened: tuple[LogSpool, Transform] | None = None
        try:
            async with open_log(
                run.workdir.raw_log, carrier, secrets=secrets, start=run.data.log_offset, policy=policy
            ) as opened:
                run.spool = opened[0]
                await self._phase(run)
        finally:
            if opened is not None and opened[0].complete:
                run.log = opened[1].digest

    async def _steps(self, run: Run) -> None:
        run.begin("fetching")
        run.prolong(self._hooks.leased_until(run.order))
        await steps.prepare(run, self._binaries, self._cli_config)
        await steps.init(run)
        if run.order.action == "plan":
            await steps.plan(run, self._accessor)
        else:
            await steps.restore_plan(run)
            await steps.apply(run, self._accessor)

    async def _phase(self, run: Run) -> None:
        """The steps in their order. An ordinary failure is a fact of the run, told in its log; a bug is one as well."""
        try:
            async with open_shim(run.workdir.root) as run.shim:
                await self._steps(run)
        except StepFailed as error:
            run.failure = error
        except IacError as error:
            run.failure = failure_of(error)
        except OSError as error:
            run.failure = refused_by_host(error)
        except Exception:  # the bulkhead: a bug in a task ends that task only
            log.exception("executor bug")
            run.failure = StepFailed("executor_error", "A fault of the platform; its log has the details.")
        except (trio.Cancelled, BaseExceptionGroup):
            # A step that has a nursery of its own makes a group of it; what is no cancellation was caught above.
            run.cancelled = True
            if run.left and run.spool is not None:
                run.spool.abandon()  # who finds the directory carries the rest
            else:
                run.say("the task was cancelled")
            raise
        if run.failure is not None:
            run.say(f"failed: {run.failure.detail}")

    async def _finish(self, run: Run) -> None:
        """Reports, and removes the directory if nothing in it is needed any more."""
        result = run.result()
        try:
            await trio.to_thread.run_sync(
                partial(workdir.note_result, durable=run.order.action == "apply"), run.workdir, result
            )
        except (OSError, RuntimeError) as error:  # then a later life does without it
            log.error("a result was not written down", extra={"error": str(error)})
        reported = await self._report(run.order, result)
        # Of an apply that was taken away, files are kept: its state may be the only trace of what it did.
        taken_away = run.order.action == "plan" and run.spool is not None and isinstance(run.spool.refused, Fenced)
        if reported and run.state_safe and (run.log is not None or taken_away):
            await trio.to_thread.run_sync(workdir.remove, run.workdir)
        else:
            log.error("the work directory is kept", extra={"directory": str(run.workdir.root)})

    async def _report_at_last(self, order: RunTask, result: Result) -> None:
        with trio.move_on_after(self._policy.report_within, shield=True):
            await self._report(order, result)

    async def _report(self, order: RunTask, result: Result) -> bool:
        """Until the platform has heard it, for as long as the surrounding scope allows."""
        delay = RETRY_FIRST
        while True:
            try:
                await self._accessor.update_task(order, result)
            except IacError as error:
                if not error.retryable:
                    log.warning("the result was refused", extra={"error": error.message, "code": error.code})
                    return True
                log.warning("the result was not taken yet", extra={"error": error.message})
            else:
                log.info("phase ended", extra={"status": result.status, "reason": result.reason})
                return True
            await trio.sleep(delay)
            delay = min(delay * 2, RETRY_MOST)

    async def _note_progress(self, order: RunTask, masker: Masker, events: list[rendering.ResourceProgress]) -> None:
        entries = [
            ResourceProgress(
                address=masker.mask(event.address.encode()).decode("utf-8", "replace"),
                action=event.action,
                status=_STATUS.get(event.status, "started"),
                elapsed_s=event.elapsed_s,
            )
            for event in events
        ]
        await self._accessor.note_progress(order, entries)


def _kept_of(data: TaskData, times_out: float) -> tuple[tuple[str, ...], workdir.Remembered]:
    """What a work directory keeps of the data, for a start after a crash."""
    rest = workdir.Remembered(
        working_directory=data.bundle.working_directory,
        log_max_bytes=data.log_max_bytes,
        grace_s=None if data.limits is None else data.limits.grace_s,
        times_out=None if times_out == inf else times_out,
    )
    return data.sensitive_values, rest


def _cancelled_before(order: RunTask, why: str | None) -> Result:
    status: Literal["failed", "cancelled"] = "failed" if why in FAILURES else "cancelled"
    return Result(result_id=f"{order.assignment_id}:{status}", status=status, reason=why, log=_EMPTY)


def _never_began(order: RunTask, error: Exception) -> Result:
    """Nothing was run: the phase fails cleanly, with an empty log."""
    code, told = "host_error", f"The work directory could not be made: {error}"
    if isinstance(error, IacError):
        code, told = error.code, error.message
    return Result(
        result_id=f"{order.assignment_id}:failed",
        status="failed",
        reason=code,
        detail=told,
        log=_EMPTY,
    )
