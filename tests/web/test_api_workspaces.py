"""Workspaces and their lock, over HTTP."""

from __future__ import annotations

import pytest

from tests.web.clients import OCTETS, PLAIN, Served
from tests.web.requests_of import fresh, state

EMPTY = {"main.tf": ""}


def test_create_workspace_201(api: Served) -> None:
    name = fresh("shop")
    settings = {
        "description": "the shop's network",
        "engine": "tofu",
        "terraform_version": "~> 1.6.0",
        "working_directory": "./live//eu/",
        "auto_apply": True,
        "provider_config": {"aws": {"region": "eu-central-1"}},
        "tags": {"team": "net"},
    }
    made = api.operator.post("/workspaces", 201, json={"name": name, **settings})
    assert made["name"] == name
    assert made["working_directory"] == "live/eu"
    for key in settings.keys() - {"working_directory"}:
        assert made[key] == settings[key]
    assert (made["lock"], made["state_serial"], made["configuration_id"]) == (None, None, None)
    assert made["id"].startswith("ws-")


def test_create_workspace_201_needs_only_a_name(api: Served) -> None:
    made = api.operator.post("/workspaces", 201, json={"name": fresh("plain")})
    assert (made["execution_mode"], made["engine"], made["terraform_version"]) == ("local", "terraform", "latest")
    assert (made["auto_apply"], made["tags"], made["provider_config"]) == (False, {}, None)


def test_create_workspace_409_name_in_use(api: Served) -> None:
    name = api.admin.workspace()
    error = api.admin.post("/workspaces", 409, code="name_in_use", json={"name": name})
    assert name in error["message"]


@pytest.mark.parametrize(
    "name",
    ["a/b", " a", "a ", "-a", "a-", "é", "a\nb", "ws-0123456789abcdef", "tok-0123456789abcdef", "a" * 91, "", "."],
)
def test_create_workspace_422_for_a_name_that_could_be_mistaken(api: Served, name: str) -> None:
    error = api.admin.post("/workspaces", 422, json={"name": name})
    assert error["path"] == "$.name"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("terraform_version", "banana"),
        ("terraform_version", "1.5"),
        ("working_directory", "../up"),
        ("working_directory", "/abs"),
        ("working_directory", "a\\b"),
        ("provider_config", {"AWS!": {}}),
        ("provider_config", {"terraform": {"backend": {"s3": {}}}}),
        ("execution_mode", "cloud"),
        ("engine", "pulumi"),
        ("description", "x" * 1001),
        ("tags", {"": "x"}),
        ("tags", {"k": "x" * 201}),
        ("tags", {f"k{n}": "" for n in range(51)}),
    ],
)
def test_create_workspace_422_for_settings_that_make_no_sense(api: Served, field: str, value: object) -> None:
    name = fresh("bad")
    api.admin.post("/workspaces", 422, json={"name": name, field: value})
    api.admin.get(f"/workspaces/{name}", 404)
    kept = api.admin.workspace()
    api.admin.patch(f"/workspaces/{kept}", 422, json={field: value})


def test_show_workspace_200_by_name_and_by_id(api: Served) -> None:
    name = api.admin.workspace()
    by_name = api.viewer.get(f"/workspaces/{name}")
    assert api.viewer.get(f"/workspaces/{by_name['id']}") == by_name


def test_list_workspaces_200_pages_give_each_workspace_once_in_order(api: Served) -> None:
    prefix = fresh("page")
    made = [f"{prefix}-{n:03}" for n in range(120)]
    for name in made:
        api.admin.post("/workspaces", 201, json={"name": name})
    pages = list(api.viewer.pages("/workspaces", limit=50, search=f"{prefix}-"))
    assert [len(page["items"]) for page in pages] == [50, 50, 20]
    assert [item["name"] for page in pages for item in page["items"]] == made


