"""What a soak has seen so far, for its report and its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from iac.domain.records import FINAL
from tests.soak.schedule import Fault

T = TypeVar("T")


class Seen(NamedTuple, Generic[T]):
    """What somebody was told, and when the answer came."""

    what: T
    at: float


@dataclass
class Record:
    """Everything that somebody outside was told. `violations` are sentences, each of which fails the soak."""

    violations: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    recovered: dict[str, list[float]] = field(default_factory=dict)
    """Of each kind of fault: seconds from its end until everything worked again that it had broken."""
    calls: Counter[str] = field(default_factory=Counter)
    created: set[int] = field(default_factory=set)
    """Tasks whose creation was answered with 201."""
    final: dict[int, Seen[tuple[str, str | None]]] = field(default_factory=dict)
    """The status and outcome of tasks that were seen to have ended."""
    serials: dict[str, Seen[int]] = field(default_factory=dict)
    """The highest serial that was seen of each workspace."""
    logs: dict[int, bytearray] = field(default_factory=dict)
    """What was read of tasks' logs while they ran."""
    dispatch: list[float] = field(default_factory=list)
    """Of each task: seconds from queued to assigned."""
    notes: dict[str, Any] = field(default_factory=dict)

    def complain(self, what: str) -> None:
        if what not in self.violations:
            self.violations.append(what)

    def took(self, kind: str, seconds: float) -> None:
        self.recovered.setdefault(kind, []).append(round(seconds, 2))

    def saw(self, task: Mapping[str, Any], *, asked: float, now: float) -> None:
        """What is final never changes, whoever asks afterwards (I3)."""
        what = (task["status"], task["outcome"])
        before = self.final.get(task["id"])
        if before is not None and before.at < asked and before.what != what:
            self.complain(f"I3 task {task['id']} was {before.what} and is {what}")
        if task["status"] in FINAL and before is None:
            self.final[task["id"]] = Seen(what, now)

    def saw_workspace(self, workspace: Mapping[str, Any], *, asked: float, now: float) -> None:
        """Serials never go back, whoever asks afterwards (I4)."""
        name, serial = workspace["name"], workspace["state_serial"] or 0
        before = self.serials.get(name)
        if before is not None and before.at < asked and serial < before.what:
            self.complain(f"I4 the serial of {name} was {before.what} and is {serial}")
        if before is None or serial > before.what:
            self.serials[name] = Seen(serial, now)

    def read(self, task: int, offset: int, data: bytes) -> None:
        """Bytes of a log, as they were served at that place."""
        read = self.logs.setdefault(task, bytearray())
        if offset == len(read):
            read += data

    def existed(self, tasks: Sequence[Mapping[str, Any]], now: float) -> None:
        """All tasks that there are, at the end: nothing that was promised is missing."""
        for task in tasks:
            self.saw(task, asked=now, now=now)
        for lost in sorted(self.created - {task["id"] for task in tasks}):
            self.complain(f"task {lost} was created, and is not there any more")
