"""Signing in and out, in a browser."""

from __future__ import annotations

import re

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
    other.get_by_role("link", name="Failed").click()  # asked for by a script: it is led to where one signs in, and back
    expect(other).to_have_url(re.compile(r"/login\?next=%2Fworkspaces$"))


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
    expect(someone.page).to_have_url(re.compile(r"/login\?next=%2Fworkspaces$"))


def test_a_dialog_that_is_sent_after_the_session_ended_leads_to_signing_in_and_back(someone: Person) -> None:
    someone.page.goto("/workspaces?sort=-name")
    someone.page.get_by_role("link", name="New workspace").click()
    someone.page.get_by_label("Name", exact=True).fill("too-late")
    someone.site.sql("DELETE FROM browser_session")
    someone.page.get_by_role("button", name="Create workspace").click()
    expect(someone.page).to_have_url(re.compile(r"/login\?next=%2Fworkspaces%3Fsort%3D-name$"))
    someone.page.get_by_label("API token").fill(TOKEN)
    someone.page.keyboard.press("Enter")
    expect(someone.page).to_have_url(f"{someone.site.url}/workspaces?sort=-name")
    assert someone.site.sql("SELECT 1 FROM workspace WHERE name = 'too-late'") == []


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
