"""Pools, their tokens and whom they serve, as users see them, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from iac.domain.agent_tokens import looks_like
from tests.web.clients import Served
from tests.web.pools_of import FILES, a_pool, a_served_workspace, a_token, an_agent, verbs
from tests.web.requests_of import fresh

# Pools


def test_create_pool_201_with_networks_as_they_are_written_properly(api: Served) -> None:
    pool = a_pool(api, networks=["10.1.2.3/8", "192.0.2.1"], max_agents=7)
    shown = api.admin.get(f"/agent-pools/{pool}")
    assert (shown["networks"], shown["max_agents"]) == (["10.0.0.0/8", "192.0.2.1/32"], 7)
    error = api.admin.patch(f"/agent-pools/{pool}", 422, json={"networks": ["10.0.0.0/8", "somewhere"]})
    assert error["path"] == "$.networks[1]"
    assert api.admin.patch(f"/agent-pools/{pool}", json={"max_agents": None})["max_agents"] is None


def test_create_pool_201(api: Served) -> None:
    name = fresh("east")
    settings = {
        "kind": "k8s",
        "description": "the cluster in the east",
        "require_approval": True,
        "name_policy": "unique",
        "apply_exclusivity": "slot",
    }
    made = api.admin.post("/agent-pools", 201, json={"name": name, **settings})
    assert {key: made[key] for key in settings} == settings
    assert (made["agents"], made["agents_online"], made["workspaces"], made["created_by"]) == (0, 0, 0, "admin")
    assert made["id"].startswith("pool-")
    assert verbs(api, made["id"]) == ["pool.create"]


def test_create_pool_201_needs_only_a_name(api: Served) -> None:
    made = api.admin.post("/agent-pools", 201, json={"name": fresh("plain")})
    assert (made["kind"], made["name_policy"], made["require_approval"]) == ("static", "unique", False)
    pods = api.admin.post("/agent-pools", 201, json={"name": fresh("pods"), "kind": "k8s"})
    assert pods["name_policy"] == "suffix"


def test_create_pool_409_name_in_use(api: Served) -> None:
    name = a_pool(api)
    assert name in api.admin.post("/agent-pools", 409, code="name_in_use", json={"name": name})["message"]


@pytest.mark.parametrize("name", ["a/b", " a", "é", "a\nb", "pool-0123456789abcdef", "a" * 91, ""])
def test_create_pool_422_for_a_name_that_could_be_mistaken(api: Served, name: str) -> None:
    assert api.admin.post("/agent-pools", 422, json={"name": name})["path"] == "$.name"
    assert api.admin.patch(f"/agent-pools/{a_pool(api)}", 422, json={"name": name})["path"] == "$.name"


def test_show_pool_200_by_name_and_by_id(api: Served) -> None:
    name = a_pool(api)
    shown = api.viewer.get(f"/agent-pools/{name}")
    assert api.viewer.get(f"/agent-pools/{shown['id']}") == shown


def test_list_pools_200_in_pages_by_name(api: Served) -> None:
    made = sorted(a_pool(api) for _ in range(5))
    pages = list(api.viewer.pages("/agent-pools", limit=2))
    assert all(len(page["items"]) <= 2 for page in pages)
    names = [item["name"] for page in pages for item in page["items"]]
    assert [name for name in names if name in made] == made
    assert len(set(names)) == len(names)


def test_change_pool_200_only_what_is_there(api: Served) -> None:
    name = a_pool(api, description="d")
    changed = api.admin.patch(f"/agent-pools/{name}", json={"require_approval": True})
    assert (changed["require_approval"], changed["description"], changed["name"]) == (True, "d", name)
    assert verbs(api, changed["id"]) == ["pool.change", "pool.create"]


def test_change_pool_409_name_in_use(api: Served) -> None:
    api.admin.patch(f"/agent-pools/{a_pool(api)}", 409, code="name_in_use", json={"name": a_pool(api)})


def test_change_pool_422_for_what_cannot_change(api: Served) -> None:
    api.admin.patch(f"/agent-pools/{a_pool(api)}", 422, json={"kind": "k8s"})


def test_delete_pool_204_with_tokens_and_agents_that_are_gone(api: Served) -> None:
    pool = a_pool(api)
    a_token(api, pool)
    an_agent(api, pool, heard_s=61)
    api.admin.delete(f"/agent-pools/{pool}")
    api.admin.get(f"/agent-pools/{pool}", 404)


def test_delete_pool_409_pool_in_use(api: Served) -> None:
    pool = a_pool(api)
    workspace = a_served_workspace(api, pool)
    error = api.admin.delete(f"/agent-pools/{pool}", 409, code="pool_in_use")
    assert error["workspaces"] == 1
    api.admin.patch(f"/workspaces/{workspace}", json={"execution_mode": "local", "pool_id": None})
    api.admin.delete(f"/agent-pools/{pool}")


def test_delete_pool_409_agents_online(api: Served) -> None:
    pool = a_pool(api)
    an_agent(api, pool)
    assert api.admin.delete(f"/agent-pools/{pool}", 409, code="agents_online")["agents"] == 1


def test_show_demand_200(api: Served) -> None:
    pool = a_pool(api)
    workspace = a_served_workspace(api, pool)
    an_agent(api, pool)
    an_agent(api, pool, "slow", heard_s=100)
    task = api.operator.task(workspace, "plan")
    found = api.viewer.get(f"/agent-pools/{pool}/demand")
    assert (found["waiting_plans"], found["waiting_applies"], found["running_plans"]) == (1, 0, 0)
    assert (found["agents_online"], found["plan_slots"]) == (1, 3)
    assert found["oldest_waiting_since"] == api.viewer.get(f"/tasks/{task}")["queued_at"]
    api.operator.post(f"/tasks/{task}/cancel", json={})
    assert api.viewer.get(f"/agent-pools/{pool}/demand")["waiting_plans"] == 0


# Tokens


def test_create_pool_token_201_is_shown_once(api: Served) -> None:
    pool = a_pool(api)
    made = a_token(api, pool, expires_in_s=3600)
    assert looks_like("pool", made["token"])
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    listed = api.admin.get(f"/agent-pools/{pool}/tokens")
    assert listed["items"] == [{**made, "token": None}]
    assert made["token"] not in str(api.admin.get("/audit", params={"subject": made["id"]}))


@pytest.mark.parametrize("seconds", [0, 59, -1, 10**10, 1.5, "60"])
def test_create_pool_token_422_for_a_life_too_short_or_too_long(api: Served, seconds: Any) -> None:
    error = api.admin.post(f"/agent-pools/{a_pool(api)}/tokens", 422, json={"name": "t", "expires_in_s": seconds})
    assert error["path"] == "$.expires_in_s"


def test_list_pool_tokens_200_without_the_tokens(api: Served) -> None:
    pool = a_pool(api)
    made = [a_token(api, pool)["token"] for _ in range(3)]
    text = str(api.admin.get(f"/agent-pools/{pool}/tokens"))
    assert not any(token in text for token in made)


def test_revoke_pool_token_204_softly_first_and_then_hard(api: Served) -> None:
    pool = a_pool(api)
    token = a_token(api, pool)["id"]
    for query, becomes in (({}, "soft"), ({"mode": "hard"}, "hard"), ({"mode": "soft"}, "hard")):
        api.admin.delete(f"/agent-pools/{pool}/tokens/{token}", params=query)
        assert api.admin.get(f"/agent-pools/{pool}/tokens")["items"][0]["revoke_mode"] == becomes
    assert verbs(api, token) == ["pool_token.revoke", "pool_token.revoke", "pool_token.create"]


def test_revoke_pool_token_422_for_a_mode_that_there_is_not(api: Served) -> None:
    pool = a_pool(api)
    token = a_token(api, pool)["id"]
    api.admin.delete(f"/agent-pools/{pool}/tokens/{token}", 422, params={"mode": "gently"})
    assert api.admin.get(f"/agent-pools/{pool}/tokens")["items"][0]["revoked_at"] is None


def test_rotate_pool_token_201(api: Served) -> None:
    pool = a_pool(api)
    old = a_token(api, pool)
    new = api.admin.post(f"/agent-pools/{pool}/tokens/{old['id']}/rotate", 201, json={"overlap_s": 600})
    assert looks_like("pool", new["token"])
    assert new["token"] != old["token"]
    shown = api.admin.get(f"/agent-pools/{pool}/tokens")["items"]
    assert (shown[0]["replaced_by"], shown[1]["id"], shown[1]["expires_at"]) == (new["id"], new["id"], None)
    left = datetime.fromisoformat(shown[0]["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)


def test_rotate_pool_token_409_token_replaced(api: Served) -> None:
    pool = a_pool(api)
    path = f"/agent-pools/{pool}/tokens/{a_token(api, pool)['id']}/rotate"
    new = api.admin.post(path, 201)
    assert api.admin.post(path, 409, code="token_replaced")["replaced_by"] == new["id"]


def test_rotate_pool_token_409_token_revoked(api: Served) -> None:
    pool = a_pool(api)
    token = a_token(api, pool)["id"]
    api.admin.delete(f"/agent-pools/{pool}/tokens/{token}")
    api.admin.post(f"/agent-pools/{pool}/tokens/{token}/rotate", 409, code="token_revoked")


def test_a_pool_token_opens_nothing_of_the_users_api(api: Served) -> None:
    token = a_token(api, a_pool(api))["token"]
    assert api.admin.get("/me", 401, headers={"Authorization": f"Bearer {token}"})["code"] == "unauthenticated"


# Whom a pool serves


def test_allow_workspace_200_and_again_without_a_difference(api: Served) -> None:
    pool, workspace = a_pool(api), api.admin.workspace()
    made = api.admin.put(f"/agent-pools/{pool}/workspaces/{workspace}")
    assert (made["workspace_name"], made["in_use"], made["allowed_by"]) == (workspace, False, "admin")
    assert api.admin.put(f"/agent-pools/{pool}/workspaces/{made['workspace_id']}") == made
    assert verbs(api, api.admin.get(f"/agent-pools/{pool}")["id"]) == ["pool.allow", "pool.create"]


def test_disallow_workspace_204_even_while_it_is_in_use(api: Served) -> None:
    pool = a_pool(api)
    workspace = a_served_workspace(api, pool)
    for _ in range(2):
        api.admin.delete(f"/agent-pools/{pool}/workspaces/{workspace}")
    assert api.viewer.get(f"/agent-pools/{pool}/workspaces")["items"] == []
    api.operator.patch(f"/workspaces/{workspace}", json={"description": "may still be changed"})


def test_list_pool_workspaces_200_in_pages_by_name(api: Served) -> None:
    pool = a_pool(api)
    made = sorted(api.admin.workspace() for _ in range(5))
    for name in made:
        api.admin.put(f"/agent-pools/{pool}/workspaces/{name}")
    pages = list(api.viewer.pages(f"/agent-pools/{pool}/workspaces", limit=2))
    assert [item["workspace_name"] for page in pages for item in page["items"]] == made


def test_change_workspace_409_pool_not_allowed_until_both_sides_agree(api: Served) -> None:
    pool = a_pool(api)
    workspace = api.operator.workspace(FILES)
    agent_mode = {"execution_mode": "agent", "pool_id": pool}
    error = api.admin.patch(f"/workspaces/{workspace}", 409, code="pool_not_allowed", json=agent_mode)
    assert "agent-pools" in error["message"]
    api.admin.put(f"/agent-pools/{pool}/workspaces/{workspace}")
    changed = api.operator.patch(f"/workspaces/{workspace}", json=agent_mode)
    assert (changed["execution_mode"], changed["pool_id"]) == ("agent", api.admin.get(f"/agent-pools/{pool}")["id"])
    task = api.operator.task(workspace, "plan")
    shown = api.viewer.get(f"/tasks/{task}")
    assert (shown["execution_mode"], shown["pool_id"], shown["status"]) == ("agent", changed["pool_id"], "queued")
    api.operator.post(f"/tasks/{task}/cancel", json={})


def test_create_workspace_409_pool_not_allowed_for_agents_but_it_may_point_at_the_pool(api: Served) -> None:
    pool = a_pool(api)
    for more in ({}, {"pool_id": pool}, {"pool_id": None}):
        asked = {"name": fresh("w"), "execution_mode": "agent", **more}
        api.operator.post("/workspaces", 409, code="pool_not_allowed", json=asked)
    made = api.operator.post("/workspaces", 201, json={"name": fresh("w"), "pool_id": pool})
    assert made["pool_id"] == api.admin.get(f"/agent-pools/{pool}")["id"]
    error = api.operator.post("/workspaces", 422, json={"name": fresh("w"), "pool_id": "nowhere"})
    assert error["path"] == "$.pool_id"
