"""What an executor asks of the platform: the seed's DataAccessor, the one seam between Local mode and Agent mode.

The seed's getters (workspace, resources, variables, latest state) are one call here, because a task's inputs are frozen:
its answer is the bundle, and giving it out is the claim. One contract suite holds every implementation to these promises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from iac.domain.work import ResourceProgress, Result, RunTask, SavedPlan, StatePush, StateReceipt, TaskData


class DataAccessor(Protocol):
    """Every method raises Unavailable (or another retryable error) when trying again may help.

    Once the assignment was taken away, claim, plan and result are refused as Fenced and notes have no effect; what
    cannot be had again is still taken: states always (quarantined), log bytes until another assignment has begun.
    """

    async def get_task_data(self, order: RunTask) -> TaskData:
        """Claims the task and returns all that its phase needs. The same assignment may ask again.

        Raises PlanStale when the plan to apply no longer fits the workspace's state; the claim holds nevertheless, so that
        it can be reported. Raises AlreadyFinal for a task that was cancelled before anybody claimed it.
        """
        ...

    async def save_task_log(self, order: RunTask, offset: int, data: bytes) -> int:
        """Stores masked bytes for good and returns the offset to go on at; repeating a call changes nothing.

        Raises LogRefused (log_gap, log_conflict, log_closed) and TooLarge; then nothing of the chunk was stored.
        """
        ...

    async def ready_task_log(self, order: RunTask, offset: int, data: bytes) -> Callable[[], Awaitable[int]]:
        """Makes masked bytes ready to be sent, which may take a while and touches nothing; what it returns does what
        `save_task_log` does, as often as it is called. So the next bytes are packed while others are on their way.
        """
        ...

    async def note_stage(self, order: RunTask, stage: str) -> None:
        """What the runner is at, for people."""
        ...

    async def note_progress(self, order: RunTask, entries: list[ResourceProgress]) -> None:
        """How far the resources of an apply are, for people."""
        ...

    async def save_plan(self, order: RunTask, plan: SavedPlan, planned: list[ResourceProgress]) -> None:
        """Stores the plan, bound to what it was made from. The same plan again is no error until its task is reported."""
        ...

    async def save_state_version(self, order: RunTask, push: StatePush) -> StateReceipt:
        """Stores a state, whatever it is: nothing that an apply produced is ever refused. Idempotent by (task, sha256)."""
        ...

    async def update_task(self, order: RunTask, result: Result) -> None:
        """Reports how the phase ended. The same `result_id` again is no error. With a log's digest it closes the log.

        Raises AlreadyFinal or IllegalTransition when the platform decided otherwise meanwhile.
        """
        ...
