"""Addresses of things that do not exist, or that make no sense: a page that says so, and ways on from there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.people import PHONE, Person, Site
from tests.harness.server import TOKEN
from tests.web.requests_of import fresh

pytestmark = pytest.mark.slow_browser

NUL = "%00"
NONSENSE = ("abc", "-1", "99999999999999999999", "%F0%9F%9A%80%27%22", NUL)
BELOW = {
    "/tasks/{}": "task",
    "/tasks/{}/plan": "task",
    "/workspaces/{}": "workspace",
    "/workspaces/{}/state": "workspace",
    "/workspaces/{}/settings": "workspace",
    "/workspaces/payments-prod/state/{}": "state",
    "/workspaces/payments-prod/variables/{}": "variable",
    "/workspaces/payments-prod/resources/{}": "block",
    "/agents/{}": "agent",
    "/agents/{}/drain": "agent",
    "/agents/pools/{}": "pool",
    "/agents/pools/{}/settings": "pool",
    "/agents/pools/eu-west/tokens/{}/rotate": "token",
    "/tokens/{}/revoke": "token",
}


@pytest.fixture(scope="module")
def reader(chromium: Browser, site: Site) -> Iterator[Person]:
    with Person.arrives(chromium, site) as someone:
        someone.signs_in(TOKEN)
        yield someone


@pytest.mark.parametrize("address", BELOW)
def test_what_does_not_exist_has_a_page_that_says_so_and_ways_on(reader: Person, address: str) -> None:
    for nonsense in NONSENSE:
        page = reader.page
        path = address.format(nonsense)
        answer = page.goto(path)
        assert answer is not None
        assert answer.status in (404, 422), path
        main = page.get_by_role("main")
        # A NUL is no text for the database, whatever it is the name of.
        assert nonsense == NUL or BELOW[address] in main.inner_text().lower(), (path, main.inner_text())
        expect(main.get_by_role("link", name="Overview")).to_be_visible()
        expect(page.get_by_role("navigation", name="Main").get_by_role("link", name="Workspaces")).to_be_visible()
        assert reader.sideways() == 0, path
    assert reader.complaints == []


def test_a_page_of_nothing_is_sound_and_finds_the_workspace_that_was_meant(reader: Person) -> None:
    reader.page.goto("/workspaces/payment-prod")
    assert reader.findings() == []
    reader.page.get_by_role("searchbox", name="Find a workspace").fill("payments-p")
    reader.page.keyboard.press("Enter")
    expect(reader.page.get_by_role("link", name="payments-prod")).to_be_visible()


def test_a_long_name_that_does_not_exist_fits_a_phone(chromium: Browser, site: Site) -> None:
    with Person.arrives(chromium, site, size=PHONE) as someone:
        someone.signs_in(TOKEN)
        for path in (f"/workspaces/{'x' * 255}", f"/agents/pools/{'%22' * 80}", f"/no/{'such' * 60}"):
            someone.page.goto(path)
            expect(someone.page.get_by_role("main").get_by_role("link", name="Overview")).to_be_visible()
            assert someone.sideways() == 0


NAMES = (
    "o'clock",
    'say "cheese"',
    "🚀 launch",
    "naïve",
    "a/b",
    "<b>bold</b>",
    "x" * 91,
    "x" * 255,
    "tab\there",
    "\u202eevil",
)
"""The API takes letters, digits, blanks, dots, dashes and underscores, up to 90 of them."""


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[1:20])
def test_a_name_that_is_none_is_refused_at_its_field_and_kept_there(reader: Person, name: str) -> None:
    page = reader.page
    page.goto("/workspaces")
    page.get_by_role("link", name="New workspace").click()
    field = page.get_by_role("dialog").get_by_label("Name", exact=True)
    field.evaluate("field => field.removeAttribute('maxlength')")
    field.fill(name)
    page.get_by_role("dialog").get_by_role("button", name="Create workspace").click()
    expect(page.locator("#sheet-name-error")).to_contain_text(re.compile("letters, digits|At most 90"))
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value(name)
    assert reader.site.sql("SELECT 1 FROM workspace WHERE name = $1", name) == []
    assert reader.complaints == []


def test_the_longest_name_that_there_may_be_fits_everywhere(reader: Person) -> None:
    page, name = reader.page, (fresh("long") + " " + "x" * 90)[:90]
    reader.site.server.admin.workspace(name=name)
    for path in (f"/workspaces?q={quote(name)}", f"/workspaces/{quote(name)}", f"/workspaces/{quote(name)}/settings"):
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 844})
            page.goto(path)
            expect(page.get_by_role("main")).to_contain_text(name[:40])
            assert reader.sideways() == 0, (path, width)
    page.set_viewport_size({"width": 1280, "height": 800})


def test_text_that_looks_like_html_is_shown_as_text(reader: Person) -> None:
    page, admin = reader.page, reader.site.server.admin
    evil = (
        "<img src=x onerror=\"document.title='owned'\"> <script>document.title='owned'</script> \u202eevil\u202c & 'so'"
    )
    name = admin.workspace({"main.tf": ""}, name=fresh("evil"), description=evil, tags={"team": "<b>x</b>"})
    admin.to_agents(name)
    task = admin.task(name, "plan", message=evil)
    of_workspace = f"/workspaces/{name}"
    for path in (f"/workspaces?q={name}", of_workspace, f"{of_workspace}/tasks", "/tasks", f"/tasks/{task}"):
        page.goto(path)
        expect(page.get_by_role("main")).to_contain_text("<script>document.title='owned'</script>")
        assert "owned" not in page.title()
        assert page.locator("main img[src=x], main script").count() == 0
    assert reader.complaints == []
