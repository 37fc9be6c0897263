"""The load of a soak: people who start runs, confirm, discard, cancel, force, destroy, and watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import trio

from tests.soak.configurations import drawn, files
from tests.soak.record import Record
from tests.soak.user import User

MOST_OPEN, MOST_OPEN_OF_ALL = 3, 20
"""Tasks that are not over in one workspace, and in all, at most: a slow machine is given less to do."""
PACE = 0.4
"""Seconds between two new tasks, on average."""
LOOK = 0.7
_ACTIONS = ("plan_and_apply", "plan", "destroy", "refresh_only")
_OFTEN = (0.68, 0.2, 0.08, 0.04)


@dataclass
class Crowd:
    """`hasty` are the workspaces whose people resolve a lost apply at once instead of waiting whether it comes back."""

    user: User
    record: Record
    seed: str
    workspaces: Sequence[str]
    things: Path
    hasty: frozenset[str]
    over: bool = False
    """Nothing new is begun any more, but what waits for a decision gets one."""

    async def run(self) -> None:
        """Until it is cancelled."""
        self._generations = count(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._create)
            nursery.start_soon(self._decide)
            nursery.start_soon(self._watch)

    async def _create(self) -> None:
        chance = Random(f"{self.seed}/wishes")  # noqa: S311
        while not self.over:
            await trio.sleep(chance.expovariate(1 / PACE))
            # Drawn before anything is asked: how fast the server answers must not change what is drawn next.
            name, [action] = chance.choice(self.workspaces), chance.choices(_ACTIONS, _OFTEN)
            body: dict[str, Any] = {"action": action, "priority": chance.choice((0, 0, 0, 5))}
            body |= {"auto_apply": chance.random() < 0.7} if action in ("plan_and_apply", "destroy") else {}
            wish = drawn(chance, next(self._generations)) if chance.random() < 0.8 else None
            await self._begin(name, body, None if wish is None else files(wish, self.things / name))

    async def _begin(self, name: str, body: dict[str, Any], configuration: Any) -> None:
        found = await self.user.ask("GET", "/tasks", params={"limit": 2 * MOST_OPEN_OF_ALL, "status": OPEN})
        there = [] if found is None else [task["workspace_name"] for task in found["items"]]
        if self.over or found is None or len(there) >= MOST_OPEN_OF_ALL or there.count(name) >= MOST_OPEN:
            return
        if configuration is not None:
            await self.user.ask("PUT", f"/workspaces/{name}/configuration", json={"files": configuration})
        made = await self.user.ask("POST", f"/workspaces/{name}/tasks", json=body)
        if made is not None:
            self.record.created.add(made["id"])

    async def _decide(self) -> None:
        """Plans that wait get a decision; some of what runs is cancelled, some of that by force."""
        chance = Random(f"{self.seed}/whims")  # noqa: S311
        while True:
            await trio.sleep(LOOK)
            found = await self.user.ask("GET", "/tasks", params={"limit": 200, "status": OPEN})
            for task in () if found is None else found["items"]:
                if (deed := self._deed(task, chance.random())) is not None:
                    what, body = deed
                    asked = trio.current_time()
                    answer = await self.user.ask("POST", f"/tasks/{task['id']}/{what}", json=body)
                    if answer is not None:
                        self.record.saw(answer, asked=asked, now=trio.current_time())

    def _deed(self, task: dict[str, Any], luck: float) -> tuple[str, dict[str, Any]] | None:
        if self.over:
            return ("confirm", {"plan_digest": task["plan"]["digest"]}) if task["status"] == "planned" else None
        match task["status"]:
            case "planned" if luck < 0.5:
                return "confirm", {"plan_digest": task["plan"]["digest"]}
            case "planned" if luck < 0.6:
                return "discard", {"comment": "not today"}
            case "running" | "queued" | "assigned" if luck < 0.015:
                return "cancel", {"force": False}
            case "cancelling" if luck < 0.2:
                return "cancel", {"force": True}
            case "lost" if luck < 0.1 and task["workspace_name"] in self.hasty:
                return "resolve", {"comment": "we cannot wait", "unlock": True}
        return None

    async def _watch(self) -> None:
        """Somebody reads the log of what runs, and looks at what has ended."""
        while True:
            await trio.sleep(LOOK)
            asked = trio.current_time()
            found = await self.user.ask("GET", "/tasks", params={"limit": 60})
            now = trio.current_time()
            for task in () if found is None else found["items"]:
                self.record.saw(task, asked=asked, now=now)
                if task["status"] in ("running", "cancelling"):
                    await self._read_on(task["id"])
            asked = trio.current_time()
            spaces = await self.user.ask("GET", "/workspaces", params={"limit": 100})
            now = trio.current_time()
            for workspace in () if spaces is None else spaces["items"]:
                self.record.saw_workspace(workspace, asked=asked, now=now)

    async def _read_on(self, task: int) -> None:
        offset = len(self.record.logs.get(task, b""))
        data = await self.user.ask("GET", f"/tasks/{task}/logs", params={"offset": offset})
        if data:
            self.record.read(task, offset, data)


OPEN = "pending,queued,assigned,running,planned,cancelling,lost"
"""The statuses of tasks that are not over."""
