"""A task's page: what it says, what one decides there, and what happens when somebody else was faster."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.people import AWAY, Person, Site
from tests.browser.scenery import Scenery
from tests.browser.task_scenery import MAIN, STUBBORN, aside, lost, plain, planned, stuck, with_log, workshop
from tests.harness.server import TOKEN
from tests.web.clients import STUCK_PLAN, Served
from tests.web.test_api_apart import with_checkpoint

pytestmark = pytest.mark.slow_browser


@pytest.fixture(scope="module")
def site(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with workshop(tmp_path_factory.mktemp("site"), postgres) as server:
        yield Site(server, Scenery({}, {}))


@pytest.fixture
def server(site: Site) -> Served:
    return site.server


def opened(someone: Person, task: int) -> Page:
    someone.page.goto(f"/tasks/{task}")
    someone.is_live()
    return someone.page


def dialog_of(page: Page, button: str) -> Locator:
    page.get_by_role("button", name=button, exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    return dialog


def status(site: Site, task: int) -> str:
    return str(site.sql("SELECT status FROM task WHERE id = $1", task)[0][0])


# What it says


def test_it_says_what_where_who_and_when(someone: Person, server: Served) -> None:
    page = opened(someone, aside(planned, server, name="network-production"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("Plan and apply #")
    expect(page.locator("#task-head")).to_contain_text("To confirm")
    expect(page.locator("#task-head")).to_contain_text("on this server")
    expect(page.get_by_role("link", name="network-production").first).to_be_visible()
    timeline = page.locator("#timeline")
    expect(timeline).to_contain_text("terraform plan")
    expect(timeline).to_contain_text("Waiting for a decision")
    expect(page.locator("#details")).to_contain_text("9.9.1")
    expect(page.locator("#log .log-row").first).to_be_visible()
    expect(page.locator("#plan-place")).to_contain_text("To be created")
    expect(page).not_to_have_title(re.compile("^Plan of"))  # what is fetched into the page has a title of its own
    expect(page).to_have_url(re.compile(r"/tasks/\d+$"))
    assert someone.complaints == []


def test_a_task_that_waits_says_why(someone: Person, server: Served) -> None:
    ws = aside(server.admin.workspace, MAIN, execution_mode="agent")
    task = aside(server.operator.task, ws, "plan")
    page = opened(someone, task)
    expect(page.locator("#task-notice")).to_contain_text("Waiting")
    expect(page.locator("#log")).to_contain_text("The log begins when the task starts.")


def test_a_task_that_does_not_exist_is_told_kindly(someone: Person) -> None:
    answer = someone.page.goto("/tasks/987654321")
    assert answer is not None
    assert answer.status == 404
    expect(someone.page.get_by_role("main")).to_contain_text("There is no task 987654321.")


# Deciding


def test_a_confirmed_plan_is_applied_before_ones_eyes(someone: Person, server: Served, site: Site) -> None:
    task = aside(planned, server)
    page = opened(someone, task)
    dialog = dialog_of(page, "Confirm and apply")
    expect(dialog).to_contain_text("1 to add")
    dialog.get_by_label("Comment").fill("Looks right")
    dialog.get_by_role("button", name="Confirm and apply").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#task-head")).to_contain_text("Applied")
    expect(page.locator("#progress-head")).to_contain_text("of 1 resource")
    expect(page.locator("#timeline")).to_contain_text("confirmed by admin: Looks right")
    log = page.locator("#log")
    expect(log.locator(".log-stage", has_text="terraform apply")).to_be_visible()
    assert log.evaluate("(v) => v.viewer.source.text(0, 1e9)") == _plain(aside(server.viewer.log, task))
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    assert someone.complaints == []


def _plain(log: bytes) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", log.decode())


def test_a_discarded_plan_says_why(someone: Person, server: Served) -> None:
    page = opened(someone, aside(planned, server))
    dialog = dialog_of(page, "Discard")
    dialog.get_by_label("Comment").fill("Not today")
    dialog.get_by_role("button", name="Discard plan").click()
    expect(page.locator("#task-head")).to_contain_text("Discarded")
    expect(page.locator("#task-notice")).to_contain_text("Not today")


def test_a_plan_that_is_another_one_by_now_is_not_confirmed(someone: Person, server: Served, site: Site) -> None:
    task = aside(planned, server)
    page = opened(someone, task)
    site.sql("UPDATE task SET plan_digest = 'another' WHERE id = $1", task)
    dialog = dialog_of(page, "Confirm and apply")
    dialog.get_by_label("Comment").fill("I looked at it")
    dialog.get_by_role("button", name="Confirm and apply").click()
    expect(dialog.get_by_role("alert").first).to_contain_text("another one than the one you looked at")
    expect(dialog.get_by_label("Comment")).to_have_value("I looked at it")
    assert status(site, task) == "planned"


def test_a_plan_for_another_state_is_told_to_be_stale_before_anybody_tries(
    someone: Person, server: Served, site: Site
) -> None:
    task = aside(planned, server)
    site.sql("UPDATE plan SET serial = 41 WHERE task_id = $1", task)
    page = opened(someone, task)
    expect(page.locator("#task-notice")).to_contain_text("This plan is stale")


def test_of_two_people_the_slower_one_is_told(chromium: Browser, someone: Person, server: Served, site: Site) -> None:
    task = aside(planned, server)
    page = opened(someone, task)
    dialog = dialog_of(page, "Confirm and apply")
    with Person.arrives(chromium, site) as other:
        other.signs_in(TOKEN)
        elsewhere = opened(other, task)
        theirs = dialog_of(elsewhere, "Discard")
        theirs.get_by_role("button", name="Discard plan").click()
        expect(elsewhere.locator("#task-head")).to_contain_text("Discarded")
    expect(page.locator("#task-head")).to_contain_text("Discarded")
    dialog.get_by_role("button", name="Confirm and apply").click()
    expect(dialog.get_by_role("alert").first).to_contain_text("already cancelled")


def test_a_draft_outlives_a_session_that_ends_meanwhile(someone: Person, server: Served, site: Site) -> None:
    task = aside(planned, server)
    page = opened(someone, task)
    dialog = dialog_of(page, "Discard")
    dialog.get_by_label("Comment").fill("Three sentences that took a while")
    site.sql("DELETE FROM browser_session")
    dialog.get_by_role("button", name="Discard plan").click()
    page.get_by_label("API token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_label("Comment")).to_have_value("Three sentences that took a while")
    assert status(site, task) == "planned"
    dialog.get_by_role("button", name="Discard plan").click()
    expect(page.locator("#task-head")).to_contain_text("Discarded")


def test_a_running_task_is_cancelled(someone: Person, server: Served, site: Site) -> None:
    task = aside(stuck, server, STUCK_PLAN)
    page = opened(someone, task)
    expect(page.locator("[data-log-state]")).to_have_text("Live")
    dialog = dialog_of(page, "Cancel task")
    dialog.get_by_role("button", name="Cancel task").click()
    expect(page.locator("#task-head")).to_contain_text("Cancelled")
    expect(page.locator("#timeline")).to_contain_text("stopped by admin")
    expect(page.get_by_role("button", name="Cancel task", exact=True)).to_have_count(0)


def test_a_stop_is_counted_down_and_can_be_forced_after_a_while(someone: Person, server: Served, site: Site) -> None:
    task = aside(stuck, server, STUBBORN, apply_grace_s=600)
    page = opened(someone, task)
    dialog_of(page, "Cancel task").get_by_role("button", name="Cancel task").click()
    stop = page.locator("#stop")
    expect(stop).to_contain_text("admin asked to stop it")
    expect(stop).to_contain_text("Terraform was asked to end")
    expect(stop.locator("time[data-until]").last).to_have_text(re.compile(r"in \d+ (s|min)"))
    force = page.get_by_role("button", name="Force")
    expect(force).to_be_enabled()
    assert someone.findings() == []
    force.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Kill it").click()
    assert status(site, task) == "cancelling", "what it costs has to be known"
    dialog.get_by_label("I know that its state may be incomplete.").check()
    dialog.get_by_role("button", name="Kill it").click()
    expect(page.locator("#task-head")).not_to_contain_text("Cancelling")
    assert status(site, task) in ("cancelled", "failed", "lost")
    expect(stop).to_be_hidden()
    assert someone.complaints == []


def test_a_task_is_run_again_as_a_new_one(someone: Person, server: Served) -> None:
    task = aside(planned, server)
    aside(server.operator.post, f"/tasks/{task}/discard")
    page = opened(someone, task)
    dialog_of(page, "Run again").get_by_role("button", name="Run again").click()
    expect(page).to_have_url(re.compile(r"/tasks/\d+$"))
    expect(page).not_to_have_url(re.compile(f"/tasks/{task}$"))
    expect(page.locator("#details")).to_contain_text(f"task #{task}")


def test_a_finished_plan_is_applied_from_its_page(someone: Person, server: Served) -> None:
    ws = aside(server.admin.workspace, MAIN, terraform_version="9.9.1")
    task = aside(server.operator.task, ws, "plan")
    aside(server.operator.until, task, "succeeded")
    page = opened(someone, task)
    dialog_of(page, "Apply this plan").get_by_role("button", name="Apply plan").click()
    expect(page.locator("#task-head")).to_contain_text("Applied")
    expect(page.locator("#details")).to_contain_text(f"task #{task}")


def test_a_lost_apply_shows_what_is_known_and_is_resolved_with_a_reason(
    someone: Person, server: Served, site: Site
) -> None:
    task = aside(lost, server)
    page = opened(someone, task)
    expect(page.locator("#task-notice")).to_contain_text("Nobody knows how this apply ended")
    expect(page.locator("#known")).to_contain_text("Current state")
    dialog = dialog_of(page, "Resolve")
    dialog.get_by_role("button", name="Resolve").click()
    expect(dialog.get_by_label("What did you find?")).to_be_focused()  # the browser asks for it
    dialog.get_by_label("What did you find?").fill("Nothing was made")
    dialog.get_by_label("Unlock the workspace").check()
    dialog.get_by_role("button", name="Resolve").click()
    expect(page.locator("#task-head")).to_contain_text("Failed")
    expect(page.locator("#task-notice")).to_contain_text("Nothing was made")


def test_the_checkpoint_of_a_lost_apply_becomes_the_current_state_if_one_says_so(
    someone: Person, server: Served, site: Site
) -> None:
    ws, task, _ = aside(with_checkpoint, server)
    page = opened(someone, task)
    expect(page.locator("#known")).to_contain_text("serial 6 with 2 resources, sent while it ran")
    dialog = dialog_of(page, "Resolve")
    dialog.get_by_label("What did you find?").fill("All of it is there")
    dialog.get_by_label("Make it the current state").check()
    assert someone.findings() == []
    dialog.get_by_role("button", name="Resolve").click()
    expect(page.locator("#task-notice")).to_contain_text("All of it is there")
    assert site.sql("SELECT current_serial FROM workspace WHERE name = $1", ws)[0][0] == 6


# Who may what, and how it looks


def test_a_viewer_sees_it_all_and_is_offered_nothing(chromium: Browser, site: Site, server: Served) -> None:
    task = aside(planned, server)
    token = server.viewer.http.headers["Authorization"].removeprefix("Bearer ")
    with Person.arrives(chromium, site) as someone:
        someone.signs_in(token)
        page = opened(someone, task)
        expect(page.locator("#task-notice")).to_contain_text("somebody with the right to run tasks has to decide")
        expect(page.locator(".task-asks button")).to_have_count(0)


def test_without_a_script_everything_can_be_read(chromium: Browser, site: Site, server: Served) -> None:
    task = aside(planned, server)
    with Person.arrives(chromium, site, java_script_enabled=False) as someone:
        someone.signs_in(TOKEN)
        someone.page.goto(f"/tasks/{task}")
        expect(someone.page.locator("#task-notice")).to_contain_text("This plan waits for a decision")
        expect(someone.page.locator(".log-plain")).to_contain_text("Plan: 1 to add")
        expect(someone.page.get_by_role("button", name="Confirm and apply")).to_be_hidden()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_of_a_log_can_be_read(chromium: Browser, site: Site, server: Served, theme: str) -> None:
    task = aside(with_log, server, _colours())
    with Person.arrives(chromium, site, color_scheme=theme) as someone:
        someone.signs_in(TOKEN)
        someone.page.goto(f"/tasks/{task}")
        expect(someone.page.locator(".log-row").first).to_be_visible()
        assert someone.findings() == []


def _colours() -> bytes:
    codes = [
        *range(30, 38),
        *range(90, 98),
        *range(40, 48),
        *range(100, 108),
        "38;2;250;250;90",
        "38;5;17",
        "1",
        "2",
        "7",
    ]
    return "".join(f"\x1b[{code}mcolour {code}\x1b[0m\n" for code in codes).encode() + b"bell \x07\n"


def test_all_of_a_decision_is_made_by_keys_alone(someone: Person, server: Served, site: Site) -> None:
    task = aside(planned, server)
    page = opened(someone, task)
    page.get_by_role("button", name="Confirm and apply").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Comment")).to_be_focused()
    page.keyboard.type("By keys")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert status(site, task) == "planned"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Comment")).to_have_value("By keys")
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#task-head")).to_contain_text("Applied")


def test_an_apply_that_came_and_went_while_the_page_was_away_is_in_its_log(someone: Person, server: Served) -> None:
    task = aside(planned, server)
    page = opened(someone, task)
    someone.forgives(*AWAY)
    log = page.locator("#log")
    expect(log.locator("[data-log-state]")).to_have_text("")
    before = log.evaluate("(v) => v.viewer.source.text(0, 1e9)")
    assert "plan" in before
    assert "apply" not in before
    someone.context.set_offline(True)
    expect(page.locator("#connection")).not_to_have_attribute("data-state", "live")
    aside(server.operator.call, "POST", f"/tasks/{task}/confirm")
    aside(server.operator.until, task, "succeeded")
    someone.context.set_offline(False)
    expect(page.locator("#task-head")).to_contain_text("Applied")
    whole = aside(server.operator.log, task)
    page.wait_for_function("size => document.querySelector('#log').viewer.source.pages.length >= size", arg=len(whole))
    assert log.evaluate("(v) => v.viewer.source.text(0, 1e9)") == plain(whole)
