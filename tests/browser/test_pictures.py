"""Pictures of the real thing. With IAC_TEST_PICTURES=docs/images they are those of the README."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.people import Person, Site
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser

BLANK = 15_000
"""Bytes of a picture on which nothing is."""


@pytest.mark.parametrize(
    ("name", "path", "theme"),
    [
        ("ui-overview", "/", "light"),
        ("ui-workspaces", "/workspaces", "dark"),
        ("ui-agents", "/agents", "light"),
        ("ui-pool", "/agents/pools/eu-west", "dark"),
    ],
)
def test_main_pages_have_their_picture_taken(
    chromium: Browser, site: Site, pictures: Path, *, name: str, path: str, theme: str
) -> None:
    with Person.arrives(chromium, site, color_scheme=theme) as someone:
        someone.signs_in(TOKEN)
        someone.page.goto(path)
        someone.is_live()
        if path == "/":
            expect(someone.page.locator("#waiting > li").first).to_contain_text("has no agents yet")
        someone.page.screenshot(path=pictures / f"{name}.png")
    assert (pictures / f"{name}.png").stat().st_size > BLANK
