"""A slow network: what is under way is shown, is not done twice, and comes to an end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.people import Person, Site
from tests.harness.server import TOKEN
from tests.web.requests_of import fresh

pytestmark = pytest.mark.slow_browser

TRAIN = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 20_000}
"""Bytes a second, and milliseconds: as in a train."""


@contextmanager
def held(page: Page, address: str) -> Iterator[list[Route]]:
    """Requests to this address stay on their way until the body ends."""
    waiting: list[Route] = []
    pattern = re.compile(address)
    page.route(pattern, lambda route: waiting.append(route))  # noqa: PLW0108 - Playwright writes into what it is given
    try:
        yield waiting
    finally:
        for route in waiting:
            route.continue_()
        page.unroute(pattern)


def test_a_form_on_its_way_shows_that_and_is_sent_once_however_often_one_presses(someone: Person) -> None:
    page, admin = someone.page, someone.site.server.admin
    name = admin.workspace({"main.tf": ""})
    page.goto(f"/workspaces/{name}")
    page.get_by_role("button", name="Plan", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Message").fill("Only one")
    start = dialog.get_by_role("button", name="Start the plan")
    with held(page, f"/workspaces/{name}/tasks$") as waiting:
        start.click()
        expect(start).to_be_disabled()
        assert start.evaluate("b => getComputedStyle(b, '::after').content") == '""', "it turns"
        start.click(force=True)
        dialog.get_by_label("Message").press("Enter")
        page.evaluate("document.querySelector('#run-plan-form').requestSubmit()")
        assert len(waiting) == 1
    page.wait_for_url(re.compile(r"/tasks/\d+$"))
    assert len(admin.get("/tasks", params={"workspace": name})["items"]) == 1


def test_either_button_of_a_form_with_two_is_pressed_once(someone: Person) -> None:
    page, admin = someone.page, someone.site.server.admin
    name = admin.workspace()
    admin.post(f"/workspaces/{name}/variables", 201, json={"key": "region", "value": "eu"})
    page.goto(f"/workspaces/{name}/variables")
    page.get_by_role("link", name="Edit").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Value").fill("us")
    with held(page, f"/workspaces/{name}/variables/[^/]+$") as waiting:
        for _ in range(3):
            dialog.get_by_role("button", name="Save").click(force=True)
        expect(dialog.get_by_role("button", name="Save")).to_be_visible()
        assert len(waiting) == 1
    expect(dialog).to_be_hidden()
    (known,) = admin.get(f"/workspaces/{name}/variables")["items"]
    assert (known["value"], known["version"]) == ("us", 2)


def test_a_list_that_is_being_filtered_is_pale_until_the_new_one_is_there(someone: Person) -> None:
    page = someone.page
    page.goto("/workspaces")
    someone.is_live()
    with held(page, r"/workspaces\?"):
        page.get_by_label("Where it runs").select_option("agent")
        expect(page.locator("#list")).to_have_css("opacity", "0.55")
        expect(page.get_by_role("link", name="payments-prod")).to_be_visible()
    expect(page.locator("#list")).to_have_css("opacity", "1")
    expect(page).to_have_url(re.compile("mode=agent"))


def test_a_dialog_that_is_being_fetched_is_asked_for_once(someone: Person) -> None:
    page = someone.page
    page.goto("/agents")
    someone.is_live()
    link = page.get_by_role("link", name="New pool")
    with held(page, "/agents/new-pool") as waiting:
        link.click()
        expect(link).to_have_class(re.compile("htmx-request"))
        link.click(force=True)
        assert len(waiting) == 1
    expect(page.get_by_role("dialog").get_by_label("Name", exact=True)).to_be_focused()


def test_in_a_train_everything_comes_in_the_end(chromium: Browser, site: Site) -> None:
    name = site.server.admin.workspace(name=fresh("train"))
    with Person.arrives(chromium, site) as someone:
        someone.context.new_cdp_session(someone.page).send("Network.emulateNetworkConditions", TRAIN)
        someone.signs_in(TOKEN)
        page = someone.page
        page.goto("/workspaces")
        someone.is_live()
        page.get_by_role("searchbox").fill(name)
        page.get_by_role("link", name=name).click()
        someone.is_live()
        page.get_by_role("navigation", name="Workspace").get_by_role("link", name="Settings").click()
        page.wait_for_url("**/settings")
        someone.is_live()
        page.get_by_role("button", name="Lock", exact=True).click()
        page.get_by_role("dialog").get_by_label("Reason").fill("slowly")
        page.get_by_role("dialog").get_by_role("button", name="Lock").click()
        expect(page.locator("#workspace-head")).to_contain_text("slowly")
