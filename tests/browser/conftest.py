"""A real Chromium, a real server with much going on, and people in front of it.

Chromium is the machine's own (`make test` and `make browse` install Debian's where they may), or the one that
IAC_TEST_CHROMIUM names. Where it cannot be had these tests are skipped, and the end of the run says so.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

from bench.chromium import MISSING, arguments, find_chromium
from iac.domain.agent_session import Times
from tests.browser.people import Person, Site
from tests.browser.scenery import Scenery, furnish
from tests.browser.shop import Shop, open_shop
from tests.conftest import NOT_TESTED
from tests.harness.postgres import fresh_database
from tests.harness.server import TOKEN
from tests.web.clients import served

NOBODY_IS_LOST = Times(lost_after=100_000.0)
"""What the scenery says that agents run is left alone."""


@pytest.fixture(scope="session", autouse=True)
def program() -> str:
    """Looked for first: without it no server has to be started."""
    found = find_chromium()
    if found is None:
        pytest.skip(f"{NOT_TESTED}. {MISSING}")
    return found


@pytest.fixture(scope="module")
def site(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of the module's own."""
    with served(tmp_path_factory.mktemp("site") / "data", fresh_database(postgres), times=NOBODY_IS_LOST) as server:
        yield Site(server, asyncio.run(furnish(server.database_url)))


@dataclass(frozen=True)
class Furnished:
    """A platform at rest: what its database and its directory hold."""

    database_url: str
    data: Path
    scenery: Scenery
    shop: Shop


@pytest.fixture(scope="session")
def furnished(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Furnished:
    """The scenery, the shop, and a workspace `nothing` that is empty; made once, for Terraform has to run for it."""
    data, url = tmp_path_factory.mktemp("furnished") / "data", fresh_database(postgres)
    with served(data, url, times=NOBODY_IS_LOST) as server:
        scenery = asyncio.run(furnish(url))
        server.admin.workspace(name="nothing")
        return Furnished(url, data, scenery, open_shop(server.admin))


@pytest.fixture(scope="module")
def shop_site(furnished: Furnished, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of the module's own that begins with all of this; such a module has it as its `site`."""
    data = tmp_path_factory.mktemp("site") / "data"
    shutil.copytree(furnished.data, data)
    database_url = fresh_database(postgres, like=furnished.database_url)
    with served(data, database_url, times=NOBODY_IS_LOST) as server:
        yield Site(server, furnished.scenery)


@pytest.fixture(scope="module")
def shop(furnished: Furnished) -> Shop:
    return furnished.shop


@pytest.fixture(scope="module")
def chromium(site: Site, program: str) -> Iterator[Browser]:
    """For one module: while Playwright is there, its asyncio loop counts as running in this thread, and there is no other.
    So whatever needs one comes before, or in another thread (`site.sql`).
    """
    with pytest.MonkeyPatch.context() as patch:
        # Its loop is asyncio's own, though trio-asyncio would make those of the whole process.
        patch.setattr(asyncio, "new_event_loop", asyncio.SelectorEventLoop)
        playwright = sync_playwright().start()
    try:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=arguments())
        except Error as error:
            pytest.skip(f"{NOT_TESTED}. {program} does not start here: {error.message.splitlines()[0]}")
        yield browser
        browser.close()
    finally:
        playwright.stop()


@pytest.fixture
def someone(chromium: Browser, site: Site) -> Iterator[Person]:
    """A person at a laptop, signed in as an admin."""
    with Person.arrives(chromium, site) as person:
        person.signs_in(TOKEN)
        yield person


@pytest.fixture
def page(someone: Person) -> Page:
    return someone.page


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures go; docs/images, if they are to be those of the README."""
    return Path(os.environ.get("IAC_TEST_PICTURES") or tmp_path)
