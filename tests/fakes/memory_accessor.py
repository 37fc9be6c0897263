"""DataAccessor over dictionaries: one workspace, judged by the same pure domain as the store, with faults on demand."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any, ParamSpec, TypeVar

import msgspec
import trio

from iac.domain import states
from iac.domain.archives import File, digest, write_archive
from iac.domain.bundles import encode_bundle
from iac.domain.lifecycle import Assign, Claim, Confirm, Event, Lose, Report, Unassign, decide
from iac.domain.logs import (
    Append,
    Closed,
    Compare,
    Gap,
    OverLimit,
    Settled,
    Verdict,
    accept,
    compared,
    ending,
    first_difference,
)
from iac.domain.logs import Conflict as Differs
from iac.domain.records import Action, Task
from iac.domain.state_verdicts import Current, Push, judge
from iac.domain.work import (
    BUNDLE_SCHEMA,
    Bundle,
    BundleVariable,
    CurrentState,
    ResourceProgress,
    Result,
    RunTask,
    SavedPlan,
    StatePush,
    StateReceipt,
    TaskData,
)
from iac.errors import BadRequest, Fenced, Invalid, LogRefused, NotFound, PlanStale, TooLarge, Unavailable
from iac.executor.terraform import sensitive_values

WORKSPACE = "ws-memory"
LARGEST_CHUNK = 8 * 1024 * 1024
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(slots=True)
class Stream:
    """A log: its bytes, and how it ended."""

    data: bytearray = field(default_factory=bytearray)
    state: str = "open"


@dataclass(frozen=True, slots=True)
class Stored:
    """A pushed state and what became of it."""

    data: bytes
    task_id: int
    verdict: str
    serial: int | None
    fence: int = 0
    partial: bool = False

    @property
    def open(self) -> bool:
        """A checkpoint about which nobody has decided."""
        return self.partial and self.verdict in ("checkpoint", "quarantined")


class MemoryAccessor:
    """See DataAccessor. What a test does beside it: `create`, `assign` and the rest of the platform's side."""

    def __init__(
        self,
        files: Mapping[str, str] | None = None,
        *,
        variables: tuple[BundleVariable, ...] = (),
        log_max_bytes: int = 16 * 1024 * 1024,
        **bundle: object,
    ) -> None:
        tree = {name: File(text.encode()) for name, text in (files or {"main.tf": ""}).items()}
        self.archive = write_archive(tree)
        self.variables = variables
        self.log_max_bytes = log_max_bytes
        self.bundle_facts = bundle
        self.tasks: dict[int, Task] = {}
        self.bundles: dict[int, Bundle] = {}
        self.streams: defaultdict[tuple[int, int], Stream] = defaultdict(Stream)
        self.plans: dict[int, SavedPlan] = {}
        self.state: CurrentState | None = None
        self.state_fence = 0
        self.stored: list[Stored] = []
        self.checkpoints: list[bytes] = []
        """All that came, also those that newer ones have replaced."""
        self.stages: list[str] = []
        self.progress: list[ResourceProgress] = []
        self.results: list[Result] = []
        self.called: defaultdict[str, int] = defaultdict(int)
        self.down: dict[str, int] = {}
        """method → so many calls are refused as Unavailable, without effect."""
        self.unheard: dict[str, int] = {}
        """method → the answers of so many calls are lost: the effect is there, the caller gets Unavailable."""
        self.hold: dict[str, trio.Event] = {}
        """method → after its effect it waits for this before it answers."""
        self._ids, self._fences = count(1), count(100)

    # The platform's side

    def create(self, action: Action, *, plan_of: int | None = None) -> int:
        task_id = next(self._ids)
        facts: dict[str, object] = {
            "engine": "terraform", "terraform_version": "latest", "working_directory": "", "generated": {},
            "targets": (), "replace": (), "lock_hcl": None, **self.bundle_facts,
        }  # fmt: skip
        self.bundles[task_id] = bundle = (
            self.bundles[plan_of]
            if plan_of is not None
            else msgspec.convert(
                {
                    "schema": BUNDLE_SCHEMA, "workspace_id": WORKSPACE, "workspace_name": "w", "action": action,
                    "configuration_digest": digest(self.archive), "variables": self.variables, "created_at": "", **facts,
                },
                Bundle,
            )
        )  # fmt: skip
        source = None if plan_of is None else self.tasks[plan_of]
        self.tasks[task_id] = msgspec.structs.replace(
            new_task(task_id, action),
            phase="plan" if source is None else "apply",
            bundle_digest=encode_bundle(bundle)[1],
            plan_task_id=plan_of,
            plan_digest=None if source is None else source.plan_digest,
            has_changes=None if source is None else source.has_changes,
        )
        return task_id

    def assign(self, task_id: int) -> RunTask:
        fence = next(self._fences)
        task = self.move(task_id, Assign(agent_id="memory", assignment_id=f"asg-{fence}", fence=fence))
        for (other, _), stream in self.streams.items():
            if other == task_id and stream.state == "open":
                stream.state = "incomplete"
        self.streams[task_id, fence] = Stream()
        return RunTask(
            task_id=task_id,
            workspace_id=WORKSPACE,
            action=task.phase,
            assignment_id=f"asg-{fence}",
            fence=fence,
            attempt=task.attempt,
        )

    def order(self, action: Action = "plan_and_apply") -> RunTask:
        return self.assign(self.create(action))

    def take_away(self, order: RunTask) -> RunTask:
        """The runner is believed dead: the task goes to another one."""
        fence = order.fence
        if self.tasks[order.task_id].status == "assigned":
            self.move(order.task_id, Unassign(fence=fence))
        else:
            self.move(order.task_id, Lose(fence=fence, reason="agent_lost", detail=""))
        return self.assign(order.task_id)

    def confirm(self, task_id: int) -> RunTask:
        digest_ = self.tasks[task_id].plan_digest or ""
        self.move(task_id, Confirm(by="test", comment="", plan_digest=digest_))
        return self.assign(task_id)

    def move(self, task_id: int, event: Event) -> Task:
        if task_id not in self.tasks:
            raise NotFound(f"There is no task {task_id}.")
        self.tasks[task_id] = after = decide(self.tasks[task_id], event, datetime.now(UTC)).task
        return after

    def set_state(self, data: bytes) -> None:
        header = states.inspect(data)
        self.state = CurrentState(data=data, sha256=_sha256(data), serial=header.serial, lineage=header.lineage)

    def log(self, order: RunTask) -> bytes:
        return bytes(self.streams[order.task_id, order.fence].data)

    # DataAccessor

    async def get_task_data(self, order: RunTask) -> TaskData:
        return await self._call("get_task_data", self._claim, order)

    async def save_task_log(self, order: RunTask, offset: int, data: bytes) -> int:
        return await self._call("save_task_log", self._append, order, offset, data)

    async def ready_task_log(self, order: RunTask, offset: int, data: bytes) -> Callable[[], Awaitable[int]]:
        return partial(self.save_task_log, order, offset, data)

    async def note_stage(self, order: RunTask, stage: str) -> None:
        await self._call("note_stage", self._note, order, self.stages, [stage])

    async def note_progress(self, order: RunTask, entries: list[ResourceProgress]) -> None:
        await self._call("note_progress", self._note, order, self.progress, entries)

    async def save_plan(self, order: RunTask, plan: SavedPlan, planned: list[ResourceProgress]) -> None:
        await self._call("save_plan", self._keep_plan, order, plan)

    async def save_state_version(self, order: RunTask, push: StatePush) -> StateReceipt:
        return await self._call("save_state_version", self._push, order, push)

    async def update_task(self, order: RunTask, result: Result) -> None:
        await self._call("update_task", self._report, order, result)

    async def _call(self, name: str, act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        await trio.lowlevel.checkpoint()
        self.called[name] += 1
        _count_down(self.down, name)
        answer = act(*args, **kwargs)
        if name in self.hold:
            await self.hold[name].wait()
        _count_down(self.unheard, name)
        return answer

    def _claim(self, order: RunTask) -> TaskData:
        task = self.move(order.task_id, Claim(fence=order.fence))
        plan = self._plan(task) if order.action == "apply" else None
        return TaskData(
            order=order,
            bundle=self.bundles[task.id],
            bundle_digest=task.bundle_digest,
            archive=self.archive,
            state=self.state,
            plan=plan,
            sensitive_values=sensitive_values(self.variables),
            log_max_bytes=self.log_max_bytes,
            log_offset=len(self.streams[task.id, order.fence].data),
        )

    def _plan(self, task: Task) -> SavedPlan:
        plan = self.plans[task.plan_task_id or task.id]
        now_at = (self.state.serial, self.state.lineage) if self.state else (None, None)
        if (plan.facts.serial, plan.facts.lineage) != now_at:
            raise PlanStale("The state has moved on; plan again.")
        return msgspec.structs.replace(plan, json=b"")

    def _append(self, order: RunTask, offset: int, data: bytes) -> int:
        stream = self.streams[order.task_id, order.fence]
        length, closed = len(stream.data), stream.state != "open"
        verdict: Verdict | Settled = accept(
            length, offset, len(data), closed=closed, limit=self.log_max_bytes + LARGEST_CHUNK
        )
        if isinstance(verdict, Compare):
            known = bytes(stream.data[verdict.offset : verdict.offset + verdict.size])
            verdict = compared(verdict, first_difference(known, data[: verdict.size]))
        match verdict:
            case Append(skip=skip):
                stream.data += data[skip:]
            case Gap(expected=expected):
                raise LogRefused("gap", code="log_gap", next_offset=expected)
            case Differs(at=at):
                raise LogRefused("conflict", code="log_conflict", conflict_at=at, next_offset=length)
            case Closed():
                raise LogRefused("closed", code="log_closed", next_offset=length)
            case OverLimit():
                raise TooLarge("limit", code="log_limit")
        return len(stream.data)

    def _note(self, order: RunTask, notes: list[T], entries: Sequence[T]) -> None:
        if self.tasks[order.task_id].fence == order.fence:
            notes += entries

    def _keep_plan(self, order: RunTask, plan: SavedPlan) -> None:
        task = self.tasks[order.task_id]
        if task.fence != order.fence or task.phase != "plan" or task.status not in ("running", "cancelling", "lost"):
            raise Fenced("This assignment may not store a plan any more.")
        self.plans[task.id] = plan
        self.tasks[task.id] = msgspec.structs.replace(
            task, plan_digest=plan.facts.digest, has_changes=plan.facts.has_changes
        )

    def _push(self, order: RunTask, push: StatePush) -> StateReceipt:
        if _sha256(push.data) != push.sha256:
            raise BadRequest("checksum", code="checksum_mismatch")
        task, header = self.tasks[order.task_id], _header(push.data)
        own = [stored for stored in self.stored if stored.task_id == task.id]
        standing = None
        if self.state is not None:
            standing = Current(self.state.serial, self.state.lineage, self.state.sha256, self.state_fence)
        sent = Push(
            task_fence=task.fence,
            assignment_fence=order.fence,
            sha256=push.sha256,
            header=header,
            known_hashes=frozenset(_sha256(s.data) for s in own if not s.open),
            checkpoint_hashes=frozenset(_sha256(s.data) for s in own if s.open),
            newest_serial=max((s.serial for s in own if s.fence == order.fence and s.serial is not None), default=None),
            partial=push.partial,
        )
        verdict = judge(standing, sent)
        serial = header.serial if header else None
        if verdict.stores:
            self.stored = [kept for kept in self.stored if not _is_superseded(kept, order, serial, push.data)]
            self.stored.append(Stored(push.data, task.id, verdict.outcome, serial, order.fence, push.partial))
        if push.partial:
            self.checkpoints.append(push.data)
        if verdict.outcome == "current":
            self.set_state(push.data)
            self.state_fence = order.fence
        return StateReceipt(verdict=verdict.outcome, serial=serial, reason=verdict.message)

    def _report(self, order: RunTask, result: Result) -> None:
        after = self.move(order.task_id, Report(fence=order.fence, result=result))
        if after.fence != order.fence:
            raise Fenced("This assignment was taken away.")
        self.results.append(result)
        stream = self.streams[order.task_id, order.fence]
        if result.log is not None and result.log.state == "whole" and stream.state == "open":
            stream.state = ending(len(stream.data), _sha256(bytes(stream.data)), result.log).state


def _count_down(faults: dict[str, int], name: str) -> None:
    if faults.get(name):
        faults[name] -= 1
        raise Unavailable("not now")


def _is_superseded(kept: Stored, order: RunTask, serial: int | None, data: bytes) -> bool:
    """A checkpoint goes when a newer state of its assignment is stored."""
    known, new = (-1 if number is None else number for number in (kept.serial, serial))
    return kept.open and kept.fence == order.fence and (known <= new or kept.data == data)


def _header(data: bytes) -> states.StateHeader | None:
    try:
        return states.inspect(data)
    except Invalid:
        return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def new_task(task_id: int, action: Action) -> Task:
    """A queued task; what does not matter here is empty."""
    values: dict[str, Any] = dict.fromkeys(Task.__struct_fields__)
    return Task(
        **{
            **values, "id": task_id, "workspace_id": WORKSPACE, "workspace_name": "w", "action": action, "phase": "plan",
            "status": "queued", "execution_mode": "local", "priority": 0, "auto_apply": action == "apply",
            "targets": (), "replace": (), "message": "", "created_by": "test", "bundle_digest": "", "fence": 0,
            "terraform_version": "latest", "attempt": 0, "cancel_force": False, "state_safe": True,
            "created_at": datetime.now(UTC),
        }
    )  # fmt: skip
