"""What a cancellation does to a task: by whom, how far, forced when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from iac.domain.cancel_bodies import cancel_view
from iac.domain.decision import Effect
from iac.domain.ladder import StopReport, StopStage
from iac.domain.lifecycle import Cancel, Heard, Lose, Report, Stopping, decide
from iac.domain.records import Phase, Task
from iac.errors import Conflict, Fenced
from tests.domain.builders import NOW, a_result, a_task

FENCE = 7


def running(phase: Phase = "apply", **facts: Any) -> Task:
    known: dict[str, Any] = {
        "status": "running", "phase": phase, "fence": FENCE, "attempt": 1, "agent_id": "a", "assignment_id": "asg-1",
        "claimed_at": NOW, "plan_digest": "p1", "has_changes": True,
    }  # fmt: skip
    return a_task(**{**known, **facts})


def cancelled(phase: Phase = "apply") -> Task:
    return decide(running(phase), Cancel(cancel_id="can-1", reason="user", by="ann"), NOW).task


def told(stage: StopStage, *, reason: str = "", cancel_id: str = "can-1", **spans: Any) -> Stopping:
    return Stopping(fence=FENCE, report=StopReport(cancel_id=cancel_id, reason=reason, stage=stage, **spans))


def after(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def test_each_step_is_kept_with_its_instant_and_what_comes_next() -> None:
    task = cancelled()
    for at, stage in ((1, "received"), (2, "sigterm"), (302, "sigterm2")):
        event = told(stage, since_s=0.5, next_s=10.0, kill_s=20.0, deadline_s=25.0)  # type: ignore[arg-type]
        task = decide(task, event, after(at)).task
    assert [(step.stage, step.at) for step in task.cancel_steps] == [
        ("received", after(0.5)), ("sigterm", after(1.5)), ("sigterm2", after(301.5)),
    ]  # fmt: skip
    assert (task.cancel_next_at, task.cancel_kill_at, task.cancel_deadline_at) == (after(312), after(322), after(327))
    again = decide(task, told("sigterm2", next_s=10.0, kill_s=20.0, deadline_s=25.0), after(302)).task
    assert again == task
    assert decide(task, told("sigterm"), after(303)).task == task, "what was overtaken changes nothing"
    ended = decide(task, Report(fence=FENCE, result=a_result(status="cancelled")), after(310)).task
    assert (ended.status, ended.cancel_steps[-1].stage, ended.cancel_kill_at) == ("cancelled", "exited", None)
    assert decide(ended, told("exited"), after(311)).task == ended


@pytest.mark.parametrize("reason", ["timeout", "agent_drained", "server_shutdown"])
def test_a_stop_of_the_runners_own_makes_a_running_task_a_cancelled_one(reason: str) -> None:
    task = decide(running(), told("received", reason=reason, cancel_id=f"asg-1:{reason}"), NOW).task
    assert (task.status, task.cancel_reason, task.cancel_by) == ("cancelling", reason, "runner")
    done = decide(task, Report(fence=FENCE, result=a_result(outcome="applied")), after(5)).task
    assert done.status == "succeeded", "the truth wins"


def test_without_a_reason_of_its_own_a_runner_cancels_nothing() -> None:
    task = running()
    assert decide(task, told("received"), NOW).task == task
    assert decide(task, told("received", reason="because"), NOW).task == task


def test_a_runner_that_was_fenced_has_no_say() -> None:
    with pytest.raises(Fenced):
        decide(running(fence=FENCE + 1), told("received", reason="timeout"), NOW)


def test_a_plan_that_came_to_its_end_although_its_time_was_over_is_a_plan() -> None:
    late = decide(running("plan"), told("sigterm", reason="timeout"), NOW).task
    done = decide(late, Report(fence=FENCE, result=a_result(status="planned")), after(1)).task
    assert (done.status, done.cancel_id, done.cancel_steps) == ("planned", None, ())
    asked = decide(cancelled("plan"), Report(fence=FENCE, result=a_result(status="planned")), after(1)).task
    assert asked.status == "cancelled", "what somebody cancelled waits for no approval"


def test_a_plan_whose_time_was_over_and_whose_runner_vanished_has_failed() -> None:
    late = decide(running("plan"), told("sigterm", reason="timeout"), NOW).task
    lost = decide(late, Lose(fence=FENCE, reason="agent_lost", detail="gone"), after(1)).task
    assert (lost.status, lost.reason) == ("failed", "timeout")


def test_what_a_drained_agent_stopped_is_cancelled_whether_it_was_told_before_or_not() -> None:
    result = a_result(status="cancelled", reason="agent_drained")
    told_before = decide(running(), told("received", reason="agent_drained"), NOW).task
    for task in (running(), told_before):
        ended = decide(task, Report(fence=FENCE, result=result), after(1)).task
        assert (ended.status, ended.reason) == ("cancelled", "agent_drained")


def force(**more: Any) -> Cancel:
    return Cancel(cancel_id="can-2", reason="user", by="bob", force=True, **more)


def test_force_needs_a_cancel_some_time_and_for_an_apply_a_confirmation() -> None:
    for task, event, at, code in (
        (running(), force(confirmed=True), 20.0, "not_cancelling"),
        (cancelled(), force(confirmed=True), 9.0, "force_too_early"),
        (cancelled(), force(), 10.0, "force_unconfirmed"),
    ):
        with pytest.raises(Conflict) as refused:
            decide(task, event, after(at))
        assert refused.value.code == code
    with pytest.raises(Conflict) as early:
        decide(cancelled("plan"), force(), after(4))
    assert early.value.extras["allowed_in_s"] == 6.0
    assert decide(cancelled("plan"), force(), after(10)).task.cancel_force


def test_force_jumps_once() -> None:
    forced = decide(cancelled(), force(confirmed=True), after(10))
    assert (forced.task.cancel_id, forced.effects) == ("can-1", (Effect.STOP,))
    again = decide(forced.task, force(), after(11))
    assert (again.task, again.effects) == (forced.task, ())


def test_a_lost_apply_that_was_cancelled_goes_on_to_be_cancelled() -> None:
    lost = decide(cancelled(), Lose(fence=FENCE, reason="agent_lost", detail="gone"), after(1)).task
    assert decide(lost, force(confirmed=True), after(20)).task.cancel_force
    assert decide(lost, Heard(fence=FENCE), after(20)).task.status == "cancelling"


def test_the_view_counts_down() -> None:
    task = decide(cancelled(), told("sigterm", next_s=300.0, kill_s=310.0, deadline_s=315.0), NOW).task
    shown = cancel_view(task, now=after(4), force_after_s=10.0)
    assert shown is not None
    assert (shown.stage, shown.next_step_in_s, shown.kill_in_s, shown.force_in_s) == ("sigterm", 296.0, 306.0, 6.0)
    assert shown.force_allowed_at == after(10)
    assert cancel_view(running(), now=NOW, force_after_s=10.0) is None
    over = cancel_view(decide(task, force(confirmed=True), after(10)).task, now=after(11), force_after_s=10.0)
    assert over is not None
    assert over.force_in_s is None, "once is all"
