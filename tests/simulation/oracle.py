"""What must be true at every instant, whatever happens: the invariants of the protocol's specification."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from iac.domain.records import Task
from iac.domain.state_verdicts import Current

ATTEMPTS = 2
"""A plan whose agents vanish is tried so often; an apply once."""


class Violated(AssertionError):
    """An invariant does not hold. `name` is its number."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")
        self.name = name


def words(fence: int, length: int) -> bytes:
    """The first `length` bytes of what the Terraform of this assignment prints."""
    line = b"%d says so\n" % fence
    return (line * (length // len(line) + 1))[:length]


class Oracle:
    """Hears of everything, and of nothing that it would believe unchecked."""

    def __init__(self) -> None:
        self.applied: dict[int, list[int]] = defaultdict(list)
        self.running: dict[int, set[int]] = defaultdict(set)

    def started(self, task_id: int, fence: int, phase: str, attempt: int) -> None:
        if attempt > (ATTEMPTS if phase == "plan" else 1):
            raise Violated("T13", f"the {phase} of task {task_id} is tried for the {attempt}th time")
        if phase == "apply":
            self.applied[task_id].append(fence)
            if len(self.applied[task_id]) > 1:
                raise Violated("I1", f"the apply of task {task_id} was started under {self.applied[task_id]}")
        elif self.running[task_id]:
            raise Violated("I2", f"two plans of task {task_id} run: {self.running[task_id]} and {fence}")
        self.running[task_id].add(fence)

    def ended(self, task_id: int, fence: int) -> None:
        self.running[task_id].discard(fence)

    def reported(self, before: Task, after: Task, states_of: Collection[int]) -> None:
        """A result was taken, or given up; its workspace has states of these assignments."""
        if self.running[before.id] and (before.phase == "plan" or after.final):
            raise Violated("I2", f"task {before.id} is {after.status} while {self.running[before.id]} runs for it")
        if before.phase == "apply" and after.status == "succeeded" and before.fence not in states_of:
            raise Violated("I4", f"task {before.id} is over, and the state of assignment {before.fence} is nowhere")

    def moved(self, before: Task, after: Task) -> None:
        if after.reason == "interrupted":
            raise Violated("T13b", f"the {after.phase} of task {after.id} was stopped, and nobody says why")
        if before.final and before != after:
            raise Violated("I3", f"task {after.id} was {before.status} and is {after.status}")

    def locked(self, task: Task, locks: Mapping[str, int]) -> None:
        holds = locks.get(task.workspace_id) == task.id
        if task.takes_lock and task.status in ("queued", "assigned", "running", "cancelling", "planned", "lost"):
            if not holds:
                raise Violated("I8", f"task {task.id} is {task.status} without its lock")
        elif holds and task.status in ("succeeded", "cancelled"):
            raise Violated("I8", f"task {task.id} is {task.status} and keeps its lock")

    def heard(self, task: Task | None, fence: int) -> None:
        """An agent said that it has this assignment, and that was dealt with."""
        if task is not None and task.fence == fence and task.status == "lost":
            raise Violated("T15", f"task {task.id} is lost, although its agent says that it runs it")

    def state_became_current(self, before: Current | None, serial: int, *, abandoned: bool) -> None:
        if abandoned:
            raise Violated("I4", f"serial {serial} of an assignment that was taken away became current")
        if before is not None and serial <= before.serial:
            raise Violated("I4", f"serial {serial} replaced {before.serial}")

    def pushed(self, fence: int, serial: int, known: Collection[int], outcome: str, *, whole: bool) -> None:
        """A state was judged; `known` are the serials that there were of its assignment."""
        if not whole and outcome == "current":
            raise Violated("I4", f"a state that assignment {fence} is not done with became current by itself")
        if outcome == "checkpoint" and any(serial < other for other in known):
            raise Violated("I4", f"checkpoint {serial} of assignment {fence} came after a newer state, and is kept")

    def logged(self, fence: int, length_before: int, stored: bytes) -> None:
        if len(stored) < length_before:
            raise Violated("I5", f"the log of assignment {fence} shrank from {length_before} to {len(stored)} bytes")
        if stored != words(fence, len(stored)):
            raise Violated("I5", f"the log of assignment {fence} has bytes that nobody printed")
