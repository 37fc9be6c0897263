"""What a task went through, as lines of a timeline: what, how long, and what is to be said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from iac.domain.records import Status, Task
from iac.domain.stages import words
from iac.domain.steps import Period, TaskStep, periods
from iac.web.ui.models.times import lasting
from iac.web.ui.models.words import Badge, Tone, task_badge

_WAITS: Mapping[Status, str] = {
    "pending": "Waiting for its workspace",
    "queued": "Waiting for a free runner",
    "assigned": "Handing out",
    "planned": "Waiting for a decision",
    "lost": "Lost",
}
SHORT, SHORT_WAIT = 0.05, 0.5
"""Seconds: what took less is not told."""
_TONES: Mapping[Status, Tone] = {"planned": "warn", "lost": "bad", "cancelling": "warn"}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """`took` is empty for what goes on since `begins`. `share` is its part of all the time, in hundredths."""

    label: str
    tone: Tone
    icon: str
    begins: datetime
    took: str
    note: str = ""
    group: str = ""
    """Stands above it where a new part of the task begins."""
    wait: bool = False
    share: float = 0.0
    lead: float = 0.0
    """How much of all the time had passed, in hundredths."""


class Timeline(msgspec.Struct, frozen=True):
    lines: tuple[Line, ...]


def timeline(task: Task, steps: Sequence[TaskStep], where: str) -> Timeline:
    found = periods(steps) or _guessed(task)
    shown = [period for period in found if _is_worth_a_line(period)]
    last = found[-1] if found else None
    if last is not None and task.final and last not in shown:
        shown.append(last)
    return Timeline(tuple(_lines(task, shown, where)))


def _lines(task: Task, shown: Sequence[Period], where: str) -> list[Line]:
    begin = shown[0].begins if shown else task.created_at
    ends = [period.ends for period in shown if period.ends is not None]
    whole = max(((max(ends) - begin).total_seconds() if ends else 0.0), 0.001)
    lines, group, over = [], "", all(period.ends is not None for period in shown)
    # What a failed task was at is what failed; its state is stored in any case, after that.
    worked = [period for period in shown if period.status in ("running", "cancelling")]
    at_last = next((period for period in reversed(worked) if period.stage != "saving_state"), None)
    for period in shown:
        heading = _heading(period)
        seconds = None if period.ends is None else (period.ends - period.begins).total_seconds()
        badge = _badge(task, period, last=period is at_last)
        lines.append(
            Line(
                label=_label(task, period),
                tone=badge.tone,
                icon=badge.icon,
                begins=period.begins,
                took="" if seconds is None else took(seconds),
                note=_note(task, period, where),
                group=heading if heading != group else "",
                wait=period.status in _WAITS,
                share=round(100 * (seconds or 0.0) / whole, 1) if over else 0.0,
                lead=round(100 * (period.begins - begin).total_seconds() / whole, 1) if over else 0.0,
            )
        )
        group = heading
    return lines


def _is_worth_a_line(period: Period) -> bool:
    if period.ends is None:
        return True
    return (period.ends - period.begins).total_seconds() >= (SHORT_WAIT if period.status in _WAITS else SHORT)


def took(seconds: float) -> str:
    """`0.4 s`, and from ten seconds on as everywhere."""
    return f"{seconds:.1f} s" if seconds < 10 else lasting(seconds)


def _heading(period: Period) -> str:
    phase = "Plan" if period.phase == "plan" else "Apply"
    return f"{phase}, attempt {period.attempt}" if period.attempt > 1 else phase


def _label(task: Task, period: Period) -> str:
    if period.status in ("running", "cancelling"):
        name = words(period.stage) or "starting"
        return name if name.startswith("terraform") else name[:1].upper() + name[1:]
    if period.status in _WAITS:
        return _WAITS[period.status]
    return _end_of(task).word


def _badge(task: Task, period: Period, *, last: bool) -> Badge:
    if period.status in ("cancelled", "succeeded", "failed"):
        return _end_of(task)
    if period.ends is None:
        tone = _TONES.get("cancelling" if period.stopping else period.status, "busy")
        return Badge("", "calm" if period.status in ("pending", "queued") else tone, _icon(period))
    if task.status == "failed" and last:
        return Badge("", "bad", "cross")
    tone = "bad" if period.status == "lost" else "calm"
    return Badge("", tone, "question" if period.status == "lost" else "slash" if period.stopping else "check")


def _icon(period: Period) -> str:
    return {"pending": "clock", "queued": "clock", "planned": "hand", "lost": "question"}.get(period.status, "spinner")


def _end_of(task: Task) -> Badge:
    return task_badge(task.status, task.phase, task.action, task.outcome, has_changes=task.has_changes)


def _note(task: Task, period: Period, where: str) -> str:
    if period.status == "planned" and period.ends is not None and task.confirmation is not None:
        comment = f": {task.confirmation.comment}" if task.confirmation.comment else ""
        return f"confirmed by {task.confirmation.by}{comment}"
    if period.stopping:
        return f"stopped by {task.cancel_by}" if task.cancel_by else "stopped"
    if period.status == "assigned" and where:
        return f"to {where}"
    return ""


def _guessed(task: Task) -> list[Period]:
    """For tasks from before steps were noted: what their row still knows."""
    known: list[tuple[datetime | None, Status]] = [
        (task.created_at, "pending"),
        (task.queued_at, "queued"),
        (task.started_at, "running"),
        (task.planned_at, "planned" if task.outcome is None or task.phase == "apply" else "running"),
        (task.finished_at, task.status),
    ]
    steps = [
        TaskStep(at=at, phase="plan" if status != task.status else task.phase, status=status, stage=None, attempt=0)
        for at, status in known
        if at is not None
    ]
    return periods(sorted(steps, key=lambda step: step.at))
