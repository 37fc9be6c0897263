"""Tasks over HTTP: create, list, read, and why they wait."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.web.clients import OCTETS, REAL, Served
from tests.web.requests_of import fresh, state
from tests.web.tasks_of import MAIN, finished_plan, idle, planned, verbs

# Creating


def test_create_task_201(api: Served) -> None:
    ws = idle(api)
    asked = {
        "action": "plan_and_apply",
        "targets": ["terraform_data.a"],
        "replace": ['module.x["k"].terraform_data.b'],
        "priority": 3,
        "auto_apply": True,
        "message": "do it",
    }
    made = api.operator.post(f"/workspaces/{ws}/tasks", 201, json=asked)
    assert {key: made[key] for key in asked} == asked
    assert (made["status"], made["phase"], made["attempt"]) == ("queued", "plan", 0)
    assert (made["created_by"], made["workspace_name"], made["outcome"]) == ("operator", ws, None)
    assert verbs(api, made["id"]) == ["task.create"]


def test_create_task_201_says_at_once_why_the_task_waits(api: Served) -> None:
    made = api.operator.post(f"/workspaces/{idle(api)}/tasks", 201, json={"action": "plan"})
    assert made["wait"]["code"] == "no_agent_online"


@pytest.mark.parametrize("action", ["plan", "apply", "plan_and_apply", "destroy", "refresh_only"])
def test_create_task_201_for_every_action(api: Served, action: str) -> None:
    task = api.operator.task(idle(api), action)
    assert api.viewer.get(f"/tasks/{task}")["auto_apply"] == (action == "apply")


def test_create_task_201_applies_by_itself_as_the_workspace_says_or_as_it_is_told(api: Served) -> None:
    ws = api.admin.workspace(MAIN, execution_mode="agent", auto_apply=True)
    assert api.viewer.get(f"/tasks/{api.operator.task(ws, 'plan_and_apply')}")["auto_apply"] is True
    task = api.operator.task(ws, "plan_and_apply", auto_apply=False)
    assert api.viewer.get(f"/tasks/{task}")["auto_apply"] is False


def test_create_task_201_is_made_once_under_one_key_of_one_person(api: Served) -> None:
    ws, key = idle(api), {"Idempotency-Key": "one request"}
    body = {"action": "plan", "message": "once"}
    made = [api.operator.post(f"/workspaces/{ws}/tasks", 201, json=body, headers=key)["id"] for _ in range(3)]
    assert len(set(made)) == 1
    assert verbs(api, made[0]) == ["task.create"]
    assert api.admin.post(f"/workspaces/{ws}/tasks", 201, json=body, headers=key)["id"] != made[0], (
        "somebody else's key"
    )
    other = idle(api)
    assert api.operator.post(f"/workspaces/{other}/tasks", 201, json=body, headers=key)["id"] != made[0], "other place"
    assert api.operator.post(f"/workspaces/{ws}/tasks", 201, json=body)["id"] != made[0], "without a key it is new"


def test_create_task_201_under_a_key_answers_with_the_task_as_it_is_by_now(api: Served) -> None:
    ws, key = idle(api), {"Idempotency-Key": "again"}
    task = api.operator.post(f"/workspaces/{ws}/tasks", 201, json={"action": "plan"}, headers=key)["id"]
    api.operator.post(f"/tasks/{task}/cancel", json={})
    again = api.operator.post(f"/workspaces/{ws}/tasks", 201, json={"action": "plan"}, headers=key)
    assert (again["id"], again["status"]) == (task, "cancelled")


def test_create_task_422_for_a_key_under_which_something_else_was_asked_for(api: Served) -> None:
    ws, key = idle(api), {"Idempotency-Key": "two requests"}
    made = api.operator.post(f"/workspaces/{ws}/tasks", 201, json={"action": "plan"}, headers=key)["id"]
    asked = {"action": "plan", "priority": 1}
    error = api.operator.post(f"/workspaces/{ws}/tasks", 422, code="idempotency_key_reused", json=asked, headers=key)
    assert f"task {made}" in error["message"]
    assert error["path"] == "Idempotency-Key"


@pytest.mark.parametrize("key", [b"", b"x" * 201, b"tab\there", "é".encode()])
def test_create_task_422_for_a_key_that_is_none(api: Served, key: bytes) -> None:
    url = f"{api.url}/api/v1/workspaces/{idle(api)}/tasks"
    headers = {b"Idempotency-Key": key, b"Authorization": api.operator.http.headers["Authorization"].encode()}
    response = httpx.post(url, json={"action": "plan"}, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["path"] == "Idempotency-Key"


def test_create_task_409_no_configuration(api: Served) -> None:
    ws = api.admin.workspace()
    error = api.operator.post(f"/workspaces/{ws}/tasks", 409, code="no_configuration", json={"action": "plan"})
    assert "PUT" in error["message"]


def test_create_task_409_not_a_plan(api: Served) -> None:
    ws, task = planned(api)
    body = {"action": "apply", "plan_task_id": task}
    api.operator.post(f"/workspaces/{ws}/tasks", 409, code="not_a_plan", json=body)
    other = api.operator.task(idle(api), "plan")
    body = {"action": "apply", "plan_task_id": other}
    api.operator.post(f"/workspaces/{ws}/tasks", 409, code="not_a_plan", json=body)
    api.operator.post(f"/tasks/{task}/discard")


def test_create_task_409_no_plan(api: Served) -> None:
    ws = idle(api)
    task = api.operator.task(ws, "plan")
    body = {"action": "apply", "plan_task_id": task}
    api.operator.post(f"/workspaces/{ws}/tasks", 409, code="no_plan", json=body)
    api.operator.post(f"/tasks/{task}/cancel")
    api.operator.post(f"/workspaces/{ws}/tasks", 409, code="no_plan", json=body)


def test_create_task_409_no_changes(api: Served) -> None:
    ws = api.admin.workspace({"main.tf": "# nothing"}, terraform_version=REAL)
    task = api.operator.task(ws, "plan")
    assert api.operator.until(task, "succeeded")["outcome"] == "planned_and_finished"
    body = {"action": "apply", "plan_task_id": task}
    api.operator.post(f"/workspaces/{ws}/tasks", 409, code="no_changes", json=body)


def test_create_task_409_plan_stale(api: Served) -> None:
    ws, task = finished_plan(api)
    api.operator.post(f"/workspaces/{ws}/state-versions", 201, content=state(5), headers=OCTETS)
    body = {"action": "apply", "plan_task_id": task}
    error = api.operator.post(f"/workspaces/{ws}/tasks", 409, code="plan_stale", json=body)
    assert (error["planned_serial"], error["current_serial"]) == (None, 5)


def test_create_task_404_for_a_plan_that_never_was(api: Served) -> None:
    body = {"action": "apply", "plan_task_id": 2**40}
    api.operator.post(f"/workspaces/{idle(api)}/tasks", 404, json=body)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"action": "explode"}, "$.action"),
        ({"priority": 11}, "$.priority"),
        ({"targets": [""]}, "$.targets[0]"),
        ({"targets": ["a\nb"]}, "$.targets[0]"),
        ({"targets": ["a", "b"], "replace": ["c", "d\x1b"]}, "$.replace[1]"),
        ({"targets": ["a"] * 201}, "$.targets"),
        ({"plan_task_id": 1}, "$.plan_task_id"),
        ({"action": "apply", "plan_task_id": 1, "targets": ["a"]}, "$.plan_task_id"),
        ({"message": "x" * 1001}, "$.message"),
    ],
)
def test_create_task_422_names_what_is_wrong(api: Served, fields: dict[str, Any], path: str) -> None:
    error = api.operator.post(f"/workspaces/{idle(api)}/tasks", 422, json={"action": "plan", **fields})
    assert error["path"] == path


# Reading


def test_show_task_200(api: Served) -> None:
    ws, task = planned(api)
    shown = api.viewer.get(f"/tasks/{task}")
    assert (shown["status"], shown["phase"], shown["workspace_name"]) == ("planned", "plan", ws)
    assert shown["wait"]["code"] == "needs_confirmation"
    assert shown["plan"]["has_changes"] is True
    assert shown["plan"]["summary"]["add"] == 1
    assert shown["created_at"] <= shown["queued_at"] <= shown["started_at"] <= shown["planned_at"]
    assert shown["finished_at"] is None
    api.operator.post(f"/tasks/{task}/discard")


def test_show_plan_200_and_its_changes(api: Served) -> None:
    ws = api.admin.workspace(MAIN, terraform_version=REAL)
    task = api.operator.task(ws, "plan")
    api.operator.until(task, "succeeded")
    plan = api.viewer.get(f"/tasks/{task}/plan")
    assert plan["format_version"].startswith("1.")
    assert [change["address"] for change in plan["resource_changes"]] == ["terraform_data.a"]


def test_show_plan_404_while_there_is_none(api: Served) -> None:
    task = api.operator.task(idle(api), "plan")
    for what in ("plan", "changes"):
        assert api.viewer.get(f"/tasks/{task}/{what}", 404)["code"] == "no_plan"


def test_list_changes_200(api: Served) -> None:
    ws = api.admin.workspace(MAIN, terraform_version=REAL)
    task = api.operator.task(ws, "plan_and_apply")
    api.operator.until(task, "planned")
    (change,) = api.viewer.get(f"/tasks/{task}/changes")["items"]
    assert (change["address"], change["action"]) == ("terraform_data.a", "create")
    assert change["progress"]["status"] == "pending"
    api.operator.post(f"/tasks/{task}/confirm")
    api.operator.until(task, "succeeded")
    (change,) = api.viewer.get(f"/tasks/{task}/changes")["items"]
    assert change["progress"]["status"] == "complete"


def test_list_tasks_200_with_filters_and_counts(api: Served) -> None:
    word = fresh("needle")
    one, other = idle(api), idle(api)
    ids = {
        "plan": api.operator.task(one, "plan", message=word),
        "apply": api.operator.task(one, "plan_and_apply", message=word),
        "second": api.operator.task(one, "destroy", message=word),
        "other": api.admin.task(other, "plan", message=f"{word}%_"),
    }
    api.operator.post(f"/tasks/{ids['plan']}/cancel")

    def found(**params: str) -> list[str]:
        items = api.viewer.get("/tasks", params={"search": word, **params})["items"]
        return [next(name for name, task in ids.items() if task == item["id"]) for item in items]

    assert found() == ["other", "second", "apply", "plan"]  # newest first
    assert found(workspace=one) == ["second", "apply", "plan"]
    assert found(workspace=api.admin.get(f"/workspaces/{other}")["id"]) == ["other"]
    assert found(status="queued") == ["other", "apply"]
    assert found(status="pending,cancelled") == ["second", "plan"]
    assert found(action="plan") == ["other", "plan"]
    assert found(action="destroy,plan_and_apply", workspace=one) == ["second", "apply"]
    assert found(search=f"{word}%_") == ["other"]
    counts = api.viewer.get("/tasks", params={"search": word})["counts"]
    assert counts == {"queued": 2, "pending": 1, "cancelled": 1}
    # What one would get by choosing another status: the counts do not depend on the one that is chosen.
    assert api.viewer.get("/tasks", params={"search": word, "status": "lost"}) == {
        "items": [],
        "next_cursor": None,
        "counts": counts,
    }


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"status": "queued,nonsense"}, "$.status"),
        ({"action": "explode"}, "$.action"),
        ({"workspace": "ws-0000000000000000"}, "$.workspace"),
        ({"cursor": "x"}, "$.cursor"),
    ],
)
def test_list_tasks_422_names_the_filter_that_is_wrong(api: Served, params: dict[str, str], path: str) -> None:
    assert api.viewer.get("/tasks", 422, params=params)["path"].startswith(path)


def test_list_tasks_200_pages_give_each_task_once_newest_first(api: Served) -> None:
    ws = idle(api)
    made = [api.operator.task(ws, "plan") for _ in range(120)]
    for path, params in (("/tasks", {"workspace": ws}), (f"/workspaces/{ws}/tasks", {})):
        pages = list(api.viewer.pages(path, limit=50, **params))
        assert [len(page["items"]) for page in pages] == [50, 50, 20]
        assert [item["id"] for page in pages for item in page["items"]] == made[::-1]
        assert all(page["counts"] == {"queued": 120} for page in pages)
    # Sparing everybody else in this session a hundred waiting tasks.
    api.sql("UPDATE task SET status = 'cancelled' WHERE id = ANY($1)", made)


def test_list_workspace_tasks_200(api: Served) -> None:
    ws = idle(api)
    task = api.operator.task(ws, "plan")
    page = api.viewer.get(f"/workspaces/{ws}/tasks", params={"status": "queued"})
    assert [item["id"] for item in page["items"]] == [task]
    assert page["items"][0]["wait"] == api.viewer.get(f"/tasks/{task}")["wait"]


def test_list_workspace_tasks_422_for_another_workspace_as_a_filter(api: Served) -> None:
    assert api.viewer.get(f"/workspaces/{idle(api)}/tasks", 422, params={"workspace": "x"})["path"] == "$.workspace"


def test_a_task_that_no_runner_can_take_says_so(api: Served) -> None:
    wait = api.operator.waiting(api.operator.task(idle(api), "plan"), "no_agent_online")["wait"]
    assert "agent" in wait["message"]
    assert wait["position"] >= 1


def test_a_task_behind_another_of_its_workspace_names_it(api: Served) -> None:
    ws, first = planned(api)
    second, third = api.operator.task(ws, "destroy"), api.operator.task(ws, "refresh_only")
    wait = api.operator.waiting(second, "workspace_busy")["wait"]
    assert wait["position"] == 1
    assert str(first) in wait["message"]
    assert api.operator.waiting(third, "workspace_busy")["wait"]["position"] == 2
    api.operator.post(f"/tasks/{third}/cancel")
    api.operator.post(f"/tasks/{second}/cancel")
    api.operator.post(f"/tasks/{first}/discard")
