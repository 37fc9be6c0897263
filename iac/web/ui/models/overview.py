"""The overview: what needs somebody, what runs, what waits and why, how the agents are, how the last day went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import quote

import msgspec

from iac.domain.glances import Advance, HourOutcomes, Newcomer, PoolGlance
from iac.domain.records import Task
from iac.domain.scheduling import Runner, Wait
from iac.domain.stages import ORDER, words
from iac.domain.work import PlanFacts
from iac.web.ui.models.parts import Part, Parts, View
from iac.web.ui.models.words import ACTIONS, Badge, Counts, Tone, many, plan_counts, task_badge

RUNNING = frozenset({"assigned", "running", "cancelling"})
WAITING = frozenset({"pending", "queued"})
MOST = 50
"""How many entries a section has; the rest is counted and linked to."""
HOURS = 24
FILE = "overview.html"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that the overview is made from, as of `now`. `local` is the server itself as a runner, if it is one."""

    now: datetime
    open: Sequence[Task]
    failed: Sequence[Task]
    plans: Mapping[int, PlanFacts]
    advances: Mapping[int, Advance]
    names: Mapping[str, str]
    pools: Sequence[PoolGlance]
    newcomers: Sequence[Newcomer]
    hours: Sequence[HourOutcomes]
    waits: Mapping[int, Wait]
    local: Runner | None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A task in a list: what it is, where, since when, and what there is to say about it."""

    id: int
    workspace: str
    action: str
    badge: Badge
    by: str
    message: str
    since: datetime | None
    note: str = ""
    asks: str = ""
    """What somebody should do, as the words of a link."""
    counts: Counts | None = None
    where: str = ""
    progress: Progress | None = None
    position: int | None = None
    held: bool = False
    """Whether it is not even in the queue, because another task or a person holds its workspace."""


class Progress(msgspec.Struct, frozen=True):
    """How far a running task is: `done` of `total` steps, in `words`. `counted` ones are resources, others stages."""

    done: int
    total: int
    words: str
    counted: bool


class Approval(msgspec.Struct, frozen=True):
    """An agent that waits to be let in."""

    id: str
    name: str
    pool: str
    since: datetime


class Head(msgspec.Struct, frozen=True):
    """What stands beside a section's title."""

    total: int


class More(msgspec.Struct, frozen=True):
    """What a section does not show."""

    number: int
    href: str


class Nothing(msgspec.Struct, frozen=True):
    """Stands for an empty section."""

    title: str
    text: str


class PoolHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A pool in one line; the server itself is one as well. `state` says in words what `tone` says in colour."""

    name: str
    href: str | None
    tone: Tone
    state: str
    online: int
    total: int
    slots: int
    plans: int
    applies: int
    waiting: int
    notes: tuple[str, ...]
    cpu: int | None
    mem: int | None


class Hour(msgspec.Struct, frozen=True):
    """One hour's bar: heights of its three pieces in hundredths of the chart, from below, and what it says."""

    succeeded: float
    failed: float
    cancelled: float
    words: str


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """How the tasks of the last day ended."""

    hours: tuple[Hour, ...]
    succeeded: int
    failed: int
    cancelled: int
    most: int
    """The highest bar's number of tasks."""
    begins: datetime

    @property
    def total(self) -> int:
        return self.succeeded + self.failed + self.cancelled


class Overview(View, frozen=True, kw_only=True):
    attention_head: Parts
    attention: Parts
    running_head: Parts
    running: Parts
    waiting_head: Parts
    waiting: Parts
    pools: Parts
    outcomes: Parts


def overview(facts: Facts) -> Overview:
    asking = sorted((task for task in facts.open if task.status in ("lost", "planned")), key=_urgency)
    running = sorted((task for task in facts.open if task.status in RUNNING), key=lambda task: task.id)
    waiting = sorted(
        (task for task in facts.open if task.status in WAITING), key=lambda task: _place(task, facts.waits)
    )
    approvals = [Approval(each.id, each.name, each.pool_name, each.registered_at) for each in facts.newcomers]
    asking_entries, failed = [_asking(task, facts) for task in asking], [_failed(task, facts) for task in facts.failed]
    return Overview(
        title="Overview",
        attention_head=_head("attention", len(asking_entries) + len(approvals) + len(failed)),
        attention=_attention(asking_entries, approvals, failed),
        running_head=_head("running", len(running)),
        running=_entries("running", [_running(task, facts) for task in running], NOTHING_RUNS),
        waiting_head=_head("waiting", len(waiting)),
        waiting=_entries("waiting", [_waiting(task, facts) for task in waiting], NOTHING_WAITS),
        pools=Parts("pools", tuple(_pools(facts))),
        outcomes=Parts("outcomes", (Part("outcomes-chart", f"{FILE}:outcomes", outcomes(facts.hours, facts.now)),)),
    )


