"""State versions and outputs, over HTTP: no byte is changed, no history is rewritten."""

from __future__ import annotations

import json

import pytest

from tests.web.clients import OCTETS, PLAIN, REAL, Json, Served
from tests.web.requests_of import LINEAGE, state

OTHER = "11111111-2222-4333-8444-555555555555"


def upload(api: Served, ws: str, data: bytes, status: int = 201, code: str | None = None, **params: str) -> Json:
    path = f"/workspaces/{ws}/state-versions"
    return api.operator.post(path, status, code=code, content=data, headers=OCTETS, params=params)


def download(api: Served, ws: str, which: str | int = "current") -> bytes:
    answer = api.operator.send("GET", f"/workspaces/{ws}/state-versions/{which}/download")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.content


def serials(api: Served, ws: str) -> list[tuple[int, str]]:
    items = api.viewer.get(f"/workspaces/{ws}/state-versions")["items"]
    return [(item["serial"], item["verdict"]) for item in items]


def test_upload_state_201(api: Served) -> None:
    ws = api.admin.workspace()
    made = upload(api, ws, state(4, resources=2))
    assert (made["serial"], made["lineage"], made["verdict"]) == (4, LINEAGE, "current")
    assert (made["resource_count"], made["terraform_version"], made["created_by"]) == (2, "1.11.4", "operator")
    assert (made["task_id"], made["rollback_of"], made["size"]) == (None, None, len(state(4, resources=2)))
    held = api.viewer.get(f"/workspaces/{ws}")
    assert (held["state_serial"], held["state_lineage"]) == (4, LINEAGE)


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
def test_upload_state_201_as_either_content_type(api: Served, kind: str) -> None:
    ws = api.admin.workspace()
    api.operator.post(f"/workspaces/{ws}/state-versions", 201, content=state(1), headers={"Content-Type": kind})


def test_upload_state_201_the_same_bytes_again_are_the_same_version(api: Served) -> None:
    ws = api.admin.workspace()
    first = upload(api, ws, state(4))
    assert upload(api, ws, state(4)) == first
    assert upload(api, ws, state(4), force="true") == first
    assert serials(api, ws) == [(4, "current")]


def test_upload_state_409_state_serial_too_low(api: Served) -> None:
    ws = api.admin.workspace()
    upload(api, ws, state(4))
    for other in (state(3), state(4, resources=1)):
        error = upload(api, ws, other, 409, "state_serial_too_low")
        assert error["current_serial"] == 4
    assert serials(api, ws) == [(4, "current")]
    upload(api, ws, state(5))
    assert serials(api, ws) == [(5, "current"), (4, "superseded")]


def test_upload_state_409_state_lineage_differs(api: Served) -> None:
    ws = api.admin.workspace()
    upload(api, ws, state(4))
    error = upload(api, ws, state(9, OTHER), 409, "state_lineage_differs")
    assert (error["lineage"], error["current_lineage"]) == (OTHER, LINEAGE)
    assert serials(api, ws) == [(4, "current")]


def test_upload_state_409_workspace_locked(api: Served) -> None:
    ws = api.admin.workspace()
    token = api.admin.post(f"/workspaces/{ws}/lock", json={"reason": "moving"})["lock"]["token"]
    error = upload(api, ws, state(1), 409, "workspace_locked")
    assert (error["owner"], error["reason"]) == ("admin", "moving")
    upload(api, ws, state(1), 409, "workspace_locked", lock_token="lock-guessed", force="true")
    upload(api, ws, state(1), lock_token=token)
    # The owner needs no token.
    api.admin.post(f"/workspaces/{ws}/state-versions", 201, content=state(2), headers=OCTETS)


