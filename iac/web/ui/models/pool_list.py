"""The list of pools: who is there, what they have to do, who waits to be let in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from iac.domain.glances import Newcomer, PoolGlance
from iac.domain.records import Pool, Task
from iac.domain.scheduling import Wait
from iac.web.ui.models.agents import Meter, agent_path, meter
from iac.web.ui.models.overview import pool_state
from iac.web.ui.models.parts import Part, Parts, View
from iac.web.ui.models.pool_words import KINDS, PATH, Demand, demand, pool_path
from iac.web.ui.models.words import Tone

FILE = "pools.html"


class PoolRow(msgspec.Struct, frozen=True, kw_only=True):
    """One pool. `state` says in words what `tone` says in colour."""

    id: str
    name: str
    href: str
    kind: str
    description: str
    tone: Tone
    state: str
    online: int
    agents: int
    notes: tuple[str, ...]
    slots: int
    demand: Demand
    meters: tuple[Meter, ...]
    allowed: int


class Approval(msgspec.Struct, frozen=True):
    """An agent that waits to be let in."""

    id: str
    name: str
    href: str
    pool: str
    pool_href: str
    since: datetime
    may: bool


class NoPools(msgspec.Struct, frozen=True):
    may: bool


class PoolList(View, frozen=True, kw_only=True):
    """`after` is where more pools are; empty where there are none."""

    approvals: Parts
    pools: Parts
    after: str
    first: str
    may_admin: bool


def pool_list(
    pools: Sequence[Pool],
    *,
    most: int,
    glances: Mapping[str, PoolGlance],
    open_tasks: Sequence[Task],
    waits: Mapping[int, Wait],
    newcomers: Sequence[Newcomer],
    allowed: Mapping[str, int],
    may_admin: bool,
    after: str,
) -> PoolList:
    """`pools` are a page's, and one more if there are more than `most`."""
    of_pool = defaultdict[str | None, list[Task]](list)
    for task in open_tasks:
        if task.execution_mode == "agent":
            of_pool[task.pool_id].append(task)
    shown = [each for each in pools[:most] if each.id in glances]
    rows = tuple(
        Part(
            each.id,
            f"{FILE}:row",
            row(each, glances[each.id], demand(of_pool[each.id], waits), allowed.get(each.id, 0)),
        )
        for each in shown
    )
    return PoolList(
        title="Agents",
        approvals=Parts("approvals", tuple(_approval(each, may=may_admin) for each in newcomers)),
        pools=Parts("pools", rows or (Part("no-pools", f"{FILE}:nothing", NoPools(may_admin)),)),
        after=f"{PATH}?after={shown[-1].id}" if len(pools) > most and shown else "",
        first=PATH if after else "",
        may_admin=may_admin,
    )


def row(pool: Pool, glance: PoolGlance, work: Demand, allowed: int) -> PoolRow:
    tone, state = pool_state(glance, work.waiting)
    told = ((glance.draining, "draining"), (glance.unapproved, "to approve"), (glance.offline, "offline"))
    load = (("CPU", glance.cpu_usage), ("Memory", glance.mem_usage))
    return PoolRow(
        id=pool.id,
        name=pool.name,
        href=pool_path(pool.name),
        kind=KINDS[pool.kind],
        description=pool.description,
        tone=tone,
        state=state,
        online=glance.online,
        agents=glance.online + glance.draining + glance.unapproved + glance.offline,
        notes=tuple(f"{number} {word}" for number, word in told if number),
        slots=glance.slots,
        demand=work,
        meters=tuple(meter(label, usage) for label, usage in load if usage is not None),
        allowed=allowed,
    )


def _approval(each: Newcomer, *, may: bool) -> Part:
    shown = Approval(
        each.id, each.name, agent_path(each.id), each.pool_name, pool_path(each.pool_name), each.registered_at, may
    )
    return Part(f"approval-{each.id}", f"{FILE}:approval", shown)
