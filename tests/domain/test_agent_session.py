"""The server's view of one agent: the table of protocol 2.1, and what holds whatever is lost, doubled or late."""

from __future__ import annotations

from typing import Any

import pytest

from iac.domain.agent_session import NO_RECORD, AgentSession, Effect, Move, Reissue, Send, Times
from iac.domain.lifecycle import Heard, Lose, Unassign
from iac.domain.messages import (
    Abandon,
    CancelTaskOrder,
    Heartbeat,
    Held,
    Hello,
    Lease,
    RunTaskOrder,
    TaskFinishedAck,
    TaskRejected,
    Wanted,
)
from iac.domain.standings import Standing

TIMES = Times()
FENCE, TASK = 41, 7


def an_order(fence: int = FENCE, task: int = TASK) -> RunTaskOrder:
    return RunTaskOrder(
        task_id=task, workspace_id="ws-a", action="plan", assignment_id=f"asg-{fence}", fence=fence, attempt=1,
        task_token="secret",
    )  # fmt: skip


def standing(status: str = "running", **facts: Any) -> Standing:
    """A claimed plan that runs, unless `facts` say otherwise."""
    usual: dict[str, Any] = {
        "task_id": TASK,
        "workspace_id": "ws-a",
        "fence": FENCE,
        "assignment_id": f"asg-{FENCE}",
        "agent_id": "agent-a",
        "phase": "plan",
        "attempt": 1,
        "priority": 0,
        "status": status,
        "present": True,
        "ended": False,
        "claimed_for_s": None if status == "assigned" else 100.0,
    }
    return Standing(**{**usual, **facts})


def rows(*standings: Standing) -> dict[int, Standing]:
    return {each.fence: each for each in standings}


def listed(fence: int = FENCE, task: int = TASK, stage: str = "plan") -> Held:
    return Held(task_id=task, fence=fence, stage=stage)


def hello(*tasks: Held, **facts: Any) -> Hello:
    return Hello(**{"agent_id": "agent-a", "boot_id": "boot-1", "conn_seq": 1, "tasks": tasks, **facts})


def beat(seq: int, *tasks: Held, **facts: Any) -> Heartbeat:
    usual = {"agent_id": "agent-a", "status": "busy", "plan_running": 0, "plan_limit": 3, "apply_running": False}
    usual |= {"current_tasks": (), "cpu_usage": 0.0, "mem_usage": 0.0, "boot_id": "boot-1", "tasks": tasks, "seq": seq}
    return Heartbeat(**{**usual, **facts})


CANCELLING = {"status": "cancelling", "cancel_id": "can-1", "cancel_reason": "user"}
HEARD = Move(TASK, Heard(fence=FENCE))
GONE_PLAN = Send(Abandon(task_id=TASK, fence=FENCE, mode="kill"))
GONE_APPLY = Send(Abandon(task_id=TASK, fence=FENCE, mode="stop_and_report"))
UNKNOWN = Send(Abandon(task_id=TASK, fence=FENCE, mode="kill_if_plan"))
DONE = Send(TaskFinishedAck(task_id=TASK, fence=FENCE))
CANCEL = Send(CancelTaskOrder(task_id=TASK, fence=FENCE, cancel_id="can-1"))


@pytest.mark.parametrize(
    ("row", "do", "leased", "wanted", "effects"),
    [
        (standing("assigned"), "continue", True, False, []),
        (standing("running"), "continue", True, False, []),
        (standing(**CANCELLING), "cancel", True, True, [CANCEL]),
        (standing("lost", phase="apply"), "continue", True, False, [HEARD]),
        (standing("lost", phase="apply", cancel_id="can-1"), "cancel", True, True, [HEARD, CANCEL]),
        (standing("running", present=False), "abandon", False, False, [GONE_PLAN]),
        (standing("queued", present=False), "abandon", False, False, [GONE_PLAN]),
        (standing("failed", present=False, phase="apply"), "abandon", False, False, [GONE_APPLY]),
        (standing("failed"), "abandon", False, False, [GONE_PLAN]),
        (standing("cancelled", claimed_for_s=None, cancel_id="can-1"), "abandon", False, False, [GONE_PLAN]),
        (standing("succeeded", ended=True), "forget", False, False, [DONE]),
        (standing("queued", present=False, ended=True), "forget", False, False, [DONE]),
        (standing("lost", phase="apply", ended=True), "forget", False, False, [DONE]),
        (None, "abandon", False, False, [UNKNOWN]),
    ],
)
def test_what_the_agent_lists_is_compared_with_the_rows(
    row: Standing | None, do: str, leased: bool, wanted: bool, effects: list[Effect]
) -> None:
    known = {} if row is None else rows(row)
    verdicts, follows = AgentSession(TIMES).hello(hello(listed()), known, 0)
    assert [(verdict.task_id, verdict.fence, verdict.do) for verdict in verdicts] == [(TASK, FENCE, do)]
    assert follows == effects
    ack, follows = AgentSession(TIMES).heartbeat(beat(1, listed()), known, 0)
    assert ack.leases == ((Lease(task_id=TASK, fence=FENCE),) if leased else ())
    assert bool(ack.cancel) is wanted
    assert follows == effects


