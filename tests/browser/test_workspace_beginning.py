"""How a workspace gets its configuration in a browser: a new one, an upload, files that are written there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.people import Person, Site
from tests.harness.server import TOKEN
from tests.web.requests_of import fresh

pytestmark = pytest.mark.slow_browser

MAIN = 'resource "terraform_data" "a" {\n  input = "one"\n}\n'


@pytest.fixture
def place(someone: Person) -> Page:
    """The page of a new workspace."""
    someone.page.goto(f"/workspaces/{someone.site.server.admin.workspace()}")
    someone.is_live()
    return someone.page


def files(page: Page) -> list[str]:
    return (
        page.get_by_role("navigation", name="Files").get_by_role("link").locator("span:first-child").all_inner_texts()
    )


def test_the_pool_is_asked_for_only_where_agents_are_to_run_it(someone: Person) -> None:
    page, name = someone.page, fresh("pooled")
    page.goto("/workspaces")
    page.get_by_role("link", name="New workspace").click()
    dialog = page.get_by_role("dialog", name="New workspace")
    expect(dialog.get_by_label("Pool")).to_be_hidden()
    dialog.get_by_label("Runs on").select_option("agent")
    dialog.get_by_label("Pool").select_option(label=dialog.get_by_label("Pool").locator("option").first.inner_text())
    dialog.get_by_label("Name", exact=True).fill(name)
    dialog.get_by_role("button", name="Create workspace").click()
    expect(page).to_have_url(re.compile(f"/workspaces/{name}$"))
    assert someone.site.server.admin.get(f"/workspaces/{name}")["execution_mode"] == "agent"


def test_files_are_uploaded_and_more_of_them_join(place: Page, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(MAIN)
    (tmp_path / "outputs.tf").write_text("")
    place.get_by_role("link", name="Upload files").click()
    dialog = place.get_by_role("dialog")
    dialog.get_by_label("Files, or one").set_input_files(tmp_path / "main.tf")
    dialog.get_by_role("button", name="Upload").click()
    expect(place).to_have_url(re.compile("/configuration$"))
    expect(place.get_by_role("status").filter(has_text="1 file is there.")).to_be_visible()
    place.get_by_role("link", name="Upload files").click()
    dialog.get_by_label("Files, or one").set_input_files(tmp_path / "outputs.tf")
    dialog.get_by_label("Keep the files").check()
    dialog.get_by_role("button", name="Upload").click()
    expect(place.get_by_role("status").filter(has_text="2 files are there.")).to_be_visible()
    assert files(place) == ["main.tf", "outputs.tf"]


def test_of_a_directory_only_what_is_kept_is_sent(place: Page, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    (shop / "modules" / "net").mkdir(parents=True)
    (shop / ".terraform" / "providers").mkdir(parents=True)
    (shop / ".terraform" / "providers" / "large").write_bytes(bytes(40 * 1024 * 1024))
    (shop / "main.tf").write_text(MAIN)
    (shop / "modules" / "net" / "main.tf").write_text("")
    place.get_by_role("link", name="Upload files").click()
    dialog = place.get_by_role("dialog")
    dialog.get_by_label("or a whole directory").set_input_files(shop)
    dialog.get_by_role("button", name="Upload").click()
    expect(place.get_by_role("status").filter(has_text="2 files are there.")).to_be_visible()
    assert files(place) == ["main.tf", "main.tf"]


def test_too_much_is_said_before_it_is_sent(place: Page, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(bytes(33 * 1024 * 1024))
    place.get_by_role("link", name="Upload files").click()
    dialog = place.get_by_role("dialog")
    dialog.get_by_label("Files, or one").set_input_files(tmp_path / "large.bin")
    dialog.get_by_role("button", name="Upload").click()
    expect(dialog.get_by_role("alert").filter(has_text="at most 32 MiB are taken")).to_be_visible()
    (tmp_path / "notes.txt").write_text("x")
    dialog.get_by_label("Files, or one").set_input_files(tmp_path / "notes.txt")
    dialog.get_by_role("button", name="Upload").click()
    expect(dialog.get_by_role("alert").filter(has_text="There is no .tf")).to_be_visible()


def test_a_file_is_written_changed_and_removed(place: Page) -> None:
    place.get_by_role("link", name="Write a file here").click()
    expect(place.get_by_label("Path")).to_have_value("main.tf")
    expect(place.get_by_label("Content")).to_be_focused()
    place.get_by_label("Content").fill(MAIN)
    place.get_by_role("button", name="Save").click()
    expect(place.locator("#file-title")).to_have_text("main.tf")
    expect(place.locator(".source")).to_contain_text('input = "one"')
    place.get_by_role("link", name="New file").click()
    place.get_by_label("Path").fill("files/greeting.txt")
    place.get_by_label("Content").fill("hello\n")
    place.get_by_role("button", name="Save").click()
    expect(place.locator("#file-title")).to_have_text("files/greeting.txt")
    place.get_by_role("link", name="Edit files/greeting.txt").click()
    place.get_by_label("Path").fill("main.tf")
    place.get_by_role("button", name="Save").click()
    expect(place.get_by_role("alert").filter(has_text="There is a file main.tf already.")).to_be_visible()
    expect(place.get_by_label("Path")).to_be_focused()
    place.go_back()
    place.get_by_role("link", name="Remove files/greeting.txt").click()
    dialog = place.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    place.keyboard.press("Escape")
    expect(place.get_by_role("link", name="Remove files/greeting.txt")).to_be_focused()
    place.keyboard.press("Enter")
    dialog.get_by_role("button", name="Remove file").click()
    expect(place.locator("#file-title")).to_have_text("main.tf")
    place.locator("#versions").get_by_role("link", name="Added files/greeting.txt").click()
    place.get_by_role("link", name="Use it again").click()
    dialog.get_by_role("button", name="Use it again").click()
    expect(place.get_by_role("navigation", name="Files")).to_contain_text("greeting.txt")


def test_without_scripts_a_workspace_is_made_and_gets_its_files(chromium: Browser, site: Site, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(MAIN)
    name = fresh("plain")
    with Person.arrives(chromium, site, java_script_enabled=False) as someone:
        someone.signs_in(TOKEN)
        page = someone.page
        page.goto("/workspaces")
        page.get_by_role("link", name="New workspace").click()
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Create workspace").click()
        page.get_by_role("link", name="Upload files").click()
        page.get_by_label("Files, or one").set_input_files(tmp_path / "main.tf")
        page.get_by_role("button", name="Upload").click()
        expect(page.locator("#file-title")).to_have_text("main.tf")
        page.get_by_role("link", name="New file").click()
        page.get_by_label("Path").fill("more.tf")
        page.get_by_label("Content").fill("# more\n")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#file-title")).to_have_text("more.tf")
        page.get_by_role("link", name="Remove more.tf").click()
        page.get_by_role("button", name="Remove file").click()
        expect(page.locator("#file-title")).to_have_text("main.tf")


def test_a_click_beside_a_dialog_closes_it_and_loses_nothing_that_was_typed(someone: Person) -> None:
    page = someone.page
    page.goto("/workspaces")
    page.get_by_role("link", name="New workspace").click()
    dialog = page.get_by_role("dialog", name="New workspace")
    box = dialog.get_by_label("Name", exact=True).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(5, 5)
    page.mouse.up()  # selecting a text may end beside the dialog
    expect(dialog).to_be_visible()
    dialog.get_by_label("Name", exact=True).fill("half a name")
    page.mouse.click(5, 5)
    expect(dialog).to_be_visible()
    dialog.get_by_label("Name", exact=True).fill("")
    page.mouse.click(5, 5)
    expect(dialog).to_be_hidden()
