"""Every page in both themes, on a laptop and a phone: nothing serious for axe-core, nothing wider than the window."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.people import LAPTOP, PHONE, Person, Site
from tests.harness.server import TOKEN

PAGES = {
    "overview": "/",
    "workspaces": "/workspaces",
    "nothing found": "/workspaces?q=nothing-is-called-so&state=failed",
    "no such page": "/no/such/page",
    "pools": "/agents",
    "a pool": "/agents/pools/eu-west",
    "a pool without agents": "/agents/pools/edge",
    "an agent": "/agents/agent-dub-01",
    "a new agent": "/agents/agent-pod-new",
    "a form by itself": "/agents/new-pool",
    "tokens": "/tokens",
    "audit": "/audit",
    "nothing in the audit": "/audit?subject=ws-none",
}
LOOKS = [(theme, size) for theme in ("light", "dark") for size in (LAPTOP, PHONE)]


@pytest.mark.parametrize(
    ("theme", "size"), LOOKS, ids=lambda value: value if isinstance(value, str) else f"{value[0]}px"
)
def test_no_page_has_a_serious_finding_or_is_wider_than_its_window(
    chromium: Browser, site: Site, theme: str, size: tuple[int, int]
) -> None:
    with Person.arrives(chromium, site, size=size, color_scheme=theme) as someone:
        someone.page.goto("/login")
        assert (someone.findings(), someone.sideways()) == ([], 0)
        someone.signs_in(TOKEN)
        for name, path in PAGES.items():
            someone.page.goto(path)
            expect(someone.page.get_by_role("main")).to_be_visible()
            assert (name, someone.findings(), someone.sideways()) == (name, [], 0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_open_dialog_and_an_open_menu_have_none_either(chromium: Browser, site: Site, theme: str) -> None:
    with Person.arrives(chromium, site, color_scheme=theme) as someone:
        someone.signs_in(TOKEN)
        someone.page.goto("/workspaces")
        someone.page.get_by_role("link", name="New workspace").click()
        expect(someone.page.get_by_role("dialog")).to_be_visible()
        assert someone.findings() == []
        someone.page.keyboard.press("Escape")
        someone.page.locator(".menu summary").click()
        assert someone.findings() == []


def test_no_page_breaks_its_own_policy(someone: Person) -> None:
    for path in ("/", "/workspaces"):
        someone.page.goto(path)
        someone.is_live()
    someone.page.get_by_role("link", name="New workspace").click()
    assert someone.complaints == []


def test_nothing_moves_when_a_page_is_loaded(someone: Person) -> None:
    for path in ("/", "/workspaces"):
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
