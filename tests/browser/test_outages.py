"""What a page says and does while its server is away, and when it is back; and that a page nobody sees costs nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.people import AWAY, Person, Site
from tests.browser.scenery import furnish
from tests.harness.postgres import fresh_database
from tests.harness.server import TOKEN
from tests.web.clients import served

pytestmark = pytest.mark.slow_browser


class Restarting:
    """A server that can go away and come back at the same address, with the same database."""

    def __init__(self, postgres: str, place: pytest.TempPathFactory) -> None:
        self._data, self._url = place.mktemp("restarting") / "data", fresh_database(postgres)
        self._running = ExitStack()
        self._bind = "127.0.0.1:0"
        self.site: Site = self.start()

    def start(self) -> Site:
        server = self._running.enter_context(served(self._data, self._url, bind=self._bind))
        if self._bind.endswith(":0"):
            self._bind = server.url.removeprefix("http://")
            self.site = Site(server, asyncio.run(furnish(self._url)))
        return Site(server, self.site.scenery)

    def stop(self) -> None:
        self._running.close()


@pytest.fixture(scope="module")
def restarting(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarting]:
    made = Restarting(postgres, tmp_path_factory)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def site(restarting: Restarting) -> Site:
    return restarting.site


def test_a_page_survives_a_restart_of_its_server(chromium: Browser, restarting: Restarting, pictures: Path) -> None:
    with Person.arrives(chromium, restarting.site) as someone:
        someone.forgives(*AWAY)
        someone.signs_in(TOKEN)
        someone.page.goto("/workspaces?q=prod")
        someone.is_live()
        someone.page.evaluate("document.getElementById('rows').firstElementChild.wasHere = true")
        restarting.stop()
        expect(someone.page.locator("#connection")).to_have_attribute("data-state", "offline")
        expect(someone.page.locator("#banner")).to_contain_text("The server cannot be reached.")
        expect(someone.page.get_by_role("link", name="payments-prod")).to_be_visible()
        someone.page.get_by_label("Where it runs").select_option("agent")
        expect(someone.page.get_by_role("alert").filter(has_text="Nothing was changed")).to_be_visible()
        assert someone.findings() == []
        someone.page.screenshot(path=pictures / "ui-offline.png")
        someone.page.get_by_role("button", name="Dismiss").click()
        someone.page.get_by_label("Where it runs").select_option("")
        expect(someone.page.get_by_role("alert").filter(has_text="Nothing was changed")).to_be_visible()
        site = restarting.start()
        someone.is_live()
        expect(someone.page.locator("#banner")).to_be_hidden()
        site.server.admin.workspace(name="after-the-restart-prod")
        expect(someone.page.get_by_role("link", name="after-the-restart-prod")).to_be_visible()
        assert someone.page.evaluate("[...document.querySelectorAll('#rows > tr')].some(row => row.wasHere)"), (
            "what says the same as before is not drawn anew"
        )


def test_a_form_that_cannot_be_sent_says_so_and_keeps_what_was_typed(chromium: Browser, restarting: Restarting) -> None:
    with Person.arrives(chromium, restarting.site) as someone:
        someone.forgives(*AWAY)
        someone.signs_in(TOKEN)
        someone.page.goto("/workspaces")
        someone.page.get_by_role("link", name="New workspace").click()
        dialog = someone.page.get_by_role("dialog")
        dialog.get_by_label("Name", exact=True).fill("kept-in-the-form")
        someone.context.set_offline(True)
        dialog.get_by_role("button", name="Create workspace").click()
        expect(dialog.get_by_role("alert").first).to_contain_text("The server cannot be reached. Nothing was changed")
        expect(dialog.get_by_label("Name", exact=True)).to_have_value("kept-in-the-form")
        someone.context.set_offline(False)
        dialog.get_by_role("button", name="Create workspace").click()
        expect(someone.page).to_have_url(re.compile("/workspaces/kept-in-the-form$"))
