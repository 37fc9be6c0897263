"""A workspace's page in a browser: what is going on, starting runs, the lock, and who may do what."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.people import Person, Site
from tests.browser.shop import SECRET, Shop, small
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser


@pytest.fixture(scope="module")
def site(shop_site: Site) -> Site:
    return shop_site


@pytest.fixture(scope="module")
def viewer(site: Site) -> str:
    made = site.server.admin.post("/tokens", 201, json={"name": "vera", "role": "viewer"})
    return str(made["token"])


def test_the_overview_tells_what_goes_on_what_was_and_from_what_it_is_made(someone: Person, shop: Shop) -> None:
    page = someone.page
    page.goto(shop.path)
    someone.is_live()
    now = page.get_by_role("region", name="Now")
    expect(now.locator(".badge")).to_have_text("To confirm")
    expect(now).to_contain_text("Bigger nodes")
    last = page.get_by_role("region", name="Last runs")
    expect(last.locator(".badge")).to_have_text(["Applied", "Applied"])
    expect(page.get_by_role("region", name="State")).to_contain_text("12 resources")
    expect(page.get_by_role("region", name="The next run uses")).to_contain_text(re.compile("Files.*4", re.S))
    expect(page.locator("#workspace-head")).to_contain_text(f"Locked by task #{shop.plan}")
    assert someone.complaints == []


def test_every_tab_is_a_page_of_its_own_and_holds_no_secret(someone: Person, shop: Shop) -> None:
    page = someone.page
    page.goto(shop.path)
    for name in ("Tasks", "Variables", "Resources", "Configuration", "State", "Settings", "Overview"):
        page.get_by_role("navigation", name="Workspace").get_by_role("link", name=name).click()
        current = page.get_by_role("navigation", name="Workspace").locator("[aria-current=page]")
        expect(current).to_have_text(name)
        assert SECRET not in page.content()
    assert someone.complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_dialog_has_a_serious_finding(chromium: Browser, site: Site, shop: Shop, theme: str) -> None:
    with Person.arrives(chromium, site, color_scheme=theme) as someone:
        someone.signs_in(TOKEN)
        page = someone.page
        for tab, dialogs in {
            "": ("run-plan", "run-apply", "run-refresh", "run-destroy", "lock", "unlock"),
            "/settings": ("delete",),
            f"/state/{shop.first}": ("rollback",),
        }.items():
            page.goto(shop.path + tab)
            for dialog in dialogs:
                page.evaluate("id => document.getElementById(id).showModal()", dialog)
                assert (dialog, someone.findings()) == (dialog, [])
                page.keyboard.press("Escape")


def test_a_plan_is_started_by_keyboard_alone(someone: Person) -> None:
    path = small(someone.site.server.admin, "by-keyboard")
    page = someone.page
    page.goto(path)
    page.get_by_role("button", name="Plan", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Message")).to_be_focused()
    page.keyboard.type("Just to look")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/tasks/\d+$"))
    page.goto(f"{path}/tasks")
    expect(page.locator("#rows")).to_contain_text("Just to look")


def test_a_run_shows_up_on_the_open_page_and_changes_there_until_it_is_over(someone: Person) -> None:
    admin = someone.site.server.admin
    path = small(admin, "watched")
    page = someone.page
    page.goto(path)
    someone.is_live()
    expect(page.get_by_text("Nothing is running")).to_be_visible()
    admin.put(f"{path}/configuration", json={"files": {"main.tf": 'resource "terraform_data" "a" { input = "two" }'}})
    task = admin.task("watched", "plan_and_apply", message="From elsewhere")
    expect(page.locator("#now .badge")).to_have_text("To confirm")
    expect(page.locator("#workspace-head")).to_contain_text(f"Locked by task #{task}")
    admin.post(f"/tasks/{task}/confirm", json={})
    expect(page.locator("#latest .badge").first).to_have_text("Applied")
    expect(page.get_by_text("Nothing is running")).to_be_visible()
    assert someone.complaints == []


def test_destroying_asks_for_the_name_and_what_is_wrong_stands_beside_its_field(someone: Person) -> None:
    path = small(someone.site.server.admin, "to-destroy")
    page = someone.page
    page.goto(path)
    page.get_by_label("More").click()
    page.get_by_role("button", name="Destroy everything").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type to-destroy to be sure").fill("to-destroi")
    dialog.get_by_role("button", name="Plan the destruction").click()
    expect(dialog.locator("#run-destroy-typed-error")).to_contain_text("Type the workspace's name, to-destroy")
    expect(dialog.get_by_label("Type to-destroy to be sure")).to_be_focused()
    dialog.get_by_label("Type to-destroy to be sure").fill("to-destroy")
    dialog.get_by_role("button", name="Plan the destruction").click()
    page.wait_for_url(re.compile(r"/tasks/\d+$"))
    task = int(page.url.rpartition("/")[2])
    assert someone.site.server.admin.until(task, "planned", "failed")["status"] == "planned"


def test_an_address_that_is_none_is_told_beside_its_field(someone: Person) -> None:
    path = small(someone.site.server.admin, "targets")
    page = someone.page
    page.goto(path)
    page.get_by_role("button", name="Plan", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Only some resources").click()
    dialog.get_by_label("Targets").fill("a" * 1100)
    dialog.get_by_role("button", name="Start the plan").click()
    expect(dialog.locator("#run-plan-targets-error")).to_contain_text("no address")


def test_locking_needs_a_reason_shows_everywhere_and_is_undone(chromium: Browser, site: Site, someone: Person) -> None:
    path = small(site.server.admin, "to-lock")
    page = someone.page
    page.goto(f"{path}/settings")
    with Person.arrives(chromium, site) as other:
        other.signs_in(TOKEN)
        other.page.goto(path)
        other.is_live()
        page.get_by_role("button", name="Lock", exact=True).click()
        page.get_by_role("dialog").get_by_label("Reason").fill("migration <b>until</b> 18:00 \u202e")
        page.get_by_role("dialog").get_by_role("button", name="Lock").click()
        expect(page.locator("#workspace-head")).to_contain_text("Locked by admin")
        expect(page.locator("#lock-place")).to_contain_text("migration <b>until</b> 18:00")
        expect(other.page.locator("#workspace-head")).to_contain_text("migration <b>until</b> 18:00")
        other.page.locator("#workspace-head").get_by_role("button", name="Unlock").click()
        other.page.get_by_role("dialog").get_by_role("button", name="Unlock").click()
        expect(page.locator("#workspace-head")).not_to_contain_text("Locked")
    assert someone.complaints == []


def test_one_who_may_only_look_sees_no_button_that_would_be_refused(
    chromium: Browser, site: Site, shop: Shop, viewer: str
) -> None:
    with Person.arrives(chromium, site) as someone:
        someone.signs_in(viewer)
        page = someone.page
        for tab in ("", "/variables", "/resources", "/state", f"/state/{shop.first}", "/settings"):
            page.goto(shop.path + tab)
            words = page.get_by_role("main").get_by_role("button").all_inner_texts()
            assert set(words) <= {"Open all", "Close all", "Compare"}, (tab, words)
            assert page.get_by_role("main").get_by_role("link", name=re.compile("Edit|New|Download")).count() == 0
        expect(page.get_by_label("Name")).to_be_disabled()
        response = page.goto(f"{shop.path}/variables/new")
        assert response is not None
        assert response.status == 403


@pytest.mark.parametrize(
    "name", ["no-such-one", "a%27b%22c", "%F0%9F%9A%80", "x" * 255, "%3Cscript%3E", "..%2F..", "%00"]
)
def test_names_that_do_not_exist_have_a_helpful_page(page: Page, name: str) -> None:
    for tab in ("", "/state", "/settings"):
        response = page.goto(f"/workspaces/{name}{tab}")
        assert response is not None
        assert response.status in (404, 422)  # a NUL is no text for the database
        expect(page.get_by_role("main").get_by_role("link", name="Workspaces")).to_be_visible()


def test_a_workspace_that_is_deleted_elsewhere_says_so_on_the_open_page(someone: Person) -> None:
    admin = someone.site.server.admin
    name = admin.workspace(name="soon gone")
    page = someone.page
    page.goto(f"/workspaces/{name}")
    someone.is_live()
    admin.delete("/workspaces/soon gone")
    expect(page.locator("#banner")).to_contain_text("was deleted")


def test_a_session_that_ends_while_a_dialog_is_open_loses_nothing_of_it(someone: Person) -> None:
    path = small(someone.site.server.admin, "expired")
    page = someone.page
    page.goto(path)
    page.get_by_role("button", name="Plan", exact=True).click()
    dialog = page.get_by_role("dialog", name="Plan expired")
    dialog.get_by_label("Message").fill("half done")
    someone.site.sql("DELETE FROM browser_session")
    page.get_by_role("button", name="Start the plan").click()
    page.get_by_label("API token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_label("Message")).to_have_value("half done")
    dialog.get_by_role("button", name="Start the plan").click()
    page.wait_for_url(re.compile(r"/tasks/\d+$"))


def test_without_scripts_every_tab_can_be_read(chromium: Browser, site: Site, shop: Shop) -> None:
    with Person.arrives(chromium, site, java_script_enabled=False) as someone:
        someone.signs_in(TOKEN)
        page = someone.page
        for tab, words in {
            "": "To confirm", "/tasks": "Team moved", "/variables": "region", "/resources": "terraform_data.kept",
            "/configuration": "terraform_data", "/state": "terraform_data.network", "/settings": "Working directory",
        }.items():  # fmt: skip
            page.goto(shop.path + tab)
            expect(page.get_by_role("main")).to_contain_text(words)
        page.goto(f"{shop.path}/tasks?q=team&state=succeeded")
        expect(page.locator("#rows > li")).to_have_count(1)
