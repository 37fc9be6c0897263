"""States and plans that agents store, and what a task token is good for as its task goes on."""

from __future__ import annotations

import pytest

from iac.domain.messages import RunTaskOrder
from tests.web.clients import Served
from tests.web.full_disk import full_disk
from tests.web.http_agent import HttpAgent, chunk_body, plan_body, state_body
from tests.web.requests_of import state


@pytest.fixture(scope="module")
def agent(api: Served) -> HttpAgent:
    return HttpAgent(api)


@pytest.fixture
def applying(api: Served) -> tuple[HttpAgent, RunTaskOrder]:
    agent = HttpAgent(api)
    return agent, agent.applying()


def test_store_state_201(applying: tuple[HttpAgent, RunTaskOrder]) -> None:
    agent, order = applying
    assert agent.of(order, "store_state", state_body(state(1)), 201)["verdict"] == "current"


def test_store_state_200_for_what_is_there(applying: tuple[HttpAgent, RunTaskOrder]) -> None:
    agent, order = applying
    agent.of(order, "store_state", state_body(state(1)), 201)
    assert agent.of(order, "store_state", state_body(state(1)), 200)["verdict"] == "duplicate"


def test_store_state_202_for_what_cannot_be_current(applying: tuple[HttpAgent, RunTaskOrder]) -> None:
    agent, order = applying
    agent.of(order, "store_state", state_body(state(2)), 201)
    for odd in (state(1), state(3, "another-lineage")):
        assert agent.of(order, "store_state", state_body(odd), 202)["verdict"] == "quarantined"


def test_store_state_422_for_what_is_no_state_which_is_kept_all_the_same(
    api: Served, applying: tuple[HttpAgent, RunTaskOrder]
) -> None:
    agent, order = applying
    agent.refused(order, "store_state", state_body(b"no state at all"), 422, "state_invalid")
    kept = api.rows("SELECT verdict, size FROM state_version WHERE task_id = $1", order.task_id)
    assert [tuple(row) for row in kept] == [("quarantined", len(b"no state at all"))]


def test_store_state_403_from_a_plan(agent: HttpAgent) -> None:
    order = agent.claimed(workspace=agent.another_workspace())
    agent.refused(order, "store_state", state_body(state(1)), 403, "wrong_scope")
    agent.result(order, "failed")


def test_store_state_507_while_the_disk_is_full(applying: tuple[HttpAgent, RunTaskOrder]) -> None:
    agent, order = applying
    with full_disk(agent.api, "state_version"):
        agent.refused(order, "store_state", state_body(state(1)), 507, "storage_full")
    agent.of(order, "store_state", state_body(state(1)), 201)


def test_store_plan_201_again_and_again(agent: HttpAgent) -> None:
    order = agent.planned(workspace=agent.another_workspace())
    agent.of(order, "store_plan", plan_body(), 201)
    agent.result(order, "failed")


def test_store_plan_409_fenced(applying: tuple[HttpAgent, RunTaskOrder]) -> None:
    agent, order = applying  # an apply makes no plan
    agent.refused(order, "store_plan", plan_body(), 409, "fenced")


def test_store_plan_507_while_the_disk_is_full(agent: HttpAgent) -> None:
    order = agent.claimed(workspace=agent.another_workspace())
    with full_disk(agent.api, "plan"):
        agent.refused(order, "store_plan", plan_body(), 507, "storage_full")
    agent.of(order, "store_plan", plan_body(), 201)
    agent.result(order, "failed")


# What a task token is good for: full, report, quarantine, dead


def test_a_task_token_is_good_for_the_end_of_a_task_once_it_is_over(applying: tuple[HttpAgent, RunTaskOrder]) -> None:
    agent, order = applying
    agent.result(order, "failed")
    agent.refused(order, "claim_task", None, 409, "already_final")
    agent.refused(order, "store_plan", plan_body(), 409, "fenced")
    agent.of(order, "store_log_chunk", chunk_body(), 200)
    agent.of(order, "put_status", {"status": "running", "stage": "from the past"}, 200)
    assert agent.api.admin.get(f"/tasks/{order.task_id}")["stage"] is None
    agent.of(order, "store_state", state_body(state(1)), 201)


def test_a_task_token_that_was_fenced_is_good_for_states_that_are_kept_apart(
    applying: tuple[HttpAgent, RunTaskOrder],
) -> None:
    agent, order = applying
    agent.result(order, "failed", state_safe=False)
    agent.api.admin.post(f"/tasks/{order.task_id}/resolve", json={"unlock": True})
    agent.refused(order, "claim_task", None, 409, "fenced")
    agent.refused(order, "store_log_chunk", chunk_body(), 409, "fenced")
    agent.refused(order, "store_plan", plan_body(), 409, "fenced")
    agent.refused(order, "put_status", {"status": "succeeded", "result_id": "another"}, 409, "fenced")
    assert agent.of(order, "store_state", state_body(state(1)), 202)["verdict"] == "quarantined"
    agent.api.admin.get(f"/workspaces/{agent.workspace}/state-versions/current", 404)


def test_a_task_token_is_dead_a_week_after_the_end(applying: tuple[HttpAgent, RunTaskOrder]) -> None:
    agent, order = applying
    agent.result(order, "failed")
    agent.api.sql("UPDATE task SET finished_at = now() - interval '8 days' WHERE id = $1", order.task_id)
    for name, body in (("claim_task", None), ("put_status", {"status": "running"}), ("store_state", state_body(b"x"))):
        agent.refused(order, name, body, 401, "unauthenticated")


def test_a_task_token_that_nobody_used_dies_with_its_order(agent: HttpAgent) -> None:
    order = agent.ordered(workspace=agent.another_workspace())
    agent.api.admin.post(f"/tasks/{order.task_id}/cancel")
    agent.refused(order, "put_status", {"status": "failed", "result_id": "r"}, 409, "fenced")
    agent.refused(order, "store_log_chunk", chunk_body(), 409, "fenced")
    agent.refused(order, "store_plan", plan_body(), 409, "fenced")
