"""Variables, resource blocks and configuration in a browser: made, changed, deleted; what is wrong is told at its field."""

from __future__ import annotations

import re
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.people import Person, Site
from tests.browser.shop import SECRET, Shop
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser


@pytest.fixture(scope="module")
def site(shop_site: Site) -> Site:
    return shop_site


@pytest.fixture
def fresh(someone: Person) -> str:
    """The path of a workspace with nothing in it."""
    return f"/workspaces/{someone.site.server.admin.workspace()}"


def row(page: Page, text: str) -> Locator:
    return page.locator("#variables > li, #resources > div", has_text=text)


def test_a_variable_is_made_changed_and_deleted_in_dialogs(someone: Person, fresh: str) -> None:
    page, admin = someone.page, someone.site.server.admin
    page.goto(f"{fresh}/variables")
    someone.is_live()
    expect(page.get_by_text("No variables yet")).to_be_visible()
    page.get_by_role("link", name="New variable").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_be_focused()
    dialog.get_by_label("Name").fill("zones")
    dialog.get_by_label("Value").fill('["a", "b"]')
    dialog.get_by_label("HCL").check()
    dialog.get_by_role("button", name="Create variable").click()
    expect(dialog).to_be_hidden()
    expect(row(page, "zones")).to_contain_text('["a", "b"]')
    expect(page.locator("#toasts")).to_contain_text("Variable zones is set.")

    row(page, "zones").get_by_role("link", name="Edit").click()
    dialog.get_by_label("Value").fill('["c"]')
    dialog.get_by_role("button", name="Save").click()
    expect(row(page, "zones")).to_contain_text('["c"]')
    (known,) = admin.get(f"{fresh}/variables")["items"]
    assert (known["value"], known["hcl"], known["version"]) == ('["c"]', True, 2)

    row(page, "zones").get_by_role("link", name="Edit").click()
    dialog.get_by_role("link", name="Delete").click()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    dialog.get_by_role("button", name="Delete variable").click()
    expect(page.get_by_text("No variables yet")).to_be_visible()
    assert someone.complaints == []


def test_a_sensitive_value_is_written_and_never_read(someone: Person, fresh: str) -> None:
    page, admin = someone.page, someone.site.server.admin
    page.goto(f"{fresh}/variables")
    page.get_by_role("link", name="New variable").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("password")
    dialog.get_by_label("Value").fill("canary-first")
    dialog.get_by_label("Sensitive").check()
    dialog.get_by_role("button", name="Create variable").click()
    expect(row(page, "password")).to_contain_text("••••")
    assert "canary" not in page.content()

    row(page, "password").get_by_role("link", name="Edit").click()
    expect(dialog.get_by_label("Value")).to_have_value("")
    dialog.get_by_label("Description").fill("Of the database")
    dialog.get_by_role("button", name="Save").click()
    expect(row(page, "password")).to_contain_text("Of the database")
    row(page, "password").get_by_role("link", name="Edit").click()
    dialog.get_by_label("Sensitive").uncheck()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.locator("#sheet-sensitive-error")).to_contain_text("only together with a new value")
    (known,) = admin.get(f"{fresh}/variables")["items"]
    assert (known["value"], known["sensitive"]) == (None, True)


@pytest.mark.parametrize(
    ("typed", "field", "says"),
    [
        (("no name", "terraform", "x"), "key", "letter"),
        (("count", "terraform", "x"), "key", "count"),
        (("PATH", "environment", "/bin"), "key", "platform sets it"),
        (("TF_VAR_x", "environment", "x"), "key", "without the prefix"),
        (("ok", "terraform", "x" * 70_000), "value", "65536"),
    ],
    ids=["blank", "reserved", "PATH", "prefix", "long"],
)
def test_what_is_wrong_with_a_variable_stands_beside_its_field(
    someone: Person, shop: Shop, typed: tuple[str, str, str], field: str, says: str
) -> None:
    name, category, value = typed
    page = someone.page
    page.goto(f"{shop.path}/variables")
    page.get_by_role("link", name="New variable").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Kind").select_option(category)
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Value").fill(value)
    dialog.get_by_role("button", name="Create variable").click()
    error = dialog.locator(f"#sheet-{field}-error")
    expect(error).to_be_visible()
    assert says in error.inner_text().replace(",", "")
    expect(dialog.get_by_label("Name")).to_have_value(name)  # nothing typed is lost


def test_a_name_that_is_taken_is_told_in_the_dialog(someone: Person, shop: Shop) -> None:
    page = someone.page
    page.goto(f"{shop.path}/variables")
    page.get_by_role("link", name="New variable").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("region")
    dialog.get_by_label("Value").fill("x")
    dialog.get_by_role("button", name="Create variable").click()
    expect(dialog.locator(".form-error")).to_contain_text("region")


def test_of_two_tabs_that_change_the_same_the_second_is_told(chromium: Browser, site: Site, fresh: str) -> None:
    site.server.admin.post(f"{fresh}/variables", 201, json={"key": "shared", "value": "one"})
    with Person.arrives(chromium, site) as one, Person.arrives(chromium, site) as other:
        for person in (one, other):
            person.signs_in(TOKEN)
            person.page.goto(f"{fresh}/variables")
            row(person.page, "shared").get_by_role("link", name="Edit").click()
        for person, value in ((one, "first"), (other, "second")):
            person.page.get_by_role("dialog").get_by_label("Value").fill(value)
            person.page.get_by_role("dialog").get_by_role("button", name="Save").click()
        expect(other.page.get_by_role("dialog").locator(".form-error")).to_contain_text("somebody changed it")
        expect(row(other.page, "shared")).to_contain_text("first")  # what is below is up to date meanwhile


