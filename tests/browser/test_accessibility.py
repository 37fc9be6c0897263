"""What stands open on a page, and what must not move on it. Each page by itself: test_every_page.py."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.people import Person, Site
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_open_menu_has_no_serious_finding(chromium: Browser, site: Site, theme: str) -> None:
    with Person.arrives(chromium, site, color_scheme=theme) as someone:
        someone.signs_in(TOKEN)
        someone.page.locator(".menu summary").click()
        expect(someone.page.get_by_role("button", name="Sign out")).to_be_visible()
        assert someone.findings() == []


def test_nothing_moves_when_a_page_is_loaded(someone: Person) -> None:
    for path in ("/", "/workspaces", "/tasks", "/agents", "/agents/pools/eu-west", "/tokens", "/audit"):
        someone.page.goto(path)
        someone.is_live()
        moved = someone.page.evaluate(
            """() => new Promise((done) => {
                 let sum = 0;
                 new PerformanceObserver((list) => { for (const e of list.getEntries()) sum += e.value; })
                   .observe({ type: "layout-shift", buffered: true });
                 requestAnimationFrame(() => requestAnimationFrame(() => done(sum)));
               })"""
        )
        assert moved < 0.001, path