def test_list_workspaces_200_goes_on_after_a_workspace_that_was_deleted_meanwhile(api: Served) -> None:
    prefix = fresh("gone")
    for n in range(4):
        api.admin.workspace(name=f"{prefix}-{n}")
    first = api.viewer.get("/workspaces", params={"limit": 2, "search": f"{prefix}-"})
    api.admin.delete(f"/workspaces/{prefix}-1")
    rest = api.viewer.get("/workspaces", params={"search": f"{prefix}-", "cursor": first["next_cursor"]})
    assert [item["name"] for item in rest["items"]] == [f"{prefix}-2", f"{prefix}-3"]


def test_list_workspaces_200_with_filters(api: Served) -> None:
    prefix = fresh("f")
    api.admin.workspace(name=f"{prefix}-a", description="Über alles", tags={"team": "net", "env": "prod"})
    api.admin.workspace(name=f"{prefix}-b", description="100% sure", tags={"team": "db"})
    api.admin.workspace(name=f"{prefix}-c_d")
    api.admin.post(f"/workspaces/{prefix}-b/lock")

    def found(**params: str) -> list[str]:
        page = api.viewer.get("/workspaces", params=params)
        names = [item["name"] for item in page["items"]]
        return [name.removeprefix(f"{prefix}-") for name in names if name.startswith(f"{prefix}-")]

    assert found(search=f"{prefix}-") == ["a", "b", "c_d"]
    assert found(search="über ALLES") == ["a"]
    assert found(search="0% s") == ["b"]
    assert found(search="c_d") == ["c_d"]  # the underscore stands for itself
    assert found(search="c%d") == []
    assert found(search=f"{prefix}-", locked="true") == ["b"]
    assert found(search=f"{prefix}-", locked="false") == ["a", "c_d"]
    assert found(tag="team", search=f"{prefix}-") == ["a", "b"]
    assert found(tag="team=net", search=f"{prefix}-") == ["a"]
    assert found(tag="team=prod", search=f"{prefix}-") == []


def test_change_workspace_200_changes_only_what_is_given(api: Served) -> None:
    name = api.admin.workspace(description="old", tags={"a": "b"}, provider_config={"aws": {}})
    before = api.admin.get(f"/workspaces/{name}")
    after = api.operator.patch(f"/workspaces/{name}", json={"description": "new"})
    assert after["description"] == "new"
    same = before.keys() - {"description", "updated_at"}
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    assert api.operator.patch(f"/workspaces/{name}", json={"provider_config": None})["provider_config"] is None
    renamed = fresh("new")
    assert api.operator.patch(f"/workspaces/{name}", json={"name": renamed})["id"] == before["id"]
    api.viewer.get(f"/workspaces/{name}", 404)
    assert api.viewer.get(f"/workspaces/{renamed}")["description"] == "new"


def test_change_workspace_409_name_in_use(api: Served) -> None:
    one, other = api.admin.workspace(), api.admin.workspace()
    api.admin.patch(f"/workspaces/{one}", 409, code="name_in_use", json={"name": other})


def test_a_change_of_a_workspace_is_audited_with_its_fields_and_not_their_values(api: Served) -> None:
    name = api.admin.workspace()
    made = api.operator.patch(
        f"/workspaces/{name}", json={"provider_config": {"aws": {"secret_key": "hunter2hunter2"}}}
    )
    entries = api.admin.get("/audit", params={"subject": made["id"]})["items"]
    assert [entry["verb"] for entry in entries] == ["workspace.change", "workspace.create"]
    assert entries[0]["actor"] == "operator"
    assert entries[0]["facts"] == {"fields": ["provider_config"]}


def test_delete_workspace_204_deletes_all_that_belongs_to_it(api: Served) -> None:
    name = api.admin.workspace(EMPTY)
    api.admin.post(f"/workspaces/{name}/variables", 201, json={"key": "a", "value": "b"})
    workspace_id = api.admin.get(f"/workspaces/{name}")["id"]
    assert api.operator.delete(f"/workspaces/{name}") == b""
    api.admin.get(f"/workspaces/{name}", 404)
    api.admin.get(f"/workspaces/{workspace_id}/variables", 404)
    api.admin.delete(f"/workspaces/{name}", 404)
    deleted = api.admin.get("/audit", params={"subject": workspace_id})["items"][0]
    assert (deleted["verb"], deleted["facts"]) == ("workspace.delete", {"name": name, "force": False})
    api.admin.workspace(name=name)


