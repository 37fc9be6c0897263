"""API tokens and the audit trail in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.people import Person, Site
from tests.harness.server import TOKEN
from tests.web.requests_of import fresh as fresh_name

pytestmark = pytest.mark.slow_browser


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def test_one_comes_to_both_by_the_menu(someone: Person) -> None:
    page = someone.page
    for name in ("API tokens", "Audit trail"):
        page.locator("header .menu summary").click()
        page.get_by_role("link", name=name).click()
        expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
        someone.is_live()
    assert someone.complaints == []


def test_a_token_is_made_used_and_revoked(chromium: Browser, someone: Person) -> None:
    page, name = someone.page, fresh_name("ci")
    page.goto("/tokens")
    someone.is_live()
    page.get_by_role("link", name="New token").click()
    expect(dialog(page).get_by_label("Name")).to_be_focused()
    dialog(page).get_by_label("Name").fill(name)
    dialog(page).get_by_label("Role").select_option("viewer")
    dialog(page).get_by_label("Good until").select_option("In 30 days")
    dialog(page).get_by_role("button", name="Create token").click()
    token = page.locator("#once").inner_text()
    expect(page.locator("#tokens")).to_contain_text(name)  # behind the dialog, by itself
    dialog(page).get_by_role("link", name="I have it").click()
    row = page.locator("#tokens > li", has_text=name)
    expect(row).to_contain_text("good until")
    expect(row).to_contain_text("never used")

    with Person.arrives(chromium, someone.site) as guest:
        guest.signs_in(token)
        guest.page.goto("/tokens")
        expect(guest.page.get_by_role("heading", name="Not allowed")).to_be_visible()
        guest.page.goto("/agents")
        guest.is_live()
        someone.is_live()
        row.get_by_role("link", name=f"Revoke {name}").click()
        dialog(page).get_by_role("button", name="Revoke").click()
        expect(dialog(page)).to_be_hidden()
        expect(row).to_contain_text("Revoked")
        guest.page.goto("/agents")
        expect(guest.page.get_by_label("API token")).to_be_visible()
    assert someone.complaints == []


def test_whoever_revokes_his_own_token_signs_in_again(chromium: Browser, site: Site) -> None:
    made = site.server.admin.post("/tokens", 201, json={"name": fresh_name("own"), "role": "admin"})
    with Person.arrives(chromium, site) as person:
        person.signs_in(made["token"])
        person.page.goto("/tokens")
        row = person.page.locator(f"#{made['id']}")
        expect(row).to_contain_text("you")
        row.get_by_role("link", name="Revoke").click()
        expect(dialog(person.page)).to_contain_text("You are signed in with this token")
        dialog(person.page).get_by_role("button", name="Revoke").click()
        person.page.wait_for_url(re.compile(r"/login\?next=%2Ftokens$"))
        person.signs_in(TOKEN)


def test_the_audit_shows_what_is_done_as_it_is_done_and_is_filtered(someone: Person) -> None:
    page, admin, name = someone.page, someone.site.server.admin, fresh_name("audited")
    page.goto("/audit")
    someone.is_live()
    admin.workspace(name=name)
    entry = page.locator("#entries > li", has_text=name)
    expect(entry).to_contain_text("workspace.create")
    ws = admin.get(f"/workspaces/{name}")["id"]
    entry.get_by_role("link", name=ws, exact=True).click()
    page.wait_for_url(re.compile(rf"/audit\?subject={ws}$"))
    expect(page.locator("#entries > li")).to_have_count(1)
    admin.patch(f"/workspaces/{name}", json={"description": "another"})
    expect(page.locator("#entries > li")).to_have_count(2)
    expect(page.locator("#entries > li").first).to_contain_text("workspace.change")
    page.get_by_role("link", name=f"open {ws}").first.click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    assert someone.complaints == []


def test_the_audit_is_searched_by_keyboard_and_goes_back(someone: Person) -> None:
    page, admin = someone.page, someone.site.server.admin
    ws = admin.workspace()
    for n in range(51):
        admin.patch(f"/workspaces/{ws}", json={"description": str(n)})
    ws_id = admin.get(f"/workspaces/{ws}")["id"]
    page.goto("/audit")
    page.keyboard.press("/")
    page.keyboard.type(ws_id)
    expect(page.locator(".audit-only")).to_contain_text(ws_id)
    expect(page.locator("#entries > li")).to_have_count(50)
    expect(page.get_by_label("Id of what things were done to")).to_be_focused()
    page.get_by_role("link", name="Older").click()
    expect(page.locator("#entries > li")).to_have_count(2)
    page.go_back()
    expect(page.locator("#entries > li")).to_have_count(50)
    page.get_by_role("link", name="Show everything").click()
    expect(page).to_have_url(re.compile("/audit$"))
    assert someone.complaints == []
