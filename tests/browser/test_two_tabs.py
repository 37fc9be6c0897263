"""Two tabs of one person: both live, what is done in one shows in the other, and signing out is for both."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Person
from tests.harness.server import TOKEN
from tests.web.requests_of import fresh

pytestmark = pytest.mark.slow_browser


def beside(someone: Person, path: str) -> Page:
    """A second tab, live."""
    tab = someone.context.new_page()
    tab.goto(path)
    live(tab)
    return tab


def live(tab: Page) -> None:
    expect(tab.locator("#connection")).to_have_attribute("data-state", "live")


def test_what_is_done_in_one_shows_in_the_other(someone: Person) -> None:
    name = someone.site.server.admin.workspace(name=fresh("tabs"))
    page = someone.page
    page.goto(f"/workspaces/{name}/settings")
    live(page)
    lists, same = beside(someone, f"/workspaces?q={name}"), beside(someone, f"/workspaces/{name}")
    page.get_by_role("button", name="Lock", exact=True).click()
    page.get_by_role("dialog").get_by_label("Reason").fill("look at this")
    page.get_by_role("dialog").get_by_role("button", name="Lock").click()
    for tab in (page, same):
        expect(tab.locator("#workspace-head")).to_contain_text("look at this")
    expect(lists.get_by_role("img", name=re.compile("look at this"))).to_be_visible()
    same.locator("#workspace-head").get_by_role("button", name="Unlock").click()
    same.get_by_role("dialog").get_by_role("button", name="Unlock").click()
    expect(page.locator("#workspace-head")).not_to_contain_text("look at this")
    expect(lists.get_by_role("img", name=re.compile("look at this"))).to_have_count(0)


def test_a_tab_that_was_signed_out_elsewhere_asks_to_sign_in_keeps_its_page_and_goes_on(someone: Person) -> None:
    page = someone.page
    page.goto("/workspaces")
    live(page)
    other = beside(someone, "/workspaces?q=prod")
    page.locator(".menu summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/login$"))
    expect(other.locator("#banner")).to_contain_text("You are signed out.", timeout=40_000)
    expect(other.get_by_role("link", name="payments-prod")).to_be_visible()
    someone.signs_in(TOKEN)  # in the first tab; the second one has it too
    other.locator("#banner").get_by_role("link", name="Sign in again").click()
    expect(other).to_have_url(re.compile(r"/workspaces\?q=prod$"))
    live(other)


def test_a_form_of_a_tab_from_before_signing_in_anew_is_explained(someone: Person) -> None:
    """Each session has a word of its own that its forms carry; an old tab has the old one."""
    name = someone.site.server.admin.workspace(name=fresh("stale tab"))
    page = someone.page
    page.goto(f"/workspaces/{name}")
    other = someone.context.new_page()
    other.goto("/")
    other.locator(".menu summary").click()
    other.get_by_role("button", name="Sign out").click()
    other.get_by_label("API token").fill(TOKEN)
    other.get_by_role("button", name="Sign in").click()
    expect(other.get_by_role("link", name="Overview", exact=True)).to_be_visible()
    page.get_by_role("button", name="Plan", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Message").fill("from before")
    dialog.get_by_role("button", name="Start the plan").click()
    expect(dialog.get_by_role("alert").first).to_contain_text("from before you signed in again")
    expect(dialog.get_by_label("Message")).to_have_value("from before")
    dialog.get_by_role("button", name="Start the plan").click()
    expect(dialog.get_by_role("alert").first).to_contain_text("has no configuration")
