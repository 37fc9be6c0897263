"""Every page and every deed, over HTTP: who may, what it says to people and to programs, and what it forbids browsers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import cast

import httpx
import pytest

from iac.web.auth import RIGHTS
from iac.web.platform import Platform
from iac.web.ui.app import ui_of
from iac.web.ui.assets import assets
from iac.web.ui.pages import LIVE, Page
from tests.web.clients import ROLES, Served
from tests.web.requests_of import error_of, fresh
from tests.web.visitors import PAGE, Visitor, visitor

UI = ui_of(cast(Platform, None))
TASK = "/tasks/<int(max=9223372036854775807):task_id>"
PAGES = [page for page in UI.pages if "<" not in page.path]
HOSTILE = "<script>alert(1)</script> \u202e\x07 \"quoted' & bold"


@pytest.fixture(scope="module")
def anna(api: Served) -> Iterator[Visitor]:
    with visitor(api.url) as made:
        yield made


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("role", ROLES)
def test_a_page_is_shown_to_every_role_that_may_see_it(api: Served, page: Page, role: str) -> None:
    token = api.of(role).http.headers["Authorization"].removeprefix("Bearer ")
    with visitor(api.url, token) as someone:
        assert someone.get(page.path).status_code == (200 if page.right in RIGHTS[role] else 403)


@pytest.mark.parametrize("path", [*(page.path for page in PAGES), "/login", "/no/such/page"])
def test_every_page_forbids_what_it_does_not_need(anna: Visitor, path: str) -> None:
    headers = anna.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers.get("Content-Security-Policy", "").split(";") if part)
    if headers.get("Location") is None:
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
        assert set(policy.values()) <= {"'none'", "'self'"}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", [*(page.path for page in PAGES), "/no/such/page"])
def test_no_page_has_inline_scripts_or_styles_or_asks_another_site(anna: Visitor, path: str) -> None:
    elements = _Elements(anna.get(path).text).found
    assert not [tag for tag, _ in elements if tag == "style"]
    assert all(attributes.get("src") for tag, attributes in elements if tag == "script")
    attributes = [(name, value or "") for _, each in elements for name, value in each.items()]
    assert not [name for name, _ in attributes if name == "style" or re.match(r"on|hx-on", name)]
    addresses = [value for name, value in attributes if name in ("href", "src", "action")]
    assert not [address for address in addresses if not address.startswith(("/", "#"))]
    ids = [value for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("page", [page for page in PAGES if page.nav], ids=lambda page: page.name)
def test_the_navigation_says_where_one_is(anna: Visitor, page: Page) -> None:
    here = [attributes["href"] for tag, attributes in _Elements(anna.get(page.path).text).found
            if tag == "a" and attributes.get("aria-current") == "page"]  # fmt: skip
    assert here == [page.path]


def test_files_are_kept_for_ever_and_have_another_address_when_they_change(api: Served) -> None:
    for name, asset in assets().items():
        answer = httpx.get(f"{api.url}{asset.href}")
        assert (answer.status_code, answer.content) == (200, asset.data), name
        assert "immutable" in answer.headers["Cache-Control"]
        assert httpx.get(f"{api.url}/ui/static/000000000000/{name}").status_code == 404
    assert httpx.get(f"{api.url}/ui/static/x/..%2fgate.py").status_code == 404


# Mistakes


def test_an_address_that_nothing_has_is_a_page_for_people_and_json_for_programs(anna: Visitor) -> None:
    page = anna.get("/no/such/page")
    assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "No page has this address." in page.text
    assert 'href="/workspaces"' in page.text
    assert error_of(anna.get("/no/such/page", headers={"Accept": "*/*"}), 404)["code"] == "not_found"
    assert error_of(anna.get("/api/v1/nothing", headers=PAGE), 404)["code"] == "not_found"


def test_a_stranger_learns_that_there_is_nothing_too(api: Served) -> None:
    with visitor(api.url, None) as stranger:
        page = stranger.get("/no/such/page")
        assert page.status_code == 404
        assert "Sign out" not in page.text


@pytest.mark.parametrize("query", ["state=nonsense", "page=0", "page=x", "sort=colour", "page=" + "9" * 40])
def test_a_value_that_does_not_exist_is_explained(anna: Visitor, query: str) -> None:
    page = anna.get(f"/workspaces?{query}")
    assert page.status_code == 422
    assert 'href="/workspaces"' in page.text


@pytest.mark.parametrize(
    "query", ["q=%00", "q=" + "x" * 5000, "q=%ff%fe", "tag=%3D", "pool=nowhere", "q=%25_%5C", "utm_source=x"]
)
def test_an_odd_search_finds_nothing_or_is_refused_and_breaks_nothing(anna: Visitor, query: str) -> None:
    assert anna.get(f"/workspaces?{query}").status_code in (200, 422)


def test_a_method_that_an_address_does_not_take_is_said_so(anna: Visitor) -> None:
    refused = anna.post("/", data={"csrf": anna.csrf})
    assert refused.status_code == 405
    assert "text/html" in refused.headers["Content-Type"]


# Deeds


def test_a_viewer_may_not_do_what_he_may_not_do_by_the_api(api: Served) -> None:
    token = api.viewer.http.headers["Authorization"].removeprefix("Bearer ")
    with visitor(api.url, token) as guest:
        refused = guest.post("/workspaces", data={"name": fresh("w"), "csrf": guest.csrf})
        assert refused.status_code == 403
        assert "lacks the right" in refused.text
        said = json.loads(guest.asks("/workspaces", data={"name": fresh("w")}).headers["HX-Trigger"])
        assert said["toast"]["tone"] == "bad"


def test_a_workspace_is_made_as_by_the_api_and_the_audit_says_by_whom(api: Served, anna: Visitor) -> None:
    name = fresh("made")
    done = anna.asks("/workspaces", data={"name": name, "description": HOSTILE, "terraform_version": "~> 1.9"})
    assert done.status_code == 204
    assert done.headers["HX-Redirect"] == f"/workspaces/{name}"
    assert json.loads(done.headers["HX-Trigger"]) == {
        "later": {"says": f"Workspace {name} is there.", "tone": "good"},
    }
    made = api.admin.get(f"/workspaces/{name}")
    assert (made["terraform_version"], made["execution_mode"]) == ("~> 1.9", "local")
    entry = api.admin.get("/audit", params={"subject": made["id"]})["items"][0]
    assert (entry["verb"], entry["actor"]) == ("workspace.create", "admin")


@pytest.mark.parametrize(
    ("form", "field"),
    [({"name": ""}, "name"), ({"name": "a/b"}, "name"), ({"name": "x" * 300}, "name"), ({}, ""),
     ({"name": "fine", "terraform_version": "one"}, "terraform_version"), ({"name": "🎉"}, "name")],
)  # fmt: skip
def test_what_is_refused_is_told_with_its_form_and_field(anna: Visitor, form: dict[str, str], field: str) -> None:
    refused = anna.asks("/workspaces", data=form, headers={"HX-Trigger": "new-workspace-form"})
    assert refused.status_code == 422
    said = json.loads(refused.headers["HX-Trigger"])["refused"]
    assert (said["form"], said["field"]) == ("new-workspace-form", field)
    assert len(said["says"]) > 10


def test_what_is_hostile_is_shown_as_it_is_and_does_nothing(api: Served, anna: Visitor) -> None:
    name = fresh("hostile")
    api.admin.post("/workspaces", 201, json={"name": name, "description": HOSTILE, "tags": {"<b>": HOSTILE[:50]}})
    page = anna.get("/workspaces", params={"q": name}).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>=" not in page


def test_every_live_page_has_its_stream_and_every_stream_its_page() -> None:
    live = {page.path for page in UI.pages if page.topics}
    assert {"/", "/workspaces", "/tasks", TASK, "/agents", "/agents/pools/<pool>", "/agents/<agent_id>"} <= live
    assert all(f"{LIVE}{path}".startswith("/ui/live/") for path in live)
