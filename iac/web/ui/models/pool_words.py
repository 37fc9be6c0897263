"""Pools in words: where they are, what their settings mean, why tasks wait in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from urllib.parse import quote

import msgspec

from iac.domain.records import Exclusivity, NamePolicy, PoolKind, Task
from iac.domain.scheduling import Wait
from iac.web.ui.models.overview import RUNNING

PATH = "/agents"
KINDS: Mapping[PoolKind, str] = {"static": "Static hosts", "k8s": "Kubernetes"}
EXCLUSIVITY: Mapping[Exclusivity, str] = {"agent": "Alone on its agent", "slot": "Beside its agent's plans"}
NAMES: Mapping[NamePolicy, str] = {"unique": "One agent for each name", "suffix": "Each gets a suffix"}


class Reason(msgspec.Struct, frozen=True):
    """How many tasks wait for one reason, in the words that the first of them is told."""

    number: int
    says: str


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool has to do now."""

    plans: int
    applies: int
    waiting_plans: int
    waiting_applies: int
    reasons: tuple[Reason, ...]

    @property
    def waiting(self) -> int:
        return self.waiting_plans + self.waiting_applies


def pool_path(name: str) -> str:
    return f"{PATH}/pools/{quote(name, safe='')}"


def demand(open_tasks: Iterable[Task], waits: Mapping[int, Wait]) -> Demand:
    """Of a pool's tasks that are not over. Reasons that most tasks have come first."""
    running, waiting, codes, says = Counter[str](), Counter[str](), Counter[str](), dict[str, str]()
    for task in open_tasks:
        if task.status in RUNNING:
            running[task.phase] += 1
        if task.status != "queued":
            continue
        waiting[task.phase] += 1
        wait = waits.get(task.id)
        code = "" if wait is None else wait.code
        codes[code] += 1
        says.setdefault(code, "About to be looked at." if wait is None else wait.message)
    return Demand(
        plans=running["plan"],
        applies=running["apply"],
        waiting_plans=waiting["plan"],
        waiting_applies=waiting["apply"],
        reasons=tuple(Reason(number, says[code]) for code, number in codes.most_common()),
    )
