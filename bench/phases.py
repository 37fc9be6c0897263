"""How much longer a plan and an apply take on the platform than by Terraform alone.

The two are measured in turns, so that whatever else the machine does meets both; what is told is the median of the
ratios, and of the differences, of these pairs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from iac.domain.bodies import ConfigurationView, TaskView, WorkspaceView

from bench.bare import Bare, configuration
from bench.rows import Row, at_most, noted
from bench.server import Server

WORKSPACES = "/api/v1/workspaces"


@dataclass(frozen=True, slots=True)
class Pair:
    """The same work, once by each; seconds. `seen` is what the one who asked waited for."""

    bare: float
    platform: float
    seen: float


def plan_pair(server: Server, bare: Bare, name: str) -> Pair:
    """A `plan` task from `created_at` to `finished_at`, against init + plan + show."""
    alone = bare.plan()
    _workspace(server, name, bare.main)
    began = time.perf_counter()
    task = _created(server, name, "plan", auto_apply=False)
    _follow(server, task.id)
    seen = time.perf_counter() - began
    done = _succeeded(server, task.id)
    return Pair(alone, _seconds(done.created_at, done.finished_at), seen)


def apply_pair(server: Server, bare: Bare, name: str) -> Pair:
    """The apply phase of a `plan_and_apply` from `queued_at` to `finished_at`, against init + apply of a saved plan.

    Both begin with the plan made, a directory without anything, and an empty state.
    """
    alone = bare.apply()
    _workspace(server, name, bare.main)
    task = _created(server, name, "plan_and_apply", auto_apply=True)
    _follow(server, task.id)
    done = _succeeded(server, task.id)
    spent = _seconds(done.queued_at, done.finished_at)
    return Pair(alone, spent, spent)


def rows(
    server: Server, bare: Bare, pairs: int, *, what: str, resources: int, measure: Callable[[Server, Bare, str], Pair]
) -> list[Row]:
    """Measures so many pairs, after one that does not count."""
    found = []
    for number in range(pairs + 1):
        pair = measure(server, bare, f"{what}-{resources}-{number}")
        server.wait_until_idle()
        if number:
            found.append(pair)
    return _told(found, f"{what}, {resources:,} resource{'s' * (resources > 1)}", single=resources == 1)


def _told(pairs: list[Pair], name: str, *, single: bool) -> list[Row]:
    ratio = median(pair.platform / pair.bare for pair in pairs)
    over = median(pair.platform - pair.bare for pair in pairs) * 1000
    told = [
        at_most(1.5 if single else 1.15, f"{name}: platform ÷ Terraform alone", ratio, "×"),
        at_most(150, f"{name}: overhead", over, "ms") if single else noted(f"{name}: overhead", over, "ms"),
        noted(f"{name}: Terraform alone", median(pair.bare for pair in pairs), "s"),
        noted(f"{name}: platform", median(pair.platform for pair in pairs), "s"),
    ]
    if any(pair.seen != pair.platform for pair in pairs):
        told.append(noted(f"{name}: from request to the end of the live log", median(p.seen for p in pairs), "s"))
    return told


def _workspace(server: Server, name: str, main: str) -> None:
    server.call("POST", WORKSPACES, WorkspaceView, {"name": name})
    server.call("PUT", f"{WORKSPACES}/{name}/configuration", ConfigurationView, {"files": {"main.tf": main}})


def _created(server: Server, workspace: str, action: str, *, auto_apply: bool) -> TaskView:
    asked = {"action": action, "auto_apply": auto_apply}
    return server.call("POST", f"{WORKSPACES}/{workspace}/tasks", TaskView, asked)


def _follow(server: Server, task_id: int) -> None:
    """Until the live log ends."""
    with server.client.stream("GET", f"/api/v1/tasks/{task_id}/logs/stream") as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line == "event: end":
                return
    raise RuntimeError(f"The log stream of task {task_id} broke off.")


def _succeeded(server: Server, task_id: int) -> TaskView:
    task = server.call("GET", f"/api/v1/tasks/{task_id}", TaskView)
    if task.status != "succeeded":
        raise RuntimeError(f"Task {task_id} is {task.status}: {task.reason} {task.detail}")
    return task


def _seconds(since: datetime | None, until: datetime | None) -> float:
    if since is None or until is None:
        raise RuntimeError("The task lacks a time stamp.")
    return (until - since).total_seconds()
