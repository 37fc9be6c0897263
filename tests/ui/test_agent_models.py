"""What the pages of pools and agents say about what there is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from iac.domain.glances import PoolGlance, Stint
from iac.domain.pool_bodies import AgentView
from iac.domain.records import Pool, PoolToken
from iac.domain.scheduling import Wait
from iac.web.ui.models.agents import AgentRow, agent_page, agent_row, clock, meter, size, stint_row
from iac.web.ui.models.parts import difference, shape_of
from iac.web.ui.models.pool_list import pool_list
from iac.web.ui.models.pool_page import MOST_WAITING, PoolPage, pool_page, token_row
from iac.web.ui.models.pool_words import Reason, demand, pool_path
from tests.domain.builders import NOW, a_task


def an_agent(**given: Any) -> AgentView:
    known: dict[str, Any] = {
        "id": "agent-1", "pool_id": "pool-a", "pool_name": "a", "name": "one", "status": "online", "online": True,
        "approved": True, "draining": False, "version": "0.1.0", "os": "linux", "arch": "x86_64", "capabilities": (),
        "plan_limit": 3, "current_tasks": (), "current_applies": (), "cpu_usage": 0.371, "mem_usage": 0.5,
        "disk_free": 12 * 2**30, "ip": "10.0.0.9", "registered_at": NOW, "last_seen_at": NOW, "retired_at": None,
        "clock_ahead_s": 0.2,
    }  # fmt: skip
    return AgentView(**{**known, **given})


def a_pool(**given: Any) -> Pool:
    known: dict[str, Any] = {
        "id": "pool-a", "name": "a", "description": "", "kind": "static", "require_approval": False,
        "name_policy": "unique", "apply_exclusivity": "agent", "networks": (), "max_agents": None, "created_by": "admin",
        "created_at": NOW, "updated_at": NOW, "agents": 0, "agents_online": 0, "workspaces": 0,
    }  # fmt: skip
    return Pool(**{**known, **given})


def a_glance(**counts: Any) -> PoolGlance:
    nobody: dict[str, Any] = {"online": 0, "draining": 0, "unapproved": 0, "offline": 0, "slots": 0}
    rest: dict[str, Any] = {"oldest_beat": None, "cpu_usage": None, "mem_usage": None}
    return PoolGlance(id="pool-a", name="a", **{**nobody, **counts}, **rest)


def a_token(**given: Any) -> PoolToken:
    known: dict[str, Any] = {
        "id": "ptok-1", "pool_id": "pool-a", "name": "first", "created_by": "admin", "created_at": NOW,
        "expires_at": None, "revoked_at": None, "revoke_mode": None, "replaced_by": None, "last_used_at": None,
        "last_ip": None,
    }  # fmt: skip
    return PoolToken(**{**known, **given})


def a_page(**given: Any) -> PoolPage:
    known: dict[str, Any] = {
        "agents": [], "most_agents": 2, "unsent": {}, "open_tasks": [], "waits": {}, "allowed": [], "most_allowed": 2,
        "tokens": [], "holders": {}, "may_admin": True, "after": "", "now": NOW,
    }  # fmt: skip
    return pool_page(a_pool(), a_glance(), **{**known, **given})


# Agents


@pytest.mark.parametrize(
    ("given", "word", "tone"),
    [
        ({}, "Online", "good"),
        ({"status": "draining"}, "Draining", "warn"),
        ({"status": "pending_approval", "approved": False}, "To approve", "warn"),
        ({"status": "revoked"}, "Shut out", "bad"),
        ({"status": "offline", "online": False}, "Offline", "calm"),
        ({"status": "offline", "online": False, "current_tasks": (7,)}, "Silent", "bad"),
        ({"status": "retired", "retired_at": NOW}, "Removed", "calm"),
    ],
)
def test_an_agent_is_called_what_it_is_and_one_that_is_missed_is_bad(
    given: dict[str, Any], word: str, tone: str
) -> None:
    badge = agent_row(an_agent(**given)).badge
    assert (badge.word, badge.tone) == (word, tone)


@pytest.mark.parametrize(
    ("given", "deeds"),
    [
        ({}, ("drain", "remove")),
        ({"draining": True}, ("undrain", "remove")),
        ({"approved": False}, ("approve", "drain", "remove")),
        ({"retired_at": NOW}, ()),
    ],
)
def test_only_what_makes_sense_can_be_done_and_only_by_an_admin(given: dict[str, Any], deeds: tuple[str, ...]) -> None:
    assert agent_row(an_agent(**given), may_admin=True).deeds == deeds
    assert agent_row(an_agent(**given)).deeds == ()


def test_what_an_agent_has_to_spare_is_old_news_when_it_is_offline() -> None:
    row = agent_row(an_agent(online=False, status="offline"), unsent=2)
    assert (row.meters, row.disk, row.unsent) == ((), "", 0)
    assert agent_row(an_agent(), unsent=2).unsent == 2


def test_plans_and_applies_are_told_apart() -> None:
    row = agent_row(an_agent(current_tasks=(3, 4, 5), current_applies=(4,)))
    assert (row.plans, row.applies) == (2, 1)
    assert [(each.id, each.applies) for each in row.work] == [(3, False), (4, True), (5, False)]


@pytest.mark.parametrize(
    ("usage", "percent", "tone"), [(0.0, 0, "good"), (0.699, 70, "warn"), (0.9, 90, "bad"), (7, 100, "bad")]
)
def test_a_meter_warns_before_it_is_full(usage: float, percent: int, tone: str) -> None:
    made = meter("CPU", usage)
    assert (made.percent, made.tone) == (percent, tone)


@pytest.mark.parametrize(
    ("ahead", "says"), [(None, ""), (4.9, ""), (-4.9, ""), (41.2, "41 s ahead"), (-3700, "1 h 01 min behind")]
)
def test_a_clock_is_spoken_of_when_it_is_wrong(ahead: float | None, says: str) -> None:
    assert clock(ahead) == says


@pytest.mark.parametrize(
    ("number", "says"),
    [(0, "0 KiB"), (5 * 2**20, "5.0 MiB"), (2**30, "1.0 GiB"), (45 * 2**30, "45 GiB"), (3 * 2**40, "3.0 TiB")],
)
def test_bytes_are_said_coarsely(number: int, says: str) -> None:
    assert size(number) == says


def test_a_heartbeat_changes_the_load_of_an_agents_page_and_nothing_else() -> None:
    def page(**given: Any) -> Any:
        return shape_of(agent_page(an_agent(**given), [], None, unsent=0, may_admin=True).lists)

    later = page(cpu_usage=0.9, mem_usage=0.1, disk_free=2**30, last_seen_at=NOW + timedelta(seconds=10))
    assert difference(page(), later).parts == ("agent-load-shown",)
    assert difference(page(), page(cpu_usage=0.3714)).empty


def a_stint(task: Any, **given: Any) -> Stint:
    known: dict[str, Any] = {"phase": "plan", "attempt": 1, "begun_at": NOW, "ended_at": None, "current": True}
    return Stint(task=task, **{**known, **given})


def test_what_an_agent_was_given_says_how_that_went() -> None:
    later = NOW + timedelta(seconds=65)
    running = stint_row(a_stint(a_task(id=1, status="running")))
    assert (running.badge.word, running.running_since, running.lasted) == ("Planning", NOW, "")
    planned = stint_row(a_stint(a_task(id=1, status="running", phase="apply"), current=False, ended_at=later))
    assert (planned.badge.word, planned.running_since, planned.lasted) == ("Planned", None, "1 min 05 s")
    taken = stint_row(a_stint(a_task(id=1, status="running"), current=False))
    assert (taken.badge.word, taken.lasted) == ("Taken back", "")
    failed = stint_row(a_stint(a_task(id=1, status="failed", detail="Error: no", finished_at=later), attempt=2))
    assert (failed.badge.word, failed.note, failed.again, failed.lasted) == ("Failed", "Error: no", 2, "1 min 05 s")


# Pools


def test_tasks_wait_for_reasons_and_the_commonest_comes_first() -> None:
    waits = {n: Wait(code="busy" if n else "apply", message=f"because {n}") for n in range(3)}
    tasks = [a_task(id=n, status="queued", phase="apply" if not n else "plan") for n in range(4)]
    tasks += [a_task(id=9, status="running", phase="apply"), a_task(id=10, status="planned")]
    found = demand(tasks, waits)
    assert (found.waiting_plans, found.waiting_applies, found.plans, found.applies) == (3, 1, 0, 1)
    assert found.reasons[0] == Reason(2, "because 1")
    assert {each.says for each in found.reasons[1:]} == {"because 0", "About to be looked at."}


def test_a_pools_own_tasks_count_and_no_others() -> None:
    mine = a_task(id=1, status="queued", execution_mode="agent", pool_id="pool-a")
    shown = pool_list(
        [a_pool()], most=1, glances={"pool-a": a_glance(online=1, slots=3)}, waits={}, newcomers=[], allowed={},
        open_tasks=[mine, a_task(id=2, status="queued"), a_task(id=3, status="queued", execution_mode="agent", pool_id="b")],
        may_admin=False, after="",
    )  # fmt: skip
    row: Any = shown.pools.parts[0].model
    assert (row.demand.waiting, row.state, row.allowed, shown.after) == (1, "Online", 0, "")


def test_more_pools_than_a_page_has_are_a_link_away() -> None:
    pools = [a_pool(id=f"pool-{n}", name=str(n)) for n in range(3)]
    glances = {pool.id: a_glance() for pool in pools}
    rest: dict[str, Any] = {"glances": glances, "open_tasks": [], "waits": {}, "newcomers": [], "allowed": {}}
    shown = pool_list(pools, most=2, may_admin=False, after="pool-x", **rest)
    assert [part.id for part in shown.pools.parts] == ["pool-0", "pool-1"]
    assert (shown.after, shown.first) == ("/agents?after=pool-1", "/agents")


def test_a_page_of_agents_says_that_there_are_more() -> None:
    agents = [an_agent(id=f"agent-{n}") for n in range(3)]
    assert [part.id for part in a_page(agents=agents).agents.parts] == ["agent-0", "agent-1", "agents-more"]
    assert [part.id for part in a_page(after="agent-9").agents.parts] == ["agents-first"]
    nothing: Any = a_page().agents.parts[0].model
    assert nothing.way == "Add an agent"
    nothing = a_page(may_admin=False).agents.parts[0].model
    assert (nothing.way, nothing.href) == ("", "")


def test_the_queue_is_in_its_order_and_ends_somewhere() -> None:
    tasks = [a_task(id=n, status="queued") for n in range(MOST_WAITING + 3)]
    waits = {task.id: Wait(code="busy", message="m", position=100 - task.id) for task in tasks if task.id}
    ids = [part.id for part in a_page(open_tasks=tasks, waits=waits).waiting.parts]
    assert (ids[0], ids[-1], len(ids)) == (f"waiting-{MOST_WAITING + 2}", "waiting-more", MOST_WAITING + 1)


def test_who_is_no_admin_is_told_of_no_token() -> None:
    assert a_page(tokens=[a_token()], may_admin=False).tokens.parts == ()
    assert [part.id for part in a_page(tokens=[a_token()]).tokens.parts] == ["ptok-1"]


@pytest.mark.parametrize(
    ("given", "holders", "word", "rotates", "revokes"),
    [
        ({}, 0, "Good", True, True),
        ({"expires_at": NOW + timedelta(days=1)}, 0, "Good", True, True),
        ({"expires_at": NOW}, 0, "Expired", True, False),
        ({"expires_at": NOW}, 2, "Expired", True, True),
        ({"replaced_by": "ptok-2", "expires_at": NOW + timedelta(days=1)}, 1, "Being replaced", False, True),
        ({"replaced_by": "ptok-2", "expires_at": NOW}, 0, "Replaced", False, False),
        ({"revoked_at": NOW, "revoke_mode": "soft"}, 1, "Revoked", False, True),
        ({"revoked_at": NOW, "revoke_mode": "soft"}, 0, "Revoked", False, False),
        ({"revoked_at": NOW, "revoke_mode": "hard"}, 1, "Shut out", False, False),
    ],
)
def test_a_token_says_what_it_is_good_for_and_what_can_be_done(
    given: dict[str, Any], holders: int, word: str, rotates: bool, revokes: bool
) -> None:
    row = token_row("/agents/pools/a", a_token(**given), holders, NOW)
    assert (row.badge.word, bool(row.rotate), bool(row.revoke)) == (word, rotates, revokes)


def test_a_pools_address_holds_any_name() -> None:
    assert pool_path("eu west.1") == "/agents/pools/eu%20west.1"


def test_an_agents_row_leads_to_its_page() -> None:
    row: Any = a_page(agents=[an_agent()]).agents.parts[0].model
    assert isinstance(row, AgentRow)
    assert (row.href, row.pool_href) == ("/agents/agent-1", "/agents/pools/a")
