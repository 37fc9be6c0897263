"""Signing in and out, in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Browser, Page, expect

from tests.browser.people import Person, Site
from tests.harness.server import TOKEN


def test_somebody_signs_in_and_comes_where_he_wanted_to(chromium: Browser, site: Site) -> None:
    with Person.arrives(chromium, site) as someone:
        someone.page.goto("/workspaces?q=prod&sort=-changed")
        expect(someone.page).to_have_url(re.compile(r"/login\?next=%2Fworkspaces%3Fq%3Dprod%26sort%3D-changed$"))
        someone.page.get_by_label("API token").fill(f"  {TOKEN}\n")
        someone.page.keyboard.press("Enter")
        expect(someone.page).to_have_url(f"{site.url}/workspaces?q=prod&sort=-changed")
        expect(someone.page.get_by_role("searchbox")).to_have_value("prod")


def test_a_bad_token_is_said_to_be_bad_beside_its_field(chromium: Browser, site: Site) -> None:
    with Person.arrives(chromium, site) as someone:
        someone.page.goto("/login?next=/workspaces")
        someone.page.get_by_label("API token").fill("not-a-token")
        someone.page.keyboard.press("Enter")
        expect(someone.page.get_by_role("alert").filter(has_text="unknown, expired or revoked")).to_be_visible()
        field = someone.page.get_by_label("API token")
        expect(field).to_have_value("")
        expect(field).to_be_focused()
        someone.page.get_by_label("API token").fill(TOKEN)
        someone.page.keyboard.press("Enter")
        expect(someone.page).to_have_url(f"{site.url}/workspaces")


def test_the_token_is_kept_in_no_place_that_a_script_can_read(someone: Person) -> None:
    kept: str = someone.page.evaluate(
        "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}, location.href])"
    )
    assert TOKEN not in kept
    [cookie] = someone.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Lax", False)
    assert TOKEN not in cookie["value"]
    assert cookie["value"] not in kept


def test_who_signs_out_is_out_in_every_tab(someone: Person) -> None:
    other = someone.context.new_page()
    other.goto("/workspaces")
    expect(other.locator("#connection")).to_have_attribute("data-state", "live")
    someone.page.locator(".menu summary").click()
    someone.page.get_by_role("button", name="Sign out").click()
    expect(someone.page).to_have_url(f"{someone.site.url}/login")
    other.get_by_role("link", name="Failed").click()  # asked for by a script
    expect(other.get_by_role("dialog", name="Your session is over")).to_be_visible()


def test_a_session_that_ends_meanwhile_is_told_and_keeps_the_page(someone: Person) -> None:
    someone.page.goto("/workspaces")
    someone.is_live()
    someone.site.sql("DELETE FROM browser_session")
    # The stream asks now and then; a new one asks at once.
    someone.page.evaluate("window.dispatchEvent(new Event('pagehide')); window.dispatchEvent(new Event('online'))")
    banner = someone.page.locator("#banner")
    expect(banner).to_contain_text("You are signed out.")
    expect(someone.page.get_by_role("link", name="payments-prod")).to_be_visible()
    banner.get_by_role("link", name="Sign in again").click()
    signs_in_again(someone)
    someone.is_live()
    expect(banner).to_be_hidden()


def signs_in_again(someone: Person) -> None:
    """In the dialog that asks for it, at the first try that is right."""
    dialog = someone.page.get_by_role("dialog", name="Your session is over")
    expect(dialog.get_by_label("API token")).to_be_focused()
    dialog.get_by_label("API token").fill("nonsense")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert").filter(has_text="unknown, expired or revoked")).to_be_visible()
    dialog.get_by_label("API token").fill(TOKEN)
    someone.page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()


def test_what_is_typed_outlives_the_session_in_every_kind_of_form(someone: Person) -> None:
    page, admin = someone.page, someone.site.server.admin
    name = admin.workspace()
    forms: list[tuple[str, Callable[[], None], str, str]] = [
        ("/workspaces", page.get_by_role("link", name="New workspace").click, "Name", "Create workspace"),
        (f"/workspaces/{name}", page.get_by_role("button", name="Plan", exact=True).click, "Message", "Start the plan"),
        (f"/workspaces/{name}/settings", lambda: None, "Working directory", "Save"),
        (f"/workspaces/{name}/configuration/edit", lambda: None, "Content", "Save"),
    ]
    for path, opens, label, does in forms:
        page.goto(path)
        opens()
        field = page.locator("form:visible").get_by_label(re.compile(rf"^{label}( optional)?$"))
        field.fill("what took a while to type")
        someone.site.sql("DELETE FROM browser_session")
        button = page.locator("form:visible", has=page.get_by_label(re.compile(rf"^{label}( optional)?$"))).get_by_role(
            "button", name=does
        )
        button.click()
        signs_in_again(someone)
        expect(field).to_have_value("what took a while to type")
        expect(button).to_be_focused()
        expect(page.get_by_text("Send it once more.")).to_be_visible()
    page.get_by_label("Content").fill('resource "terraform_data" "late" {}')
    button.click()
    expect(page.locator("#file-title")).to_have_text("main.tf")


def test_a_secret_that_is_typed_when_the_session_ends_stays_and_is_kept_nowhere(someone: Person) -> None:
    page = someone.page
    page.goto(f"/workspaces/{someone.site.server.admin.workspace()}/variables")
    page.get_by_role("link", name="New variable").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("password")
    dialog.get_by_label("Value").fill("canary-in-a-form")
    dialog.get_by_label("Sensitive").check()
    someone.site.sql("DELETE FROM browser_session")
    dialog.get_by_role("button", name="Create variable").click()
    signs_in_again(someone)
    expect(dialog.get_by_label("Value")).to_have_value("canary-in-a-form")
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href, document.cookie])")
    assert "canary" not in kept
    assert TOKEN not in kept
    dialog.get_by_role("button", name="Create variable").click()
    expect(page.locator("#variables")).to_contain_text("password")


def test_a_form_that_is_asked_for_too_late_opens_after_signing_in(someone: Person) -> None:
    someone.page.goto("/workspaces?sort=-name")
    someone.site.sql("DELETE FROM browser_session")
    someone.page.get_by_role("link", name="New workspace").click()
    signs_in_again(someone)
    expect(someone.page.get_by_role("dialog", name="New workspace")).to_be_visible()


def test_who_signs_in_as_somebody_else_sees_the_page_as_that_one(someone: Person) -> None:
    token = someone.site.server.admin.post("/tokens", 201, json={"name": "other one", "role": "viewer"})["token"]
    page = someone.page
    page.goto("/workspaces")
    someone.site.sql("DELETE FROM browser_session")
    page.get_by_role("link", name="New workspace").click()
    page.get_by_role("dialog").get_by_label("API token").fill(token)
    page.keyboard.press("Enter")
    expect(page.locator(".menu-name")).to_have_text("other one")
    expect(page.get_by_role("link", name="New workspace")).to_have_count(0)


def test_the_theme_is_chosen_once_and_follows_the_system_until_then(chromium: Browser, site: Site) -> None:
    with Person.arrives(chromium, site, color_scheme="light") as someone:
        someone.signs_in(TOKEN)
        page: Page = someone.page
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.get_by_role("button", name="Use the dark theme").click()
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert light != dark
        page.goto("/workspaces")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
        page.get_by_role("button", name="Use the light theme").click()
        assert page.evaluate("localStorage.length") == 0
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_without_scripts_everything_can_be_read(chromium: Browser, site: Site) -> None:
    with Person.arrives(chromium, site, java_script_enabled=False) as someone:
        someone.page.goto("/workspaces?state=failed")
        someone.page.get_by_label("API token").fill(TOKEN)
        someone.page.get_by_role("button", name="Sign in").click()
        expect(someone.page.get_by_role("link", name="search-prod")).to_be_visible()
        expect(someone.page.get_by_role("link", name="payments-prod")).to_have_count(0)
        someone.page.get_by_role("link", name="Last change").click()
        expect(someone.page).to_have_url(re.compile("sort=-changed"))
        someone.page.get_by_role("searchbox").fill("search")
        someone.page.get_by_role("button", name="Search").click()
        expect(someone.page.get_by_text("1–1 of 1 workspace")).to_be_visible()  # noqa: RUF001 - a range
        someone.page.get_by_role("link", name="Overview", exact=True).click()
        expect(someone.page.get_by_text("BucketAlreadyExists")).to_be_visible()
