"""The list of workspaces, in a browser: looking through it, and making a new one."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.people import PHONE, Person, Site
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser


@pytest.fixture
def workspaces(someone: Person) -> Page:
    someone.page.goto("/workspaces")
    someone.is_live()
    return someone.page


def names(page: Page) -> list[str]:
    return page.locator("#rows .row-link").all_inner_texts()


def total(page: Page, words: str) -> None:
    expect(page.locator("#pages")).to_contain_text(words)


def test_searching_narrows_the_list_while_one_types_and_stays_in_the_address(workspaces: Page) -> None:
    workspaces.get_by_role("searchbox").press_sequentially("staging")
    total(workspaces, "of 10 workspaces")
    expect(workspaces).to_have_url(re.compile(r"/workspaces\?q=staging$"))
    assert all(name.endswith("staging") for name in names(workspaces))
    expect(workspaces.get_by_role("searchbox")).to_be_focused()
    workspaces.reload()
    expect(workspaces.get_by_role("searchbox")).to_have_value("staging")
    total(workspaces, "of 10 workspaces")


def test_counters_filter_and_agree_with_the_rows(workspaces: Page) -> None:
    counters = workspaces.locator("#counters")
    expect(counters.get_by_role("link", name="All")).to_have_text("All30")
    for word, badges in (("Needs you", {"To confirm", "Lost"}), ("Failed", {"Failed"}), ("Never run", {"Never run"})):
        link = counters.get_by_role("link", name=word)
        number = int(re.sub(r"\D", "", link.inner_text()))
        link.click()
        expect(link).to_have_attribute("aria-current", "true")
        expect(workspaces.locator("#rows .row-link")).to_have_count(number)
        assert set(workspaces.locator("#rows .badge").all_inner_texts()) <= badges
        link.click()  # off again
        expect(link).not_to_have_attribute("aria-current", "true")


def test_filters_add_up_and_are_cleared_at_once(workspaces: Page) -> None:
    workspaces.get_by_label("Where it runs").select_option("agent")
    expect(workspaces).to_have_url(re.compile("mode=agent"))
    workspaces.get_by_label("Pool").select_option("edge")
    total(workspaces, "of 3 workspaces")
    workspaces.get_by_label("Tag").select_option("team=maps")
    total(workspaces, "1–1 of 1 workspace")  # noqa: RUF001 - a range
    expect(workspaces).to_have_url(re.compile(r"\?mode=agent&pool=edge&tag=team%3Dmaps$"))
    workspaces.get_by_text("Locked", exact=True).click()
    expect(workspaces.get_by_text("No workspace fits")).to_be_visible()
    workspaces.get_by_role("link", name="Clear all filters").click()
    total(workspaces, "of 30 workspaces")
    workspaces.get_by_text("Locked", exact=True).click()
    total(workspaces, "of 1 workspace")
    expect(workspaces.get_by_role("img", name="Locked by anna: migration until 18:00")).to_be_visible()


def test_columns_sort_both_ways_and_say_so(workspaces: Page) -> None:
    head = workspaces.get_by_role("columnheader", name="Resources")
    head.get_by_role("link").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    numbers = [
        int(text) for text in workspaces.locator("#rows .cell-number").all_inner_texts() if text.strip().isdigit()
    ]
    assert numbers == sorted(numbers, reverse=True)
    head.get_by_role("link").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(head.get_by_role("link")).to_be_focused()
    workspaces.get_by_role("columnheader", name="Workspace").get_by_role("link").click()
    expect(workspaces).to_have_url(re.compile("/workspaces$"))
    assert names(workspaces) == sorted(names(workspaces))


def test_going_back_shows_what_was_there_before(workspaces: Page) -> None:
    workspaces.locator("#counters").get_by_role("link", name="Failed").click()
    expect(workspaces).to_have_url(re.compile("state=failed"))
    workspaces.go_back()
    expect(workspaces).to_have_url(re.compile("/workspaces$"))
    total(workspaces, "of 30 workspaces")


def test_a_new_workspace_is_made_and_says_what_comes_next(workspaces: Page) -> None:
    workspaces.get_by_role("link", name="New workspace").click()
    dialog = workspaces.get_by_role("dialog", name="New workspace")
    expect(dialog.get_by_label("Name", exact=True)).to_be_focused()
    dialog.get_by_label("Name", exact=True).fill("a-brand-new-one")
    dialog.get_by_label("Description").fill("<b>Bold</b> & brave")
    dialog.get_by_role("button", name="Create workspace").click()
    expect(workspaces).to_have_url(re.compile("/workspaces/a-brand-new-one$"))
    expect(workspaces.get_by_role("status").filter(has_text="Workspace a-brand-new-one is there.")).to_be_visible()
    expect(workspaces.get_by_text("No configuration yet")).to_be_visible()
    workspaces.get_by_role("navigation", name="Where this is").get_by_role("link", name="Workspaces").click()
    row = workspaces.locator("#rows tr").filter(has_text="a-brand-new-one")
    expect(row).to_contain_text("<b>Bold</b> & brave")
    expect(row).to_contain_text("Never run")
    assert names(workspaces) == sorted(names(workspaces))
    expect(workspaces.locator("#counter-all")).to_have_text("All31")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("Name", "payments-prod", "There is a workspace named 'payments-prod' already"),
        ("Name", "no/slashes", "A workspace's name is"),
        ("Version", "one point five", "version"),
    ],
)
def test_what_is_refused_is_said_at_its_place_and_can_be_put_right(
    workspaces: Page, field: str, value: str, says: str
) -> None:
    workspaces.get_by_role("link", name="New workspace").click()
    dialog = workspaces.get_by_role("dialog", name="New workspace")
    dialog.get_by_label("Name", exact=True).fill("still-free")
    dialog.get_by_label(field, exact=True).fill(value)
    dialog.get_by_role("button", name="Create workspace").click()
    expect(dialog.get_by_role("alert").filter(has_text=says)).to_be_visible()
    workspaces.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_everything_goes_by_keyboard(workspaces: Page) -> None:
    workspaces.keyboard.press("Tab")
    expect(workspaces.get_by_role("link", name="Skip to the content")).to_be_focused()
    workspaces.keyboard.press("Enter")
    expect(workspaces.get_by_role("main")).to_be_focused()
    workspaces.keyboard.press("Tab")
    expect(workspaces.get_by_role("link", name="New workspace")).to_be_focused()
    workspaces.keyboard.press("Enter")
    expect(workspaces.get_by_label("Name", exact=True)).to_be_focused()
    workspaces.keyboard.type("by-keyboard")
    workspaces.keyboard.press("Enter")
    expect(workspaces.get_by_role("heading", name="by-keyboard")).to_be_visible()
    workspaces.go_back()
    workspaces.keyboard.press("/")
    expect(workspaces.get_by_role("searchbox")).to_be_focused()
    workspaces.keyboard.type("by-key")
    total(workspaces, "of 1 workspace")
    link = workspaces.get_by_role("link", name="by-keyboard")
    for _ in range(30):
        workspaces.keyboard.press("Tab")
        if link.evaluate("it => it === document.activeElement"):
            break
    expect(link).to_be_focused()
    workspaces.keyboard.press("Enter")
    expect(workspaces).to_have_url(re.compile("/workspaces/by-keyboard$"))


def test_a_viewer_can_look_and_not_make(chromium: Browser, site: Site) -> None:
    token = site.server.admin.post("/tokens", 201, json={"name": "guest", "role": "viewer"})["token"]
    with Person.arrives(chromium, site, size=PHONE) as guest:
        guest.signs_in(token)
        guest.page.goto("/workspaces")
        guest.is_live()
        expect(guest.page.get_by_role("link", name="New workspace")).to_have_count(0)
        expect(guest.page.get_by_role("link", name="payments-prod")).to_be_visible()
    assert token != TOKEN


def test_many_workspaces_come_in_pages(someone: Person) -> None:
    made = [f"many-{n:03}" for n in range(60)]
    for name in made:
        someone.site.sql("INSERT INTO workspace (id, name) VALUES ($1, $2)", f"ws-{name}", name)
    someone.page.goto("/workspaces?q=many-")
    total(someone.page, "1–50 of 60")  # noqa: RUF001 - a range
    someone.page.get_by_role("link", name="Next page").click()
    total(someone.page, "51–60 of 60")  # noqa: RUF001 - a range
    assert names(someone.page) == made[50:]
    someone.page.get_by_role("link", name="Previous page").click()
    total(someone.page, "1–50 of 60")  # noqa: RUF001 - a range
    someone.site.sql("DELETE FROM workspace WHERE name LIKE 'many-%'")