# What the agent should have and does not list


def test_an_order_that_did_not_arrive_is_sent_again_at_the_next_hello() -> None:
    session = AgentSession(TIMES)
    assert session.ordered(an_order(), 0) == [Send(an_order())]
    assert session.hello(hello(), rows(standing("assigned")), 1)[1] == [Send(an_order())]


def test_an_order_is_repeated_until_it_is_accepted_or_listed() -> None:
    session = AgentSession(TIMES)
    session.ordered(an_order(), 0)
    assert session.tick(14) == []
    assert session.tick(15) == [Send(an_order())]
    assert session.tick(29) == []
    assert session.tick(30) == [Send(an_order())]
    session.heartbeat(beat(1, listed()), rows(standing("assigned")), 31)
    assert session.tick(100) == []
    assert session.pending()[0] == (an_order(),)  # it may still ask for it
    session.heartbeat(beat(2, listed()), rows(standing("running")), 110)
    assert session.pending() == ((), ())


def test_an_order_that_was_accepted_and_forgotten_is_repeated() -> None:
    session = AgentSession(TIMES)
    session.ordered(an_order(), 0)
    session.accepted(FENCE)
    assert session.tick(20) == []
    assert session.heartbeat(beat(1), rows(standing("assigned")), 21)[1] == []
    assert session.tick(22) == [Send(an_order())]


def test_an_order_that_nobody_takes_up_goes_to_somebody_else() -> None:
    session = AgentSession(TIMES)
    session.ordered(an_order(), 0)
    session.accepted(FENCE)
    assert session.tick(299) == []
    assert session.tick(300) == [Move(TASK, Unassign(fence=FENCE))]
    assert session.tick(301) == []


def test_an_order_whose_token_is_not_known_any_more_is_made_anew() -> None:
    row = standing("assigned")
    assert AgentSession(TIMES).hello(hello(), rows(row), 0)[1] == [Reissue(row)]
    session = AgentSession(TIMES)
    assert session.heartbeat(beat(1), rows(row), 0)[1] == []  # it may just be on its way
    assert session.heartbeat(beat(2), rows(row), 10)[1] == [Reissue(row)]


def lost() -> Move:
    detail = "The agent has no record of it: its data directory was lost, or it is another one."
    return Move(TASK, Lose(fence=FENCE, reason=NO_RECORD, detail=detail))


def test_a_claimed_task_that_a_hello_does_not_list_is_lost_at_once() -> None:
    assert AgentSession(TIMES).hello(hello(), rows(standing()), 0)[1] == [lost()]


def test_a_claimed_task_is_lost_when_two_heartbeats_miss_it() -> None:
    session = AgentSession(TIMES)
    assert session.heartbeat(beat(1), rows(standing()), 0)[1] == []
    assert session.heartbeat(beat(2, listed()), rows(standing()), 10)[1] == []
    assert session.heartbeat(beat(3), rows(standing()), 20)[1] == []
    assert session.heartbeat(beat(4), rows(standing()), 30)[1] == [lost()]


def test_a_claim_may_be_younger_than_the_list_that_misses_it() -> None:
    young, old = rows(standing(claimed_for_s=29.0)), rows(standing(claimed_for_s=30.0))
    session = AgentSession(TIMES)
    assert session.hello(hello(), young, 0)[1] == []
    assert session.heartbeat(beat(1), young, 1)[1] == []
    assert session.heartbeat(beat(2), old, 2)[1] == [lost()]


def test_a_lost_apply_that_is_not_listed_stays_lost() -> None:
    session, row = AgentSession(TIMES), rows(standing("lost", phase="apply"))
    assert session.hello(hello(), row, 0)[1] == []
    assert [session.heartbeat(beat(seq), row, 10 * seq)[1] for seq in (1, 2, 3)] == [[], [], []]


# Cancellations

WANTED = Wanted(task_id=TASK, fence=FENCE, cancel_id="can-1")


def test_a_cancellation_is_repeated_until_it_is_answered() -> None:
    session = AgentSession(TIMES)
    assert session.cancelled(WANTED, "user", 0) == [CANCEL]
    assert [session.tick(now) for now in (4, 5, 9, 10)] == [[], [CANCEL], [], [CANCEL]]
    assert session.pending()[1] == (WANTED,)
    session.cancel_acked(FENCE, "can-other")
    assert session.tick(15) == [CANCEL]
    session.cancel_acked(FENCE, "can-1")
    assert session.tick(20) == []
    assert session.pending()[1] == ()


