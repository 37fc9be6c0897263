"""Every page: in both themes, on a laptop and on a phone, with scripts and without, nothing on it is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.addresses import EVERY, addresses
from tests.browser.people import LAPTOP, PHONE, Person, Site, as_size
from tests.browser.shop import Shop
from tests.harness.server import TOKEN

SENDS_NOTHING = "all => all.filter((b) => b.type != 'submit' || !b.form.hasAttribute('action')).map((b) => b.innerText)"
"""Those of some buttons that no form gives something to do."""


@pytest.fixture(scope="module")
def site(shop_site: Site) -> Site:
    return shop_site


@pytest.fixture(scope="module")
def places(site: Site, shop: Shop) -> Mapping[str, str]:
    return addresses(site, shop)


@pytest.fixture(scope="module")
def reader(places: Mapping[str, str], chromium: Browser, site: Site) -> Iterator[Person]:
    with Person.arrives(chromium, site) as someone:
        someone.signs_in(TOKEN)
        yield someone


@pytest.fixture(scope="module")
def plain_reader(places: Mapping[str, str], chromium: Browser, site: Site) -> Iterator[Person]:
    """Whose browser runs no scripts."""
    with Person.arrives(chromium, site, size=PHONE, java_script_enabled=False) as someone:
        someone.signs_in(TOKEN)
        yield someone


def looks_sound(someone: Person) -> None:
    """Both themes and both widths of the page that is open."""
    page = someone.page
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert (theme, someone.findings()) == (theme, [])
    page.set_viewport_size(as_size(PHONE))
    assert (someone.findings(), someone.sideways()) == ([], 0)
    page.set_viewport_size(as_size(LAPTOP))
    assert someone.sideways() == 0


@pytest.mark.parametrize("name", EVERY)
def test_a_page_has_no_serious_finding_no_complaint_and_fits_its_window(
    reader: Person, places: Mapping[str, str], name: str
) -> None:
    answer = reader.page.goto(places[name])
    assert answer is not None
    assert answer.status == (404 if name == "/no/such/page" else 200)
    expect(reader.page.get_by_role("heading", level=1)).to_be_visible()
    if reader.page.locator("#connection").count():
        reader.is_live()
    looks_sound(reader)
    assert reader.complaints == []


@pytest.mark.slow_browser
@pytest.mark.parametrize("name", EVERY)
def test_a_page_is_read_without_scripts(plain_reader: Person, places: Mapping[str, str], name: str) -> None:
    page = plain_reader.page
    page.goto(places[name])
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.locator(".needs-js").locator("visible=true").count() == 0
    assert page.locator("dialog").locator("visible=true").count() == 0
    idle = page.get_by_role("main").locator("button:visible").evaluate_all(SENDS_NOTHING)
    assert idle == [], "without scripts these do nothing"
    assert plain_reader.sideways() == 0


def test_the_page_where_one_signs_in_is_sound_too(chromium: Browser, site: Site) -> None:
    with Person.arrives(chromium, site) as stranger:
        stranger.page.goto("/login")
        looks_sound(stranger)
        stranger.page.get_by_label("API token").fill("wrong")
        stranger.page.keyboard.press("Enter")
        expect(stranger.page.get_by_role("alert").first).to_be_visible()
        looks_sound(stranger)
