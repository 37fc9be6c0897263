"""A plan in a browser: what would happen is told, filtered, opened, and holds no secret."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.people import Person, Site
from tests.browser.shop import SECRET, Shop
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser

NODES = 400
MANY = f'resource "terraform_data" "n" {{\n  count = {NODES}\n  input = {{ a = 1, b = 2, c = 3, d = "x" }}\n}}'


@pytest.fixture(scope="module")
def site(shop_site: Site) -> Site:
    return shop_site


@pytest.fixture
def plan(someone: Person, shop: Shop) -> Iterator[Page]:
    someone.page.goto(f"/tasks/{shop.plan}/plan")
    yield someone.page
    assert someone.complaints == []


def test_what_is_dangerous_comes_first_and_is_said_so(plan: Page) -> None:
    expect(plan.get_by_text("1 to import, 2 to add, 4 to change, 2 to destroy, 1 to move")).to_be_visible()
    expect(plan.get_by_text("2 resources would be destroyed, 1 of them to be created anew.")).to_be_visible()
    titles = plan.locator("#plan h2").all_inner_texts()
    assert titles == [
        "To be destroyed", "To be replaced", "To be changed in place", "To be created", "To be imported", "To be moved",
    ]  # fmt: skip


def test_differences_read_like_terraforms_own(plan: Page) -> None:
    setup = plan.locator("#change-" + _key(plan, "terraform_data.setup"))
    expect(setup).to_contain_text("forces replacement")
    expect(setup.locator(".ln-del", has_text="apt-get install nginx")).to_be_visible()
    expect(setup.locator(".ln-add", has_text="apt-get install nginx curl")).to_be_visible()
    policy = plan.locator("#change-" + _key(plan, "terraform_data.policy"))
    expect(policy.locator(".ln-add")).to_contain_text('"write"')
    expect(plan.locator("#change-" + _key(plan, "terraform_data.new_name"))).to_contain_text(
        "moved from terraform_data.old_name"
    )
    expect(plan.locator("#change-" + _key(plan, "terraform_data.adopted"))).to_contain_text("imported i-1")


def _key(page: Page, address: str) -> str:
    summary = page.locator("details.change > summary", has_text=re.compile(re.escape(address)))
    return str(summary.first.locator("..").get_attribute("id")).removeprefix("change-")


def test_a_count_filters_and_the_address_keeps_it(plan: Page) -> None:
    plan.get_by_role("link", name="1 replace").click()
    expect(plan).to_have_url(re.compile(r"/plan\?action=replace$"))
    expect(plan.locator("details.change")).to_have_count(1)
    plan.reload()
    expect(plan.locator("details.change")).to_have_count(1)
    plan.get_by_role("link", name="1 replace").click()  # off again
    expect(plan).to_have_url(re.compile(r"/plan$"))
    expect(plan.get_by_role("heading", name="To be destroyed")).to_be_visible()


def test_words_are_looked_for_while_one_types(plan: Page) -> None:
    plan.keyboard.press("/")
    plan.keyboard.type("node[")
    expect(plan.locator("details.change")).to_have_count(4)
    expect(plan).to_have_url(re.compile(r"q=node"))
    expect(plan.get_by_role("searchbox")).to_be_focused()
    plan.get_by_role("searchbox").fill("nothing has this")
    expect(plan.get_by_text("Nothing fits")).to_be_visible()
    plan.get_by_role("link", name="Clear the filter").click()
    expect(plan.get_by_role("heading", name="To be destroyed")).to_be_visible()


def test_all_can_be_closed_and_opened_and_each_by_keyboard(plan: Page) -> None:
    opened = plan.locator("details.change[open]")
    plan.get_by_role("button", name="Close all").click()
    expect(opened).to_have_count(0)
    plan.locator("details.change > summary").first.focus()
    plan.keyboard.press("Enter")
    expect(opened).to_have_count(1)
    plan.get_by_role("button", name="Open all").click()
    expect(opened).to_have_count(plan.locator("details.change").count())


def test_no_secret_is_anywhere_on_the_page(plan: Page) -> None:
    assert SECRET not in plan.content()


def test_of_a_large_plan_the_rest_is_fetched_when_it_is_opened(someone: Person) -> None:
    admin = someone.site.server.admin
    name = admin.workspace({"main.tf": MANY})
    task = admin.task(name, "plan")
    admin.until(task, "succeeded")
    page = someone.page
    page.goto(f"/tasks/{task}/plan")
    assert len(page.content().encode()) < 250_000
    expect(page.locator("details.change")).to_have_count(100)
    last = page.locator("details.change").last
    expect(last.locator(".ln-add")).to_have_count(0)
    last.locator("summary").click()
    expect(last.locator(".ln-add").first).to_be_visible()
    page.get_by_role("link", name="Show 300 more").click()
    expect(page.locator("details.change")).to_have_count(NODES)
    page.get_by_role("searchbox").fill("n[399]")
    expect(page.locator("details.change")).to_have_count(1)
    assert someone.complaints == []


def test_without_scripts_everything_can_still_be_read(chromium: Browser, site: Site, shop: Shop) -> None:
    with Person.arrives(chromium, site, java_script_enabled=False) as someone:
        someone.signs_in(TOKEN)
        page = someone.page
        page.goto(f"/tasks/{shop.plan}/plan?q=node")
        expect(page.locator("details.change")).to_have_count(4)
        page.get_by_role("link", name="1 add").click()
        expect(page.locator("details.change")).to_have_count(1)
        page.goto(f"/tasks/{shop.plan}/plan/{_key(page, 'terraform_data.node[3]')}")
        expect(page.get_by_role("heading", level=1)).to_have_text("terraform_data.node[3]")
        expect(page.locator(".ln-add", has_text='size = "m5.xlarge"')).to_be_visible()


def test_a_task_without_a_plan_and_a_change_that_is_not_there_have_helpful_pages(someone: Person, shop: Shop) -> None:
    page = someone.page
    for path, words in (("/tasks/999999/plan", "999999"), (f"/tasks/{shop.plan}/plan/r99999", "no such change")):
        response = page.goto(path)
        assert response is not None
        assert response.status == 404
        expect(page.get_by_role("main")).to_contain_text(words)
        expect(page.get_by_role("main").get_by_role("link", name="Workspaces")).to_be_visible()
