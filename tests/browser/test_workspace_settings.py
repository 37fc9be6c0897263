"""Settings in a browser: saved, refused at their field, told when somebody else was faster; deletion by typed name."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.people import Person, Site
from tests.browser.shop import small
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser


@pytest.fixture
def fresh(someone: Person) -> str:
    """The path of a workspace with nothing in it."""
    return f"/workspaces/{someone.site.server.admin.workspace()}"


def form(page: Page, name: str) -> Locator:
    return page.locator(f"#{name}-form")


def test_what_a_workspace_is_called_and_how_it_runs_is_changed(someone: Person, fresh: str) -> None:
    page, admin = someone.page, someone.site.server.admin
    page.goto(f"{fresh}/settings")
    form(page, "general").get_by_label("Name").fill("renamed twice")
    form(page, "general").get_by_label("Tags").fill("env=prod\n\nteam = net \nalone")
    form(page, "general").get_by_role("button", name="Save").click()
    page.wait_for_url(re.compile("/workspaces/renamed%20twice/settings$"))
    execution = form(page, "execution")
    execution.get_by_label("Version").fill("~> 1.9")
    execution.get_by_label("Apply without asking").check()
    execution.get_by_label("Providers").fill('{"null": {}}')
    execution.get_by_role("button", name="Save").click()
    expect(page.locator("#workspace-head")).to_contain_text("Applies without asking")
    known = admin.get("/workspaces/renamed twice")
    assert known["tags"] == {"env": "prod", "team": "net", "alone": ""}
    assert (known["terraform_version"], known["auto_apply"]) == ("~> 1.9", True)
    assert known["provider_config"] == {"null": {}}
    execution.get_by_label("Apply without asking").uncheck()
    execution.get_by_role("button", name="Save").click()
    expect(page.locator("#workspace-head")).to_contain_text("Asks before it applies")
    assert someone.complaints == []


@pytest.mark.parametrize(
    ("place", "typed"),
    [
        (("general", "Name", "name"), "quotes ' and \""),
        (("general", "Name", "name"), "🚀 emoji"),
        (("general", "Tags", "tags"), "a=1\na=2"),
        (("general", "Tags", "tags"), "=x"),
        (("execution", "Version", "terraform_version"), "newest please"),
        (("execution", "Working directory", "working_directory"), "../outside"),
        (("execution", "Providers", "provider_config"), '{"aws": '),
        (("execution", "Providers", "provider_config"), '{"aws": 7}'),
    ],
    ids=["quotes", "emoji", "tag-twice", "tag-empty", "version", "outside", "not-json", "not-a-provider"],
)
def test_what_is_wrong_stands_beside_its_field_and_nothing_is_saved(
    someone: Person, fresh: str, place: tuple[str, str, str], typed: str
) -> None:
    which, label, field = place
    page, admin = someone.page, someone.site.server.admin
    before = admin.get(fresh)
    page.goto(f"{fresh}/settings")
    form(page, which).get_by_label(label).fill(typed)
    form(page, which).get_by_role("button", name="Save").click()
    error = page.locator(f"#{which}-{field}-error")
    expect(error).to_be_visible()
    expect(form(page, which).get_by_label(label)).to_be_focused()
    expect(form(page, which).get_by_label(label)).to_have_value(typed)
    assert admin.get(fresh)["updated_at"] == before["updated_at"]


def test_a_name_of_255_characters_cannot_be_typed_and_is_refused_all_the_same(someone: Person, fresh: str) -> None:
    page = someone.page
    page.goto(f"{fresh}/settings")
    name = form(page, "general").get_by_label("Name")
    name.evaluate("field => field.removeAttribute('maxlength')")
    name.fill("n" * 255)
    form(page, "general").get_by_role("button", name="Save").click()
    expect(page.locator("#general-name-error")).to_contain_text("90")


def test_of_two_who_change_settings_the_second_is_told_and_overwrites_nothing(
    chromium: Browser, site: Site, fresh: str
) -> None:
    with Person.arrives(chromium, site) as one, Person.arrives(chromium, site) as other:
        for person in (one, other):
            person.signs_in(TOKEN)
            person.page.goto(f"{fresh}/settings")
        form(one.page, "general").get_by_label("Description").fill("the first")
        form(one.page, "general").get_by_role("button", name="Save").click()
        expect(one.page.locator("#workspace-head")).to_contain_text("the first")
        form(other.page, "general").get_by_label("Description").fill("the second")
        form(other.page, "general").get_by_role("button", name="Save").click()
        expect(form(other.page, "general").locator(".form-error")).to_contain_text("Somebody changed these settings")
        assert site.server.admin.get(fresh)["description"] == "the first"


def test_a_pool_is_chosen_only_where_it_matters_and_one_that_does_not_allow_it_says_so(
    someone: Person, fresh: str
) -> None:
    page, admin = someone.page, someone.site.server.admin
    page.goto(f"{fresh}/settings")
    execution = form(page, "execution")
    expect(execution.get_by_label("Pool")).to_be_hidden()
    execution.get_by_label("Runs on").select_option("agent")
    execution.get_by_label("Pool").select_option(label="eu-west (2 of 3 online, does not allow this workspace)")
    execution.get_by_role("button", name="Save").click()
    expect(execution.locator(".form-error")).to_contain_text("does not allow this workspace")
    admin.put(f"/agent-pools/eu-west{fresh}")
    execution.get_by_role("button", name="Save").click()
    expect(page.locator("#workspace-head")).to_contain_text("eu-west")
    assert admin.get(fresh)["pool_name"] == "eu-west"


def test_limits_are_set_as_people_write_times_and_taken_away_again(someone: Person, fresh: str) -> None:
    page, admin = someone.page, someone.site.server.admin
    page.goto(f"{fresh}/settings")
    limits = form(page, "limits")
    limits.get_by_label("An apply may take to stop").fill("a while")
    limits.get_by_role("button", name="Save").click()
    expect(page.locator("#limits-apply_grace_s-error")).to_contain_text("90 s, 45 min or 2 h")
    limits.get_by_label("An apply may take to stop").fill("10 min")
    page.locator("#limits-plan_timeout_s").fill("90")
    limits.get_by_role("button", name="Save").click()
    expect(page.locator("#limits-plan_timeout_s")).to_have_value("90 s")
    known = admin.get(fresh)
    assert (known["apply_grace_s"], known["plan_timeout_s"], known["apply_timeout_s"]) == (600, 90, None)
    page.locator("#limits-plan_timeout_s").fill("")
    limits.get_by_role("button", name="Save").click()
    expect(page.locator("#limits-plan_timeout_s")).to_have_attribute("value", "")  # as the server tells it
    assert admin.get(fresh)["plan_timeout_s"] is None


def test_a_workspace_with_resources_is_deleted_by_its_name_and_by_force_only(someone: Person) -> None:
    path = small(someone.site.server.admin, "doomed")
    page = someone.page
    page.goto(f"{path}/settings")
    page.get_by_role("button", name="Delete it").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type doomed to be sure").fill("dooomed")
    dialog.get_by_role("button", name="Delete it").click()
    expect(dialog.locator("#delete-typed-error")).to_contain_text("doomed")
    dialog.get_by_label("Type doomed to be sure").fill("doomed")
    dialog.get_by_role("button", name="Delete it").click()
    expect(dialog.locator(".form-error")).to_contain_text("still has 1 resource")
    dialog.get_by_label("Delete it although it still has resources").check()
    dialog.get_by_role("button", name="Delete it").click()
    page.wait_for_url(re.compile("/workspaces$"))
    response = page.goto(path)
    assert response is not None
    assert response.status == 404
