"""What a task token is good for, by its own row and by its task's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.agent_tokens import AFTERWARDS, MAX_READS, READ_WITHIN, Scope, may_read, scope_now
from iac.domain.records import FINAL, Status

STATUSES = get_args(Status)
SCOPES: tuple[Scope, ...] = get_args(Scope)
WIDTH = {"full": 3, "report": 2, "quarantine": 1, "dead": 0}
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("status", ["assigned", "running", "cancelling"])
def test_while_the_task_is_under_way_the_token_is_good_for_everything(status: str) -> None:
    for read in (False, True):
        assert scope_now("full", status=status, current=True, read=read, over_for=None) == "full"


@pytest.mark.parametrize("status", ["lost", "planned", "queued", "succeeded", "failed", "cancelled"])
def test_afterwards_it_is_good_for_what_is_left_to_bring(status: str) -> None:
    assert scope_now("full", status=status, current=True, read=True, over_for=None) == "report"


@pytest.mark.parametrize("status", STATUSES)
def test_an_assignment_that_was_taken_away_can_only_have_its_states_kept_apart(status: str) -> None:
    assert scope_now("full", status=status, current=False, read=True, over_for=None) == "quarantine"


@pytest.mark.parametrize("status", ["queued", "pending", "cancelled", "lost"])
def test_one_that_never_had_the_data_is_good_for_nothing_once_it_was_given_back(status: str) -> None:
    assert scope_now("full", status=status, current=True, read=False, over_for=None) == "dead"
    assert scope_now("full", status="running", current=False, read=False, over_for=None) == "dead"


def test_a_week_after_the_end_it_is_good_for_nothing() -> None:
    moment = timedelta(seconds=1)
    assert scope_now("full", status="failed", current=True, read=True, over_for=AFTERWARDS) == "report"
    assert scope_now("full", status="failed", current=True, read=True, over_for=AFTERWARDS + moment) == "dead"


@given(
    st.sampled_from(SCOPES),
    st.sampled_from(STATUSES),
    st.booleans(),
    st.booleans(),
    st.none() | st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30)),
)
def test_what_is_stored_is_never_widened(
    stored: Scope, status: Status, current: bool, read: bool, over_for: timedelta | None
) -> None:
    over = over_for if status in FINAL else None
    scope = scope_now(stored, status=status, current=current, read=read, over_for=over)
    assert WIDTH[scope] <= WIDTH[stored]
    assert scope != "full" or (current and status in ("assigned", "running", "cancelling"))


def test_data_may_be_fetched_five_times_within_ten_minutes_of_the_first() -> None:
    assert may_read(0, None, NOW)
    assert [may_read(reads, NOW, NOW) for reads in range(1, MAX_READS + 1)] == [True] * (MAX_READS - 1) + [False]
    assert may_read(1, NOW - READ_WITHIN, NOW)
    assert not may_read(1, NOW - READ_WITHIN - timedelta(seconds=1), NOW)
