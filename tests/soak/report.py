"""What a soak found, for people and for programs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tests.soak.schedule import Fault, kind_of


class Spread(msgspec.Struct, frozen=True):
    """Of a number of measured seconds."""

    count: int
    half: float
    most_of_them: float
    """Nineteen of twenty are no longer."""
    longest: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    seed: str
    seconds: float
    """For which there was trouble."""
    violations: list[str]
    faults: dict[str, int]
    tasks: dict[str, int]
    """How many ended as what."""
    calls: dict[str, int]
    """Answers of the API by status; what is no number is an error on the way."""
    dispatch: Spread | None
    """From queued to assigned."""
    recovery: dict[str, Spread]
    """From the end of a fault until all that it broke worked again."""
    notes: dict[str, Any]

    @property
    def passed(self) -> bool:
        return not self.violations


def spread(seconds: Sequence[float]) -> Spread | None:
    """None of nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return Spread(
        count=len(ordered),
        half=round(ordered[last // 2], 2),
        most_of_them=round(ordered[last * 19 // 20], 2),
        longest=round(ordered[last], 2),
    )


def counted(faults: Sequence[Fault]) -> dict[str, int]:
    """By the kind of target and the kind of fault."""
    return dict(sorted(Counter(f"{kind_of(fault.target)}: {fault.kind}" for fault in faults).items()))


def outcomes(tasks: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """By status, with the reason where a task did not end well."""
    found = Counter[str]()
    for task in tasks:
        why = task["outcome"] if task["status"] == "succeeded" else task["reason"]
        found[f"{task['phase']} {task['status']}" + (f" ({why})" if why else "")] += 1
    return dict(sorted(found.items()))


def text(report: Report) -> str:
    """A table for people."""
    lines = [f"soak of {report.seconds:.0f} s, SEED={report.seed}", ""]
    lines += _table("faults", report.faults)
    lines += _table("tasks", report.tasks)
    lines += _table("answers of the API", report.calls)
    lines += ["seconds                                    times   half    95 %   longest"]
    spreads = {"from queued to assigned": report.dispatch, **report.recovery}
    lines += [f"  {name:40} {_numbers(each)}" for name, each in spreads.items() if each is not None]
    lines += ["", *(f"{name}: {value}" for name, value in report.notes.items()), ""]
    lines += [f"VIOLATION {each}" for each in report.violations]
    verdict = "no violation" if report.passed else f"{len(report.violations)} violations"
    return "\n".join([*lines, f"{verdict}; {sum(report.faults.values())} faults, {sum(report.tasks.values())} tasks"])


def _table(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield title
    yield from (f"  {name:40} {number:6}" for name, number in counts.items())
    yield ""


def _numbers(each: Spread) -> str:
    return f"{each.count:6} {each.half:6.2f}  {each.most_of_them:6.2f}  {each.longest:8.2f}"
