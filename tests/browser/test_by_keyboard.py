"""By keyboard alone, with no mouse anywhere: one signs in, finds what waits, reads its plan and its log, and confirms it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.people import Person, Site
from tests.browser.scenery import Scenery
from tests.browser.task_scenery import aside, planned, workshop
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser
FAR = 60
"""Nothing that one wants is further away than so many presses of Tab."""
RING = """() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle !== 'none' || style.boxShadow !== 'none';
}"""


@pytest.fixture(scope="module")
def site(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with workshop(tmp_path_factory.mktemp("site"), postgres) as server:
        yield Site(server, Scenery({}, {}))


def tab_to(page: Page, wanted: Locator) -> None:
    """As somebody would who sees where the focus is; so it has to be seen everywhere."""
    expect(wanted).to_be_visible()
    for _ in range(FAR):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement !== document.body"), "the focus is nowhere"
        assert page.evaluate(RING), page.evaluate("document.activeElement.outerHTML")
        if wanted.evaluate("it => it === document.activeElement"):
            return
    raise AssertionError(f"{wanted} cannot be reached")


def test_from_signing_in_to_an_applied_plan(chromium: Browser, site: Site) -> None:
    task = aside(planned, site.server, name="by-keys")
    with Person.arrives(chromium, site) as someone:
        page, keys = someone.page, someone.page.keyboard
        page.goto("/")
        expect(page.get_by_label("API token")).to_be_focused()
        keys.type(TOKEN)
        keys.press("Enter")
        someone.is_live()
        tab_to(page, page.locator("#attention").get_by_role("link", name="Review plan of by-keys"))
        keys.press("Enter")
        page.wait_for_url(f"**/tasks/{task}")
        someone.is_live()
        expect(page.locator("#plan-place")).to_contain_text("To be created")

        tab_to(page, page.locator("#plan-place details.change > summary").first)
        change = page.locator("#plan-place details.change").first
        was_open = change.evaluate("d => d.open")
        keys.press("Enter")
        assert change.evaluate("d => d.open") is not was_open

        keys.press("f")  # the log's own search
        expect(page.locator("#log").get_by_role("searchbox")).to_be_focused()
        keys.type("Plan: 1 to add")
        expect(page.locator("#log-found")).to_have_text("1 of 1")
        keys.press("Escape")

        page.reload()
        someone.is_live()
        keys.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        keys.press("Enter")
        tab_to(page, page.get_by_role("button", name="Confirm and apply", exact=True))
        keys.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("Comment")).to_be_focused()
        keys.type("Without a mouse")
        tab_to(page, dialog.get_by_role("button", name="Confirm and apply"))
        keys.press("Enter")
        expect(page.locator("#task-head")).to_contain_text("Applied")
        expect(page.locator("#timeline")).to_contain_text("Without a mouse")


def test_the_focus_stays_inside_of_a_dialog_and_comes_back_after_it(chromium: Browser, site: Site) -> None:
    task = aside(planned, site.server)
    with Person.arrives(chromium, site) as someone:
        someone.signs_in(TOKEN)
        page = someone.page
        page.goto(f"/tasks/{task}")
        someone.is_live()
        opener = page.get_by_role("button", name="Discard", exact=True)
        opener.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        for _ in range(12):
            page.keyboard.press("Tab")
            inside = "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
            assert page.evaluate(inside), "an open dialog leads only to itself, and to the browser's own bars"
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(opener).to_be_focused()


def test_a_menu_is_opened_walked_through_and_left(chromium: Browser, site: Site) -> None:
    with Person.arrives(chromium, site) as someone:
        someone.signs_in(TOKEN)
        page = someone.page
        summary = page.locator("header .menu summary")
        tab_to(page, summary)
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="API tokens")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("link", name="API tokens")).to_be_hidden()
        expect(summary).to_be_focused()
        page.keyboard.press("Enter")
        tab_to(page, page.get_by_role("button", name="Sign out"))
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("/login$"))
        expect(page.get_by_label("API token")).to_be_focused()