def test_upload_state_409_workspace_locked_by_a_task_whatever_token_one_has(api: Served) -> None:
    ws = api.admin.workspace({"main.tf": ""}, terraform_version=PLAIN)
    task = api.operator.task(ws, "plan_and_apply")
    api.operator.until(task, "planned")
    error = upload(api, ws, state(1), 409, "workspace_locked", force="true")
    assert (error["kind"], error["owner"]) == ("task", str(task))
    api.operator.post(f"/tasks/{task}/discard")
    upload(api, ws, state(1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        state(1)[:-10],
        b'{"version": 3, "serial": 1, "lineage": "x"}',
        b'{"version": 4, "lineage": "x", "serial": -1}',
        b'{"version": 4, "lineage": "x", "serial": 1.5}',
        b'{"version": 4, "lineage": "", "serial": 1}',
        b'{"version": 4, "lineage": "x", "serial": 9223372036854775808}',
        b'{"version": 4, "lineage": "x", "serial": 1, "resources": {}}',
        b'{"version": 4, "lineage": "x", "serial": 1, "outputs": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("force", ["false", "true"])
def test_upload_state_422_for_what_is_no_state_even_by_force(api: Served, data: bytes, force: str) -> None:
    ws = api.admin.workspace()
    error = upload(api, ws, data, 422, "state_invalid", force=force)
    assert error["path"].startswith("$")
    assert serials(api, ws) == []


def test_a_forced_upload_of_a_lower_serial_goes_on_counting(api: Served) -> None:
    ws = api.admin.workspace()
    upload(api, ws, state(4))
    old = state(2, resources=1)
    made = upload(api, ws, old, force="true")
    assert made["serial"] == 5
    assert download(api, ws) == old.replace(b'"serial": 2', b'"serial": 5')
    assert serials(api, ws) == [(5, "current"), (4, "superseded")]


def test_a_forced_upload_of_another_lineage_replaces_the_state(api: Served) -> None:
    ws = api.admin.workspace()
    upload(api, ws, state(4))
    made = upload(api, ws, state(9, OTHER), force="true")
    assert (made["serial"], made["lineage"]) == (9, OTHER)
    assert download(api, ws) == state(9, OTHER)
    assert api.viewer.get(f"/workspaces/{ws}")["state_lineage"] == OTHER
    subject = api.admin.get(f"/workspaces/{ws}")["id"]
    entry = api.admin.get("/audit", params={"subject": subject})["items"][1]
    assert (entry["verb"], entry["facts"]) == ("state.upload", {"serial": 9, "force": True})


def test_list_states_200_pages_newest_first(api: Served) -> None:
    ws = api.admin.workspace()
    for serial in range(1, 8):
        upload(api, ws, state(serial))
    pages = list(api.viewer.pages(f"/workspaces/{ws}/state-versions", limit=3))
    assert [[item["serial"] for item in page["items"]] for page in pages] == [[7, 6, 5], [4, 3, 2], [1]]


def test_show_state_200_current_by_serial_and_by_id(api: Served) -> None:
    ws = api.admin.workspace()
    old, new = upload(api, ws, state(3)), upload(api, ws, state(5))
    path = f"/workspaces/{ws}/state-versions"
    assert api.viewer.get(f"{path}/current") == new
    assert api.viewer.get(f"{path}/5") == new
    assert api.viewer.get(f"{path}/{old['id']}")["serial"] == 3
    assert api.viewer.get(f"{path}/3")["verdict"] == "superseded"
    api.viewer.get(f"{path}/4", 404)


def test_show_state_404_for_a_version_of_another_workspace(api: Served) -> None:
    one, other = api.admin.workspace(), api.admin.workspace()
    version = upload(api, one, state(1))
    api.viewer.get(f"/workspaces/{other}/state-versions/current", 404)
    api.viewer.get(f"/workspaces/{other}/state-versions/{version['id']}", 404)
    api.operator.get(f"/workspaces/{other}/state-versions/{version['id']}/download", 404)


def test_download_state_200_is_byte_identical_and_audited(api: Served) -> None:
    ws = api.admin.workspace()
    numbers = b'"check_results": null, "x": [1.10, 1e400, 12345678901234567890123456789012345678.5, "\\u00e9\\/"]'
    data = state(3).replace(b'"check_results": null', numbers)
    version = upload(api, ws, data)
    for which in ("current", 3, version["id"]):
        assert download(api, ws, which) == data
    subject = api.admin.get(f"/workspaces/{ws}")["id"]
    entry = api.admin.get("/audit", params={"subject": subject})["items"][0]
    assert (entry["verb"], entry["actor"]) == ("state.download", "operator")
    assert entry["facts"] == {"version": version["id"], "serial": 3}


def test_rollback_state_201_is_a_new_version_with_a_higher_serial_inside(api: Served) -> None:
    ws = api.admin.workspace()
    upload(api, ws, state(3, resources=2))
    upload(api, ws, state(7))
    made = api.operator.post(f"/workspaces/{ws}/state-versions/3/rollback", 201)
    assert (made["serial"], made["rollback_of"], made["verdict"], made["resource_count"]) == (8, 3, "current", 2)
    assert download(api, ws) == state(3, resources=2).replace(b'"serial": 3', b'"serial": 8')
    assert download(api, ws, 3) == state(3, resources=2)
    assert serials(api, ws) == [(8, "current"), (7, "superseded"), (3, "superseded")]
    again = api.operator.post(f"/workspaces/{ws}/state-versions/8/rollback", 201)
    assert again["serial"] == 9


def test_rollback_state_404_for_a_serial_that_never_was(api: Served) -> None:
    ws = api.admin.workspace()
    api.operator.post(f"/workspaces/{ws}/state-versions/1/rollback", 404)
    upload(api, ws, state(3))
    api.operator.post(f"/workspaces/{ws}/state-versions/1/rollback", 404)


def test_rollback_state_409_state_lineage_differs(api: Served) -> None:
    ws = api.admin.workspace()
    upload(api, ws, state(3))
    upload(api, ws, state(4, OTHER), force="true")
    path = f"/workspaces/{ws}/state-versions/3/rollback"
    api.operator.post(path, 409, code="state_lineage_differs")
    assert serials(api, ws) == [(4, "current"), (3, "superseded")]


def test_rollback_state_409_workspace_locked(api: Served) -> None:
    ws = api.admin.workspace()
    upload(api, ws, state(3))
    upload(api, ws, state(4))
    token = api.admin.post(f"/workspaces/{ws}/lock")["lock"]["token"]
    path = f"/workspaces/{ws}/state-versions/3/rollback"
    api.operator.post(path, 409, code="workspace_locked")
    assert api.operator.post(path, 201, params={"lock_token": token})["serial"] == 5


def test_list_outputs_200(api: Served) -> None:
    ws = api.admin.workspace()
    assert api.viewer.get(f"/workspaces/{ws}/outputs") == {"items": [], "state_serial": None}
    outputs = {
        "word": {"value": "hello", "type": "string"},
        "password": {"value": "hunter2hunter2", "type": "string", "sensitive": True},
        "shape": {"value": {"a": [1, True, None]}, "type": ["object", {"a": ["tuple", ["number", "bool", "string"]]}]},
    }
    data = state(2, outputs=outputs)
    upload(api, ws, data.replace(b'"hello"', b'"hel\\u006co"'))
    answer = api.viewer.send("GET", f"/workspaces/{ws}/outputs")
    shown = {item["name"]: item for item in answer.json()["items"]}
    assert answer.json()["state_serial"] == 2
    assert list(shown) == ["word", "password", "shape"]
    assert shown["word"]["value"] == "hello"
    assert shown["password"] == {"name": "password", "value": None, "type": "string", "sensitive": True}
    assert shown["shape"]["value"] == {"a": [1, True, None]}
    assert "hunter2" not in answer.text


def test_numbers_of_outputs_keep_every_digit(api: Served) -> None:
    ws = api.admin.workspace()
    data = state(2, outputs={"n": {"value": 0, "type": "number"}})
    upload(api, ws, data.replace(b'"value": 0', b'"value": 1234567890123456789012345678901234567890.10'))
    answer = api.viewer.send("GET", f"/workspaces/{ws}/outputs")
    assert b'"value":1234567890123456789012345678901234567890.10' in answer.content


def test_a_state_that_was_uploaded_is_what_the_next_plan_starts_from(api: Served) -> None:
    main = {"main.tf": 'resource "terraform_data" "a" { input = "x" }'}
    ws, other = api.admin.workspace(main, terraform_version=REAL), api.admin.workspace(main, terraform_version=REAL)
    done = api.operator.until(api.operator.task(ws, "plan_and_apply", auto_apply=True), "succeeded")
    assert done["outcome"] == "applied"
    applied = download(api, ws)
    shown = api.viewer.get(f"/workspaces/{ws}/state-versions/current")
    assert (shown["task_id"], shown["serial"]) == (done["id"], json.loads(applied)["serial"])
    upload(api, other, applied)
    plan = api.operator.until(api.operator.task(other, "plan"), "succeeded")
    assert (plan["outcome"], plan["plan"]["serial"]) == ("planned_and_finished", shown["serial"])
