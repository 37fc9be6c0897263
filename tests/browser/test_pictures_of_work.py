"""Pictures of a workspace, a plan and a state. With IAC_TEST_PICTURES=docs/images they are those of the documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.people import Person, Site
from tests.browser.shop import Shop
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser

BLANK = 15_000
"""Bytes of a picture on which nothing is."""


@pytest.fixture(scope="module")
def site(shop_site: Site) -> Site:
    return shop_site


@pytest.mark.parametrize(
    ("name", "tab", "theme"),
    [
        ("ui-workspace", "", "light"),
        ("ui-plan", "plan", "light"),
        ("ui-state", "/state", "dark"),
        ("ui-configuration", "/configuration", "dark"),
    ],
)
def test_the_pages_of_a_workspace_have_their_picture_taken(
    chromium: Browser, site: Site, shop: Shop, pictures: Path, *, name: str, tab: str, theme: str
) -> None:
    with Person.arrives(chromium, site, color_scheme=theme) as someone:
        someone.signs_in(TOKEN)
        someone.page.goto(f"/tasks/{shop.plan}/plan" if tab == "plan" else shop.path + tab)
        expect(someone.page.get_by_role("main")).to_contain_text("shop")
        someone.page.screenshot(path=pictures / f"{name}.png")
    assert (pictures / f"{name}.png").stat().st_size > BLANK
