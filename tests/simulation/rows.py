"""The database of the simulation: rows in memory, moved only by the product's own lifecycle, one event at a time."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from iac.domain import logs
from iac.domain.decision import Effect
from iac.domain.lifecycle import Assign, Event, Lose, Queue, Report, Resolve, decide
from iac.domain.logs import Append, Compare, Conflict, Gap, accept, compared, first_difference
from iac.domain.records import Phase, Task
from iac.domain.standings import Standing
from iac.domain.state_verdicts import Current, Push, adoption, judge
from iac.domain.states import StateHeader
from iac.domain.work import Result
from iac.errors import LogRefused
from tests.simulation.oracle import Oracle
from tests.simulation.world import Clock

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
LINEAGE = "lineage"
LIMIT = 1 << 20


class Assignment(msgspec.Struct):
    task_id: int
    fence: int
    assignment_id: str
    agent_id: str
    phase: Phase
    attempt: int
    claimed_by: str | None = None
    result_id: str | None = None


class State(msgspec.Struct, frozen=True):
    """A pushed state, and what the verdict on it was."""

    task_id: int
    fence: int
    serial: int
    sha256: str
    outcome: str


class Rows:
    """Survives every restart of the server. Raises IacError as the store does."""

    def __init__(self, clock: Clock, oracle: Oracle) -> None:
        self._clock = clock
        self.oracle = oracle
        self._fence = 0
        self.tasks: dict[int, Task] = {}
        self.assignments: dict[int, Assignment] = {}
        self.locks: dict[str, int] = {}
        self.logs: dict[int, bytearray] = {}
        self.states: dict[str, list[State]] = {}
        self.current: dict[str, Current] = {}

    @property
    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._clock.read())

    def open_tasks(self) -> list[Task]:
        return [task for task in self.tasks.values() if not task.final]

    def task_of(self, fence: int) -> Task | None:
        """The task that this was an assignment of."""
        assignment = self.assignments.get(fence)
        return None if assignment is None else self.tasks[assignment.task_id]

    def told(self, fence: int) -> bool:
        """Whether it is known how this assignment ended."""
        return fence in self.assignments and self.assignments[fence].result_id is not None

    def next_fence(self) -> int:
        self._fence += 1
        return self._fence

    # Tasks

    def create(self, task: Task) -> None:
        self.tasks[task.id] = task
        self._advance(task.workspace_id)

    def move(self, task_id: int, event: Event) -> tuple[Task, tuple[Effect, ...]]:
        before = self.tasks[task_id]
        decision = decide(before, event, self.now)
        after = self.tasks[task_id] = decision.task
        self.oracle.moved(before, after)
        if isinstance(event, Report | Lose) and before != after:
            kept = self.states.get(before.workspace_id, [])
            self.oracle.reported(before, after, [state.fence for state in kept])
        if Effect.RELEASE_LOCK in decision.effects and self.locks.get(after.workspace_id) == task_id:
            del self.locks[after.workspace_id]
        if Effect.RELEASE_LOCK in decision.effects:
            self._advance(after.workspace_id)
        self.oracle.locked(after, self.locks)
        return after, decision.effects

    def assign(self, task_id: int, agent_id: str) -> Task:
        fence = self.next_fence()
        assign = Assign(agent_id=agent_id, assignment_id=f"asg-{fence}", fence=fence)
        task, _ = self.move(task_id, assign)
        self.assignments[fence] = Assignment(task_id, fence, f"asg-{fence}", agent_id, task.phase, task.attempt)
        self.logs[fence] = bytearray()
        return task

    def _advance(self, workspace_id: str) -> None:
        for task in list(self.tasks.values()):
            if task.workspace_id != workspace_id or task.status != "pending":
                continue
            if task.takes_lock and self.locks.setdefault(workspace_id, task.id) != task.id:
                continue
            self.tasks[task.id] = decide(task, Queue(), self.now).task

    # Assignments

    def standings(self, agent_id: str, fences: Collection[int] = ()) -> dict[int, Standing]:
        """As iac.store.standings.of_agent."""
        found = {}
        for fence, assignment in self.assignments.items():
            task = self.tasks[assignment.task_id]
            present = task.fence == fence and task.assignment_id == assignment.assignment_id
            busy = present and task.status in ("assigned", "running", "cancelling", "lost")
            if assignment.agent_id == agent_id and (fence in fences or busy):
                found[fence] = self._standing(assignment, task, present=present)
        return found

    def _standing(self, assignment: Assignment, task: Task, *, present: bool) -> Standing:
        claimed = None if task.claimed_at is None else (self.now - task.claimed_at).total_seconds()
        return Standing(
            task_id=task.id,
            workspace_id=task.workspace_id,
            fence=assignment.fence,
            assignment_id=assignment.assignment_id,
            agent_id=assignment.agent_id,
            phase="apply" if assignment.phase == "apply" else "plan",
            attempt=assignment.attempt,
            priority=0,
            status=task.status,
            present=present,
            ended=assignment.result_id is not None,
            claimed_for_s=claimed,
            cancel_id=task.cancel_id,
            cancel_reason=task.cancel_reason,
            cancel_force=task.cancel_force,
        )

    def note_result(self, fence: int, result: Result) -> None:
        self.assignments[fence].result_id = result.result_id

    # What executors send

    def append(self, fence: int, offset: int, data: bytes) -> int:
        """Raises LogRefused; then `next_offset` says where to go on."""
        stored = self.logs[fence]
        verdict: object = accept(len(stored), offset, len(data), closed=False, limit=LIMIT)
        if isinstance(verdict, Compare):
            kept = bytes(stored[verdict.offset : verdict.offset + verdict.size])
            verdict = compared(verdict, first_difference(kept, data[: verdict.size]))
        match verdict:
            case Append(skip=skip):
                logs_before = len(stored)
                del stored[offset + skip :]
                stored += data[skip:]
                self.oracle.logged(fence, logs_before, bytes(stored))
            case Gap(expected=expected):
                raise LogRefused("a gap", code="log_gap", next_offset=expected)
            case Conflict() | logs.Closed() | logs.OverLimit():
                raise LogRefused("no", code="log_conflict", next_offset=len(stored))
        return len(stored)

    def upload(self, workspace_id: str) -> None:
        """Somebody who knows better writes a state by hand, as nobody can forbid."""
        before = self.current.get(workspace_id)
        serial = 1 if before is None else before.serial + 1
        self.current[workspace_id] = Current(serial, LINEAGE, f"by hand, serial {serial}")

    def push(self, task_id: int, fence: int, serial: int, sha256: str, *, whole: bool = True) -> str:
        """The verdict on a state; as iac.store.state_pushes."""
        task = self.tasks[task_id]
        kept = self.states.setdefault(task.workspace_id, [])
        known = [state for state in kept if state.task_id == task_id]
        push = Push(
            task_fence=task.fence,
            assignment_fence=fence,
            sha256=sha256,
            header=_header(serial),
            known_hashes=frozenset(state.sha256 for state in known if state.outcome != "checkpoint"),
            checkpoint_hashes=frozenset(state.sha256 for state in known if state.outcome == "checkpoint"),
            newest_serial=max((state.serial for state in known if state.fence == fence), default=None),
            partial=not whole,
        )
        before = self.current.get(task.workspace_id)
        outcome = judge(before, push).outcome
        self.oracle.pushed(
            fence, serial, [state.serial for state in known if state.fence == fence], outcome, whole=whole
        )
        if outcome == "duplicate":
            return outcome
        kept[:] = [
            state for state in kept if (state.fence, state.outcome) != (fence, "checkpoint") or state.serial > serial
        ]
        kept.append(State(task_id, fence, serial, sha256, outcome))
        if outcome == "current":
            self.current[task.workspace_id] = Current(serial, LINEAGE, sha256, fence)
            self.oracle.state_became_current(before, serial, abandoned=fence != task.fence)
        return outcome

    def resolve(self, task_id: int, *, unlock: bool, adopt: bool) -> None:
        """A human declares a lost apply over, and decides about its checkpoint."""
        task = self.tasks[task_id]
        lost, before = task.fence, self.current.get(task.workspace_id)
        self.move(task_id, Resolve(by="ann", comment="", fence=self.next_fence(), unlock=unlock))
        kept = self.states.get(task.workspace_id, [])
        found = [state for state in kept if (state.task_id, state.outcome) == (task_id, "checkpoint")]
        for state in found:
            fits = adoption(before, lost, state.sha256, _header(state.serial)).outcome == "current"
            kept[kept.index(state)] = replace(state, outcome="current" if adopt and fits else "quarantined")
            if adopt and fits:
                self.current[task.workspace_id] = Current(state.serial, LINEAGE, state.sha256, lost)
                self.oracle.state_became_current(before, state.serial, abandoned=False)
                return


def _header(serial: int) -> StateHeader:
    return StateHeader(4, "1", serial, LINEAGE, 0, ())
