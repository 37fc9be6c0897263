"""The list of tasks, in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Person, Site

pytestmark = pytest.mark.slow_browser


@pytest.fixture
def tasks(someone: Person) -> Page:
    someone.page.goto("/tasks")
    someone.is_live()
    return someone.page


def test_counters_filter_and_agree_with_the_rows(tasks: Page) -> None:
    counters = tasks.locator("#counters")
    for word, badges in (("Needs you", {"To confirm", "Lost"}), ("Waiting", {"Waiting", "Queued"})):
        link = counters.get_by_role("link", name=word)
        number = int(re.sub(r"\D", "", link.inner_text()))
        link.click()
        expect(link).to_have_attribute("aria-current", "true")
        expect(tasks.locator("#rows .row-link")).to_have_count(number)
        assert set(tasks.locator("#rows .badge").all_inner_texts()) <= badges
        link.click()
        expect(link).not_to_have_attribute("aria-current", "true")


def test_filters_are_in_the_address_and_outlive_a_reload(tasks: Page) -> None:
    tasks.get_by_label("What it does").select_option("destroy")
    expect(tasks).to_have_url(re.compile("action=destroy"))
    tasks.get_by_role("searchbox").press_sequentially("nothing has this")
    expect(tasks.locator("#list")).to_contain_text("No task fits")
    tasks.reload()
    expect(tasks.get_by_label("What it does")).to_have_value("destroy")
    tasks.get_by_role("link", name="Clear all filters").click()
    expect(tasks).to_have_url(re.compile("/tasks$"))


def test_pages_are_walked_through(tasks: Page) -> None:
    first = tasks.locator("#rows .row-link").all_inner_texts()
    assert len(first) == 50
    tasks.get_by_role("link", name="Next page").click()
    expect(tasks.locator("#pages")).to_contain_text("51")
    second = tasks.locator("#rows .row-link").all_inner_texts()
    assert not set(first) & set(second)
    tasks.get_by_role("link", name="Previous page").click()
    expect(tasks.locator("#rows .row-link").first).to_have_text(first[0])


def test_only_one_workspaces_tasks_until_one_wants_all_again(tasks: Page, site: Site) -> None:
    tasks.goto("/tasks?workspace=payments-prod")
    assert set(tasks.locator(".task-cell-workspace").all_inner_texts()) == {"payments-prod"}
    tasks.get_by_label("payments-prod").uncheck(force=True)
    expect(tasks).to_have_url(re.compile("/tasks$"))
    tasks.goto("/tasks?workspace=no-such-workspace")
    expect(tasks.locator("#list")).to_contain_text("No task fits")


def test_a_row_leads_to_its_task_and_changes_before_ones_eyes(tasks: Page, site: Site) -> None:
    task = site.scenery.tasks["planned"]
    tasks.goto("/tasks?state=attention")
    row = tasks.locator(f"#task-{task}")
    expect(row).to_contain_text("To confirm")
    row.get_by_role("link").first.click()
    expect(tasks).to_have_url(re.compile(f"/tasks/{task}$"))


@pytest.mark.parametrize("address", ["/tasks?state=strange", "/tasks?page=0", "/tasks/0", "/tasks/nothing"])
def test_an_address_that_makes_no_sense_has_a_helpful_answer(someone: Person, address: str) -> None:
    answer = someone.page.goto(address)
    assert answer is not None
    assert answer.status in (404, 422)
    expect(someone.page.get_by_role("link", name="Overview").last).to_be_visible()
