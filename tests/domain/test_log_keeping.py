"""Nothing of a log is deleted that is not somewhere else, and checked there; and no copy counts that is not the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.log_keeping import removable, sound
from iac.domain.records import LogStream

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def a_stream(**facts: object) -> LogStream:
    """One that ended, whole, two days ago and is safe in the database."""
    values: dict[str, Any] = {
        "task_id": 1, "fence": 2, "phase": "plan", "length": 10, "state": "complete", "sha256": "a",
        "truncated_bytes": 0, "created_at": NOW - 3 * DAY, "persisted": 10, "verified": True,
        "closed_at": NOW - 2 * DAY, "expired_at": None, **facts,
    }  # fmt: skip
    return LogStream(**values)


def may_go(stream: LogStream | None, *, modified: datetime = NOW - 3 * DAY) -> bool:
    return removable(stream, modified=modified, now=NOW, keep=DAY)


@pytest.mark.parametrize("state", ["complete", "incomplete", "diverged"])
def test_a_file_goes_when_its_log_has_ended_and_is_checked_in_the_database_for_long(state: str) -> None:
    assert may_go(a_stream(state=state))


@pytest.mark.parametrize(
    "facts",
    [
        {"state": "open", "closed_at": None, "verified": None},
        {"state": "open"},
        {"closed_at": None},
        {"persisted": 9},
        {"verified": None},
        {"verified": False},
        {"closed_at": NOW - DAY + timedelta(seconds=1)},
    ],
)
def test_a_file_stays_while_anything_of_that_is_missing(facts: dict[str, object]) -> None:
    assert not may_go(a_stream(**facts))


def test_a_file_of_a_log_that_was_deleted_for_its_age_goes_at_once() -> None:
    assert may_go(a_stream(expired_at=NOW, persisted=3, verified=None))


def test_a_file_of_a_deleted_task_goes_when_nobody_has_touched_it_for_long() -> None:
    assert may_go(None, modified=NOW - DAY)
    assert not may_go(None, modified=NOW - DAY + timedelta(seconds=1))


@given(
    st.sampled_from(["open", "complete", "incomplete", "diverged"]),
    st.integers(0, 10),
    st.sampled_from([None, True, False]),
    st.none() | st.timedeltas(-DAY, 5 * DAY),
)
def test_whatever_goes_is_whole_and_checked_elsewhere(
    state: str, persisted: int, verified: bool | None, closed: timedelta | None
) -> None:
    stream = a_stream(
        state=state, persisted=persisted, verified=verified, closed_at=None if closed is None else NOW - closed
    )
    if may_go(stream):
        assert (stream.persisted, stream.verified, stream.state != "open") == (stream.length, True, True)


@pytest.mark.parametrize(
    ("state", "on_disk", "read_back", "good"),
    [
        ("complete", "a", "a", True),
        ("complete", None, "a", True),
        ("complete", "b", "b", False),  # both have something else than the sender said
        ("complete", "b", "a", False),
        ("complete", "a", None, False),
        ("diverged", "b", "b", True),
        ("incomplete", "b", "c", False),
        ("incomplete", None, "c", True),
    ],
)
def test_a_copy_counts_when_it_is_what_the_disk_and_the_sender_have(
    state: str, on_disk: str | None, read_back: str | None, good: bool
) -> None:
    assert sound(a_stream(state=state), on_disk=on_disk, read_back=read_back) is good
