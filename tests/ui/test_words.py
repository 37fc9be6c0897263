"""Times, tones and words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from markupsafe import Markup

from iac.domain.glances import Condition
from iac.domain.records import Action, Outcome, Phase, Status
from iac.web.ui import rendering
from iac.web.ui.icons import icon
from iac.web.ui.models.times import ago, exact, lasting
from iac.web.ui.models.words import CONDITIONS, many, plan_counts, task_badge

NOW = datetime(2026, 11, 25, 18, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "just now"),  # the browser's clock, or the database's, may be behind
        (4, "just now"),
        (5, "5 s ago"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86_399, "23 h ago"),
        (86_400, "1 day ago"),
        (29 * 86_400, "29 days ago"),
        (30 * 86_400, "2026-10-26"),
    ],
)
def test_how_long_ago(seconds: int, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (59.9, "59 s"), (65, "1 min 05 s"), (3600, "1 h 00 min"), (90_000, "1 d 1 h")],
)
def test_how_long_it_lasts(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_an_instant_is_exact_when_asked() -> None:
    assert exact(NOW) == "2026-11-25 18:00:00 UTC"


def test_every_task_has_a_word_a_tone_and_an_icon_that_exists() -> None:
    for status in get_args(Status):
        for phase in get_args(Phase):
            for action in get_args(Action):
                for outcome in (None, *get_args(Outcome)):
                    badge = task_badge(status, phase, action, outcome)
                    assert badge.word
                    assert icon(badge.icon)


def test_every_condition_of_a_workspace_has_one_too() -> None:
    assert set(CONDITIONS) == set(get_args(Condition))
    assert all(icon(badge.icon) for badge in CONDITIONS.values())


@pytest.mark.parametrize(
    ("action", "outcome", "word"),
    [
        ("plan_and_apply", "applied", "Applied"),
        ("destroy", "applied", "Destroyed"),
        ("refresh_only", "applied", "Refreshed"),
        ("plan", "planned", "Planned"),
        ("plan_and_apply", "planned_and_finished", "No changes"),
    ],
)
def test_a_task_that_succeeded_says_what_it_did(action: Action, outcome: Outcome, word: str) -> None:
    assert task_badge("succeeded", "apply", action, outcome).word == word


def test_a_discarded_plan_is_not_called_cancelled() -> None:
    assert task_badge("cancelled", "plan", "plan_and_apply", "discarded").word == "Discarded"


def test_numbers_of_a_plan_that_says_nothing_are_nothing() -> None:
    counts = plan_counts({"add": 3, "destroy": None})
    assert (counts.add, counts.change, counts.destroy) == (3, 0, 0)


def test_one_is_not_many() -> None:
    assert [many(1, "task"), many(2, "task"), many(1200, "apply", "applies")] == ["1 task", "2 tasks", "1,200 applies"]


def test_a_name_may_be_broken_and_is_escaped_first() -> None:
    assert rendering.breakable("a-b.<i>_c") == Markup("a-<wbr>b.<wbr>&lt;i&gt;_<wbr>c")
    assert rendering.segment("a/b ?#%") == "a%2Fb%20%3F%23%25"
