"""Variables of a workspace, over HTTP; above all: a sensitive value goes in and never comes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.web.clients import REAL, Served
from tests.web.requests_of import OPERATIONS, Request, fresh

SECRET = "correct-horse-battery-staple"
NUMBER = "7206049183"
LATER = "another-horse-another-staple"


def variable(api: Served, ws: str, **fields: object) -> dict[str, Any]:
    made: dict[str, Any] = api.operator.post(
        f"/workspaces/{ws}/variables", 201, json={"key": "k", "value": "v", **fields}
    )
    return made


def test_create_variable_201(api: Served) -> None:
    ws = api.admin.workspace()
    made = variable(api, ws, key="region", value="eu", description="where")
    assert (made["key"], made["value"], made["category"], made["version"]) == ("region", "eu", "terraform", 1)
    assert (made["hcl"], made["sensitive"], made["description"]) == (False, False, "where")
    assert made["id"].startswith("var-")


def test_create_variable_201_the_same_key_in_both_categories(api: Served) -> None:
    ws = api.admin.workspace()
    variable(api, ws, key="name", category="terraform")
    variable(api, ws, key="name", category="environment")


@pytest.mark.parametrize("value", ["", " x\n", "a\0b", "${var.x}", "\u202e", "é" * 20_000, '{"a": 1e400}'])
def test_create_variable_201_keeps_every_character(api: Served, value: str) -> None:
    ws = api.admin.workspace()
    assert variable(api, ws, value=value)["value"] == value
    assert api.viewer.get(f"/workspaces/{ws}/variables")["items"][0]["value"] == value


def test_create_variable_409_variable_exists(api: Served) -> None:
    ws = api.admin.workspace()
    variable(api, ws, key="a")
    api.operator.post(f"/workspaces/{ws}/variables", 409, code="variable_exists", json={"key": "a", "value": "2"})
    assert [item["value"] for item in api.viewer.get(f"/workspaces/{ws}/variables")["items"]] == ["v"]


@pytest.mark.parametrize(
    ("category", "key"),
    [
        ("terraform", "1a"),
        ("terraform", "a b"),
        ("terraform", "a.b"),
        ("terraform", "-a"),
        ("terraform", "count"),
        ("terraform", "e\u0301"),
        ("environment", "A-B"),
        ("environment", "A=B"),
        ("environment", "PATH"),
        ("environment", "LD_PRELOAD"),
        ("environment", "IAC_TOKEN"),
        ("environment", "TF_CLI_ARGS_plan"),
        ("environment", "TF_VAR_x"),
        ("environment", "TF_DATA_DIR"),
    ],
)
def test_create_variable_422_for_a_name_that_is_not_taken(api: Served, category: str, key: str) -> None:
    ws = api.admin.workspace()
    error = api.operator.post(f"/workspaces/{ws}/variables", 422, json={"key": key, "value": "x", "category": category})
    assert (error["code"], error["path"]) == ("invalid", "$.key")
    assert api.viewer.get(f"/workspaces/{ws}/variables")["items"] == []


@pytest.mark.parametrize("expression", ["[1,", "", '"a', "a = 1", "]", "1, 2", "/* x"])
def test_create_variable_422_for_hcl_that_would_not_end_by_itself(api: Served, expression: str) -> None:
    ws = api.admin.workspace()
    body = {"key": "a", "value": expression, "hcl": True}
    assert api.operator.post(f"/workspaces/{ws}/variables", 422, json=body)["path"] == "$.value"
    made = variable(api, ws, key="a", value="[1]", hcl=True)
    path = f"/workspaces/{ws}/variables/{made['id']}"
    assert api.operator.patch(path, 422, json={"value": expression})["path"] == "$.value"


def test_create_variable_422_for_hcl_or_nul_in_the_environment(api: Served) -> None:
    path = f"/workspaces/{api.admin.workspace()}/variables"
    environment = {"key": "A", "category": "environment"}
    assert api.operator.post(path, 422, json={**environment, "value": "[1]", "hcl": True})["path"] == "$.hcl"
    assert api.operator.post(path, 422, json={**environment, "value": "a\0b"})["path"] == "$.value"


def test_create_variable_413_for_a_value_over_its_own_limit(api: Served) -> None:
    path = f"/workspaces/{api.admin.workspace()}/variables"
    error = api.operator.post(path, 413, json={"key": "a", "value": "x" * (64 * 1024 + 1)})
    assert (error["code"], error["path"], error["limit"]) == ("too_large", "$.value", 64 * 1024)
    api.operator.post(path, 201, json={"key": "a", "value": "x" * (64 * 1024)})


def test_list_variables_200(api: Served) -> None:
    ws = api.admin.workspace()
    assert api.viewer.get(f"/workspaces/{ws}/variables") == {"items": []}
    for key, category in (("b", "terraform"), ("A", "environment"), ("a", "terraform")):
        variable(api, ws, key=key, category=category, sensitive=key == "b", value=SECRET)
    items = api.viewer.get(f"/workspaces/{ws}/variables")["items"]
    assert [(item["category"], item["key"], item["value"]) for item in items] == [
        ("terraform", "a", SECRET),
        ("terraform", "b", None),
        ("environment", "A", SECRET),
    ]


def test_change_variable_200_changes_only_what_is_given(api: Served) -> None:
    ws = api.admin.workspace()
    made = variable(api, ws, key="a", value="1", description="d")
    path = f"/workspaces/{ws}/variables/{made['id']}"
    changed = api.operator.patch(path, json={"value": "2", "version": 1})
    assert (changed["value"], changed["description"], changed["version"]) == ("2", "d", 2)
    changed = api.operator.patch(path, json={"description": ""})
    assert (changed["value"], changed["description"], changed["version"]) == ("2", "", 3)
    changed = api.operator.patch(path, json={"value": "[1]", "hcl": True})
    assert (changed["value"], changed["hcl"]) == ("[1]", True)


def test_change_variable_409_version_differs(api: Served) -> None:
    ws = api.admin.workspace()
    made = variable(api, ws, value="1")
    path = f"/workspaces/{ws}/variables/{made['id']}"
    api.admin.patch(path, json={"value": "2", "version": 1})
    error = api.operator.patch(path, 409, code="version_differs", json={"value": "3", "version": 1})
    assert error["version"] == 2
    assert api.viewer.get(f"/workspaces/{ws}/variables")["items"][0]["value"] == "2"


def test_change_variable_404_in_another_workspace(api: Served) -> None:
    made = variable(api, api.admin.workspace())
    other = api.admin.workspace()
    api.operator.patch(f"/workspaces/{other}/variables/{made['id']}", 404, json={"value": "x"})
    api.operator.delete(f"/workspaces/{other}/variables/{made['id']}", 404)


def test_change_variable_422_a_sensitive_value_does_not_become_readable(api: Served) -> None:
    ws = api.admin.workspace()
    made = variable(api, ws, value=SECRET, sensitive=True)
    path = f"/workspaces/{ws}/variables/{made['id']}"
    error = api.operator.patch(path, 422, json={"sensitive": False})
    assert (error["code"], error["path"]) == ("sensitive", "$.sensitive")
    assert api.operator.patch(path, json={"description": "still"})["value"] is None
    shown = api.operator.patch(path, json={"sensitive": False, "value": "public"})
    assert (shown["sensitive"], shown["value"]) == (False, "public")
    assert api.operator.patch(path, json={"sensitive": True})["value"] is None


def test_delete_variable_204(api: Served) -> None:
    ws = api.admin.workspace()
    made = variable(api, ws)
    assert api.operator.delete(f"/workspaces/{ws}/variables/{made['id']}") == b""
    assert api.viewer.get(f"/workspaces/{ws}/variables")["items"] == []
    api.operator.delete(f"/workspaces/{ws}/variables/{made['id']}", 404)


def test_what_is_done_to_variables_is_audited_without_their_values(api: Served) -> None:
    ws = api.admin.workspace()
    made = variable(api, ws, key="plain", value="visible-in-get-only")
    api.operator.patch(f"/workspaces/{ws}/variables/{made['id']}", json={"value": "changed-value-here"})
    api.operator.delete(f"/workspaces/{ws}/variables/{made['id']}")
    subject = api.admin.get(f"/workspaces/{ws}")["id"]
    answer = api.admin.send("GET", "/audit", params={"subject": subject})
    verbs = [entry["verb"] for entry in answer.json()["items"]]
    assert verbs == ["variable.delete", "variable.change", "variable.create", "workspace.create"]
    assert "visible-in-get-only" not in answer.text
    assert "changed-value-here" not in answer.text


LEAKY = """
variable "secret" { type = string }
variable "later"  { type = map(string) }
variable "number" { type = number }
resource "terraform_data" "holds" {
  input = "prefix-${nonsensitive(var.secret)}-suffix"
  provisioner "local-exec" { command = "echo told: $FROM_ENV ${nonsensitive(var.secret)}" }
}
resource "terraform_data" "marked" { input = var.secret }
output "open" { value = terraform_data.holds.output }
output "count" { value = nonsensitive(var.number) }
output "near" { value = [nonsensitive(var.number), nonsensitive(var.number) + 1] }
output "closed" {
  value     = var.later
  sensitive = true
}
"""


@pytest.fixture(scope="module")
def leaky(api: Served) -> tuple[str, int]:
    """A workspace whose configuration does all it can to give its secrets away, and its applied task."""
    ws = api.admin.workspace({"main.tf": LEAKY}, terraform_version=REAL)
    variable(api, ws, key="secret", value=SECRET, sensitive=True)
    variable(api, ws, key="later", value=f'{{ a = "{LATER}" }}', hcl=True, sensitive=True)
    variable(api, ws, key="number", value=NUMBER, sensitive=True)
    variable(api, ws, key="FROM_ENV", value=LATER, category="environment", sensitive=True)
    task = api.operator.task(ws, "plan_and_apply")
    api.operator.until(task, "planned")
    api.operator.post(f"/tasks/{task}/confirm")
    api.operator.until(task, "succeeded")
    return ws, task


def readable(api: Served, ws: str, task: int) -> Iterator[httpx.Response]:
    """Every answer about the workspace that a token without the right to states may ask for."""
    pool = fresh("pool")
    api.admin.post("/agent-pools", 201, json={"name": pool})
    [newest, *_] = api.viewer.get(f"/workspaces/{ws}/configurations")["items"]
    path = {"ws": ws, "task_id": str(task), "which": "current", "pool": pool, "configuration": newest["id"]}
    for operation in OPERATIONS:
        if operation.method == "GET" and operation.right == "read" and operation.name != "stream_log":
            params = {"text": "told"} if operation.name == "search_log" else {}
            yield Request(operation, path, params=params).send(api.viewer.http)


def test_a_sensitive_value_never_comes_back_from_any_operation_that_reads(api: Served, leaky: tuple[str, int]) -> None:
    ws, task = leaky
    answers = list(readable(api, ws, task))
    assert {answer.request.url.path for answer in answers if answer.status_code != 200} == set()
    for answer in answers:
        for secret in (SECRET, LATER, NUMBER):
            assert secret not in answer.text, answer.request.url
    streamed = b"".join(event.bytes for event in api.viewer.events(task) if event.name == "log")
    assert SECRET.encode() not in streamed
    assert LATER.encode() not in streamed
    assert b"told: " in streamed  # it was said, and masked
    audit = "".join(str(page) for page in api.admin.pages("/audit", limit=200))
    assert SECRET not in audit
    assert LATER not in audit


def test_a_sensitive_value_is_masked_where_the_plan_and_its_changes_would_show_it(
    api: Served, leaky: tuple[str, int]
) -> None:
    _, task = leaky
    plan = api.viewer.get(f"/tasks/{task}/plan")
    assert plan["variables"]["secret"]["value"] != SECRET
    assert {change["address"] for change in plan["resource_changes"]} == {
        "terraform_data.holds",
        "terraform_data.marked",
    }
    changes = {item["address"]: item for item in api.viewer.get(f"/tasks/{task}/changes")["items"]}
    assert changes["terraform_data.marked"]["action"] == "create"
    assert changes["terraform_data.marked"]["progress"]["status"] == "complete"


def test_only_the_state_itself_has_the_secret_and_reading_it_is_a_right_of_its_own(
    api: Served, leaky: tuple[str, int]
) -> None:
    ws, _ = leaky
    assert SECRET.encode() in api.operator.send("GET", f"/workspaces/{ws}/state-versions/current/download").content
    api.viewer.get(f"/workspaces/{ws}/state-versions/current/download", 403)


def test_outputs_are_shown_but_for_what_is_sensitive_in_them(api: Served, leaky: tuple[str, int]) -> None:
    ws, _ = leaky
    outputs = {item["name"]: item for item in api.viewer.get(f"/workspaces/{ws}/outputs")["items"]}
    assert outputs["open"]["value"] == "prefix-***-suffix"
    assert outputs["count"]["value"] == "***"
    assert outputs["near"]["value"] == "***"
    assert outputs["closed"] == {"name": "closed", "value": None, "type": outputs["closed"]["type"], "sensitive": True}
