"""Agents as users see them, over HTTP."""

from __future__ import annotations

from tests.web.clients import Served
from tests.web.pools_of import a_pool, a_served_workspace, a_token, an_agent, verbs
from tests.web.requests_of import fresh


def test_list_agents_200_with_their_state_derived_when_read(api: Served) -> None:
    pool = a_pool(api)
    made = {
        "online": an_agent(api, pool, "a", heard_s=55),
        "offline": an_agent(api, pool, "b", heard_s=61),
        "pending_approval": an_agent(api, pool, "c", approved=False),
        "draining": an_agent(api, pool, "d"),
    }
    api.admin.post(f"/agents/{made['draining']}/drain")
    gone = an_agent(api, pool, "e")
    api.sql("UPDATE agent SET retired_at = now() WHERE id = $1", gone)
    items = api.viewer.get("/agents", params={"pool": pool})["items"]
    assert [(item["name"], item["status"], item["id"]) for item in items] == [
        (name, status, agent_id) for name, (status, agent_id) in zip("abcd", made.items(), strict=True)
    ]
    assert items[0]["pool_name"] == pool
    assert not {"instance_id", "secret_hash", "boot_id"} & items[0].keys()
    shown = api.viewer.get(f"/agent-pools/{pool}")
    assert (shown["agents"], shown["agents_online"]) == (4, 3)


def test_list_agents_200_in_pages(api: Served) -> None:
    pool = a_pool(api)
    made = [an_agent(api, pool, f"a{number}") for number in range(5)]
    pages = list(api.viewer.pages("/agents", limit=2, pool=pool))
    assert [item["id"] for page in pages for item in page["items"]] == made
    everywhere = [item["id"] for page in api.viewer.pages("/agents", limit=200) for item in page["items"]]
    assert set(made) <= set(everywhere)
    assert len(set(everywhere)) == len(everywhere)


def test_an_agent_whose_token_was_revoked_hard_is_shown_as_that(api: Served) -> None:
    pool = a_pool(api)
    agent, token = an_agent(api, pool), a_token(api, pool)["id"]
    api.sql("UPDATE agent SET pool_token_id = $1 WHERE id = $2", token, agent)
    for mode, status in (("soft", "draining"), ("hard", "revoked")):
        api.admin.delete(f"/agent-pools/{pool}/tokens/{token}", params={"mode": mode})
        assert api.viewer.get(f"/agents/{agent}")["status"] == status


def test_list_agents_200_of_one_name(api: Served) -> None:
    pool, other = a_pool(api), a_pool(api)
    name = fresh("host")
    made = sorted([an_agent(api, pool, name), an_agent(api, other, name)])
    an_agent(api, pool, f"{name}2")
    assert [item["id"] for item in api.viewer.get("/agents", params={"name": name})["items"]] == made
    assert len(api.viewer.get("/agents", params={"name": name, "pool": pool})["items"]) == 1
    assert api.viewer.get("/agents", params={"name": name.upper()})["items"] == []


def test_list_agents_422_for_a_pool_that_there_is_not(api: Served) -> None:
    assert api.viewer.get("/agents", 422, params={"pool": "nowhere"})["path"] == "$.pool"


def test_list_pool_agents_200_with_what_they_run(api: Served) -> None:
    pool = a_pool(api)
    agent = an_agent(api, pool)
    an_agent(api, a_pool(api))
    workspace = a_served_workspace(api, pool)
    task = api.operator.task(workspace, "plan")
    api.sql("UPDATE task SET status = 'assigned', agent_id = $1 WHERE id = $2", agent, task)
    items = api.viewer.get(f"/agent-pools/{pool}/agents")["items"]
    assert [(item["id"], item["current_tasks"], item["current_applies"]) for item in items] == [(agent, [task], [])]
    api.sql("UPDATE task SET phase = 'apply' WHERE id = $1", task)
    assert api.viewer.get(f"/agents/{agent}")["current_applies"] == [task]
    api.sql("UPDATE task SET status = 'queued', phase = 'plan', agent_id = NULL WHERE id = $1", task)
    api.operator.post(f"/tasks/{task}/cancel", json={})


def test_a_task_names_its_pool_and_its_agent(api: Served) -> None:
    pool = a_pool(api)
    agent, workspace = an_agent(api, pool, "web-7"), a_served_workspace(api, pool)
    task = api.operator.task(workspace, "plan")
    assert api.viewer.get(f"/workspaces/{workspace}")["pool_name"] == pool
    api.sql("UPDATE task SET agent_id = $1 WHERE id = $2", agent, task)
    shown = api.viewer.get(f"/tasks/{task}")
    assert (shown["pool_name"], shown["agent_name"]) == (pool, "web-7")
    listed = api.viewer.get(f"/workspaces/{workspace}/tasks")["items"][0]
    assert (listed["pool_name"], listed["agent_name"]) == (pool, "web-7")
    api.sql("UPDATE task SET agent_id = NULL WHERE id = $1", task)
    api.operator.post(f"/tasks/{task}/cancel", json={})


def test_drain_agent_200_and_undrain_agent(api: Served) -> None:
    agent = an_agent(api, a_pool(api))
    shown = api.admin.post(f"/agents/{agent}/drain", json={"reason": "new kernel"})
    assert (shown["draining"], shown["status"], shown["online"]) == (True, "draining", True)
    assert api.admin.post(f"/agents/{agent}/drain")["draining"]
    entries = api.admin.get("/audit", params={"subject": agent})["items"]
    assert [(entry["verb"], entry["actor"], entry["facts"]) for entry in entries] == [
        ("agent.drain", "admin", {"reason": "new kernel"})
    ]


def test_undrain_agent_200(api: Served) -> None:
    agent = an_agent(api, a_pool(api))
    api.admin.post(f"/agents/{agent}/drain")
    assert api.admin.post(f"/agents/{agent}/undrain")["status"] == "online"
    assert verbs(api, agent) == ["agent.undrain", "agent.drain"]


def test_approve_agent_200(api: Served) -> None:
    agent = an_agent(api, a_pool(api, require_approval=True), approved=False)
    for _ in range(2):
        shown = api.admin.post(f"/agents/{agent}/approve")
        assert (shown["approved"], shown["status"]) == (True, "online")
    assert verbs(api, agent) == ["agent.approve"]


def test_a_retired_agent_can_neither_be_approved_nor_drained(api: Served) -> None:
    agent = an_agent(api, a_pool(api), approved=False)
    api.sql("UPDATE agent SET retired_at = now() WHERE id = $1", agent)
    for verb in ("approve", "drain", "undrain"):
        api.admin.post(f"/agents/{agent}/{verb}", 404)
