"""Agents as rows of a list, and the page of one of them: how it is, what it runs, what it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from iac.domain.glances import Stint
from iac.domain.pool_bodies import AgentStatus, AgentView
from iac.domain.records import Phase, PoolToken
from iac.web.ui.models.parts import Part, Parts, View
from iac.web.ui.models.pool_words import pool_path
from iac.web.ui.models.times import lasting
from iac.web.ui.models.words import ACTIONS, Badge, Tone, task_badge

FILE = "agents.html"
CLOCK_OFF = 5.0
"""Seconds that a clock is wrong before anybody is told; a message's way takes some of them."""
FULL, NEARLY_FULL = 90, 70
STATUSES: Mapping[AgentStatus, Badge] = {
    "online": Badge("Online", "good", "check"),
    "offline": Badge("Offline", "calm", "dash"),
    "draining": Badge("Draining", "warn", "stop"),
    "pending_approval": Badge("To approve", "warn", "hand"),
    "revoked": Badge("Shut out", "bad", "slash"),
    "retired": Badge("Removed", "calm", "slash"),
}
_PHASES: Mapping[Phase, str] = {"plan": "Plan", "apply": "Apply"}


class Meter(msgspec.Struct, frozen=True):
    """How much of something is used, in hundredths."""

    label: str
    percent: int
    tone: Tone


class Work(msgspec.Struct, frozen=True):
    """A task that an agent runs."""

    id: int
    applies: bool


class AgentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One agent. What it says of its load is there while it is online only; `deeds` are those that make sense now."""

    id: str
    name: str
    href: str
    pool: str
    pool_href: str
    badge: Badge
    system: str
    version: str
    meters: tuple[Meter, ...]
    disk: str
    plans: int
    plan_limit: int
    applies: int
    work: tuple[Work, ...]
    seen: datetime | None
    clock: str
    unsent: int
    deeds: tuple[str, ...]


class StintRow(msgspec.Struct, frozen=True, kw_only=True):
    """One hand-out of a task; `running_since` while it goes on, `lasted` when it has ended."""

    task: int
    action: str
    phase: str
    workspace: str
    badge: Badge
    again: int
    begun: datetime
    running_since: datetime | None
    lasted: str
    note: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while an agent runs."""

    id: str
    ip: str
    registered: datetime
    retired: datetime | None
    token: str
    token_good: bool
    capabilities: tuple[str, ...]


class NoStints(msgspec.Struct, frozen=True):
    name: str


class AgentPage(View, frozen=True, kw_only=True):
    agent: AgentRow
    head: Parts
    load: Parts
    facts: Parts
    stints: Parts


def agent_row(agent: AgentView, *, unsent: int = 0, may_admin: bool = False) -> AgentRow:
    """`unsent`: how many applies' newest states it may still have for itself."""
    return AgentRow(
        id=agent.id,
        name=agent.name,
        href=agent_path(agent.id),
        pool=agent.pool_name,
        pool_href=pool_path(agent.pool_name),
        badge=_badge(agent),
        system=f"{agent.os} {agent.arch}".strip(),
        version=agent.version,
        meters=_meters(agent),
        disk="" if agent.disk_free is None or not agent.online else size(agent.disk_free),
        plans=len(agent.current_tasks) - len(agent.current_applies),
        plan_limit=agent.plan_limit,
        applies=len(agent.current_applies),
        work=tuple(Work(task, task in agent.current_applies) for task in agent.current_tasks),
        seen=agent.last_seen_at,
        clock=clock(agent.clock_ahead_s),
        unsent=unsent if agent.online else 0,
        deeds=_deeds(agent) if may_admin else (),
    )


def agent_path(agent_id: str) -> str:
    return f"/agents/{agent_id}"


def _badge(agent: AgentView) -> Badge:
    if agent.status == "offline" and agent.current_tasks:
        return Badge("Silent", "bad", "question")  # it is needed
    return STATUSES[agent.status]


