"""A task and its plan in words; the numbers are the plan's own, never read from its log."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from iac.cli.stopping import stopping
from iac.cli.times import spelled
from iac.domain.bodies import ChangeView, TaskView
from iac.domain.stages import words
from iac.domain.state_bodies import KnownView

SHOWN = 40
"""How many resources are listed before a question; the log has them all."""
_COUNTED = (("import", "to import"), ("add", "to add"), ("change", "to change"), ("destroy", "to destroy"))
_MORE = (("move", "to move"), ("forget", "to forget"), ("outputs_changed", "output(s) to change"), ("drift", "drifted"))
_SIGNS = {
    "create": "+",
    "update": "~",
    "delete": "-",
    "replace": "-/+",
    "import": "<-",
    "forget": "x",
    "read": "<=",
}


def counts(summary: Mapping[str, Any]) -> str:
    """`1 to add, 0 to change, 0 to destroy`, and what else there is."""
    always = [f"{summary.get(key, 0)} {words}" for key, words in _COUNTED if key != "import" or summary.get(key)]
    return ", ".join(always + [f"{summary[key]} {words}" for key, words in _MORE if summary.get(key)])


def change_lines(changes: Sequence[ChangeView]) -> list[str]:
    """A line for each resource that something would happen to."""
    acting = [change for change in changes if change.action != "no-op"]
    lines = [f"  {_SIGNS.get(change.action, change.action):>3} {change.address}" for change in acting[:SHOWN]]
    return lines + ([f"      … and {len(acting) - SHOWN} more"] if len(acting) > SHOWN else [])


def plan_lines(task: TaskView, changes: Sequence[ChangeView]) -> list[str]:
    """What stands before the question."""
    return ["", f"Task {task.id} would do this in {task.workspace_name}:", *change_lines(changes), ""]


def question(task: TaskView) -> str:
    """What is to be agreed to, with its numbers."""
    summary: Mapping[str, Any] = task.plan.summary if task.plan is not None else {}
    if task.action == "destroy":
        return f"Destroy {summary.get('destroy', 0)} resource(s) of {task.workspace_name}? There is no undo."
    if task.action == "refresh_only":
        return f"Write {summary.get('drift', 0)} drifted object(s) into the state of {task.workspace_name}?"
    return f"Apply to {task.workspace_name}: {counts(summary)}?"


def activity(status: str, stage: str | None) -> str:
    """What the task is doing, for a line that changes."""
    return words(stage) or status


def agent(task: TaskView) -> str | None:
    """Where it runs or ran."""
    if task.agent_id is None or task.execution_mode == "local":
        return "the server itself" if task.agent_id is not None else None
    return task.agent_name or task.agent_id


def ending(task: TaskView) -> str:
    """How it ended, in one sentence."""
    told = {
        "applied": "applied",
        "planned": "planned; there are changes",
        "planned_and_finished": "finished; there is nothing to change",
        "discarded": "discarded",
    }.get(task.outcome or "", task.status)
    if task.status in ("failed", "lost", "cancelled") and task.outcome is None:
        told = f"{task.status} ({task.reason})" if task.reason else task.status
    sentence = (
        f"Task {task.id} {'is ' if task.status == 'lost' else ''}{told}{f': {task.detail}' if task.detail else ''}"
    )
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def next_step(task: TaskView) -> str | None:
    """The command that does, or tells, something about what it waits for."""
    if task.wait is None or task.pool_id is None:
        return None
    pool, workspace = shlex.quote(task.pool_name or task.pool_id), shlex.quote(task.workspace_name)
    return {
        "pool_not_allowed": f"iac pool allow {pool} {workspace}",
        "agents_not_approved": f"iac agent list --pool {pool}",
        "no_agent_online": f"iac agent list --pool {pool}",
    }.get(task.wait.code)


def task_facts(task: TaskView) -> dict[str, object]:
    """For `iac task show`."""
    plan, cancel, confirmation = task.plan, task.cancel, task.confirmation
    stop = stopping(task.id, task.status, cancel)
    return {
        "Task": task.id,
        "Workspace": task.workspace_name,
        "Action": task.action,
        "Status": task.status,
        "Outcome": task.outcome,
        "Waits": task.wait.message if task.wait else None,
        "See": next_step(task),
        "Pool": task.pool_name or task.pool_id,
        "Agent": agent(task),
        "Stage": activity(task.status, task.stage) if task.stage else None,
        "Reason": task.reason,
        "Detail": task.detail,
        "Plan": counts(plan.summary) if plan else None,
        "Plan digest": plan.digest if plan else None,
        "Targets": ", ".join(task.targets),
        "Replace": ", ".join(task.replace),
        "Message": task.message,
        "Created": f"{task.created_at:%Y-%m-%d %H:%M:%S} UTC by {task.created_by}",
        "Confirmed": f"{confirmation.at:%Y-%m-%d %H:%M:%S} UTC by {confirmation.by}" if confirmation else None,
        "Cancelled": f"by {cancel.by} ({cancel.reason}{', forced' if cancel.force else ''})" if cancel else None,
        "Stopping": stop.text().partition(": ")[2] if stop else None,
        "Steps": ", ".join(f"{step.stage} {step.at:%H:%M:%S}" for step in cancel.steps) if cancel else None,
        "Time limit": spelled(task.timeout_s) if task.timeout_s and task.status == "running" else None,
        "Finished": f"{task.finished_at:%Y-%m-%d %H:%M:%S} UTC" if task.finished_at else None,
        "Retry of": task.retry_of,
        "Plan of task": task.plan_task_id,
    }


def known_facts(known: KnownView) -> dict[str, object]:
    """For `iac task known`; the log's last lines are not among it."""
    done = Counter(entry.status for entry in known.progress)
    busy = [f"{entry.address} ({entry.action})" for entry in known.progress if entry.status == "started"]
    found = known.checkpoint
    adopted = "as it is now" if found is not None and found.not_adoptable is None else None
    return {
        "Task": known.task_id,
        "Status": known.status,
        "Reason": known.reason,
        "Detail": known.detail,
        "Agent last heard": f"{known.last_heard_at:%Y-%m-%d %H:%M:%S} UTC" if known.last_heard_at else None,
        "State": "none" if known.state_serial is None else f"serial {known.state_serial}",
        "State uncertain": "yes" if known.state_uncertain else None,
        "Checkpoint": (
            f"{found.version.id}: serial {found.version.serial}, {found.version.resource_count} resource(s), "
            f"{found.version.created_at:%Y-%m-%d %H:%M:%S} UTC"
            if found is not None
            else "none"
        ),
        "Can be adopted": adopted or (found.not_adoptable if found is not None else None),
        "Stored by it": ", ".join(f"serial {kept.serial} ({kept.verdict})" for kept in known.states),
        "Resources": ", ".join(f"{count} {status}" for status, count in sorted(done.items())),
        "Was busy with": ", ".join(busy[:SHOWN]),
    }
