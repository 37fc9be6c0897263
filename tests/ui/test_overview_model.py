"""What the overview says about what there is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from iac.domain.glances import Advance, HourOutcomes, Newcomer, PoolGlance
from iac.domain.scheduling import Runner, Wait
from iac.domain.work import PlanFacts
from iac.web.ui.models.overview import MOST, Entry, Facts, Nothing, Outcomes, PoolHealth, outcomes, overview, progress
from iac.web.ui.models.parts import Parts
from tests.domain.builders import NOW, a_task


def facts(**given: Any) -> Facts:
    nothing: dict[str, Any] = {
        "now": NOW, "open": [], "failed": [], "plans": {}, "advances": {}, "names": {}, "pools": [], "newcomers": [],
        "hours": [], "waits": {}, "local": Runner(id="local", execution_mode="local", plan_limit=2),
    }  # fmt: skip
    return Facts(**{**nothing, **given})


def ids(parts: Parts) -> list[str]:
    return [part.id for part in parts.parts]


def entry(parts: Parts, part_id: str) -> Entry:
    found = next(part.model for part in parts.parts if part.id == part_id)
    assert isinstance(found, Entry)
    return found


def a_pool(**counts: Any) -> PoolGlance:
    nobody: dict[str, Any] = {"online": 0, "draining": 0, "unapproved": 0, "offline": 0, "slots": 0}
    rest: dict[str, Any] = {"oldest_beat": None, "cpu_usage": None, "mem_usage": None}
    return PoolGlance(id="pool-a", name="a", **{**nobody, **counts}, **rest)


def health(pool: PoolGlance, **given: Any) -> PoolHealth:
    found = next(part.model for part in overview(facts(pools=[pool], **given)).pools.parts if part.id == "pool-a")
    assert isinstance(found, PoolHealth)
    return found


def test_an_empty_platform_says_so_in_each_section() -> None:
    shown = overview(facts())
    for parts in (shown.attention, shown.running, shown.waiting):
        assert [type(part.model) for part in parts.parts] == [Nothing]
    assert msgspec.to_builtins(shown.attention_head.parts[0].model) == {"total": 0}


def test_what_holds_others_up_comes_first() -> None:
    newcomer = Newcomer(id="agent-n", name="n", pool_name="a", registered_at=NOW)
    shown = overview(
        facts(
            open=[a_task(id=1, status="planned"), a_task(id=2, status="lost")],
            failed=[a_task(id=3, status="failed")],
            newcomers=[newcomer],
        )
    )
    assert ids(shown.attention) == ["attention-2", "attention-1", "approval-agent-n", "attention-3"]


def test_only_somebody_to_let_in_is_not_nothing() -> None:
    newcomer = Newcomer(id="agent-n", name="n", pool_name="a", registered_at=NOW)
    assert ids(overview(facts(newcomers=[newcomer])).attention) == ["approval-agent-n"]


def test_a_plan_says_what_it_would_do_in_numbers() -> None:
    plan = PlanFacts(
        digest="d", bundle_digest="b", serial=1, lineage="l", terraform_version="1", has_changes=True,
        summary={"add": 1, "change": 2, "destroy": 3},
    )  # fmt: skip
    shown = entry(overview(facts(open=[a_task(id=1, status="planned")], plans={1: plan})).attention, "attention-1")
    assert msgspec.to_builtins(shown.counts) == {"add": 1, "change": 2, "destroy": 3}


def test_a_failure_says_why_in_the_best_words_there_are() -> None:
    told = [
        a_task(id=1, status="failed", detail="Error: no", exit_code=1),
        a_task(id=2, status="failed", exit_code=3),
        a_task(id=3, status="failed", reason="queue_timeout"),
    ]
    shown = overview(facts(failed=told)).attention
    notes = [entry(shown, f"attention-{n}").note for n in (1, 2, 3)]
    assert notes == ["Error: no", "Terraform ended with exit code 3.", "queue_timeout"]


def test_the_queue_is_in_the_order_in_which_it_will_run_and_says_why() -> None:
    tasks = [
        a_task(id=1, status="pending"),
        a_task(id=2, status="queued", phase="plan"),
        a_task(id=3, status="queued", phase="plan"),
    ]
    waits = {1: Wait("workspace_busy", "Task 9 holds it.", 1), 2: Wait("x", "later", 2), 3: Wait("x", "sooner", 1)}
    shown = overview(facts(open=tasks, waits=waits)).waiting
    assert ids(shown) == ["waiting-3", "waiting-2", "waiting-1"]
    assert entry(shown, "waiting-3").note == "sooner"
    assert (entry(shown, "waiting-2").position, entry(shown, "waiting-1").position) == (2, None)


def test_a_long_queue_is_cut_and_counted() -> None:
    tasks = [a_task(id=n, status="queued") for n in range(1, MOST + 4)]
    shown = overview(facts(open=tasks))
    assert len(shown.waiting.parts) == MOST + 1
    assert msgspec.to_builtins(shown.waiting.parts[-1].model) == {"number": 3, "href": "/tasks"}
    assert msgspec.to_builtins(shown.waiting_head.parts[0].model)["total"] == MOST + 3


def test_an_apply_is_counted_in_resources_and_all_else_in_stages() -> None:
    applying = a_task(id=1, status="running", phase="apply", stage="applying")
    assert progress(applying, Advance(done=2, total=5)).words == "2 of 5 resources"
    before = a_task(id=1, status="running", phase="apply", stage="init")
    assert (progress(before, Advance(done=0, total=5)).done, progress(before, None).total) == (2, 6)
    assert progress(a_task(id=1, status="running", phase="plan", stage="a-new-one"), None).words == "a-new-one"
    assert progress(a_task(id=1, status="assigned", phase="plan"), None).words == "handed out, about to start"


def test_where_a_task_runs_is_told_by_name() -> None:
    tasks = [
        a_task(id=1, status="running", execution_mode="local", agent_id="local"),
        a_task(id=2, status="running", execution_mode="agent", agent_id="agent-x", pool_id="pool-a"),
        a_task(id=3, status="running", execution_mode="agent", agent_id="agent-gone", pool_id="pool-a"),
    ]
    shown = overview(facts(open=tasks, names={"agent-x": "host-1"})).running
    assert [entry(shown, f"running-{n}").where for n in (1, 2, 3)] == ["this server", "host-1", "agent-gone"]


def test_a_pool_is_well_when_all_of_its_agents_are() -> None:
    assert (health(a_pool(online=2, slots=6)).state, health(a_pool(online=2)).tone) == ("Online", "good")
    partly = health(a_pool(online=2, offline=1, draining=1))
    assert (partly.tone, partly.state, partly.notes) == ("warn", "Partly online", ("1 draining", "1 offline"))
    assert (health(a_pool(offline=1)).tone, health(a_pool(unapproved=1)).tone) == ("bad", "warn")


def test_an_empty_pool_is_bad_only_when_somebody_waits_for_it() -> None:
    waiting = a_task(id=1, status="queued", execution_mode="agent", pool_id="pool-a")
    assert (health(a_pool()).tone, health(a_pool(), open=[waiting]).tone) == ("calm", "bad")
    assert health(a_pool(), open=[waiting]).waiting == 1


def test_slots_in_use_are_those_of_the_tasks_that_run() -> None:
    running = [
        a_task(id=1, status="running", phase="plan", execution_mode="agent", pool_id="pool-a"),
        a_task(id=2, status="cancelling", phase="apply", execution_mode="agent", pool_id="pool-a"),
        a_task(id=3, status="planned", phase="plan", execution_mode="agent", pool_id="pool-a"),
    ]
    shown = health(a_pool(online=1, slots=3), open=running)
    assert (shown.plans, shown.applies) == (1, 1)


def test_a_server_that_runs_nothing_says_so() -> None:
    [part] = overview(facts(local=None)).pools.parts
    assert isinstance(part.model, PoolHealth)
    assert (part.model.state, part.model.tone) == ("Off", "calm")


def hour(ago: int, succeeded: int = 0, failed: int = 0, cancelled: int = 0) -> HourOutcomes:
    at = NOW.replace(minute=0, second=0, microsecond=0) - timedelta(hours=ago)
    return HourOutcomes(hour=at, succeeded=succeeded, failed=failed, cancelled=cancelled)


def test_a_day_has_a_bar_for_each_hour_and_the_highest_fills_the_chart() -> None:
    day: Outcomes = outcomes([hour(0, succeeded=1), hour(3, succeeded=2, failed=1, cancelled=1)], NOW)
    assert len(day.hours) == 24
    assert (day.succeeded, day.failed, day.cancelled, day.total) == (3, 1, 1, 5)
    assert (day.hours[20].succeeded, day.hours[20].failed, day.hours[20].cancelled) == (50.0, 25.0, 25.0)
    assert day.hours[23].succeeded == 25.0
    assert "2 succeeded, 1 failed, 1 cancelled" in day.hours[20].words


def test_an_hour_of_yesterday_that_is_only_partly_in_the_day_is_left_out_of_numbers_and_bars() -> None:
    day = outcomes([hour(24, succeeded=100), hour(1, failed=1)], NOW)
    assert (day.total, day.most) == (1, 1)


def test_a_day_without_tasks_has_no_heights() -> None:
    assert {bar.succeeded + bar.failed + bar.cancelled for bar in outcomes([], NOW).hours} == {0.0}
