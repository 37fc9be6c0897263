"""The page of a task: what it is at, what somebody may do about it, what it went through."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

import msgspec

from iac.domain.cancel_bodies import CancelView
from iac.domain.records import Task
from iac.domain.scheduling import Wait
from iac.domain.stages import WORDS
from iac.domain.state_bodies import KnownView
from iac.domain.steps import TaskStep
from iac.domain.work import PlanFacts, ResourceProgress
from iac.web.ui.models.parts import Part, Parts, View
from iac.web.ui.models.task_asks import Ask, asks
from iac.web.ui.models.task_known import choice, known
from iac.web.ui.models.task_notice import notice
from iac.web.ui.models.task_stop import stop
from iac.web.ui.models.timeline import timeline, took
from iac.web.ui.models.words import ACTIONS, Badge, Counts, Tone, many, plan_counts, task_badge

FILE = "task.html"
FOLLOWED = frozenset({"pending", "queued", "assigned", "running", "cancelling", "lost"})
"""Statuses in which the log may grow."""
MOST_SHOWN = 300


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page is made from. `rights` are those of who looks."""

    task: Task
    plan: PlanFacts | None
    wait: Wait | None
    names: Mapping[str, str]
    steps: Sequence[TaskStep]
    progress: Sequence[ResourceProgress]
    current_serial: int | None
    known: KnownView | None
    cancel: CancelView | None
    now: datetime
    rights: frozenset[str]
    tail: str
    tail_cut: bool
    log_gone: bool


