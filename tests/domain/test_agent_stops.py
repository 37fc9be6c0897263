"""What an agent's state makes of being told to stop, and of time: cancellations, leases, limits, abandonment."""

from __future__ import annotations

from typing import Any

import pytest

from iac.domain.agent_state import TOMBSTONE
from iac.domain.messages import (
    Abandon,
    CancelAck,
    Wanted,
)
from iac.domain.records import Phase
from tests.domain.agents import Agent, cancel, order, refusal, said, stops


def test_a_cancellation_stops_once_and_is_acknowledged_each_time() -> None:
    agent = Agent()
    agent.hear(order(1))
    first = agent.hear(cancel())
    assert stops(first) == [(1, False)]
    assert [(ack.stage, ack.deadline_s) for ack in said(first, CancelAck)] == [("received", 45.0)]
    assert said(agent.state.stepped(1, "sigterm", agent.now), CancelAck)[0].stage == "sigterm"
    again = agent.hear(cancel())
    assert (stops(again), said(again, CancelAck)[0].stage) == ([], "sigterm")
    assert agent.beat().tasks[0].stage == "cancelling"
    assert said(agent.ended(), CancelAck)[0].stage == "exited"
    assert said(agent.hear(cancel()), CancelAck)[0].stage == "exited"
    assert agent.state.why_stopped(1) is None


def test_force_hurries_once() -> None:
    agent = Agent()
    agent.hear(order(1))
    agent.hear(cancel())
    assert stops(agent.hear(cancel(force=True))) == [(1, True)]
    assert stops(agent.hear(cancel(force=True))) == []
    assert stops(agent.hear(cancel(cancel_id="can-2"))) == []


def test_a_cancellation_that_overtakes_its_order_is_remembered_for_a_while() -> None:
    agent = Agent()
    assert said(agent.hear(cancel()), CancelAck)[0].stage == "not_running"
    assert refusal(agent.hear(order(1))) == "stale_fence"
    agent.now += TOMBSTONE + 1
    agent.state.tick(agent.now)
    assert refusal(agent.hear(order(1))) is None


def test_a_cancellation_in_an_answer_to_a_heartbeat_is_obeyed() -> None:
    agent = Agent()
    agent.hear(order(1))
    wanted = Wanted(task_id=1, fence=1, cancel_id="can-1")
    assert stops(agent.ack(1, cancel=(wanted,))) == [(1, False)]


def test_a_status_over_http_stops_and_the_cancellation_is_acknowledged_later() -> None:
    agent = Agent()
    agent.hear(order(1))
    assert stops(agent.state.told_cancelling(1, agent.now)) == [(1, False)]
    assert said(agent.state.stepped(1, "sigterm", agent.now), CancelAck) == []
    later = agent.hear(cancel())
    assert (stops(later), said(later, CancelAck)[0].stage) == ([], "sigterm")


@pytest.mark.parametrize(("ordered", "given"), [(30, None), (999, 30)])
def test_a_time_limit_counts_from_the_claim_and_fails_the_task(ordered: float, given: float | None) -> None:
    agent = Agent()
    agent.hear(order(1, "apply", timeout_s=ordered))
    agent.now += 500
    assert stops(agent.state.tick(agent.now)) == [], "what was not begun has not used up anything"
    agent.state.claimed(1, agent.now, timeout_s=given, grace_s=None)
    agent.state.claimed(1, agent.now + 20, timeout_s=given, grace_s=None)  # the answer came twice
    assert stops(agent.state.tick(agent.now + 29)) == []
    overdue = agent.state.tick(agent.now + 30)
    assert stops(overdue) == [(1, False)]
    assert agent.state.why_stopped(1) == "timeout"
    [ack] = said(overdue, CancelAck)
    assert (ack.cancel_id, ack.reason, ack.stage) == ("asg-1:timeout", "timeout", "received")


def test_a_time_limit_of_the_servers_own_fails_the_task_as_well() -> None:
    agent = Agent()
    agent.hear(order(2))
    agent.hear(cancel(2, reason="timeout"))
    assert agent.state.why_stopped(2) == "timeout"


def test_a_plan_ends_with_its_lease_and_an_apply_goes_on() -> None:
    agent = Agent()
    agent.welcome()
    agent.hear(order(1))
    agent.hear(order(2, "apply"))
    agent.now += 50
    agent.ack(1, 2, sent_at=agent.now - 20)
    assert agent.state.tick(agent.now + 40) == []
    assert stops(agent.state.tick(agent.now + 41)) == [(1, False)]
    assert agent.state.why_stopped(1) == "lease_expired"


def test_a_lease_counts_from_the_last_heartbeat_that_was_answered_not_from_the_order() -> None:
    agent = Agent()
    agent.welcome()
    agent.now += 30
    agent.hear(order(1))
    assert agent.state.may_start(1, agent.now + 30)
    assert not agent.state.may_start(1, agent.now + 31)


def test_an_answer_that_does_not_list_a_task_does_not_extend_its_lease() -> None:
    agent = Agent()
    agent.welcome()
    agent.hear(order(1))
    agent.now += 50
    agent.ack()
    assert stops(agent.state.tick(agent.now + 11)) == [(1, False)]


def test_a_server_without_its_database_extends_every_lease() -> None:
    agent = Agent()
    agent.welcome()
    agent.hear(order(1))
    agent.now += 50
    agent.ack(degraded=True)
    assert agent.state.tick(agent.now + 60) == []


@pytest.mark.parametrize(
    ("action", "mode", "expected"),
    [
        ("plan", "kill", [(1, True)]),
        ("plan", "kill_if_plan", [(1, True)]),
        ("plan", "stop_and_report", [(1, True)]),
        ("apply", "stop_and_report", [(1, False)]),
        ("apply", "kill", [(1, True)]),
        ("apply", "kill_if_plan", []),
    ],
)
def test_abandoning_kills_plans_and_is_careful_with_applies(action: Phase, mode: Any, expected: object) -> None:
    agent = Agent()
    agent.hear(order(1, action))
    assert stops(agent.hear(Abandon(task_id=1, fence=1, mode=mode))) == expected
    agent.ended()
    agent.hear(Abandon(task_id=1, fence=1, mode=mode))
    assert agent.beat().tasks == ()
