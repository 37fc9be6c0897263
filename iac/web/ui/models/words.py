"""What things are called and which tone they have: the same on every page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from iac.domain.glances import Condition
from iac.domain.records import Action, Outcome, Phase, Status

Tone = Literal["good", "bad", "warn", "busy", "calm"]


class Badge(msgspec.Struct, frozen=True):
    """A word with a tone and an icon: never told by colour alone."""

    word: str
    tone: Tone
    icon: str


class Counts(msgspec.Struct, frozen=True):
    """What a plan would do, in numbers."""

    add: int
    change: int
    destroy: int


ACTIONS: Mapping[Action, str] = {
    "plan": "Plan",
    "apply": "Apply",
    "plan_and_apply": "Plan and apply",
    "destroy": "Destroy",
    "refresh_only": "Refresh",
}
CONDITIONS: Mapping[Condition, Badge] = {
    "attention": Badge("Needs you", "warn", "hand"),
    "failed": Badge("Failed", "bad", "cross"),
    "running": Badge("Running", "busy", "spinner"),
    "waiting": Badge("Waiting", "calm", "clock"),
    "idle": Badge("Idle", "good", "check"),
    "new": Badge("Never run", "calm", "dash"),
}
_STATUSES: Mapping[Status, Badge] = {
    "pending": Badge("Waiting", "calm", "clock"),
    "queued": Badge("Queued", "calm", "clock"),
    "assigned": Badge("Starting", "busy", "spinner"),
    "planned": Badge("To confirm", "warn", "hand"),
    "cancelling": Badge("Cancelling", "warn", "spinner"),
    "lost": Badge("Lost", "bad", "question"),
    "cancelled": Badge("Cancelled", "calm", "slash"),
    "failed": Badge("Failed", "bad", "cross"),
}


def task_badge(
    status: Status, phase: Phase, action: Action, outcome: Outcome | None = None, *, has_changes: bool | None = None
) -> Badge:
    """How a task is, in a word or two."""
    if status == "running":
        return Badge(_doing(phase, action), "busy", "spinner")
    if status == "succeeded":
        return _done(action, outcome, has_changes=has_changes)
    if status == "cancelled" and outcome == "discarded":
        return Badge("Discarded", "calm", "slash")
    return _STATUSES[status]


def _doing(phase: Phase, action: Action) -> str:
    if phase == "plan":
        return "Planning"
    return {"destroy": "Destroying", "refresh_only": "Refreshing"}.get(action, "Applying")


def _done(action: Action, outcome: Outcome | None, *, has_changes: bool | None) -> Badge:
    if outcome == "applied":
        word = {"destroy": "Destroyed", "refresh_only": "Refreshed"}.get(action, "Applied")
    elif outcome == "planned_and_finished" or has_changes is False:
        word = "No changes"
    else:
        word = {"discarded": "Discarded", "planned": "Planned"}.get(outcome or "", "Done")
    return Badge(word, "good", "check")


def plan_counts(summary: Mapping[str, Any]) -> Counts:
    return Counts(*(int(summary.get(key) or 0) for key in ("add", "change", "destroy")))


def many(number: int, one: str, more: str | None = None) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"