class Head(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    workspace: str
    workspace_href: str
    action: str
    badge: Badge
    by: str
    where: str
    message: str
    created: datetime
    since: datetime | None
    """It runs, or waits, since then."""
    took: str
    counts: Counts | None
    asks: tuple[Ask, ...]
    follows: bool
    fence: int
    """Another one than before: the log has grown since, even if it does not grow now."""
    decides: bool
    """The plan is what matters now, more than the log."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the details; `href`, `copy` and `at` say what can be done with it."""

    name: str
    text: str = ""
    href: str = ""
    copy: str = ""
    at: datetime | None = None
    code: bool = False


class Details(msgspec.Struct, frozen=True):
    facts: tuple[Fact, ...]


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of an apply."""

    address: str
    action: str
    tone: Tone
    icon: str
    words: str


class ProgressHead(msgspec.Struct, frozen=True, kw_only=True):
    done: int
    total: int
    failed: int
    percent: float
    words: str
    more: int


class PlanPlace(msgspec.Struct, frozen=True):
    """Where the plan is shown; another digest is another plan."""

    href: str
    digest: str


class TaskPage(View, frozen=True, kw_only=True):
    id: int
    now: datetime
    workspace: str
    log: str
    follows: bool
    fence: int
    failed: bool
    stages: Mapping[str, str]
    tail: str
    tail_cut: bool
    log_gone: bool
    destroys: bool
    applies: bool
    may_run: bool
    may_resolve: bool
    head: Parts
    notice: Parts
    known: Parts
    stop: Parts
    plan: Parts
    resolve_choice: Parts
    progress_head: Parts
    progress: Parts
    timeline: Parts
    details: Parts


def task_page(facts: Facts) -> TaskPage:
    task = facts.task
    head = _head(facts)
    said = notice(task, facts.plan, facts.wait, facts.current_serial, facts.rights)
    passed = timeline(task, facts.steps, head.where)
    return TaskPage(
        title=f"{ACTIONS[task.action]} #{task.id} · {task.workspace_name}",
        id=task.id,
        now=facts.now,
        workspace=task.workspace_name,
        log=f"/api/v1/tasks/{task.id}/logs",
        follows=head.follows,
        fence=head.fence,
        failed=task.status in ("failed", "lost"),
        stages={
            name: said if said.startswith("terraform") else said[:1].upper() + said[1:] for name, said in WORDS.items()
        },
        tail=facts.tail,
        tail_cut=facts.tail_cut,
        log_gone=facts.log_gone,
        destroys=task.action == "destroy",
        applies=task.phase == "apply",
        may_run="run" in facts.rights,
        may_resolve="force_unlock" in facts.rights,
        head=Parts("task-head", (Part("task-head-shown", f"{FILE}:head", head),)),
        notice=Parts("task-notice", () if said is None else (Part("task-notice-shown", f"{FILE}:notice", said),)),
        known=_known(facts.known),
        stop=_stop(facts),
        plan=_plan(facts),
        resolve_choice=_choice(facts.known),
        progress_head=_progress_head(facts.progress),
        progress=_progress(facts.progress),
        timeline=Parts("timeline", (Part("timeline-shown", f"{FILE}:timeline", passed),)),
        details=Parts(
            "details",
            (
                Part(
                    "details-shown",
                    f"{FILE}:details",
                    Details(tuple(_facts(facts))),
                ),
            ),
        ),
    )


def _head(facts: Facts) -> Head:
    task = facts.task
    began = task.started_at or task.created_at
    return Head(
        id=task.id,
        workspace=task.workspace_name,
        workspace_href=f"/workspaces/{quote(task.workspace_name, safe='')}",
        action=ACTIONS[task.action],
        badge=task_badge(task.status, task.phase, task.action, task.outcome, has_changes=task.has_changes),
        by=task.created_by,
        where=where(task, facts.names),
        message=task.message,
        created=task.created_at,
        since=None if task.final else began,
        took=took((task.finished_at - began).total_seconds()) if task.finished_at is not None else "",
        counts=None if facts.plan is None else plan_counts(facts.plan.summary),
        asks=asks(task, facts.plan, facts.cancel, facts.rights),
        follows=task.status in FOLLOWED,
        fence=task.fence,
        decides=task.status == "planned" or (task.action == "plan" and task.status == "succeeded"),
    )


def _stop(facts: Facts) -> Parts:
    if facts.cancel is None or facts.task.status not in ("cancelling", "lost"):
        return Parts("stop", ())
    return Parts("stop", (Part("stop-shown", f"{FILE}:stop", stop(facts.cancel)),))


def _plan(facts: Facts) -> Parts:
    if facts.plan is None:
        return Parts("plan-place", ())
    shown = PlanPlace(f"/tasks/{facts.task.id}/plan", facts.plan.digest)
    return Parts("plan-place", (Part("plan-shown", f"{FILE}:plan", shown),))


def _known(found: KnownView | None) -> Parts:
    return Parts("known", () if found is None else (Part("known-shown", f"{FILE}:known", known(found)),))


def _choice(found: KnownView | None) -> Parts:
    offered = None if found is None else choice(found)
    return Parts(
        "resolve-choice", () if offered is None else (Part("resolve-choice-shown", f"{FILE}:choice", offered),)
    )


def where(task: Task, names: Mapping[str, str]) -> str:
    """Where it runs, ran, or is to run."""
    if task.execution_mode == "local":
        return "this server"
    if task.agent_id is not None:
        return f"agent {names.get(task.agent_id, task.agent_id)}"
    return f"pool {names.get(task.pool_id, task.pool_id)}" if task.pool_id else "no pool"


_ACTS: Mapping[str, tuple[str, str]] = {
    "create": ("create", "creating"),
    "update": ("change", "changing"),
    "delete": ("destroy", "destroying"),
    "read": ("read", "reading"),
}


def _progress(found: Sequence[ResourceProgress]) -> Parts:
    order = {"errored": 0, "started": 1, "pending": 2, "complete": 3}
    shown = sorted(found, key=lambda each: (order[each.status], each.address))[:MOST_SHOWN]
    return Parts("progress", tuple(Part(_id_of(each.address), f"{FILE}:resource", _resource(each)) for each in shown))


def _id_of(address: str) -> str:
    return f"r-{hashlib.blake2b(address.encode(), digest_size=8).hexdigest()}"


def _resource(each: ResourceProgress) -> Resource:
    act, acting = _ACTS.get(each.action, (each.action, each.action))
    icons: Mapping[str, tuple[Tone, str, str]] = {
        "errored": ("bad", "cross", f"{act} failed"),
        "started": ("busy", "spinner", f"{acting}, {took(each.elapsed_s)}" if each.elapsed_s else acting),
        "pending": ("calm", "clock", f"to {act}"),
        "complete": ("good", "check", f"{act} done" + (f" in {took(each.elapsed_s)}" if each.elapsed_s else "")),
    }
    tone, icon, said = icons[each.status]
    return Resource(address=each.address, action=act, tone=tone, icon=icon, words=said)


def _progress_head(found: Sequence[ResourceProgress]) -> Parts:
    if not found:
        return Parts("progress-head", ())
    done = sum(each.status == "complete" for each in found)
    failed = sum(each.status == "errored" for each in found)
    shown = ProgressHead(
        done=done,
        total=len(found),
        failed=failed,
        percent=round(100 * (done + failed) / len(found), 1),
        words=f"{done} of {many(len(found), 'resource')} done" + (f", {failed} failed" if failed else ""),
        more=max(0, len(found) - MOST_SHOWN),
    )
    return Parts("progress-head", (Part("progress-head-shown", f"{FILE}:progress_head", shown),))


def _facts(facts: Facts) -> list[Fact]:
    task, plan = facts.task, facts.plan
    found = [
        Fact(name="Workspace", text=task.workspace_name, href=f"/workspaces/{quote(task.workspace_name, safe='')}"),
        Fact(name="Asked for by", text=task.created_by),
        Fact(name="Created", at=task.created_at),
        Fact(name="Runs on", text=where(task, facts.names)),
        Fact(name="Terraform", text=task.terraform_version, code=True),
    ]
    if task.retry_of is not None:
        found.append(Fact(name="Again", text=f"task #{task.retry_of}", href=f"/tasks/{task.retry_of}"))
    if task.plan_task_id is not None:
        found.append(Fact(name="Plan of", text=f"task #{task.plan_task_id}", href=f"/tasks/{task.plan_task_id}"))
    if task.attempt > 1:
        found.append(Fact(name="Attempt", text=str(task.attempt)))
    found += [Fact(name="Only", text=address, code=True) for address in task.targets]
    found += [Fact(name="Replace", text=address, code=True) for address in task.replace]
    if task.exit_code is not None:
        found.append(Fact(name="Exit code", text=str(task.exit_code), code=True))
    if task.signal is not None:
        found.append(Fact(name="Signal", text=str(task.signal), code=True))
    if plan is not None:
        found.append(Fact(name="Plan digest", text=_short(plan.digest), copy=plan.digest, code=True))
        if plan.serial is not None:
            found.append(Fact(name="Made for state", text=f"serial {plan.serial}"))
    found.append(Fact(name="Inputs", text=_short(task.bundle_digest), copy=task.bundle_digest, code=True))
    return found


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
