"""The pages and deeds of a workspace and of plans, over HTTP: who may, what is refused how, what browsers are forbidden."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iac.web.ui.pages import Deed, Page
from tests.web.clients import ROLES, Served
from tests.web.test_ui_pages import UI
from tests.web.test_ui_pages import _Elements as Elements
from tests.web.visitors import Visitor, visitor

MAIN = 'resource "terraform_data" "a" { input = "one" }\n'
HOSTILE = "<img src=x onerror=alert(1)> \u202e\x07 \"quoted'"
PAGES = [
    page
    for page in UI.pages
    if page.path.startswith("/workspaces/<ws>") or page.path.endswith(("/plan", "/plan/<key>"))
]
DEEDS = [deed for deed in UI.deeds if deed.path.startswith("/workspaces/<ws>")]
TYPED = [deed for deed in DEEDS if deed.path.endswith(("<ws>/delete", "/rollback", "/promote"))]


@dataclass(frozen=True)
class Place:
    """A workspace with one of everything, and the addresses of its parts."""

    name: str
    filled: dict[str, str]

    def path(self, template: str) -> str:
        return re.sub(r"<(?:[^:>]*:)?(\w+)>", lambda found: self.filled[found[1]], template)


@pytest.fixture(scope="module")
def place(api: Served) -> Place:
    name = api.admin.workspace({"main.tf": MAIN})
    path = f"/workspaces/{name}"
    variable = api.admin.post(f"{path}/variables", 201, json={"key": "k", "value": HOSTILE, "description": HOSTILE})
    body = {"type": "terraform_data", "name": "kept", "body": {"input": HOSTILE}}
    block = api.admin.post(f"{path}/resources", 201, json=body)
    task = api.admin.task(name, "plan_and_apply", auto_apply=True, message=HOSTILE)
    assert api.admin.until(task, "succeeded", "failed")["status"] == "succeeded"
    version = api.admin.get(f"{path}/configurations")["items"][0]["id"]
    filled = {"ws": name, "var": variable["id"], "res": block["id"], "which": "current", "task_id": str(task)}
    filled["version"] = version
    return Place(name, filled)


def address(place: Place, page: Page | Deed) -> str:
    key = "r0" if "/plan/" in page.path else "a-i0" if "/compare/" in page.path else "i0"
    path = Place(place.name, {**place.filled, "key": key}).path(page.path)
    query = {"/compare": "before=current", "/remove": "file=main.tf", "/use": f"version={place.filled['version']}"}
    said = next((text for part, text in query.items() if part in path), "")
    return f"{path}?{said}" if said else path


@pytest.fixture(scope="module")
def anna(api: Served) -> Iterator[Visitor]:
    with visitor(api.url) as made:
        yield made


@pytest.fixture(scope="module")
def guest(api: Served) -> Iterator[Visitor]:
    with visitor(api.url, api.viewer.http.headers["Authorization"].removeprefix("Bearer ")) as made:
        yield made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("role", ROLES)
def test_a_page_is_shown_to_every_role_that_may_see_it(api: Served, place: Place, page: Page, role: str) -> None:
    token = api.of(role).http.headers["Authorization"].removeprefix("Bearer ")
    with visitor(api.url, token) as someone:
        allowed = page.right == "read" or role != "viewer"
        assert someone.get(address(place, page)).status_code == (200 if allowed else 403)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_nothing_inline_no_id_twice_and_nothing_hostile(anna: Visitor, place: Place, page: Page) -> None:
    answer = anna.get(address(place, page))
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    html = answer.text
    elements = Elements(html).found
    assert not [tag for tag, _ in elements if tag == "style"]
    assert all(attributes.get("src") for tag, attributes in elements if tag in ("script", "img"))
    names = {name for _, attributes in elements for name in attributes}
    assert not [name for name in names if name == "style" or re.match(r"on|hx-on", name)]
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids)), sorted(each or "" for each in ids if ids.count(each) > 1)
    assert "<img src=x" not in html
    assert len(html.encode()) < 120_000


@pytest.mark.parametrize("tab", ["variables", "resources", "state", "state/current", "configuration"])
def test_no_value_can_turn_the_page_around(anna: Visitor, place: Place, tab: str) -> None:
    shown = re.sub(r'<p class="cell-note">.*?</p>', "", anna.get(f"/workspaces/{place.name}/{tab}").text)
    assert "\u202e" not in shown
    assert "\x07" not in shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_stranger_is_led_to_the_sign_in_and_back(api: Served, place: Place, page: Page) -> None:
    with visitor(api.url, None) as stranger:
        answer = stranger.get(address(place, page))
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith("/login?next=%2F")


@pytest.mark.parametrize("page", [page for page in PAGES if "<ws>" in page.path], ids=lambda page: page.name)
def test_a_workspace_that_is_not_there_is_a_page_that_helps(anna: Visitor, place: Place, page: Page) -> None:
    answer = anna.get(address(Place("no such", {**place.filled, "ws": "no%20such"}), page))
    assert answer.status_code == 404
    assert "There is no workspace" in answer.text


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.name)
def test_a_deed_is_refused_to_who_may_not_and_to_other_sites(
    anna: Visitor, guest: Visitor, place: Place, deed: Deed
) -> None:
    path = address(place, deed).partition("?")[0]
    refused = guest.asks(path, data={})
    assert refused.status_code == 403
    assert "lacks the right" in refused.headers["HX-Trigger"]
    assert anna.post(path, data={"csrf": "forged"}).status_code == 403
    assert anna.post(path, data={"csrf": anna.csrf}, headers={"Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("deed", TYPED, ids=lambda deed: deed.name)
def test_what_cannot_be_undone_asks_for_the_name(api: Served, anna: Visitor, place: Place, deed: Deed) -> None:
    refused = anna.asks(address(place, deed), data={"typed": "something else"}, headers={"HX-Trigger": "x-form"})
    assert refused.status_code == 422
    assert json.loads(refused.headers["HX-Trigger"])["refused"]["field"] == "typed"
    assert api.admin.get(f"/workspaces/{place.name}")["name"] == place.name


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"action": "explode"}, "action"),
        ({"action": "destroy", "typed": "x"}, "typed"),
        ({"action": "plan", "message": "m" * 1001}, "message"),
        ({"action": "plan", "targets": "a\x00b"}, "targets"),
        ({"action": "plan", "replace": "\n".join(["a.b"] * 201)}, "replace"),
    ],
    ids=["action", "name", "message", "target", "many"],
)
def test_a_run_that_cannot_be_is_refused_with_its_field(
    anna: Visitor, place: Place, form: dict[str, str], field: str
) -> None:
    refused = anna.asks(f"/workspaces/{place.name}/tasks", data=form, headers={"HX-Trigger": "run-plan-form"})
    assert refused.status_code == 422
    assert json.loads(refused.headers["HX-Trigger"])["refused"]["field"] == field


def test_a_run_without_a_configuration_says_what_is_missing(api: Served, anna: Visitor) -> None:
    name = api.admin.workspace()
    answer = anna.asks(f"/workspaces/{name}/tasks", data={"action": "plan"}, headers={"HX-Trigger": "run-plan-form"})
    assert answer.status_code == 409
    assert "configuration" in json.loads(answer.headers["HX-Trigger"])["refused"]["says"]


def test_a_run_is_created_as_asked_for(api: Served, anna: Visitor, place: Place) -> None:
    form = {
        "action": "plan_and_apply",
        "ask": "yes",
        "message": "why",
        "targets": "terraform_data.a\n\n",
        "replace": "",
    }
    answer = anna.asks(f"/workspaces/{place.name}/tasks", data=form)
    made = re.fullmatch(r"/tasks/(\d+)", answer.headers["HX-Redirect"])
    assert made is not None
    task = api.admin.get(f"/tasks/{made[1]}")
    assert (task["message"], task["targets"], task["auto_apply"], task["created_by"]) == (
        "why", ["terraform_data.a"], False, "admin",
    )  # fmt: skip
    api.admin.until(task["id"], "planned", "succeeded", "failed")


def test_without_scripts_a_deed_leads_back_to_its_page(api: Served, anna: Visitor) -> None:
    name = api.admin.workspace()
    form = {"csrf": anna.csrf, "key": "k", "value": "a\r\nb"}
    answer = anna.post(f"/workspaces/{name}/variables", data=form)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/workspaces/{name}/variables")
    assert api.admin.get(f"/workspaces/{name}/variables")["items"][0]["value"] == "a\nb"


@pytest.mark.parametrize("bytes_", [60_000, 64 * 1024])
def test_values_as_long_as_the_api_takes_can_be_sent_by_a_form(api: Served, anna: Visitor, bytes_: int) -> None:
    name = api.admin.workspace()
    value = "ü" * (bytes_ // 2)
    answer = anna.asks(f"/workspaces/{name}/variables", data={"key": "k", "value": value})
    assert answer.status_code == 204, answer.headers
    assert api.admin.get(f"/workspaces/{name}/variables")["items"][0]["value"] == value


def test_a_form_that_is_too_large_is_refused_in_words(anna: Visitor, place: Place) -> None:
    refused = anna.asks(f"/workspaces/{place.name}/variables", data={"key": "k", "value": "x" * 2_000_000})
    assert refused.status_code == 413


def test_a_live_tab_sends_what_changes(api: Served, anna: Visitor) -> None:
    name = api.admin.workspace()
    address = re.search(r'data-live="([^"]+)"', anna.get(f"/workspaces/{name}/variables").text)
    assert address is not None
    with anna.http.stream("GET", address[1].replace("&amp;", "&")) as stream:
        api.admin.post(f"/workspaces/{name}/variables", 201, json={"key": "fresh", "value": "v"})
        patch = next(line for line in stream.iter_lines() if line.startswith("data:") and "fresh" in line)
    assert "variables" in json.loads(patch.removeprefix("data:"))["lists"]
