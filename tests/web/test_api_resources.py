"""Resource blocks that the platform keeps itself, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.clients import PLAIN, REAL, Served


def resource(api: Served, ws: str, **fields: object) -> dict[str, Any]:
    body = {"type": "terraform_data", "name": "a", "body": {"input": 1}, **fields}
    made: dict[str, Any] = api.operator.post(f"/workspaces/{ws}/resources", 201, json=body)
    return made


def test_create_resource_201(api: Served) -> None:
    made = resource(api, api.admin.workspace(), body={"input": {"b": 1, "a": [None, 1.5, "${1 + 1}"]}})
    assert (made["mode"], made["type"], made["name"], made["version"]) == ("managed", "terraform_data", "a", 1)
    assert made["body"] == {"input": {"b": 1, "a": [None, 1.5, "${1 + 1}"]}}
    assert list(made["body"]["input"]) == ["b", "a"]
    assert made["id"].startswith("res-")


def test_create_resource_409_resource_exists(api: Served) -> None:
    ws = api.admin.workspace()
    resource(api, ws)
    body = {"type": "terraform_data", "name": "a", "body": {}}
    error = api.operator.post(f"/workspaces/{ws}/resources", 409, code="resource_exists", json=body)
    assert "terraform_data.a" in error["message"]
    resource(api, ws, mode="data")  # another kind of block has names of its own
    resource(api, api.admin.workspace())


@pytest.mark.parametrize(
    "fields", [{"type": "a b"}, {"name": "1"}, {"name": "a.b"}, {"body": []}, {"mode": "ephemeral"}, {"name": ""}]
)
def test_create_resource_422_for_what_terraform_could_not_read(api: Served, fields: dict[str, object]) -> None:
    ws = api.admin.workspace()
    body = {"type": "terraform_data", "name": "a", "body": {}, **fields}
    error = api.operator.post(f"/workspaces/{ws}/resources", 422, json=body)
    assert error["path"].startswith("$.")
    assert api.viewer.get(f"/workspaces/{ws}/resources") == {"items": []}


def test_list_resources_200(api: Served) -> None:
    ws = api.admin.workspace()
    for name, mode in (("b", "managed"), ("x", "data"), ("a", "managed")):
        resource(api, ws, name=name, mode=mode)
    items = api.viewer.get(f"/workspaces/{ws}/resources")["items"]
    assert [(item["mode"], item["name"]) for item in items] == [("managed", "a"), ("managed", "b"), ("data", "x")]


def test_change_resource_200(api: Served) -> None:
    ws = api.admin.workspace()
    made = resource(api, ws)
    path = f"/workspaces/{ws}/resources/{made['id']}"
    changed = api.operator.patch(path, json={"body": {"input": 2}, "version": 1})
    assert (changed["body"], changed["version"], changed["id"]) == ({"input": 2}, 2, made["id"])
    assert api.operator.patch(path, json={"body": {}})["version"] == 3


def test_change_resource_409_version_differs(api: Served) -> None:
    ws = api.admin.workspace()
    path = f"/workspaces/{ws}/resources/{resource(api, ws)['id']}"
    api.admin.patch(path, json={"body": {"input": 2}})
    error = api.operator.patch(path, 409, code="version_differs", json={"body": {"input": 3}, "version": 1})
    assert error["version"] == 2
    assert api.viewer.get(f"/workspaces/{ws}/resources")["items"][0]["body"] == {"input": 2}


def test_change_resource_422_for_a_body_that_terraform_could_not_read(api: Served) -> None:
    ws = api.admin.workspace()
    made = resource(api, ws)
    path = f"/workspaces/{ws}/resources/{made['id']}"
    error = api.operator.patch(path, 422, json={"body": {"lifecycle": "text"}})
    assert error["path"] == "$.body.lifecycle"
    body = {"type": "terraform_data", "name": "b", "body": {"lifecycle": "text"}}
    assert api.operator.post(f"/workspaces/{ws}/resources", 422, json=body)["path"] == "$.body.lifecycle"
    assert api.viewer.get(f"/workspaces/{ws}/resources")["items"] == [made]


def test_change_resource_404_in_another_workspace(api: Served) -> None:
    made = resource(api, api.admin.workspace())
    other = api.admin.workspace()
    api.operator.patch(f"/workspaces/{other}/resources/{made['id']}", 404, json={"body": {}})
    api.operator.delete(f"/workspaces/{other}/resources/{made['id']}", 404)


def test_delete_resource_204(api: Served) -> None:
    ws = api.admin.workspace()
    path = f"/workspaces/{ws}/resources/{resource(api, ws)['id']}"
    assert api.operator.delete(path) == b""
    api.operator.delete(path, 404)
    assert api.viewer.get(f"/workspaces/{ws}/resources") == {"items": []}


def test_resources_alone_are_a_configuration(api: Served) -> None:
    ws = api.admin.workspace(terraform_version=REAL)
    resource(api, ws, body={"input": "${var.word}"})
    api.operator.post(f"/workspaces/{ws}/variables", 201, json={"key": "word", "value": "hello"})
    done = api.operator.until(api.operator.task(ws, "plan_and_apply", auto_apply=True), "succeeded")
    assert done["plan"]["summary"]["add"] == 1
    assert b"hello" in api.operator.send("GET", f"/workspaces/{ws}/state-versions/current/download").content


def test_a_resource_that_the_configuration_has_too_is_refused_when_the_task_is_created(api: Served) -> None:
    ws = api.admin.workspace(terraform_version=PLAIN)
    api.operator.put(
        f"/workspaces/{ws}/configuration", json={"tf_code": {"resource": {"terraform_data": {"a": {"input": 1}}}}}
    )
    resource(api, ws)
    error = api.operator.post(f"/workspaces/{ws}/tasks", 422, json={"action": "plan"})
    assert error["path"] == "$.resources[0]"


def test_what_is_done_to_resources_is_audited(api: Served) -> None:
    ws = api.admin.workspace()
    made = resource(api, ws)
    api.operator.patch(f"/workspaces/{ws}/resources/{made['id']}", json={"body": {}})
    api.operator.delete(f"/workspaces/{ws}/resources/{made['id']}")
    subject = api.admin.get(f"/workspaces/{ws}")["id"]
    entries = api.admin.get("/audit", params={"subject": subject})["items"]
    assert [entry["verb"] for entry in entries][:3] == ["resource.delete", "resource.change", "resource.create"]
    assert {entry["actor"] for entry in entries[:3]} == {"operator"}