def test_a_cancellation_is_not_repeated_for_ever() -> None:
    session = AgentSession(TIMES)
    session.cancelled(WANTED, "user", 0)
    assert session.tick(600) == []


def test_a_cancelled_order_is_not_sent_again() -> None:
    session = AgentSession(TIMES)
    session.ordered(an_order(), 0)
    session.cancelled(WANTED, "user", 1)
    assert session.pending()[0] == ()
    assert Send(an_order()) not in session.tick(20)


def test_force_is_told_although_the_cancellation_was_answered() -> None:
    session = AgentSession(TIMES)
    session.cancelled(WANTED, "user", 0)
    session.cancel_acked(FENCE, "can-1")
    forced = rows(standing(**CANCELLING, cancel_force=True))
    _, effects = session.heartbeat(beat(1, listed()), forced, 10)
    assert effects == [Send(CancelTaskOrder(task_id=TASK, fence=FENCE, cancel_id="can-1", force=True))]
    assert session.heartbeat(beat(2, listed()), forced, 11)[1] == []


def test_a_new_process_of_the_agent_has_answered_nothing_yet() -> None:
    session, row = AgentSession(TIMES), rows(standing(**CANCELLING))
    session.cancelled(WANTED, "user", 0)
    session.cancel_acked(FENCE, "can-1")
    session.hello(hello(listed()), row, 1)
    session.cancel_acked(FENCE, "can-1")
    session.hello(hello(listed(), boot_id="boot-2"), row, 2)
    assert session.tick(10) == [CANCEL]


# The rest


def test_a_refused_task_goes_to_others_and_is_not_offered_again_for_a_while() -> None:
    session = AgentSession(TIMES)
    session.ordered(an_order(), 0)
    refusal = TaskRejected(task_id=TASK, assignment_id="asg-41", fence=FENCE, reason="at_capacity")
    assert session.rejected(refusal, 1) == [Move(TASK, Unassign(fence=FENCE))]
    assert session.avoided(30) == {TASK}
    assert session.avoided(31) == frozenset()
    assert session.tick(20) == []


def test_a_heartbeat_that_was_overtaken_changes_nothing_and_is_answered() -> None:
    session, row = AgentSession(TIMES), rows(standing())
    session.heartbeat(beat(5, listed()), row, 0)
    for seq in (4, 5):
        ack, effects = session.heartbeat(beat(seq), row, 1)
        assert (ack.seq, effects) == (seq, [])
    assert session.reported.keys() == {FENCE}
    assert session.heartbeat(beat(1, boot_id="boot-2"), row, 2)[1] == []  # a new process counts anew
    assert session.reported == {}


def test_while_the_rows_cannot_be_read_every_lease_goes_on() -> None:
    session = AgentSession(TIMES)
    ack = session.heartbeat_unchecked(beat(3, listed(), listed(42, 8)), 5)
    assert ack.degraded
    assert [(lease.task_id, lease.fence) for lease in ack.leases] == [(7, 41), (8, 42)]
    assert session.heard_at == 5


@pytest.mark.parametrize(
    ("row", "verdict"),
    [(standing("succeeded", ended=True), "accepted"), (standing("queued", present=False), "fenced"), (None, "fenced")],
)
def test_a_finished_task_is_confirmed(row: Standing | None, verdict: str) -> None:
    session = AgentSession(TIMES)
    session.heartbeat(beat(1, listed()), rows(standing()), 0)
    answer = TaskFinishedAck(task_id=TASK, fence=FENCE, result_id="r", verdict=verdict)  # type: ignore[arg-type]
    assert session.finished(TASK, FENCE, "r", row) == [Send(answer)]
    assert session.reported == {}


def test_a_finished_task_whose_result_has_not_come_is_not_confirmed() -> None:
    assert AgentSession(TIMES).finished(TASK, FENCE, "r", standing()) == []


def test_whoever_is_silent_loses_what_it_did_not_take_up() -> None:
    session = AgentSession(TIMES)
    session.ordered(an_order(), 0)
    session.ordered(an_order(42, 8), 0)
    session.settled(FENCE)
    assert session.silent() == [Move(8, Unassign(fence=42))]
    assert session.silent() == []


def test_an_agent_is_there_while_it_is_heard() -> None:
    session = AgentSession(TIMES)
    assert not session.present(0)
    session.heartbeat(beat(1, draining=True, plan_limit=9, unsent_states=2), {}, 0)
    assert session.present(29)
    assert not session.present(30)
    assert (session.draining, session.plan_limit, session.unsent_states) == (True, 9, 2)


def test_times_can_be_scaled_all_together() -> None:
    scaled = TIMES.scaled(0.1)
    assert (scaled.lease, scaled.lost_after, scaled.tick) == (6.0, 12.0, 0.1)
