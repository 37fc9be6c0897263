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

from bench.bare import Bare
from bench.rows import Row, at_most, noted
from bench.server import Server
from iac.domain.archives import File, write_archive
from iac.domain.bodies import TaskCreate, TaskView, WorkspaceCreate


@dataclass(frozen=True, slots=True)
class Pair:
    """The same work, once by each; seconds. `seen` is what the one who asked for it waited."""

    bare: float
    platform: float
    seen: float | None = None


def plan_pair(server: Server, bare: Bare, name: str) -> Pair:
    """A `plan` task from `created_at` to `finished_at`, against init + plan + show."""
    alone = bare.plan()
    new_workspace(server, name, bare.main)
    done, seen = _done(server, name, TaskCreate(action="plan"))
    return Pair(alone, _seconds(done.created_at, done.finished_at), seen)


def apply_pair(server: Server, bare: Bare, name: str) -> Pair:
    """The apply phase of a `plan_and_apply` from `queued_at` to `finished_at`, against init + apply of a saved plan.

    Both begin with the plan made, a directory without anything, and an empty state.
    """
    alone = bare.apply()
    new_workspace(server, name, bare.main)
    done, _ = _done(server, name, TaskCreate(action="plan_and_apply", auto_apply=True))
    return Pair(alone, _seconds(done.queued_at, done.finished_at))


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
        at_most(1.5 if single else 1.15, f"{name}: platform ÷ Terraform alone", ratio, "x"),
        at_most(150, f"{name}: overhead", over, "ms") if single else noted(f"{name}: overhead", over, "ms"),
        noted(f"{name}: Terraform alone", median(pair.bare for pair in pairs), "s"),
        noted(f"{name}: platform", median(pair.platform for pair in pairs), "s"),
    ]
    if seen := [pair.seen for pair in pairs if pair.seen is not None]:
        told.append(noted(f"{name}: platform, from request to the end of the live log", median(seen), "s"))
    return told


def new_workspace(server: Server, name: str, main: str) -> None:
    """A workspace with this configuration."""
    server.client.create_workspace(WorkspaceCreate(name=name))
    archive = write_archive({"main.tf": File(main.encode(), executable=False)})
    server.client.upload_configuration(name, archive)


def _done(server: Server, workspace: str, asked: TaskCreate) -> tuple[TaskView, float]:
    """The task after its live log has ended, and the seconds until then. Raises RuntimeError unless it succeeded."""
    began = time.perf_counter()
    created = server.client.create_task(workspace, asked)
    for _ in server.client.follow_log(created.id):
        pass
    seen = time.perf_counter() - began
    task = server.client.task(created.id)
    if task.status != "succeeded":
        raise RuntimeError(f"Task {task.id} is {task.status}: {task.reason} {task.detail}")
    return task, seen


def _seconds(since: datetime | None, until: datetime | None) -> float:
    if since is None or until is None:
        raise RuntimeError("The task lacks a time stamp.")
    return (until - since).total_seconds()
