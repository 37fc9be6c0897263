"""How a stop climbs, what is told of it, and which stops are overdue."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.ladder import APART, COLLECT, RANK, Climb, Ladder, StopStage, Watchdog
from iac.domain.limits import Defaults, Limits, Own

LADDER = Ladder(grace=300.0, second=10.0)


def climbing(stage: StopStage = "received", *, at: float = 1000.0, forced: bool = False) -> Climb:
    climb = Climb(LADDER, cancel_id="can-1")
    climb.ask(at, force=forced)
    climb.climbed(stage, at)
    return climb


@pytest.mark.parametrize(
    ("stage", "forced", "next_s", "kill_s"),
    [
        ("received", False, None, 310.0),
        ("sigterm", False, 300.0, 310.0),
        ("sigterm", True, APART, APART + 10.0),
        ("sigterm2", False, 10.0, 10.0),
        ("sigkill", False, None, None),
        ("exited", False, None, None),
    ],
)
def test_each_stage_tells_when_the_next_one_and_the_last_one_come(
    stage: StopStage, forced: bool, next_s: float | None, kill_s: float | None
) -> None:
    report = climbing(stage, forced=forced).report("asg-1", 1000.0)
    assert report is not None
    assert (report.stage, report.next_s, report.kill_s) == (stage, next_s, kill_s)
    assert report.deadline_s == (0.0 if stage == "exited" else (kill_s or 0.0) + COLLECT)


def test_what_is_told_later_counts_from_then() -> None:
    report = climbing("sigterm").report("asg-1", 1060.0)
    assert report is not None
    assert (report.since_s, report.next_s, report.kill_s) == (60.0, 240.0, 250.0)


def test_one_that_is_forced_late_takes_its_next_step_at_once() -> None:
    climb = climbing("sigterm")
    assert climb.ask(1200.0, force=True)
    assert not climb.ask(1201.0, force=True), "once"
    report = climb.report("asg-1", 1200.0)
    assert report is not None
    assert (report.forced, report.next_s, report.kill_s) == (True, 0.0, 10.0)


def test_a_stop_of_the_runners_own_has_a_name_of_its_own_until_the_platform_gives_it_one() -> None:
    climb = Climb(LADDER)
    climb.begin(0.0, timeout_s=60.0, grace_s=5.0)
    assert not climb.due(59.9)
    assert climb.due(60.0)
    climb.ask(60.0, why="timeout")
    assert not climb.due(61.0), "it is being stopped"
    report = climb.report("asg-1", 60.0)
    assert report is not None
    assert (report.cancel_id, report.reason, report.kill_s) == ("asg-1:timeout", "timeout", 15.0)
    climb.cancel_id = "can-9"
    again = climb.report("asg-1", 60.0)
    assert again is not None
    assert (again.cancel_id, again.reason) == ("can-9", "timeout")


@pytest.mark.parametrize("why", ["lease_expired", "runner_detached", None])
def test_what_ends_as_a_result_alone_is_not_told_as_a_cancellation(why: str | None) -> None:
    climb = Climb(LADDER)
    climb.ask(0.0, why=why)
    assert climb.report("asg-1", 0.0) is None


@pytest.mark.parametrize("timeout_s", [None, 0.0])
def test_without_a_limit_there_is_no_end_of_time(timeout_s: float | None) -> None:
    climb = Climb(LADDER)
    climb.begin(0.0, timeout_s=timeout_s, grace_s=None)
    assert climb.timeout_at == inf
    assert climb.ladder == LADDER


@given(
    asked=st.floats(0, 1e6),
    force_after=st.none() | st.floats(0, 1e4),
    steps=st.lists(st.floats(0, 1e4), max_size=4),
    told_after=st.floats(0, 1e4),
)
def test_spans_are_never_negative_and_in_their_order(
    asked: float, force_after: float | None, steps: list[float], told_after: float
) -> None:
    stages: list[StopStage] = ["sigterm", "sigterm2", "sigkill", "exited"]
    climb, now = Climb(LADDER, cancel_id="can-1"), asked
    climb.ask(now)
    if force_after is not None:
        climb.ask(now + force_after, force=True)
    for stage, later in zip(stages, steps, strict=False):
        now += later
        climb.climbed(stage, now)
    report = climb.report("asg-1", now + told_after)
    assert report is not None
    assert report.since_s >= 0
    assert RANK[report.stage] == len(steps)
    if report.next_s is not None and report.kill_s is not None:
        assert report.next_s <= report.kill_s <= report.deadline_s


def test_a_stop_is_overdue_after_its_grace_and_the_rest_while_its_runner_is_there() -> None:
    watchdog = Watchdog(rest=45.0)
    stopping = {1: 30.0, 2: 300.0}
    assert watchdog.overdue(stopping, {1, 2}, 0.0) == []
    assert watchdog.overdue(stopping, {1, 2}, 74.9) == []
    assert watchdog.overdue(stopping, {1, 2}, 75.0) == [1]
    assert watchdog.overdue({2: 300.0}, {2}, 345.0) == [2]


def test_a_runner_that_was_away_has_all_its_time_anew() -> None:
    watchdog = Watchdog(rest=45.0)
    watchdog.overdue({1: 30.0}, {1}, 0.0)
    watchdog.overdue({1: 30.0}, set(), 70.0)
    assert watchdog.overdue({1: 30.0}, {1}, 80.0) == []
    assert watchdog.overdue({1: 30.0}, {1}, 154.0) == []
    assert watchdog.overdue({1: 30.0}, {1}, 155.0) == [1]
    watchdog.restart()
    assert watchdog.overdue({1: 30.0}, {1}, 200.0) == []


def test_a_workspaces_own_limits_go_over_the_servers() -> None:
    defaults = Defaults()
    assert (defaults.plan.grace_s, defaults.apply.grace_s) == (30, 300)
    own = Own(plan_timeout_s=60, apply_grace_s=900)
    assert own.over(defaults, "plan") == Limits(timeout_s=60, grace_s=30)
    assert own.over(defaults, "apply") == Limits(timeout_s=24 * 3600, grace_s=900)
