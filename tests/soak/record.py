"""What a soak has seen so far, for its report and its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iac.domain.records import FINAL
from tests.soak.schedule import Fault


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
    final: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    """The status and outcome of tasks that were seen to have ended."""
    serials: dict[str, int] = field(default_factory=dict)
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

    def saw(self, task: Mapping[str, Any]) -> None:
        """What is final never changes, whoever looks (I3)."""
        now = (task["status"], task["outcome"])
        before = self.final.get(task["id"], now)
        if before != now:
            self.complain(f"I3 task {task['id']} was {before} and is {now}")
        if task["status"] in FINAL:
            self.final[task["id"]] = now

    def saw_workspace(self, workspace: Mapping[str, Any]) -> None:
        """Serials never go back, whoever looks (I4)."""
        name, serial = workspace["name"], workspace["state_serial"] or 0
        if serial < self.serials.get(name, 0):
            self.complain(f"I4 the serial of {name} was {self.serials[name]} and is {serial}")
        self.serials[name] = max(serial, self.serials.get(name, 0))

    def read(self, task: int, offset: int, data: bytes) -> None:
        """Bytes of a log, as they were served at that place."""
        read = self.logs.setdefault(task, bytearray())
        if offset == len(read):
            read += data

    def existed(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """All tasks that there are, at the end: nothing that was promised is missing."""
        for task in tasks:
            self.saw(task)
        for lost in sorted(self.created - {task["id"] for task in tasks}):
            self.complain(f"task {lost} was created, and is not there any more")
