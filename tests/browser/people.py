"""People in front of a browser, who notice what goes wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.scenery import Scenery
from tests.web.clients import Served

AXE = Path(__file__).parent / "vendored" / "axe.min.js"
LAPTOP, PHONE = (1280, 800), (390, 844)
SERIOUS = ("serious", "critical")
PATIENCE = 20_000
"""Milliseconds after which one who waits for something gives up."""
expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True)
class Site:
    """The server, and what was put into it."""

    server: Served
    scenery: Scenery

    @property
    def url(self) -> str:
        return self.server.url

    def sql(self, statement: str, *values: object) -> list[Any]:
        """What the database has, or is made to have; in another thread, for Playwright's loop is in this one."""
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(self.server.rows, statement, *values).result()


@dataclass
class Person:
    """Somebody with a browser of his own. `complaints`: errors of scripts, and what the policy of the page refused."""

    site: Site
    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def arrives(
        cls, chromium: Browser, site: Site, *, size: tuple[int, int] = LAPTOP, **options: Any
    ) -> Iterator[Person]:
        """`options` are those of a Playwright context: color_scheme, java_script_enabled …"""
        width, height = size
        context = chromium.new_context(
            base_url=site.url, viewport={"width": width, "height": height}, reduced_motion="reduce", **options
        )
        context.set_default_timeout(PATIENCE)
        person = cls(site, context, context.new_page())
        person.page.on("pageerror", lambda error: person.complaints.append(str(error)))
        person.page.on("console", lambda said: person.complaints.append(said.text) if said.type == "error" else None)
        try:
            yield person
        finally:
            context.close()

    def signs_in(self, token: str) -> None:
        self.page.goto("/login")
        self.page.get_by_label("API token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("link", name="Overview", exact=True)).to_be_visible()

    def is_live(self) -> None:
        """Waits until the page's stream has begun."""
        expect(self.page.locator("#connection")).to_have_attribute("data-state", "live")

    def findings(self) -> list[str]:
        """What axe-core finds that is serious, each with the elements that have it."""
        # Through the debugger, to which the page's own policy does not apply; the page may still load nothing.
        self.page.evaluate(AXE.read_text(encoding="utf-8") + "; 0")
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{each['id']} ({each['impact']}): {node['html'][:160]} {node.get('failureSummary', '')}"
            for each in found["violations"]
            if each["impact"] in SERIOUS
            for node in each["nodes"]
        ]

    def sideways(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
