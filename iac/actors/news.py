"""What changed, by topic, for pages that show much at once: one change of anything there, and they look again.

Topics are `tasks`, `agents`, `workspaces`, `task-12` for one task alone, and `trouble`. A ring is a hint:
what changed is read where it is kept, and whoever listens looks again after a while in any case.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from iac.actors.bell import Bell

Topic = Literal["tasks", "agents", "workspaces"]
EVERYTHING: tuple[Topic, ...] = ("tasks", "agents", "workspaces")
TROUBLE = "trouble"
"""Somebody could not be answered: what others see may be old by now, and nothing else rings while nothing can be changed."""


def topic_of(task_id: int) -> str:
    return f"task-{task_id}"


class News(Bell[str]):
    """A bell whose keys are topics."""

    def task(self, task_id: int) -> None:
        """A task moved, or got further."""
        self.ring(topic_of(task_id))
        self.ring("tasks")

    def waits(self, task_ids: Collection[int]) -> None:
        """Why these tasks wait, or in which order, has changed."""
        for task_id in task_ids:
            self.ring(topic_of(task_id))
        self.ring("tasks")

    def agents(self) -> None:
        """An agent came, went, or told how it does."""
        self.ring("agents")

    def anything(self) -> None:
        """Somebody changed something, and it may show anywhere."""
        for topic in EVERYTHING:
            self.ring(topic)

    def trouble(self) -> None:
        """Somebody could not be answered."""
        self.ring(TROUBLE)
