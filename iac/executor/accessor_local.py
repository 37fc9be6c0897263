"""DataAccessor over the store, in the server's own process: what Local mode uses, and what the agent API is a skin of."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

import msgspec
import trio

from iac.domain import states
from iac.domain.lifecycle import Claim, Event, Lose, Report
from iac.domain.limits import Limits
from iac.domain.logs import End
from iac.domain.records import Task
from iac.domain.work import (
    CurrentState,
    LogDigest,
    ResourceProgress,
    Result,
    RunTask,
    SavedPlan,
    StatePush,
    StateReceipt,
    TaskData,
)
from iac.errors import BadRequest, Conflict, Fenced, NotFound
from iac.executor.terraform import sensitive_values
from iac.store import configurations, creation, logs, plans, standings, state_pushes, statefiles, tasks
from iac.store.database import Connection, Database
from iac.store.log_cache import LogCache
from iac.store.sealing import Keyring
from iac.store.tasks import Moved

log = logging.getLogger(__name__)

LOG_MAX_BYTES = 256 * 1024 * 1024
Noted = Callable[[Connection], Awaitable[object]]


def _nobody() -> None: ...


def _nobody_cares(task_id: int, fence: int, offset: int, data: bytes) -> None: ...


class Changes(msgspec.Struct, frozen=True):
    """Who is told what changed; all are called in the loop, must not block, and may miss nothing."""

    task: Callable[[int], None]
    log: Callable[[int], None]
    slot: Callable[[], None] = _nobody
    """A phase is over: another may begin, while the runner still cleans up."""
    stored: Callable[[int, int, int, bytes], None] = _nobody_cares
    """Task, fence, offset and bytes of a piece of a log that is stored now."""

    def moved(self, task_id: int) -> None:
        """A task is where others may run it."""
        self.task(task_id)
        self.slot()


class LocalDataAccessor:
    """See DataAccessor for the promises."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        changes: Changes,
        log_cache: LogCache,
        *,
        log_max_bytes: int = LOG_MAX_BYTES,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._changes = changes
        self._log_cache = log_cache
        self._log_max = log_max_bytes

    async def get_task_data(self, order: RunTask, noted: Noted | None = None) -> TaskData:
        """As DataAccessor says. `noted` is called in the claim's transaction; what it raises undoes the claim."""
        # Two transactions: what is wrong with the data must not undo the claim, or nobody could report it.
        moved = await self._database.tx(_claim, order, noted)
        self._changes.task(order.task_id)
        return await self._database.read(_data, self._keyring, moved.task, order, self._log_max)

    async def get_left_behind(self, order: RunTask) -> TaskData:
        """The data of an assignment that an earlier life of this server left on disk, whatever became of it since.

        Nothing is claimed, and there is no plan in it. Raises NotFound when the task is gone.
        """
        task = await self._database.tx(tasks.get, order.task_id)
        await self._log_cache.reconcile(order.task_id, order.fence)
        return await self._database.tx(
            _data, self._keyring, task, msgspec.structs.replace(order, action="plan"), self._log_max
        )

    async def save_task_log(self, order: RunTask, offset: int, data: bytes, *, from_afar: bool = False) -> int:
        """As DataAccessor says. `from_afar`: whoever sends it counts on our disk alone, even through a power cut."""
        # The tail that the executor keeps back lies within its own cap; the store's fuse is a little above it.
        limit = self._log_max + logs.LARGEST_CHUNK
        after = await self._log_cache.append(order.task_id, order.fence, offset, data, limit=limit, durable=from_afar)
        self._changes.stored(order.task_id, order.fence, offset, data)
        self._changes.log(order.task_id)
        return after

    async def ready_task_log(self, order: RunTask, offset: int, data: bytes) -> Callable[[], Awaitable[int]]:
        return partial(self.save_task_log, order, offset, data)

    async def note_stage(self, order: RunTask, stage: str) -> None:
        await self._database.single(tasks.set_stage, order.task_id, order.fence, stage)
        self._changes.task(order.task_id)

    async def note_progress(self, order: RunTask, entries: list[ResourceProgress]) -> None:
        await self._database.single(plans.note_progress, order.task_id, order.fence, entries)
        self._changes.task(order.task_id)

    async def save_plan(self, order: RunTask, plan: SavedPlan, planned: list[ResourceProgress]) -> None:
        await self._database.tx(partial(plans.save, planned=planned), self._keyring, order.task_id, order.fence, plan)

    async def save_state_version(self, order: RunTask, push: StatePush, *, revoked: bool = False) -> StateReceipt:
        """As DataAccessor says. `revoked`: the sender has no say any more, and its state is only kept apart."""
        packed = await trio.to_thread.run_sync(statefiles.pack, self._keyring, push.data)
        if packed.sha256 != push.sha256:
            raise BadRequest("The state's bytes do not have the sha256 that came with them.", code="checksum_mismatch")
        store = partial(state_pushes.push, partial=push.partial, revoked=revoked)
        receipt = await self._database.tx(store, order, packed)
        if receipt.verdict == "quarantined":
            log.error(
                "a state was quarantined",
                extra={"task_id": order.task_id, "fence": order.fence, "reason": receipt.reason},
            )
        self._changes.task(order.task_id)
        return receipt

    async def update_task(self, order: RunTask, result: Result, *, from_afar: bool = False) -> None:
        """As DataAccessor says. `from_afar`: the sender can look again when its log is not what is stored here.

        Raises LogRefused (log_incomplete with `next_offset`; log_mismatch, once) then, and nothing has changed.
        """
        async with self._ending(order, result.log, strict=from_afar) as end:
            await self._database.tx(_report, order, result, end)
        self._over(order)

    async def give_back(self, order: RunTask, result: Result, detail: str) -> None:
        """T13b: the plan ended by no fault of its own. Its log ends with it, with whatever came of it."""
        async with self._ending(order, result.log, strict=False) as end:
            await self._database.tx(_give_back, order, result, detail, end)
        self._over(order)

    def _ending(
        self, order: RunTask, digest: LogDigest | None, *, strict: bool
    ) -> AbstractAsyncContextManager[End | None]:
        if digest is None or digest.state == "pending":
            return nullcontext()
        return self._log_cache.ending(order.task_id, order.fence, digest, strict=strict)

    def _over(self, order: RunTask) -> None:
        self._changes.log(order.task_id)
        self._changes.moved(order.task_id)

    async def close_log(self, order: RunTask, digest: LogDigest, *, from_afar: bool = False) -> None:
        """Ends a log whose result was taken before it was whole. Raises as `update_task` does."""
        async with self._log_cache.ending(order.task_id, order.fence, digest, strict=from_afar) as end:
            if end is not None:
                await self._database.single(logs.close, order.task_id, order.fence, end)
        self._changes.log(order.task_id)


