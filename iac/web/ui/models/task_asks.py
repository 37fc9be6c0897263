"""What somebody may do about a task: the buttons, each with the dialog that it opens and what that has to know."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from iac.domain.cancel_bodies import CancelView
from iac.domain.records import Task
from iac.domain.work import PlanFacts
from iac.web.ui.models.words import many

Kind = Literal["primary", "plain", "danger", "quiet"]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A button. `plan_digest` and `says` are put into the dialog: what is confirmed is the plan beside the button."""

    words: str
    opens: str
    kind: Kind = "plain"
    plan_digest: str = ""
    says: str = ""
    not_before: datetime | None = None
    """From then on it can be pressed."""


def asks(task: Task, plan: PlanFacts | None, cancel: CancelView | None, rights: frozenset[str]) -> tuple[Ask, ...]:
    found: list[Ask] = []
    if "run" in rights:
        found += _of_operators(task, plan)
        if task.status == "cancelling" and cancel is not None and cancel.force_allowed_at is not None:
            found.append(Ask(words="Force", opens="force", kind="danger", not_before=cancel.force_allowed_at))
    if task.status == "lost" and "force_unlock" in rights:
        found.append(Ask(words="Resolve", opens="resolve", kind="primary"))
    return tuple(found)


def _of_operators(task: Task, plan: PlanFacts | None) -> list[Ask]:
    if task.status == "planned":
        digest = task.plan_digest or ""
        does = "Confirm and destroy" if task.action == "destroy" else "Confirm and apply"
        return [
            Ask(words="Discard", opens="discard"),
            Ask(words=does, opens="confirm", kind="primary", plan_digest=digest, says=summary(plan)),
        ]
    if task.status in ("pending", "queued", "assigned", "running"):
        return [Ask(words="Cancel task", opens="cancel", kind="danger")]
    if not task.final:
        return []
    found = []
    if task.plan_task_id is None:
        found.append(Ask(words="Run again", opens="retry"))
    if task.action == "plan" and task.outcome == "planned" and plan is not None:
        found.append(Ask(words="Apply this plan", opens="apply", kind="primary", says=summary(plan)))
    return found


def summary(plan: PlanFacts | None) -> str:
    """`2 to add, 1 to change, 3 to destroy`."""
    if plan is None:
        return ""
    numbers = ((key, int(plan.summary.get(key) or 0)) for key in ("import", "add", "change", "destroy", "forget"))
    return ", ".join(f"{number} to {key}" for key, number in numbers if number) or "only outputs change"


def losses(plan: PlanFacts | None) -> str:
    """How many resources a plan destroys, in words; empty for none."""
    number = int(plan.summary.get("destroy") or 0) if plan is not None else 0
    return many(number, "resource") if number else ""
