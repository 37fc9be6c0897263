"""What a task's page says and offers, from records alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, get_args

import msgspec
import pytest

from iac.domain.cancel_bodies import CancelView
from iac.domain.ladder import StopStep
from iac.domain.records import Status
from iac.domain.scheduling import Wait
from iac.domain.steps import TaskStep
from iac.domain.work import PlanFacts, ResourceProgress
from iac.web.auth import RIGHTS
from iac.web.ui.models.plain_log import plain
from iac.web.ui.models.task_page import Details, Facts, Head, ProgressHead, Resource, TaskPage, task_page
from iac.web.ui.models.task_stop import stop
from iac.web.ui.models.timeline import Timeline, timeline
from tests.domain.builders import NOW, a_task

PLAN = PlanFacts(
    digest="sha256:abc", bundle_digest="b", serial=4, lineage="l", terraform_version="1.11.4", has_changes=True,
    summary={"add": 2, "change": 0, "destroy": 3},
)  # fmt: skip


def page(role: str = "operator", **given: Any) -> TaskPage:
    nothing: dict[str, Any] = {
        "task": a_task(), "plan": None, "wait": None, "names": {}, "steps": [], "progress": [], "current_serial": 4,
        "known": None, "cancel": None, "now": NOW, "tail": "", "tail_cut": False, "log_gone": False,
    }  # fmt: skip
    return task_page(Facts(rights=frozenset(RIGHTS[role]), **{**nothing, **given}))


def said(shown: TaskPage) -> str:
    """The notice, as text."""
    return "\n".join(msgspec.json.encode(part.model).decode() for part in shown.notice.parts)


def offered(shown: TaskPage) -> list[str]:
    head = shown.head.parts[0].model
    assert isinstance(head, Head)
    return [ask.opens for ask in head.asks]


@pytest.mark.parametrize("status", get_args(Status))
@pytest.mark.parametrize("phase", ["plan", "apply"])
@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_every_task_has_a_page_also_one_of_before_its_steps_were_noted(status: Status, phase: str, role: str) -> None:
    times = {"queued_at": NOW, "started_at": NOW, "finished_at": NOW if status in ("failed", "cancelled") else None}
    shown = page(role, task=a_task(status=status, phase=phase, **times))
    assert shown.timeline.parts
    if role == "viewer":
        assert offered(shown) == []


def test_what_is_offered_is_what_is_possible() -> None:
    assert offered(page(task=a_task(status="running"))) == ["cancel"]
    assert offered(page(task=a_task(status="planned", plan_digest="d"), plan=PLAN)) == ["discard", "confirm"]
    assert offered(page(task=a_task(status="failed"))) == ["retry"]
    assert offered(page(task=a_task(status="failed", plan_task_id=3))) == [], "a plan is used up by its apply"
    assert offered(page(task=a_task(action="plan", status="succeeded", outcome="planned"), plan=PLAN)) == [
        "retry",
        "apply",
    ]
    assert offered(page(task=a_task(status="lost", phase="apply"))) == []
    assert offered(page("admin", task=a_task(status="lost", phase="apply"))) == ["resolve"]


def test_what_is_confirmed_is_the_plan_beside_the_button() -> None:
    head = page(task=a_task(status="planned", plan_digest="sha256:abc"), plan=PLAN).head.parts[0].model
    assert isinstance(head, Head)
    confirm = next(ask for ask in head.asks if ask.opens == "confirm")
    assert (confirm.plan_digest, confirm.says) == ("sha256:abc", "2 to add, 3 to destroy")


def test_a_plan_that_destroys_says_how_much() -> None:
    assert "3 resources would be destroyed." in said(page(task=a_task(status="planned"), plan=PLAN))


def test_a_plan_for_another_state_is_stale() -> None:
    assert "serial 4; the state is at 9 now" in said(page(task=a_task(status="planned"), plan=PLAN, current_serial=9))


def test_a_waiting_task_says_why_and_its_place() -> None:
    wait = Wait(code="slots", message="All 3 slots are in use.", position=2)
    text = said(page(task=a_task(status="queued", queued_at=NOW), wait=wait))
    assert "All 3 slots are in use." in text
    assert "Place 2 in the queue." in text


def test_resources_that_failed_come_first_and_those_that_are_done_last() -> None:
    made = [
        ResourceProgress(address=f"a.{status}", action="create", status=status)
        for status in ("complete", "pending", "started", "errored")
    ]
    shown = page(task=a_task(status="running", phase="apply"), progress=made)
    resources = [part.model for part in shown.progress.parts]
    assert [each.address for each in resources if isinstance(each, Resource)] == [
        "a.errored", "a.started", "a.pending", "a.complete",
    ]  # fmt: skip
    head = shown.progress_head.parts[0].model
    assert isinstance(head, ProgressHead)
    assert (head.words, head.percent) == ("1 of 4 resources done, 1 failed", 50.0)


def test_digests_are_copied_whole_and_shown_short() -> None:
    details = page(task=a_task(), plan=PLAN).details.parts[0].model
    assert isinstance(details, Details)
    digest = next(fact for fact in details.facts if fact.name == "Plan digest")
    assert (digest.text, digest.copy) == ("abc", "sha256:abc")


# The timeline


def step(second: float, status: Any, stage: str | None = None, phase: Any = "plan") -> TaskStep:
    return TaskStep(at=NOW + timedelta(seconds=second), phase=phase, status=status, stage=stage, attempt=1)


def told(shown: Timeline) -> list[tuple[str, str, str]]:
    return [(line.group, line.label, line.took) for line in shown.lines]


def test_stages_have_their_words_their_durations_and_their_phase() -> None:
    steps = [
        step(0, "queued"), step(3, "running", "init"), step(5, "running", "planning"), step(6.5, "planned"),
        step(70, "queued", phase="apply"), step(70.01, "running", "applying", phase="apply"),
    ]  # fmt: skip
    assert told(timeline(a_task(status="running", phase="apply"), steps, "")) == [
        ("Plan", "Waiting for a free runner", "3.0 s"),
        ("", "terraform init", "2.0 s"),
        ("", "terraform plan", "1.5 s"),
        ("", "Waiting for a decision", "1 min 03 s"),
        ("Apply", "terraform apply", ""),
    ]


def test_what_a_failed_task_was_at_is_what_failed() -> None:
    steps = [
        step(0, "running", "init"),
        step(2, "running", "applying"),
        step(3, "running", "saving_state"),
        step(4, "failed"),
    ]
    shown = timeline(a_task(status="failed"), steps, "")
    assert [(line.label, line.tone) for line in shown.lines] == [
        ("terraform init", "calm"),
        ("terraform apply", "bad"),
        ("Storing the state", "calm"),
        ("Failed", "bad"),
    ]


# A stop


def test_a_stop_shows_what_was_done_and_what_comes_when() -> None:
    later = NOW + timedelta(seconds=30)
    view = CancelView(
        id="can-1", reason="user", by="ann", force=False, requested_at=NOW, stage="sigterm", stage_at=NOW,
        steps=(StopStep(stage="received", at=NOW), StopStep(stage="sigterm", at=NOW)),
        next_step_at=NOW + timedelta(seconds=20), kill_at=later,
    )  # fmt: skip
    assert [(rung.state, rung.words, rung.at == later) for rung in stop(view).rungs] == [
        ("done", "ann asked to stop it", False),
        ("done", "Its runner has heard of it", False),
        ("done", "Terraform was asked to end", False),
        ("next", "Terraform is asked once more", False),
        ("next", "Everything that it started is killed", True),
    ]


def test_force_can_be_pressed_from_its_instant_on() -> None:
    view = CancelView(
        id="can-1", reason="user", by="ann", force=False, requested_at=NOW,
        force_allowed_at=NOW + timedelta(seconds=10),
    )  # fmt: skip
    head = page(task=a_task(status="cancelling", cancel_id="can-1"), cancel=view).head.parts[0].model
    assert isinstance(head, Head)
    assert [(ask.opens, ask.not_before) for ask in head.asks] == [("force", NOW + timedelta(seconds=10))]


# Logs without a script


def test_a_logs_end_is_plain_text_from_its_first_whole_line_on() -> None:
    log = "half a li\x1b[31mne\nred \x1b[1mbold\x1b[0m\nbidi \u202e nul \x00 del \x7f\r\nend".encode()
    assert plain(log, cut=True) == "red bold\nbidi <U+202E> nul ^@ del ^?\nend"
    assert plain(b"all of it", cut=False) == "all of it"
    assert plain(b"one line that never ends", cut=True) == "one line that never ends"