def test_delete_workspace_409_workspace_locked(api: Served) -> None:
    name = api.admin.workspace()
    api.operator.post(f"/workspaces/{name}/lock", json={"reason": "audit"})
    error = api.admin.delete(f"/workspaces/{name}", 409, code="workspace_locked")
    assert (error["kind"], error["owner"], error["reason"]) == ("user", "operator", "audit")
    api.admin.delete(f"/workspaces/{name}?force=true", 409, code="workspace_locked")


def test_delete_workspace_409_workspace_busy(api: Served) -> None:
    name = api.admin.workspace(EMPTY, execution_mode="agent")
    task = api.admin.task(name, "plan")
    api.admin.delete(f"/workspaces/{name}?force=true", 409, code="workspace_busy")
    api.admin.post(f"/tasks/{task}/cancel")
    api.admin.delete(f"/workspaces/{name}")
    api.admin.get(f"/tasks/{task}", 404)


def test_delete_workspace_409_workspace_not_empty(api: Served) -> None:
    name = api.admin.workspace()
    api.admin.post(f"/workspaces/{name}/state-versions", 201, content=state(1, resources=3), headers=OCTETS)
    error = api.admin.delete(f"/workspaces/{name}", 409, code="workspace_not_empty")
    assert error["resource_count"] == 3
    api.admin.delete(f"/workspaces/{name}?force=true")


def test_lock_workspace_200_gives_the_token_only_to_who_locked(api: Served) -> None:
    name = api.admin.workspace()
    lock = api.operator.post(f"/workspaces/{name}/lock", json={"reason": "maintenance"})["lock"]
    assert (lock["kind"], lock["owner"], lock["reason"]) == ("user", "operator", "maintenance")
    assert lock["token"]
    for client in (api.operator, api.admin, api.viewer):
        shown = client.send("GET", f"/workspaces/{name}")
        assert shown.json()["lock"]["owner"] == "operator"
        assert lock["token"] not in shown.text
    assert lock["token"] not in api.admin.send("GET", "/audit").text
    assert lock["token"] not in api.admin.send("GET", "/workspaces", params={"search": name}).text


def test_lock_workspace_200_without_a_body(api: Served) -> None:
    name = api.admin.workspace()
    assert api.operator.post(f"/workspaces/{name}/lock")["lock"]["reason"]


def test_lock_workspace_409_workspace_locked(api: Served) -> None:
    name = api.admin.workspace()
    api.operator.post(f"/workspaces/{name}/lock", json={"reason": "mine"})
    for client in (api.operator, api.admin):
        error = client.post(f"/workspaces/{name}/lock", 409, code="workspace_locked")
        assert (error["owner"], error["reason"]) == ("operator", "mine")
        assert "operator" in error["message"]


def test_unlock_workspace_200_by_the_owner_or_with_the_token(api: Served) -> None:
    name = api.admin.workspace()
    token = api.operator.post(f"/workspaces/{name}/lock")["lock"]["token"]
    assert api.operator.post(f"/workspaces/{name}/unlock")["lock"] is None
    token = api.operator.post(f"/workspaces/{name}/lock")["lock"]["token"]
    released = api.admin.post(f"/workspaces/{name}/unlock", json={"token": token})
    assert released["lock"] is None
    verbs = [entry["verb"] for entry in api.admin.get("/audit", params={"subject": released["id"]})["items"]]
    assert verbs == ["workspace.unlock", "workspace.lock"] * 2 + ["workspace.create"]


def test_unlock_workspace_409_not_locked(api: Served) -> None:
    name = api.admin.workspace()
    api.admin.post(f"/workspaces/{name}/unlock", 409, code="not_locked")
    api.admin.post(f"/workspaces/{name}/unlock", 409, code="not_locked", json={"force": True})


