"""While an apply runs, its state is sent as it grows, so that a host that dies takes little with it.

Terraform with the local backend writes its file anew after each resource: it cuts it to nothing, takes its time to put the
state into words, and writes them at once. While an apply is busy with a state of some megabytes, ten resources at a time,
there is a whole file for one moment in fifty. So who looks has to look often, and believes only what can be read.

Nothing here may delay, block or fail the apply: what cannot be sent is tried again, with what is newest then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from iac.domain import checkpoints, states
from iac.domain.work import StatePush
from iac.errors import IacError, Invalid, Unavailable
from iac.executor.accessor import DataAccessor
from iac.executor.run import Run, sha256

log = logging.getLogger(__name__)

T = TypeVar("T")
HUNT_WITHIN, LOOK_AGAIN = 2.0, 0.005
"""Seconds for which a whole file is waited for, and between two looks."""
SEND_WITHIN = 120.0
"""Seconds after which a checkpoint that is still on its way is given up for a newer one."""

Stamp = tuple[int, int, int]
"""What changes when a file is written: inode, time, size."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state that was whole, and the file's stamp then."""

    stamp: Stamp
    data: bytes
    sha256: str


async def with_checkpoints(run: Run, accessor: DataAccessor, work: Callable[[], Awaitable[T]]) -> T:
    """Does the work, which is an apply, and sends its state meanwhile. Raises what the work raises, and nothing else.

    A cancellation is for the work alone, because Terraform goes on for as long as the ladder takes; when the work has ended
    nothing is sent any more, but for a statement that the database has begun already.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            watching = trio.CancelScope(shield=True)
            nursery.start_soon(_guarded, watching, run, accessor)
            try:
                return await work()
            except BaseException as error:
                failure = error
                raise
            finally:
                watching.cancel()
    except BaseExceptionGroup as group:
        # The nursery makes a group of what the work has raised, or of a cancellation that came after its end.
        raise failure or group.exceptions[0] from None


async def _guarded(watching: trio.CancelScope, run: Run, accessor: DataAccessor) -> None:
    with watching:
        try:
            await _watch(run, accessor)
        except Exception:
            log.exception("no checkpoints any more", extra={"task_id": run.order.task_id})


async def _watch(run: Run, accessor: DataAccessor) -> None:
    """Until it is cancelled, or the platform wants no more of this assignment."""
    path, every = run.workdir.state, run.policy.checkpoint_every
    told = run.before.sha256 if run.before is not None else None
    seen: Stamp | None = None
    pause, failures = every, 0
    while True:
        await trio.sleep(pause)
        pause, began = every, trio.current_time()
        if _stamp(path) in (None, seen):
            continue
        found = await whole_state(path)
        if found is None:
            continue
        if found.sha256 == told:
            seen = found.stamp
            continue
        run.unsent = found.data
        try:
            wanted = await _sent(run, accessor, found)
        except IacError as error:
            if not error.retryable:
                log.warning("checkpoints are not taken", extra={"task_id": run.order.task_id, "error": error.message})
                return
            failures += 1
            log.info("a checkpoint was not taken", extra={"task_id": run.order.task_id, "error": error.message})
        else:
            if not wanted:
                return
            seen, told, failures, run.unsent = found.stamp, found.sha256, 0, None
        pause = checkpoints.pause_after(len(found.data), trio.current_time() - began, every=every)
        if failures:
            pause = checkpoints.pause_after_failure(failures, pause, every=every)


async def _sent(run: Run, accessor: DataAccessor, found: Snapshot) -> bool:
    """False when what this assignment sends does not count any more. Raises IacError."""
    with trio.move_on_after(SEND_WITHIN):
        push = StatePush(data=found.data, sha256=found.sha256, partial=True)
        receipt = await accessor.save_state_version(run.order, push)
        if receipt.verdict == "quarantined":
            log.warning("a checkpoint was kept apart", extra={"task_id": run.order.task_id, "reason": receipt.reason})
        return receipt.verdict != "quarantined"
    raise Unavailable(f"The platform did not take a checkpoint within {SEND_WITHIN:g} s.")


async def whole_state(path: Path) -> Snapshot | None:
    """The state in the file, as soon as it is whole; None when it was not so for HUNT_WITHIN."""
    with trio.move_on_after(HUNT_WITHIN):
        while True:
            stamp = _stamp(path)
            if stamp is not None and stamp[2] > 0:
                found = await trio.to_thread.run_sync(_read, path, stamp, abandon_on_cancel=True)
                if found is not None:
                    return found
            await trio.sleep(LOOK_AGAIN)
    return None


def _read(path: Path, stamp: Stamp) -> Snapshot | None:
    try:
        data = path.read_bytes()
        states.inspect(data)
    except (OSError, Invalid):
        return None
    return Snapshot(stamp, data, sha256(data))


def _stamp(path: Path) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
