"""The state in a browser: looked through, compared, rolled back, and what was kept apart made current."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.people import Person, Site
from tests.browser.shop import SECRET, Shop, small
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser


@pytest.fixture(scope="module")
def site(shop_site: Site) -> Site:
    return shop_site


def test_a_tree_is_searched_by_address_and_by_attribute(someone: Person, shop: Shop) -> None:
    page = someone.page
    page.goto(f"{shop.path}/state")
    expect(page.locator("#tree")).to_contain_text("12 objects")
    page.keyboard.press("/")
    page.keyboard.type("node [1]")
    expect(page.locator("details.leaf")).to_have_count(1)
    page.get_by_role("searchbox").fill("10.0.0.0/16")
    expect(page.locator("details.leaf")).to_have_count(1)
    expect(page.locator("details.leaf")).to_contain_text('cidr = "10.0.0.0/16"')
    page.locator("details.leaf summary").click()
    expect(page.locator("details.leaf .ln", has_text="team").first).to_be_visible()
    page.get_by_role("searchbox").fill(SECRET)
    expect(page.get_by_text("Nothing fits")).to_be_visible()
    page.get_by_role("link", name="Clear the search").click()
    expect(page.locator("details.leaf")).to_have_count(12)
    assert someone.complaints == []


def test_no_secret_is_in_the_tree_and_outputs_say_that_they_are_sensitive(someone: Person, shop: Shop) -> None:
    page = someone.page
    page.goto(f"{shop.path}/state?all=yes")
    page.get_by_role("button", name="Open all").click()
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("password = (sensitive value)")
    assert SECRET not in page.content()
    expect(page.locator("details.leaf", has_text="terraform_data.db")).to_contain_text("password = (sensitive value)")


def test_two_versions_are_compared(someone: Person, shop: Shop) -> None:
    page = someone.page
    page.goto(f"{shop.path}/state")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url(re.compile(r"/state/compare\?before=sv-"))
    expect(page.get_by_role("heading", name=f"From #{shop.first} to #{shop.second}")).to_be_visible()
    changed = page.get_by_role("region", name="Changed")
    expect(changed.locator("details.change")).to_have_count(1)
    expect(changed).to_contain_text('"platform" → "shop"')
    expect(page.get_by_text("11 objects did not change.")).to_be_visible()
    page.get_by_role("link", name="Swap").click()
    expect(page.get_by_role("region", name="Changed")).to_contain_text('"shop" → "platform"')
    page.goto(f"{shop.path}/state/compare?before=current&after=current")
    expect(page.get_by_text("No difference")).to_be_visible()
    assert someone.complaints == []


def test_a_download_is_the_very_state_and_is_noted(someone: Person, shop: Shop, tmp_path: Path) -> None:
    page = someone.page
    page.goto(f"{shop.path}/state")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download").click()
    started.value.save_as(tmp_path / "it")
    assert started.value.suggested_filename == "shop.tfstate"
    assert json.loads((tmp_path / "it").read_bytes())["serial"] == shop.second
    noted = someone.site.sql("SELECT count(*) AS n FROM audit WHERE verb = 'state.download' AND actor = 'admin'")
    assert noted[0]["n"] >= 1


def test_rolling_back_asks_for_the_name_and_makes_a_new_version(someone: Person) -> None:
    admin = someone.site.server.admin
    path = small(admin, "rolled")
    first = admin.get(f"{path}/state-versions/current")["serial"]
    admin.put(f"{path}/configuration", json={"files": {"main.tf": 'resource "terraform_data" "b" {}'}})
    admin.until(admin.task("rolled", "plan_and_apply", auto_apply=True), "succeeded")
    page = someone.page
    page.goto(f"{path}/state")
    page.get_by_role("link", name=f"#{first}", exact=True).click()
    page.get_by_role("button", name="Roll back to it").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type rolled to be sure").fill("roled")
    dialog.get_by_role("button", name="Roll back").click()
    expect(dialog.locator("#rollback-typed-error")).to_contain_text("Type the workspace's name, rolled")
    dialog.get_by_label("Type rolled to be sure").fill("rolled")
    dialog.get_by_role("button", name="Roll back").click()
    page.wait_for_url(re.compile(r"/state$"))
    expect(page.locator("#history > li").first).to_contain_text(f"rolled back to #{first} by admin")
    expect(page.locator("#tree")).to_contain_text("terraform_data.a")


def test_a_rollback_while_a_task_holds_the_workspace_is_refused_and_says_who(someone: Person, shop: Shop) -> None:
    page = someone.page
    page.goto(f"{shop.path}/state/{shop.first}")
    page.get_by_role("button", name="Roll back to it").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type shop to be sure").fill("shop")
    dialog.get_by_role("button", name="Roll back").click()
    expect(dialog.locator(".form-error")).to_contain_text(str(shop.plan))


def test_what_was_kept_apart_says_why_and_an_admin_makes_it_current(someone: Person) -> None:
    admin = someone.site.server.admin
    path = small(admin, "apart")
    someone.site.sql(
        """UPDATE state_version SET verdict = 'quarantined', reason = 'It came from an apply that was given up.'
           WHERE workspace_id = (SELECT id FROM workspace WHERE name = 'apart')"""
    )
    someone.site.sql("UPDATE workspace SET current_serial = NULL, lineage = NULL WHERE name = 'apart'")
    page = someone.page
    page.goto(f"{path}/state")
    row = page.locator("#history > li")
    expect(row).to_contain_text("Kept apart")
    expect(row).to_contain_text("It came from an apply that was given up.")
    row.locator("a").first.click()
    page.get_by_role("button", name="Make it current").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type apart to be sure").fill("apart")
    dialog.get_by_role("button", name="Make it current").click()
    page.wait_for_url(re.compile(r"/state$"))
    expect(page.locator("#history .badge").first).to_have_text("Current")
    expect(page.locator("#history")).to_contain_text("made current by admin")


def test_a_large_state_is_shown_in_part_and_the_rest_fetched(someone: Person) -> None:
    admin = someone.site.server.admin
    name = admin.workspace(name="large-state")
    instances = [
        {"index_key": n, "schema_version": 0, "attributes": {"id": f"i-{n}", "values": list(range(20))}}
        for n in range(3000)
    ]
    resource = {"mode": "managed", "type": "terraform_data", "name": "n", "provider": "p", "instances": instances}
    state = {
        "version": 4,
        "terraform_version": "1.11.4",
        "serial": 1,
        "lineage": "l",
        "outputs": {},
        "resources": [resource],
    }
    admin.post(f"/workspaces/{name}/state-versions", 201, json=state)
    page = someone.page
    page.goto(f"/workspaces/{name}/state")
    assert len(page.content().encode()) < 250_000
    expect(page.locator("details.leaf")).to_have_count(200)
    page.locator("details.branch > summary").click()
    last = page.locator("details.leaf").last
    last.locator("summary").click()
    expect(last).to_contain_text('id = "i-199"')
    page.get_by_role("searchbox").fill("i-2999")
    expect(page.locator("details.leaf")).to_have_count(1)
    page.locator("details.leaf summary").click()
    expect(page.locator("details.leaf")).to_contain_text('id = "i-2999"')
    assert someone.complaints == []


def test_without_scripts_objects_and_comparisons_can_be_read(chromium: Browser, site: Site, shop: Shop) -> None:
    with Person.arrives(chromium, site, java_script_enabled=False) as someone:
        someone.signs_in(TOKEN)
        page = someone.page
        page.goto(f"{shop.path}/state?q=network")
        expect(page.locator("details.leaf")).to_have_count(1)
        page.goto(f"{shop.path}/state/current/objects/i0")
        expect(page.locator(".lines")).to_be_visible()
        page.goto(f"{shop.path}/state")
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("region", name="Changed")).to_contain_text("terraform_data.network")


@pytest.mark.parametrize(
    "path", ["/state/sv-nothing", "/state/99999", "/state/current/objects/i999", "/state/compare?before=0"]
)
def test_versions_and_objects_that_are_not_there_have_a_helpful_page(page: Page, shop: Shop, path: str) -> None:
    response = page.goto(shop.path + path)
    assert response is not None
    assert response.status == 404
    expect(page.get_by_role("main").get_by_role("link", name="Workspaces")).to_be_visible()
