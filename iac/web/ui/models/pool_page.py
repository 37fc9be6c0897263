"""The page of a pool: its agents, what waits for them, whom they may serve, what lets new ones in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

import msgspec

from iac.domain.glances import PoolGlance
from iac.domain.pool_bodies import AgentView
from iac.domain.records import Allowance, Pool, PoolToken, Task
from iac.domain.scheduling import Wait
from iac.web.ui.models.agents import AgentRow, agent_row
from iac.web.ui.models.parts import Part, Parts, View
from iac.web.ui.models.pool_list import PoolRow, row
from iac.web.ui.models.pool_words import EXCLUSIVITY, NAMES, demand, pool_path
from iac.web.ui.models.words import ACTIONS, Badge, many

FILE = "pool.html"
MOST_WAITING = 20


class PoolHead(msgspec.Struct, frozen=True, kw_only=True):
    """What stands above; `path` is the page's address."""

    id: str
    name: str
    path: str
    description: str
    kind: str
    tone: str
    state: str
    agents: str
    may_admin: bool


class PoolFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The pool's settings, in words."""

    id: str
    approval: str
    names: str
    applies: str
    networks: str
    most: str
    created: datetime
    by: str


class Waiting(msgspec.Struct, frozen=True):
    """A task that waits in the pool, and why."""

    id: int
    action: str
    workspace: str
    since: datetime | None
    says: str


class AllowanceRow(msgspec.Struct, frozen=True, kw_only=True):
    workspace: str
    used: bool
    by: str
    since: datetime
    drop: str
    """Where one says that it is not allowed any more; empty for those who may not."""


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """A token, which nobody can read again. `rotate` and `revoke` are where that is done; empty where it makes no sense."""

    id: str
    name: str
    badge: Badge
    by: str
    created: datetime
    ends: datetime | None
    used: datetime | None
    ip: str
    agents: str
    rotate: str
    revoke: str


class More(msgspec.Struct, frozen=True):
    """What is not shown, in words; `href` leads there if anything does."""

    words: str
    href: str


class Empty(msgspec.Struct, frozen=True):
    """Stands for a list with nothing in it; `href` is a way out of that, called `way`."""

    title: str
    text: str
    icon: str
    href: str = ""
    way: str = ""


class PoolPage(View, frozen=True, kw_only=True):
    pool: PoolHead
    head: Parts
    agents: Parts
    capacity: Parts
    waiting: Parts
    allowed: Parts
    tokens: Parts
    facts: Parts


def pool_page(
    pool: Pool,
    glance: PoolGlance,
    *,
    agents: Sequence[AgentView],
    most_agents: int,
    unsent: Mapping[str, int],
    open_tasks: Sequence[Task],
    waits: Mapping[int, Wait],
    allowed: Sequence[Allowance],
    most_allowed: int,
    tokens: Sequence[PoolToken],
    holders: Mapping[str, int],
    may_admin: bool,
    after: str,
    now: datetime,
) -> PoolPage:
    """`agents` and `allowed` have one more than is shown when there are more."""
    summary = row(pool, glance, demand(open_tasks, waits), len(allowed))
    head = _head(pool, summary, may_admin=may_admin)
    rows = [agent_row(each, unsent=unsent.get(each.id, 0), may_admin=may_admin) for each in agents[:most_agents]]
    return PoolPage(
        title=pool.name,
        pool=head,
        head=Parts("pool-head", (Part("pool-head-shown", f"{FILE}:head", head),)),
        agents=Parts("agents", tuple(_agents(head, rows, more=len(agents) > most_agents, after=after))),
        capacity=Parts("capacity", (Part("capacity-shown", f"{FILE}:capacity", summary),)),
        waiting=Parts("waiting", tuple(_waiting(open_tasks, waits))),
        allowed=Parts("allowed", tuple(_allowed(head, allowed, most_allowed))),
        tokens=Parts("tokens", tuple(_tokens(head, tokens, holders, now)) if may_admin else ()),
        facts=Parts("pool-facts", (Part("pool-facts-shown", f"{FILE}:facts", _facts(pool)),)),
    )


def _head(pool: Pool, summary: PoolRow, *, may_admin: bool) -> PoolHead:
    return PoolHead(
        id=pool.id,
        name=pool.name,
        path=pool_path(pool.name),
        description=pool.description,
        kind=summary.kind,
        tone=summary.tone,
        state=summary.state,
        agents=f"{summary.online} of {many(summary.agents, 'agent')} online" if summary.agents else "",
        may_admin=may_admin,
    )


def _facts(pool: Pool) -> PoolFacts:
    return PoolFacts(
        id=pool.id,
        approval="Wait for an admin's approval" if pool.require_approval else "Work at once",
        names=NAMES[pool.name_policy],
        applies=EXCLUSIVITY[pool.apply_exclusivity],
        networks=", ".join(pool.networks) or "Everywhere",
        most="Any number" if pool.max_agents is None else f"At most {pool.max_agents:,}",
        created=pool.created_at,
        by=pool.created_by,
    )


