"""People in front of a browser, who notice what goes wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    ViewportSize,
    expect,
)

from tests.browser.scenery import Scenery
from tests.web.clients import Served

AXE = Path(__file__).parent / "vendored" / "axe.min.js"
LAPTOP, PHONE = (1280, 800), (390, 844)
REFUSALS = ("the server responded with a status of", "Response Status Error Code")
"""What the browser and htmx write of every refusal; answers are judged by themselves, with what asked for them."""
AWAY = ("net::ERR_", "htmx:sendError", "htmx:afterRequest")
"""What a browser complains of while a server is away, for tests that are about that."""
SERIOUS = ("serious", "critical")
PATIENCE = 20_000
"""Milliseconds after which one who waits for something gives up."""
expect.set_options(timeout=PATIENCE)


def as_size(size: tuple[int, int]) -> ViewportSize:
    width, height = size
    return {"width": width, "height": height}


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
    """Somebody with a browser of his own, who does not leave while something went wrong in it.

    `complaints`: errors of scripts, what the policy of a page refused, answers that no page should have asked for, and
    requests to other servers; in any tab.
    """

    site: Site
    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)
    _forgives: list[str] = field(default_factory=list)

    def forgives(self, *words: str) -> None:
        """Complaints with one of these words are what this test is about."""
        self._forgives.extend(words)
        self.complaints[:] = [each for each in self.complaints if not self._forgiven(each)]

    def _forgiven(self, complaint: str) -> bool:
        return any(words in complaint for words in self._forgives)

    def _notices(self, complaint: str) -> None:
        if not self._forgiven(complaint):
            self.complaints.append(complaint)

    def _listens(self) -> None:
        self.context.on("weberror", lambda error: self._notices(str(error.error)))
        self.context.on("console", self._reads)
        self.context.on("request", self._sees_request)
        self.context.on("response", self._sees_answer)

    def _reads(self, said: ConsoleMessage) -> None:
        if said.type == "error" and not any(words in said.text for words in REFUSALS):
            self._notices(f"{said.text} ({said.location['url']})")

    def _sees_request(self, request: Request) -> None:
        if request.url.startswith("http") and not request.url.startswith(f"{self.site.url}/"):
            self._notices(f"asks another server: {request.url}")

    def _sees_answer(self, answer: Response) -> None:
        """An address that somebody typed may be wrong, and a form may be refused; what a page fetches by itself is there."""
        asked = answer.request
        by_somebody = asked.method != "GET" or asked.resource_type == "document"
        if answer.status >= 500 or (answer.status >= 400 and not by_somebody):
            self._notices(f"{answer.status} for {asked.method} {asked.url}")

    @classmethod
    @contextmanager
    def arrives(
        cls, chromium: Browser, site: Site, *, size: tuple[int, int] = LAPTOP, **options: Any
    ) -> Iterator[Person]:
        """`options` are those of a Playwright context: color_scheme, java_script_enabled …"""
        context = chromium.new_context(base_url=site.url, viewport=as_size(size), reduced_motion="reduce", **options)
        context.set_default_timeout(PATIENCE)
        person = cls(site, context, context.new_page())
        person._listens()
        try:
            yield person
            assert not person.complaints, person.complaints
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
        if not self.page.evaluate("'axe' in window"):
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