def _deeds(agent: AgentView) -> tuple[str, ...]:
    if agent.retired_at is not None:
        return ()
    first = () if agent.approved else ("approve",)
    return (*first, "undrain" if agent.draining else "drain", "remove")


def _meters(agent: AgentView) -> tuple[Meter, ...]:
    if not agent.online:
        return ()
    told = (("CPU", agent.cpu_usage), ("Memory", agent.mem_usage))
    return tuple(meter(label, usage) for label, usage in told if usage is not None)


def meter(label: str, usage: float) -> Meter:
    percent = round(100 * min(max(usage, 0.0), 1.0))
    tone: Tone = "bad" if percent >= FULL else "warn" if percent >= NEARLY_FULL else "good"
    return Meter(label, percent, tone)


def size(number: int) -> str:
    """Bytes as people say them; coarse, so that it says something new only when something has changed."""
    for unit, bytes_ in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if number >= bytes_:
            found = number / bytes_
            return f"{found:.1f} {unit}" if found < 10 else f"{found:.0f} {unit}"
    return f"{number // 1024} KiB"


def clock(ahead: float | None) -> str:
    """What is wrong with it; nothing for one that is right as far as can be told."""
    if ahead is None or abs(ahead) < CLOCK_OFF:
        return ""
    return f"{lasting(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"


def agent_page(
    agent: AgentView, stints: Sequence[Stint], token: PoolToken | None, *, unsent: int, may_admin: bool
) -> AgentPage:
    row = agent_row(agent, unsent=unsent, may_admin=may_admin)
    rows = tuple(Part(f"stint-{each.task.id}-{n}", f"{FILE}:stint", stint_row(each)) for n, each in _numbered(stints))
    if not rows:
        rows = (Part("no-stints", f"{FILE}:no_stints", NoStints(agent.name)),)
    still = msgspec.structs.replace(row, meters=(), disk="", seen=None)  # what each heartbeat changes is in `load`
    return AgentPage(
        title=agent.name,
        agent=row,
        head=Parts("agent-head", (Part("agent-head-shown", f"{FILE}:head", still),)),
        load=Parts("agent-load", (Part("agent-load-shown", f"{FILE}:load", row),)),
        facts=Parts("agent-facts", (Part("agent-facts-shown", f"{FILE}:facts", _facts(agent, token)),)),
        stints=Parts("stints", rows),
    )


def _numbered(stints: Sequence[Stint]) -> list[tuple[str, Stint]]:
    return [(f"{each.phase}-{each.attempt}-{int(each.begun_at.timestamp() * 1000)}", each) for each in stints]


def _facts(agent: AgentView, token: PoolToken | None) -> Facts:
    return Facts(
        id=agent.id,
        ip=agent.ip or "",
        registered=agent.registered_at,
        retired=agent.retired_at,
        token="" if token is None else token.name,
        token_good=token is None or token.revoked_at is None,
        capabilities=agent.capabilities,
    )


def stint_row(stint: Stint) -> StintRow:
    task = stint.task
    going_on = stint.current and stint.ended_at is None and task.status in ("assigned", "running", "cancelling")
    ended = stint.ended_at or (task.finished_at if stint.current else None)
    return StintRow(
        task=task.id,
        action=ACTIONS[task.action],
        phase=_PHASES[stint.phase],
        workspace=task.workspace_name,
        badge=_went(stint),
        again=stint.attempt if stint.attempt > 1 else 0,
        begun=stint.begun_at,
        running_since=stint.begun_at if going_on else None,
        lasted="" if going_on or ended is None else lasting((ended - stint.begun_at).total_seconds()),
        note=task.detail or "" if stint.current and task.status in ("failed", "lost") else "",
    )


def _went(stint: Stint) -> Badge:
    task = stint.task
    if stint.current:
        return task_badge(task.status, task.phase, task.action, task.outcome, has_changes=task.has_changes)
    if stint.ended_at is not None:
        return Badge("Planned" if stint.phase == "plan" else "Ended", "good", "check")
    return Badge("Taken back", "calm", "slash")