def _agents(pool: PoolHead, rows: Sequence[AgentRow], *, more: bool, after: str) -> list[Part]:
    parts = [Part(each.id, f"{FILE}:agent", each) for each in rows]
    if not parts and not after:
        text = "Nobody is there for this pool's tasks. A token of the pool lets agents in."
        way = ("/tokens/new", "Add an agent") if pool.may_admin else ("", "")
        nothing = Empty("No agents yet", text, "agent", f"{pool.path}{way[0]}" if way[0] else "", way[1])
        parts.append(Part("no-agents", f"{FILE}:empty", nothing))
    if after:
        parts.append(Part("agents-first", f"{FILE}:more", More("The first agents", pool.path)))
    if more:
        parts.append(Part("agents-more", f"{FILE}:more", More("More agents", f"{pool.path}?after={rows[-1].id}")))
    return parts


def _waiting(open_tasks: Sequence[Task], waits: Mapping[int, Wait]) -> list[Part]:
    queued = [task for task in open_tasks if task.status == "queued"]
    queued.sort(key=lambda task: ((wait := waits.get(task.id)) is None or wait.position is None, _place(task, waits)))
    parts = [
        Part(f"waiting-{task.id}", f"{FILE}:waiting", _waits(task, waits.get(task.id)))
        for task in queued[:MOST_WAITING]
    ]
    if not parts:
        nothing = Empty("Nothing waits", "A task that has to wait for this pool says here why.", "check")
        parts.append(Part("nothing-waits", f"{FILE}:empty", nothing))
    if len(queued) > MOST_WAITING:
        rest = More(f"and {len(queued) - MOST_WAITING:,} more", "/tasks?state=waiting")
        parts.append(Part("waiting-more", f"{FILE}:more", rest))
    return parts


def _place(task: Task, waits: Mapping[int, Wait]) -> tuple[int, int]:
    wait = waits.get(task.id)
    return (wait.position or 0 if wait is not None else 0), task.id


def _waits(task: Task, wait: Wait | None) -> Waiting:
    says = "About to be looked at." if wait is None else wait.message
    return Waiting(task.id, ACTIONS[task.action], task.workspace_name, task.queued_at or task.created_at, says)


def _allowed(pool: PoolHead, allowed: Sequence[Allowance], most: int) -> list[Part]:
    parts = []
    for each in allowed[:most]:
        drop = f"{pool.path}/workspaces/{quote(each.workspace_id, safe='')}/disallow" if pool.may_admin else ""
        shown = AllowanceRow(
            workspace=each.workspace_name, used=each.in_use, by=each.allowed_by, since=each.allowed_at, drop=drop
        )
        parts.append(Part(f"allowed-{each.workspace_id}", f"{FILE}:allowance", shown))
    if not parts:
        text = "A workspace runs here once this pool allows it and it chooses the pool in its settings."
        parts.append(Part("none-allowed", f"{FILE}:empty", Empty("Serves nobody yet", text, "dash")))
    if len(allowed) > most:
        rest = More(f"The first {most:,} by name; all: iac pool workspaces {pool.name}", "")
        parts.append(Part("allowed-more", f"{FILE}:more", rest))
    return parts


def _tokens(pool: PoolHead, tokens: Sequence[PoolToken], holders: Mapping[str, int], now: datetime) -> list[Part]:
    shown = sorted(tokens, key=lambda each: (not is_good(each, now), -each.created_at.timestamp()))
    parts = [Part(each.id, f"{FILE}:token", token_row(pool.path, each, holders.get(each.id, 0), now)) for each in shown]
    if not parts:
        nothing = Empty("No tokens", "Agents join a pool with one of its tokens.", "lock")
        parts.append(Part("no-tokens", f"{FILE}:empty", nothing))
    return parts


def is_good(token: PoolToken, now: datetime) -> bool:
    """Whether it still lets agents in."""
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > now)


def token_row(path: str, token: PoolToken, holders: int, now: datetime) -> TokenRow:
    good, place = is_good(token, now), f"{path}/tokens/{token.id}"
    return TokenRow(
        id=token.id,
        name=token.name,
        badge=token_badge(token, now),
        by=token.created_by,
        created=token.created_at,
        ends=token.expires_at if good else None,
        used=token.last_used_at,
        ip=token.last_ip or "",
        agents=many(holders, "agent") if holders else "",
        rotate=f"{place}/rotate" if token.revoked_at is None and token.replaced_by is None else "",
        revoke=f"{place}/revoke" if token.revoke_mode != "hard" and (good or holders) else "",
    )


def token_badge(token: PoolToken, now: datetime) -> Badge:
    if token.revoke_mode == "hard":
        return Badge("Shut out", "bad", "slash")
    if token.revoked_at is not None:
        return Badge("Revoked", "bad", "slash")
    if not is_good(token, now):
        return Badge("Replaced" if token.replaced_by else "Expired", "calm", "dash")
    return Badge("Being replaced", "warn", "clock") if token.replaced_by else Badge("Good", "good", "check")