NOTHING_ASKS = Nothing("Nothing needs you", "Plans to confirm, lost applies and failed tasks show up here.")
NOTHING_RUNS = Nothing("Nothing is running", "Tasks appear here the moment they start.")
NOTHING_WAITS = Nothing("The queue is empty", "A task that has to wait says here why.")


def _head(name: str, total: int) -> Parts:
    return Parts(f"{name}-head", (Part(f"{name}-count", f"{FILE}:count", Head(total)),))


def _attention(asking: Sequence[Entry], approvals: Sequence[Approval], failed: Sequence[Entry]) -> Parts:
    """What holds others up comes first: what waits for a decision, who waits to be let in, then what failed."""
    waiting = [Part(f"approval-{each.id}", f"{FILE}:approval", each) for each in approvals]
    rest = _entries("attention", [*asking, *failed], NOTHING_ASKS).parts
    if not waiting:
        return Parts("attention", rest)
    kept = [part for part in rest if not isinstance(part.model, Nothing)]
    at = min(len(asking), len(kept))
    return Parts("attention", (*kept[:at], *waiting, *kept[at:]))


def _entries(name: str, entries: Sequence[Entry], nothing: Nothing) -> Parts:
    parts = [Part(f"{name}-{entry.id}", f"{FILE}:{name}", entry) for entry in entries[:MOST]]
    if not parts:
        parts.append(Part(f"{name}-nothing", f"{FILE}:nothing", nothing))
    if len(entries) > MOST:
        parts.append(Part(f"{name}-more", f"{FILE}:more", More(len(entries) - MOST, "/tasks")))
    return Parts(name, tuple(parts))


def _urgency(task: Task) -> tuple[bool, int]:
    """Lost ones first: their workspaces are locked."""
    return task.status != "lost", task.id


def _place(task: Task, waits: Mapping[int, Wait]) -> tuple[bool, int, int]:
    """Those that could run come in the order in which they will; then those that wait for their workspace."""
    wait = waits.get(task.id)
    return task.status != "queued", (wait.position if wait and wait.position else 0), task.id


def _entry(task: Task, facts: Facts, since: datetime | None) -> Entry:
    return Entry(
        id=task.id,
        workspace=task.workspace_name,
        action=ACTIONS[task.action],
        badge=task_badge(task.status, task.phase, task.action, task.outcome, has_changes=task.has_changes),
        by=task.created_by,
        message=task.message,
        since=since,
        where=_where(task, facts.names),
    )


def _where(task: Task, names: Mapping[str, str]) -> str:
    if task.agent_id is not None:
        return "this server" if task.execution_mode == "local" else names.get(task.agent_id, task.agent_id)
    if task.execution_mode == "local":
        return "this server"
    return f"pool {names.get(task.pool_id, task.pool_id)}" if task.pool_id else "no pool"


def _asking(task: Task, facts: Facts) -> Entry:
    if task.status == "lost":
        note = task.detail or "Its outcome is unknown, and its workspace stays locked until somebody looked."
        entry = _entry(task, facts, task.started_at or task.created_at)
        return msgspec.structs.replace(entry, note=note, asks="Resolve")
    plan = facts.plans.get(task.plan_task_id or task.id)
    counts = None if plan is None else plan_counts(plan.summary)
    entry = _entry(task, facts, task.planned_at)
    return msgspec.structs.replace(entry, counts=counts, asks="Review plan")


def _failed(task: Task, facts: Facts) -> Entry:
    note = task.detail or (f"Terraform ended with exit code {task.exit_code}." if task.exit_code else task.reason or "")
    return msgspec.structs.replace(_entry(task, facts, task.finished_at), note=note, asks="See why")


def _running(task: Task, facts: Facts) -> Entry:
    entry = _entry(task, facts, task.started_at or task.assigned_at)
    return msgspec.structs.replace(entry, progress=progress(task, facts.advances.get(task.id)))


def progress(task: Task, advance: Advance | None) -> Progress:
    """An apply is counted in resources as soon as it is about some; everything else in stages."""
    if task.status == "assigned":
        return Progress(0, len(ORDER[task.phase]), "handed out, about to start", False)
    if advance is not None and advance.total and task.stage == "applying":
        return Progress(advance.done, advance.total, f"{advance.done} of {many(advance.total, 'resource')}", True)
    order = ORDER[task.phase]
    done = order.index(task.stage) if task.stage in order else 0
    return Progress(done, len(order), words(task.stage) or "starting", False)


