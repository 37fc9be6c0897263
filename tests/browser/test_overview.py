"""The overview, in a browser: what it says, and that it says it at once when it changes."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Person

pytestmark = pytest.mark.slow_browser


@pytest.fixture
def overview(someone: Person) -> Page:
    someone.is_live()
    return someone.page


def entry(page: Page, key: str, someone: Person, section: str) -> str:
    return page.locator(f"#{section}-{someone.site.scenery.tasks[key]}").inner_text()


def test_what_needs_somebody_says_what_and_why(someone: Person, overview: Page) -> None:
    expect(overview.locator("#attention-count")).to_have_text(re.compile(r"^\d+$"))
    planned = entry(overview, "planned", someone, "attention")
    assert "To confirm" in planned
    assert "Bigger nodes for the sale" in planned
    assert re.sub(r"\s+", " ", planned).count("+3") == 1
    assert "Agent dub-03 was silent" in entry(overview, "lost", someone, "attention")
    assert "BucketAlreadyExists" in entry(overview, "failed", someone, "attention")
    approval = overview.locator("#approval-agent-pod-new")
    expect(approval).to_contain_text("agent of pool cluster")
    order = overview.locator("#attention .badge").all_inner_texts()
    assert order[0] == "Lost", "the one that holds a workspace's lock comes first"
    assert order[-1] == "Failed"


def test_what_waits_says_why_and_in_which_place(someone: Person, overview: Page) -> None:
    queue = overview.locator("#waiting > li")
    expect(queue.first).to_contain_text("Pool edge has no agents yet; start one with a token of the pool.")
    assert entry(overview, "queued-0", someone, "waiting").startswith("1")
    assert "holds the workspace" in entry(overview, "pending", someone, "waiting")


def test_what_runs_says_how_far_it_is(someone: Person, overview: Page) -> None:
    assert "5 of 12 resources" in entry(overview, "applying", someone, "running")
    assert "terraform init" in entry(overview, "planning", someone, "running")
    elapsed = overview.locator("#running time").first
    before = elapsed.inner_text()
    expect(elapsed).not_to_have_text(before)  # it counts by itself


def test_the_agents_are_told_by_pool(overview: Page) -> None:
    pools = overview.locator("#pools")
    expect(pools.locator("#pool-local")).to_contain_text("Online")
    expect(pools.locator("#pool-eu-west")).to_contain_text("Partly online 2/3")
    expect(pools.locator("#pool-eu-west")).to_contain_text("1 offline")
    expect(pools.locator("#pool-cluster")).to_contain_text("1 to approve")
    expect(pools.locator("#pool-edge")).to_contain_text("No agents yet")


def test_the_last_day_is_told_in_numbers_and_in_a_picture(overview: Page) -> None:
    chart = overview.get_by_role("img", name="Tasks that ended in the last 24 hours")
    expect(chart).to_be_visible()
    assert overview.locator(".chart g").count() == 24
    told = overview.locator(".legend b").all_inner_texts()
    assert re.search(
        rf"{told[0]} succeeded, {told[1]} failed, {told[2]} cancelled", chart.get_attribute("aria-label") or ""
    )


def test_a_change_shows_at_once_and_touches_nothing_else(someone: Person, overview: Page) -> None:
    tasks = someone.site.scenery.tasks
    overview.evaluate("for (const row of document.querySelectorAll('[data-digest]')) row.wasHere = true")
    someone.site.server.admin.post(f"/tasks/{tasks['queued-1']}/cancel")
    expect(overview.locator(f"#waiting-{tasks['queued-1']}")).to_have_count(0)
    expect(overview.locator("#waiting-count")).to_have_text("3")
    fresh = overview.evaluate(
        "[...document.querySelectorAll('[data-digest]')].filter(row => !row.wasHere).map(row => row.id)"
    )
    expected = {
        "waiting-count",
        "outcomes-chart",
        "pool-edge",
        f"waiting-{tasks['queued-2']}",
    }  # which moves up a place
    assert set(fresh) <= expected, fresh


def test_focus_stays_where_it_is_when_its_row_changes(someone: Person, overview: Page) -> None:
    task = someone.site.scenery.tasks["applying"]
    link = overview.locator(f"#running-{task} .entry-task")
    link.focus()
    someone.site.sql("UPDATE resource_progress SET status = 'complete' WHERE task_id = $1 AND status = 'started'", task)
    ring(someone)
    expect(overview.locator(f"#running-{task}")).to_contain_text("6 of 12 resources")
    expect(link).to_be_focused()


def test_an_idle_page_asks_for_nothing_but_its_stream(someone: Person) -> None:
    someone.is_live()  # so that what the first load asks for is over
    asked: list[str] = []
    someone.page.on("request", lambda request: asked.append(request.url))
    someone.page.reload()
    someone.is_live()
    before = len(asked)
    ring(someone)
    expect(someone.page.locator("#running time").first).to_have_text(re.compile("s$"))
    ring(someone)
    streams = [url for url in asked if "/ui/live/" in url]
    assert (len(streams), len(asked)) == (1, before)


def ring(someone: Person) -> None:
    """Something is written somewhere, so that everybody looks: a token's name is on no page."""
    someone.site.server.admin.post("/tokens", 201, json={"name": "just-a-ring", "role": "viewer"})