def test_unlock_workspace_409_workspace_locked(api: Served) -> None:
    name = api.admin.workspace()
    api.admin.post(f"/workspaces/{name}/lock", json={"reason": "hands off"})
    error = api.operator.post(f"/workspaces/{name}/unlock", 409, code="workspace_locked")
    assert (error["owner"], error["reason"]) == ("admin", "hands off")
    api.operator.post(f"/workspaces/{name}/unlock", 409, code="workspace_locked", json={"token": "lock-guessed"})
    # A wrong token is wrong for the owner, too: it says that another lock is meant.
    api.admin.post(f"/workspaces/{name}/unlock", 409, code="workspace_locked", json={"token": "lock-stale"})


def test_unlock_workspace_403_force_is_a_right_of_its_own(api: Served) -> None:
    name = api.admin.workspace()
    api.admin.post(f"/workspaces/{name}/lock")
    error = api.operator.post(f"/workspaces/{name}/unlock", 403, json={"force": True})
    assert (error["code"], error["right"]) == ("forbidden", "force_unlock")
    assert api.admin.get(f"/workspaces/{name}")["lock"] is not None


def test_a_forced_unlock_says_in_the_audit_whose_lock_it_was(api: Served) -> None:
    name = api.admin.workspace()
    api.operator.post(f"/workspaces/{name}/lock", json={"reason": "maintenance"})
    released = api.admin.post(f"/workspaces/{name}/unlock", json={"force": True})
    entry = api.admin.get("/audit", params={"subject": released["id"]})["items"][0]
    assert (entry["verb"], entry["actor"]) == ("workspace.force_unlock", "admin")
    assert entry["facts"] == {"kind": "user", "owner": "operator", "reason": "maintenance"}


def test_a_lock_holds_back_what_may_change_state_but_no_plan_and_unlocking_lets_it_go(api: Served) -> None:
    name = api.admin.workspace({"main.tf": 'resource "terraform_data" "a" {}'}, terraform_version=PLAIN)
    api.operator.post(f"/workspaces/{name}/lock", json={"reason": "freeze"})
    apply = api.operator.task(name, "plan_and_apply", auto_apply=True)
    second = api.operator.task(name, "destroy", auto_apply=True)
    plan = api.operator.task(name, "plan")
    assert api.operator.until(plan, "succeeded")["outcome"] == "planned"
    waiting = api.operator.waiting(apply, "workspace_locked")
    assert waiting["status"] == "pending"
    assert waiting["wait"]["position"] == 1
    assert "operator" in waiting["wait"]["message"]
    assert "freeze" in waiting["wait"]["message"]
    assert api.operator.waiting(second, "workspace_locked")["wait"]["position"] == 2
    api.operator.post(f"/workspaces/{name}/unlock")
    assert api.operator.until(apply, "succeeded")["outcome"] == "applied"
    api.operator.until(second, "succeeded", "failed")
    assert api.admin.get(f"/workspaces/{name}")["lock"] is None


LIMITS = {"plan_timeout_s": 600, "apply_timeout_s": 7200, "plan_grace_s": 10, "apply_grace_s": 900}


def test_a_workspace_has_time_limits_of_its_own_and_may_give_them_up(api: Served) -> None:
    made = api.operator.post("/workspaces", 201, json={"name": fresh("slow"), **LIMITS})
    assert {name: made[name] for name in LIMITS} == LIMITS
    changed = api.operator.patch(f"/workspaces/{made['id']}", 200, json={"apply_timeout_s": None, "plan_grace_s": 20})
    assert {name: changed[name] for name in LIMITS} == {**LIMITS, "apply_timeout_s": None, "plan_grace_s": 20}
    assert api.admin.get(f"/workspaces/{api.admin.workspace()}")["apply_grace_s"] is None, "the server's default"


@pytest.mark.parametrize(
    ("field", "value"),
    [("plan_timeout_s", 0), ("apply_timeout_s", 30 * 86400 + 1), ("plan_grace_s", -1), ("apply_grace_s", 3601)],
)
def test_change_workspace_422_for_a_limit_that_makes_no_sense(api: Served, field: str, value: int) -> None:
    error = api.admin.patch(f"/workspaces/{api.admin.workspace()}", 422, json={field: value})
    assert error["path"] == f"$.{field}"