def _waiting(task: Task, facts: Facts) -> Entry:
    wait = facts.waits.get(task.id)
    held = task.status == "pending"
    return msgspec.structs.replace(
        _entry(task, facts, task.queued_at or task.created_at),
        note=wait.message if wait is not None else "It is about to be looked at.",
        position=wait.position if wait is not None and not held else None,
        held=held,
    )


def _pools(facts: Facts) -> Iterable[Part]:
    plans, applies, waiting = Counter[str](), Counter[str](), Counter[str]()
    for task in facts.open:
        if task.pool_id is not None and task.execution_mode == "agent":
            if task.status in RUNNING:
                (applies if task.phase == "apply" else plans)[task.pool_id] += 1
            waiting[task.pool_id] += task.status == "queued"
    yield Part("pool-local", f"{FILE}:pool", _server(facts))
    for pool in facts.pools:
        counts = (plans[pool.id], applies[pool.id], waiting[pool.id])
        yield Part(pool.id, f"{FILE}:pool", _health(pool, *counts))


def _server(facts: Facts) -> PoolHealth:
    runner = facts.local
    waiting = sum(task.status == "queued" and task.execution_mode == "local" for task in facts.open)
    tone, state = "calm", "Off"
    if runner is not None:
        tone, state = ("warn", "Draining") if runner.draining else ("good", "Online")
    return PoolHealth(
        name="This server",
        href=None,
        tone="bad" if runner is None and waiting else tone,  # type: ignore[arg-type]  # one of the pairs above
        state=state,
        online=int(runner is not None),
        total=1,
        slots=0 if runner is None else runner.plan_limit,
        plans=0 if runner is None else len(runner.plans),
        applies=0 if runner is None else len(runner.applies),
        waiting=waiting,
        notes=("runs no Terraform (IAC_LOCAL_EXECUTOR is off)",) if runner is None else (),
        cpu=None,
        mem=None,
    )


def _health(pool: PoolGlance, plans: int, applies: int, waiting: int) -> PoolHealth:
    told = ((pool.draining, "draining"), (pool.unapproved, "to approve"), (pool.offline, "offline"))
    total = pool.online + pool.draining + pool.unapproved + pool.offline
    tone, state = pool_state(pool, waiting)
    return PoolHealth(
        name=pool.name,
        href=f"/agents/pools/{quote(pool.name, safe='')}",
        tone=tone,
        state=state,
        online=pool.online,
        total=total,
        slots=pool.slots,
        plans=plans,
        applies=applies,
        waiting=waiting,
        notes=tuple(f"{number} {word}" for number, word in told if number),
        cpu=None if pool.cpu_usage is None else round(pool.cpu_usage * 100),
        mem=None if pool.mem_usage is None else round(pool.mem_usage * 100),
    )


def pool_state(pool: PoolGlance, waiting: int) -> tuple[Tone, str]:
    """How a pool is while so many tasks are queued for it: a tone, and the words for it."""
    if not pool.online + pool.draining + pool.unapproved + pool.offline:
        return ("bad" if waiting else "calm"), "No agents yet"
    if not pool.online:
        return ("bad" if waiting or pool.offline else "warn"), "Nobody online"
    if pool.offline or pool.draining:
        return "warn", "Partly online"
    return "good", "Online"


def outcomes(found: Sequence[HourOutcomes], now: datetime) -> Outcomes:
    """A bar for each of the last 24 hours, the present one last."""
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    first = this_hour - timedelta(hours=HOURS - 1)
    by_hour = {each.hour: each for each in found if each.hour >= first}
    most = max((each.succeeded + each.failed + each.cancelled for each in by_hour.values()), default=0)
    bars = []
    for hour in (first + timedelta(hours=n) for n in range(HOURS)):
        each = by_hour.get(hour) or HourOutcomes(hour=hour, succeeded=0, failed=0, cancelled=0)
        bars.append(_bar(each, most))
    return Outcomes(
        hours=tuple(bars),
        succeeded=sum(each.succeeded for each in by_hour.values()),
        failed=sum(each.failed for each in by_hour.values()),
        cancelled=sum(each.cancelled for each in by_hour.values()),
        most=most,
        begins=first,
    )


def _bar(each: HourOutcomes, most: int) -> Hour:
    def height(number: int) -> float:
        return round(100 * number / most, 2) if most else 0.0

    told = ((each.succeeded, "succeeded"), (each.failed, "failed"), (each.cancelled, "cancelled"))
    said = ", ".join(f"{number} {word}" for number, word in told if number) or "nothing ended"
    return Hour(height(each.succeeded), height(each.failed), height(each.cancelled), f"{each.hour:%H:%M} UTC: {said}")