async def _claim(c: Connection, order: RunTask, noted: Noted | None) -> Moved:
    moved = await tasks.move(c, order.task_id, Claim(fence=order.fence))
    if noted is not None:
        await noted(c)
    return moved


async def _data(c: Connection, keyring: Keyring, task: Task, order: RunTask, log_max: int) -> TaskData:
    bundle = await creation.bundle_of(c, keyring, task.id)
    state = await statefiles.current(c, keyring, task.workspace_id)
    plan = await _plan(c, keyring, task, state) if order.action == "apply" else None
    archive = None
    if bundle.configuration_digest is not None:
        archive = await configurations.archive_by_digest(c, task.workspace_id, bundle.configuration_digest)
        if archive is None:
            raise Conflict("The configuration that the task was created with is gone.", code="no_configuration")
    return TaskData(
        order=order,
        bundle=bundle,
        bundle_digest=task.bundle_digest,
        archive=archive,
        state=state,
        plan=plan,
        sensitive_values=sensitive_values(bundle.variables) + _sensitive_outputs(state),
        log_max_bytes=log_max,
        log_offset=await logs.stream_length(c, task.id, order.fence),
        limits=_limits(task),
    )


def _limits(task: Task) -> Limits | None:
    """None for a task that was handed out before there were any."""
    if task.timeout_s is None or task.grace_s is None:
        return None
    return Limits(timeout_s=task.timeout_s, grace_s=task.grace_s)


async def _plan(c: Connection, keyring: Keyring, task: Task, state: CurrentState | None) -> SavedPlan:
    """The plan to apply, if the workspace still stands where it was made."""
    source = task.plan_task_id or task.id
    try:
        plan = await plans.saved(c, keyring, source)
    except NotFound as gone:
        raise Conflict(gone.message, code=gone.code) from None
    if plan.facts.digest != task.plan_digest:
        raise creation.stale(source, plan.facts.serial, state.serial if state else None)
    now_at = (state.serial, state.lineage) if state else (None, None)
    if (plan.facts.serial, plan.facts.lineage) != now_at:
        raise creation.stale(source, plan.facts.serial, now_at[0])
    return plan


def _sensitive_outputs(state: CurrentState | None) -> tuple[str, ...]:
    """Text of outputs that are marked sensitive: Terraform masks them itself, a provisioner does not."""
    if state is None:
        return ()
    found = []
    for output in states.outputs(state.data):
        value = msgspec.json.decode(output.value) if output.sensitive else None
        if isinstance(value, str) and value:
            found.append(value)
    return tuple(found)


def _how_it_ended(order: RunTask, result: Result) -> Event:
    """A plan that was stopped because its runner goes is nobody's failure: it may have another attempt."""
    if order.action == "plan" and (result.status, result.reason) == ("failed", "runner_detached"):
        return Lose(fence=order.fence, reason="runner_detached", detail="The server was stopped, and the plan with it.")
    return Report(fence=order.fence, result=result)


async def _report(c: Connection, order: RunTask, result: Result, end: End | None) -> None:
    """The result and the end of the log, in one transaction: a final task's log never grows again unseen."""
    moved = await tasks.move(c, order.task_id, _how_it_ended(order, result))
    if moved.task.fence != order.fence:
        raise Fenced(f"Assignment {order.fence} of task {order.task_id} was taken away.")
    await standings.note_result(c, order.fence, result.result_id)
    await _close(c, order, end)


async def _give_back(c: Connection, order: RunTask, result: Result, detail: str, end: End | None) -> None:
    await standings.give_back(c, order.task_id, order.fence, result, detail)
    await _close(c, order, end)


async def _close(c: Connection, order: RunTask, end: End | None) -> None:
    if end is not None:
        await logs.close(c, order.task_id, order.fence, end)
