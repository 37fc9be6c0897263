"""What an agent holds and what follows from what it hears, as a script of messages and effects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.agent_effects import Beat, Flush, Say, Start
from iac.domain.agent_state import CLOSED, DISK_RESERVE
from iac.domain.holding import order_of
from iac.domain.messages import (
    Abandon,
    Drain,
    DrainAck,
    FlushLogs,
    TaskAccepted,
    TaskFinished,
    TaskFinishedAck,
    TaskRejected,
    Undrain,
    Verdict,
)
from tests.domain.agents import Agent, cancel, order, refusal, said, stops


def test_an_order_is_accepted_started_and_told() -> None:
    agent = Agent()
    effects = agent.hear(order(7))
    assert [type(effect) for effect in effects] == [Start, Beat]
    assert agent.hear(order(7)) == []  # what is not written down yet is not accepted
    assert said(agent.state.noted(7), TaskAccepted) == [TaskAccepted(task_id=7, assignment_id="asg-7", fence=7)]
    beat = agent.beat()
    assert (beat.status, beat.plan_running, beat.apply_running, beat.current_tasks) == ("busy", 1, False, (7,))
    assert [(held.fence, held.stage, held.log_length, held.log_acked) for held in beat.tasks] == [(7, "planning", 9, 5)]


def test_a_repeated_order_gets_the_answer_again_and_brings_its_token() -> None:
    agent = Agent()
    agent.hear(order(1))
    agent.state.noted(1)
    again = agent.hear(order(1, task_token="t2"))
    assert [type(effect) for effect in again] == [Say]
    assert said(again, TaskAccepted)
    assert agent.state.token_of(1) == "t2"


def test_an_order_that_cannot_be_written_down_is_refused_and_may_come_again() -> None:
    agent = Agent()
    agent.hear(order(1))
    assert [message.reason for message in said(agent.state.not_noted(1), TaskRejected)] == ["disk_low"]
    assert agent.beat().tasks == ()
    assert [type(effect) for effect in agent.hear(order(1))] == [Start, Beat]


def test_what_an_earlier_life_left_is_listed_and_comes_before_anything_new() -> None:
    agent = Agent()
    agent.state.adopt(order_of(order(1)), "t1")
    assert [(held.fence, held.stage) for held in agent.beat().tasks] == [(1, "collecting")]
    assert [message.reason for message in said(agent.hear(order(2)), TaskRejected)] == ["at_capacity"]
    agent.now += 10_000
    assert agent.state.tick(agent.now) == []  # there is nothing left whose lease could end
    assert said(agent.ended(result_id="r-1"), TaskFinished) == [TaskFinished(task_id=1, fence=1, result_id="r-1")]
    assert [type(effect) for effect in agent.hear(order(2))] == [Start, Beat]


def test_an_order_after_the_end_is_answered_with_the_end() -> None:
    agent = Agent()
    agent.hear(order(1))
    agent.ended(result_id="r-1")
    assert said(agent.hear(order(1)), TaskFinished) == [TaskFinished(task_id=1, fence=1, result_id="r-1")]
    agent.hear(TaskFinishedAck(task_id=1, fence=1))
    assert refusal(agent.hear(order(1))) == "already_done"
    agent.now += CLOSED + 1
    agent.state.tick(agent.now)
    assert refusal(agent.hear(order(1))) is None


def test_an_end_is_told_until_it_is_confirmed() -> None:
    agent = Agent()
    agent.hear(order(1))
    assert said(agent.ended(), TaskFinished)
    assert said(agent.state.unheard(), TaskFinished)
    assert said(agent.welcome(Verdict(task_id=1, fence=1, do="report")), TaskFinished)
    beat = agent.beat()
    assert (beat.status, beat.current_tasks, beat.tasks[0].stage) == ("idle", (), "finished")
    agent.hear(TaskFinishedAck(task_id=1, fence=1))
    assert agent.state.unheard() == []
    assert agent.beat().tasks == ()


def test_an_end_without_a_result_is_said_once_and_not_listed_any_more() -> None:
    agent = Agent()
    agent.hear(order(1))
    assert said(agent.ended(result_id=""), TaskFinished) == [TaskFinished(task_id=1, fence=1, result_id="")]
    assert (agent.beat().tasks, agent.state.unheard()) == ((), [])
    assert refusal(agent.hear(order(1))) == "already_done"


def test_a_confirmation_that_comes_before_the_end_changes_nothing() -> None:
    agent = Agent()
    agent.hear(order(1))
    agent.hear(TaskFinishedAck(task_id=1, fence=1))
    agent.welcome(Verdict(task_id=1, fence=1, do="forget"))
    assert agent.state.token_of(1) == "t1"
    assert agent.beat().current_tasks == (1,)


def test_an_end_that_was_listed_and_gets_no_lease_is_known() -> None:
    agent = Agent()
    agent.hear(order(1))
    agent.ended()
    agent.ack(sent_at=agent.now)
    assert agent.beat().tasks, "that heartbeat may have been sent before the end"
    agent.now += 1
    agent.ack(degraded=True)
    agent.ack(1)
    assert agent.beat().tasks
    agent.ack()
    assert agent.beat().tasks == ()


def test_plans_have_a_limit_and_applies_are_one() -> None:
    agent = Agent(plan_limit=2)
    agent.hear(order(1))
    agent.hear(order(2))
    assert refusal(agent.hear(order(3))) == "at_capacity"
    assert refusal(agent.hear(order(4, "apply"))) is None
    assert refusal(agent.hear(order(5, "apply"))) == "at_capacity"
    agent.ended(1)
    assert refusal(agent.hear(order(6))) is None


def test_an_apply_is_alone_when_the_pool_wants_it() -> None:
    agent = Agent()
    agent.welcome(apply_alone=True)
    agent.hear(order(1))
    assert refusal(agent.hear(order(2, "apply"))) == "at_capacity"
    agent.ended(1)
    assert refusal(agent.hear(order(3, "apply"))) is None
    assert refusal(agent.hear(order(4))) == "at_capacity"


def test_two_copies_of_a_task_never_run_side_by_side() -> None:
    agent = Agent()
    agent.hear(order(1, fence=10))
    assert refusal(agent.hear(order(1, fence=11))) == "at_capacity"
    assert refusal(agent.hear(order(1, fence=9))) == "stale_fence"
    agent.ended(10)
    agent.hear(TaskFinishedAck(task_id=1, fence=10))
    assert refusal(agent.hear(order(1, fence=9))) == "stale_fence"
    assert refusal(agent.hear(order(1, fence=11))) is None


def test_a_full_disk_takes_no_task() -> None:
    assert refusal(Agent().hear(order(1), disk_free=DISK_RESERVE - 1)) == "disk_low"


@pytest.mark.parametrize("how", ["welcome", "ack", "drain", "leave"])
def test_a_draining_agent_takes_no_task(how: str) -> None:
    agent = Agent()
    match how:
        case "welcome":
            agent.welcome(drain=True)
        case "ack":
            agent.ack(drain=True)
        case "drain":
            assert said(agent.hear(Drain(reason="upgrade")), DrainAck) == [DrainAck(running=())]
        case "leave":
            agent.state.leave()
    assert refusal(agent.hear(order(1))) == "draining"
    assert agent.beat().status == "draining"
    agent.hear(Undrain())
    assert refusal(agent.hear(order(2))) == ("draining" if how == "leave" else None)


def test_a_drain_may_cancel_at_once_or_at_its_deadline() -> None:
    agent = Agent()
    agent.hear(order(1))
    assert stops(agent.hear(Drain(reason="x", mode="cancel"))) == [(1, False)]
    other = Agent()
    other.hear(order(1))
    assert stops(other.hear(Drain(reason="x", deadline_s=30))) == []
    assert stops(other.state.tick(other.now + 29)) == []
    assert stops(other.state.tick(other.now + 30)) == [(1, False)]
    assert other.state.why_stopped(1) == "agent_drained"


def test_the_verdicts_of_a_welcome() -> None:
    agent = Agent(plan_limit=5)
    for number in range(1, 6):
        agent.hear(order(number))
    agent.ended(5)
    effects = agent.welcome(
        Verdict(task_id=1, fence=1, do="continue"),
        Verdict(task_id=2, fence=2, do="cancel"),
        Verdict(task_id=3, fence=3, do="abandon"),
        Verdict(task_id=5, fence=5, do="forget"),
    )
    assert stops(effects) == [(2, False), (3, True)]
    assert [held.fence for held in agent.beat().tasks] == [1, 2, 3, 4]
    apply = Agent()
    apply.hear(order(1, "apply"))
    assert stops(apply.welcome(Verdict(task_id=1, fence=1, do="abandon"))) == []


def test_logs_are_flushed_for_what_is_held() -> None:
    agent = Agent()
    assert agent.hear(FlushLogs(task_id=1, fence=1)) == []
    agent.hear(order(1))
    assert agent.hear(FlushLogs(task_id=1, fence=1)) == [Flush(1)]


EVENTS = st.one_of(
    st.tuples(st.just("order"), st.integers(1, 4), st.sampled_from(["plan", "apply"])),
    st.tuples(st.sampled_from(["cancel", "force", "end", "ack_end", "abandon", "lease", "time"]), st.integers(1, 4)),
)


@given(st.lists(EVENTS, max_size=40))
def test_whatever_comes_in_whatever_order_no_task_starts_twice_and_no_slot_is_overbooked(events: list[Any]) -> None:
    agent, started = Agent(), list[int]()
    for kind, number, *more in events:
        match kind:
            case "order":
                effects = agent.hear(order(number, more[0] if number % 2 else "plan"))
            case "cancel" | "force":
                effects = agent.hear(cancel(number, force=kind == "force"))
            case "end":
                effects = agent.ended(number) if number in agent.state.running else []
            case "ack_end":
                effects = agent.hear(TaskFinishedAck(task_id=number, fence=number))
            case "abandon":
                effects = agent.hear(Abandon(task_id=number, fence=number, mode="kill"))
            case "lease":
                effects = agent.ack(number)
            case _:
                agent.now += 20 * number
                effects = agent.state.tick(agent.now)
        started += [effect.order.fence for effect in effects if isinstance(effect, Start)]
        beat = agent.beat()
        assert beat.plan_running <= beat.plan_limit
        assert len(beat.current_tasks) == beat.plan_running + beat.apply_running
    assert len(started) == len(set(started))
