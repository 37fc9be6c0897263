"""Each status of the agents' operations that has a cause of its own, by the operation's name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from iac.domain.agent_tokens import looks_like
from iac.domain.messages import RunTaskOrder
from tests.web.clients import Served
from tests.web.full_disk import full_disk
from tests.web.http_agent import BOOT, HttpAgent, chunk_body, register_body, sha
from tests.web.requests_of import error_of


@pytest.fixture(scope="module")
def agent(api: Served) -> HttpAgent:
    return HttpAgent(api)


# Who one is


def test_register_agent_201(agent: HttpAgent) -> None:
    made = agent.json("register_agent", agent.pool_token, register_body(name="first"), 201)
    assert (made["name"], made["approved"]) == ("first", True)
    assert looks_like("session", made["session_token"])
    assert looks_like("instance", made["instance_secret"])


def test_register_agent_200_for_an_instance_that_proves_itself(agent: HttpAgent) -> None:
    body = register_body()
    made = agent.json("register_agent", agent.pool_token, body, 201)
    proof = {"instance_secret": made["instance_secret"], "agent_id": made["agent_id"]}
    again = agent.json("register_agent", agent.pool_token, {**body, **proof}, 200)
    assert (again["agent_id"], again["instance_secret"]) == (made["agent_id"], None)


def test_register_agent_403_for_another_pool_or_without_the_secret(agent: HttpAgent) -> None:
    def refused(**facts: Any) -> str:
        response = agent.send("register_agent", agent.pool_token, register_body(**facts))
        return str(error_of(response, 403)["code"])

    assert refused(pool_id="another-pool") == "pool_mismatch"
    body = register_body()
    made = agent.json("register_agent", agent.pool_token, body, 201)
    agent.api.sql("UPDATE agent SET last_seen_at = now() WHERE id = $1", made["agent_id"])
    assert refused(**body) == "instance_mismatch"
    assert refused(**body, instance_secret="iaci_" + "x" * 49) == "instance_mismatch"


def test_register_agent_409_name_in_use(agent: HttpAgent) -> None:
    made = agent.json("register_agent", agent.pool_token, register_body(), 201)
    response = agent.send("register_agent", agent.pool_token, register_body(name=made["name"]))
    assert error_of(response, 409)["retry_after_s"] >= 1


def test_register_agent_403_from_another_network(api: Served) -> None:
    agent = HttpAgent(api)
    api.admin.patch(f"/agent-pools/{agent.pool}", json={"networks": ["10.0.0.0/8", "2001:db8::/32"]})
    error = error_of(agent.send("register_agent", agent.pool_token, register_body()), 403)
    assert error["code"] == "network_forbidden"
    api.admin.patch(f"/agent-pools/{agent.pool}", json={"networks": ["127.0.0.0/8"]})
    agent.json("register_agent", agent.pool_token, register_body(), 201)


def test_register_agent_409_pool_full(api: Served) -> None:
    agent = HttpAgent(api, max_agents=1)
    assert error_of(agent.send("register_agent", agent.pool_token, register_body()), 409)["code"] == "pool_full"
    api.sql("UPDATE agent SET registered_at = now() - interval '2 minutes' WHERE id = $1", agent.id)
    agent.json("register_agent", agent.pool_token, register_body(), 201)  # who is gone for good takes no place


def test_register_agent_426_for_another_protocol(agent: HttpAgent) -> None:
    response = agent.send("register_agent", agent.pool_token, register_body(protocol_versions=[2, 3]))
    error = error_of(response, 426)
    assert (error["code"], error["min"], error["max"]) == ("upgrade_required", 1, 1)


def test_renew_session_200(agent: HttpAgent) -> None:
    fresh = agent.json("renew_session", agent.session, {"boot_id": BOOT})["session_token"]
    for token in (fresh, agent.session):
        agent.json("show_agent", token)


def test_renew_session_200_by_the_secret(agent: HttpAgent) -> None:
    body = {"boot_id": BOOT, "instance_secret": agent.registered["instance_secret"]}
    assert looks_like("session", agent.json("renew_session", agent.pool_token, body)["session_token"])


def test_show_agent_200(agent: HttpAgent) -> None:
    assert agent.json("show_agent", agent.session)["id"] == agent.id


def test_show_agent_404(api: Served) -> None:
    api.admin.get("/agents/agent-0000000000000000", 404, code="not_found")


def test_retire_agent_204_twice(api: Served) -> None:
    agent = HttpAgent(api)
    agent.json("retire_agent", agent.session, status=204)
    api.admin.delete(f"/agents/{agent.id}")
    assert error_of(agent.send("show_agent", agent.session), 401)["code"] == "unauthenticated"


def test_retire_agent_404(api: Served) -> None:
    api.admin.delete("/agents/agent-0000000000000000", 404, code="not_found")


def test_retire_agent_409_agent_busy(api: Served) -> None:
    agent = HttpAgent(api)
    order = agent.claimed()
    assert error_of(agent.send("retire_agent", agent.session), 409)["tasks"] == [order.task_id]


def test_send_heartbeat_200(agent: HttpAgent) -> None:
    order = agent.claimed(workspace=agent.another_workspace())
    assert agent.beat(order)["leases"] == [{"task_id": order.task_id, "fence": order.fence}]
    agent.result(order, "failed")


def test_list_pending_200(agent: HttpAgent) -> None:
    order = agent.ordered(workspace=agent.another_workspace())
    assert looks_like("task", order.task_token)
    agent.api.admin.post(f"/tasks/{order.task_id}/cancel")
    assert order.fence not in [each.fence for each in agent.pending()]


# The claim


def test_claim_task_200(agent: HttpAgent) -> None:
    order = agent.ordered(workspace=agent.another_workspace())
    data = agent.of(order, "claim_task")
    assert (data["task"]["id"], data["assignment"]["fence"]) == (order.task_id, order.fence)
    agent.result(order, "failed")


def test_claim_task_409_fenced(api: Served) -> None:
    agent = HttpAgent(api)
    order = agent.claimed()
    agent.result(order, "failed", reason="lease_expired")  # another attempt follows, under a new fence
    agent.order_of(order.task_id)
    agent.refused(order, "claim_task", None, 409, "fenced")


def test_claim_task_409_already_final(agent: HttpAgent) -> None:
    order = agent.ordered(workspace=agent.another_workspace())
    agent.api.admin.post(f"/tasks/{order.task_id}/cancel")
    agent.refused(order, "claim_task", None, 409, "already_final")


def test_claim_task_409_illegal_transition_while_a_plan_waits_for_its_confirmation(agent: HttpAgent) -> None:
    order = agent.planned(workspace=agent.another_workspace())
    agent.result(order, "planned")
    agent.refused(order, "claim_task", None, 409, "illegal_transition")


def test_claim_task_409_plan_stale(api: Served) -> None:
    agent = HttpAgent(api)
    order = agent.to_apply()
    api.sql("UPDATE plan SET serial = 7, lineage = 'another' WHERE task_id = $1", order.task_id)
    agent.refused(order, "claim_task", None, 409, "plan_stale")
    assert agent.status(order) == "running"  # the claim holds, so that it can be reported
    agent.result(order, "failed", reason="plan_stale")


def test_claim_task_409_no_plan(api: Served) -> None:
    agent = HttpAgent(api)
    order = agent.to_apply()
    api.sql("DELETE FROM plan WHERE task_id = $1", order.task_id)
    agent.refused(order, "claim_task", None, 409, "no_plan")


def test_claim_task_409_no_configuration(api: Served) -> None:
    agent = HttpAgent(api)
    order = agent.ordered()
    api.sql("UPDATE configuration SET digest = 'gone' WHERE workspace_id = $1", order.workspace_id)
    agent.refused(order, "claim_task", None, 409, "no_configuration")


def test_claim_task_410_after_five_reads(api: Served) -> None:
    agent = HttpAgent(api)
    order = agent.ordered()
    for _ in range(5):
        agent.of(order, "claim_task")
    agent.refused(order, "claim_task", None, 410, "data_expired")


# The log


def test_store_log_chunk_200(agent: HttpAgent) -> None:
    order = agent.claimed(workspace=agent.another_workspace())
    for _ in range(2):
        assert agent.of(order, "store_log_chunk", chunk_body(b"one")) == {"status": "ok", "next_offset": 3}
    agent.result(order, "failed")


def test_store_log_chunk_409_fenced(api: Served) -> None:
    agent = HttpAgent(api)
    order = agent.applying()
    api.sql("UPDATE assignment SET scope = 'quarantine' WHERE fence = $1", order.fence)
    agent.refused(order, "store_log_chunk", chunk_body(), 409, "fenced")


@pytest.fixture
def logged(agent: HttpAgent) -> Iterator[RunTaskOrder]:
    """A claimed order with three bytes of log."""
    order = agent.claimed(workspace=agent.another_workspace())
    agent.of(order, "store_log_chunk", chunk_body(b"one"))
    yield order
    agent.result(order, "failed")


def test_store_log_chunk_409_log_gap(agent: HttpAgent, logged: RunTaskOrder) -> None:
    assert agent.refused(logged, "store_log_chunk", chunk_body(b"x", 9), 409, "log_gap")["next_offset"] == 3


def test_store_log_chunk_409_log_conflict(agent: HttpAgent, logged: RunTaskOrder) -> None:
    assert agent.refused(logged, "store_log_chunk", chunk_body(b"two"), 409, "log_conflict")["next_offset"] == 3


def test_store_log_chunk_409_log_closed(agent: HttpAgent, logged: RunTaskOrder) -> None:
    agent.result(logged, "failed", log={"length": 3, "sha256": sha(b"one")})
    agent.refused(logged, "store_log_chunk", chunk_body(b"more", 3), 409, "log_closed")
    agent.of(logged, "store_log_chunk", chunk_body(b"one"))


def test_store_log_chunk_400_when_the_bytes_are_not_what_they_say(agent: HttpAgent, logged: RunTaskOrder) -> None:
    for body, code in (
        (chunk_body(b"more", 3, checksum=sha(b"less")), "checksum_mismatch"),
        (chunk_body(b"more", 3, length=5), "checksum_mismatch"),
        ({**chunk_body(b"more", 3), "data": "not base64!"}, "bad_encoding"),
        ({**chunk_body(b"more", 3), "data": chunk_body(b"more")["data"][:-8]}, "bad_encoding"),
    ):
        assert agent.refused(logged, "store_log_chunk", body, 400, code)["next_offset"] == 3


def test_store_log_chunk_507_while_the_disk_is_full(agent: HttpAgent, logged: RunTaskOrder) -> None:
    with full_disk(agent.api, "log_stream", "UPDATE"):
        agent.refused(logged, "store_log_chunk", chunk_body(b"more", 3), 507, "storage_full")
    assert agent.of(logged, "store_log_chunk", chunk_body(b"more", 3))["next_offset"] == 7


def test_show_log_position_200(agent: HttpAgent, logged: RunTaskOrder) -> None:
    assert agent.of(logged, "show_log_position") == {"next_offset": 3, "closed": False}
    agent.result(logged, "failed", log={"length": 3, "sha256": sha(b"one")})
    assert agent.of(logged, "show_log_position") == {"next_offset": 3, "closed": True}


# The result


def test_put_status_200(agent: HttpAgent, logged: RunTaskOrder) -> None:
    assert agent.of(logged, "put_status", {"status": "running", "stage": "init"}) == {
        "status": "running",
        "final": False,
    }
    for _ in range(2):
        assert agent.result(logged, "failed") == {"status": "failed", "final": True}


def test_put_status_409_fenced(api: Served) -> None:
    agent = HttpAgent(api)
    order = agent.claimed()
    agent.result(order, "failed", reason="lease_expired")
    agent.order_of(order.task_id)
    agent.refused(order, "put_status", {"status": "failed", "result_id": "another"}, 409, "fenced")


def test_put_status_409_already_final(agent: HttpAgent, logged: RunTaskOrder) -> None:
    agent.result(logged, "failed")
    agent.refused(logged, "put_status", {"status": "cancelled", "result_id": "another"}, 409, "already_final")


def test_put_status_409_illegal_transition_from_a_plan_without_its_plan(agent: HttpAgent, logged: RunTaskOrder) -> None:
    agent.refused(logged, "put_status", {"status": "planned", "result_id": "r"}, 409, "illegal_transition")


def test_put_status_409_log_incomplete(agent: HttpAgent, logged: RunTaskOrder) -> None:
    error = agent.result(logged, "failed", log={"length": 9, "sha256": sha(b"one more!")}, expect=409)["error"]
    assert (error["code"], error["next_offset"]) == ("log_incomplete", 3)


def test_put_status_409_log_mismatch_once(agent: HttpAgent, logged: RunTaskOrder) -> None:
    digest = {"length": 3, "sha256": sha(b"two")}
    assert agent.result(logged, "failed", log=digest, expect=409)["error"]["code"] == "log_mismatch"
    assert agent.result(logged, "failed", log=digest)["status"] == "failed"