def test_values_are_kept_to_the_character(someone: Person, fresh: str) -> None:
    page, admin = someone.page, someone.site.server.admin
    page.goto(f"{fresh}/variables/new")
    text = '\n\n<script>alert("1")</script>\n  two\ttabs & "quotes" 🚀\n'
    page.get_by_label("Name").fill("text")
    page.get_by_label("Value").fill(text)
    page.get_by_role("button", name="Create variable").click()
    page.wait_for_url(re.compile("/variables$"))
    (known,) = admin.get(f"{fresh}/variables")["items"]
    assert known["value"] == text
    page.goto(f"{fresh}/variables/{known['id']}")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(re.compile("/variables$"))
    (known,) = admin.get(f"{fresh}/variables")["items"]
    assert (known["value"], known["version"]) == (text, 2)


def test_a_form_works_on_its_own_page_without_scripts(chromium: Browser, site: Site, fresh: str) -> None:
    with Person.arrives(chromium, site, java_script_enabled=False) as someone:
        someone.signs_in(TOKEN)
        page = someone.page
        page.goto(f"{fresh}/variables")
        page.get_by_role("link", name="New variable").click()
        page.get_by_label("Name").fill("plain")
        page.get_by_label("Value").fill("form")
        page.get_by_role("button", name="Create variable").click()
        page.wait_for_url(re.compile("/variables$"))
        expect(row(page, "plain")).to_contain_text("form")


def test_a_block_is_added_changed_and_removed(someone: Person, fresh: str) -> None:
    page, admin = someone.page, someone.site.server.admin
    page.goto(f"{fresh}/resources")
    someone.is_live()
    page.get_by_role("link", name="New block").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type").fill("terraform_data")
    dialog.get_by_label("Name").fill("kept")
    dialog.get_by_label("Arguments").fill('{"input": ')
    dialog.get_by_role("button", name="Add block").click()
    expect(dialog.locator("#sheet-body-error")).to_contain_text("not JSON")
    dialog.get_by_label("Arguments").fill('{"input": {"owner": "me"}}')
    dialog.get_by_role("button", name="Add block").click()
    expect(dialog).to_be_hidden()
    block = row(page, "terraform_data.kept")
    block.locator("summary").click()
    expect(block).to_contain_text('"owner": "me"')
    block.get_by_role("link", name="Edit").click()
    dialog.get_by_label("Arguments").fill('{"input": 2}')
    dialog.get_by_role("button", name="Save").click()
    expect(block).to_contain_text("version 2")
    block.get_by_role("link", name="Edit").click()
    dialog.get_by_role("link", name="Remove").click()
    dialog.get_by_role("button", name="Remove block").click()
    expect(page.get_by_text("No blocks are kept here")).to_be_visible()
    assert admin.get(f"{fresh}/resources")["items"] == []


def test_files_are_looked_at_with_colours_and_lines_that_can_be_pointed_at(someone: Person, shop: Shop) -> None:
    page = someone.page
    page.goto(f"{shop.path}/configuration")
    expect(page.locator("#file-title")).to_have_text("main.tf")
    assert page.locator(".source .hl-kr, .source .hl-k").count() > 5
    page.get_by_role("navigation", name="Files").get_by_role("link", name="values.yaml").click()
    expect(page.locator("#file-title")).to_have_text("values.yaml")
    expect(page.locator(".source .hl-nt").first).to_have_text("replicas")
    page.goto(f"{shop.path}/configuration?file=edge%2Fmain.tf#L3")
    expect(page.locator("#L3")).to_contain_text("for_each")
    page.get_by_role("region", name="Versions").get_by_role("link", name="Team moved").click()
    expect(page.locator(".version[data-on]")).to_contain_text("Team moved")
    assert someone.complaints == []


def test_a_configuration_is_downloaded_as_it_was_sent(someone: Person, shop: Shop, tmp_path: Path) -> None:
    page = someone.page
    page.goto(f"{shop.path}/configuration")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download all").click()
    started.value.save_as(tmp_path / "it.tar.gz")
    with tarfile.open(fileobj=BytesIO((tmp_path / "it.tar.gz").read_bytes())) as tar:
        assert sorted(tar.getnames()) == ["edge/main.tf", "main.tf", "policy.json", "values.yaml"]


def test_hostile_files_are_shown_as_what_they_are(someone: Person) -> None:
    admin = someone.site.server.admin
    evil = "x.tf" + "\u202e" + "gpj"
    files = {
        "main.tf": "# </pre><script>document.title = 'owned'</script> \u202e\x07\n",
        evil: "",
        "a/<b>.tf": "x = 1\n",
    }
    name = admin.workspace(files)
    page = someone.page
    page.goto(f"/workspaces/{name}/configuration")
    expect(page.locator(".source")).to_contain_text("</pre><script>")
    expect(page.locator(".source")).to_contain_text("\\u202e\\u0007")
    assert "\u202e" not in page.get_by_role("main").inner_text()
    assert "owned" not in page.title()
    assert someone.complaints == []
    response = page.goto(f"/workspaces/{name}/configuration?file=nothing.tf")
    assert response is not None
    assert response.status == 404


def test_a_secret_of_the_shop_is_on_none_of_these_pages(someone: Person, shop: Shop) -> None:
    for tab in ("variables", "resources", "configuration"):
        someone.page.goto(f"{shop.path}/{tab}")
        assert SECRET not in someone.page.content()
