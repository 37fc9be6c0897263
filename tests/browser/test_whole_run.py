"""The life of a workspace as one sees it, with a real Terraform: made, filled, applied, changed, destroyed, deleted."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.people import Person
from tests.web.clients import REAL
from tests.web.requests_of import fresh

MAIN = """variable "colour" {}
resource "terraform_data" "lamp" { input = "a ${var.colour} lamp" }
resource "terraform_data" "shade" { count = 2 }
output "lamp" { value = terraform_data.lamp.output }
"""


def dialog_of(page: Page, opener: str, role: str = "button") -> Page:
    """Opens a dialog; what is looked for on the page from then on is in front of one."""
    page.get_by_role(role, name=opener, exact=True).first.click()  # type: ignore[arg-type]
    expect(page.get_by_role("dialog")).to_be_visible()
    return page


def confirmed(page: Page, words: str, counts: str) -> None:
    """A plan is there, is confirmed, and is applied before one's eyes."""
    page.wait_for_url(re.compile(r"/tasks/\d+$"))
    expect(page.locator("#task-head")).to_contain_text("To confirm")
    expect(page.locator("#plan-place")).to_contain_text(counts)
    page.get_by_role("button", name=words, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=words).click()
    expect(page.locator("#task-head .badge")).to_have_text(re.compile("Applied|Destroyed"))
    page.locator("#log .log-frame").focus()
    page.keyboard.press("End")  # of a log only the rows that show are there
    expect(page.locator("#log")).to_contain_text("Apply complete!")


def test_a_workspace_is_made_applied_changed_destroyed_and_deleted(someone: Person, tmp_path: Path) -> None:
    page, name = someone.page, fresh("lamp")
    (tmp_path / "main.tf").write_text(MAIN)

    page.goto("/workspaces")
    dialog_of(page, "New workspace", "link")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill(name)
    dialog.get_by_label("Version", exact=True).fill(REAL)
    dialog.get_by_role("button", name="Create workspace").click()
    page.wait_for_url(f"**/workspaces/{name}")

    dialog_of(page, "Upload files", "link")
    dialog.get_by_label("Files, or one").set_input_files(tmp_path / "main.tf")
    dialog.get_by_role("button", name="Upload").click()
    expect(page.locator("#file-title")).to_have_text("main.tf")

    tabs = page.get_by_role("navigation", name="Workspace")
    tabs.get_by_role("link", name="Variables").click()
    dialog_of(page, "New variable", "link")
    dialog.get_by_label("Name").fill("colour")
    dialog.get_by_label("Value").fill("green")
    dialog.get_by_role("button", name="Create variable").click()
    expect(page.locator("#variables")).to_contain_text("green")

    dialog_of(page, "Plan and apply")
    dialog.get_by_label("Message").fill("The first light")
    dialog.get_by_role("button", name="Start", exact=True).click()
    confirmed(page, "Confirm and apply", "3 to add")

    page.goto(f"/workspaces/{name}/state")
    expect(page.locator("#tree")).to_contain_text("3 objects")
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("a green lamp")

    page.goto(f"/workspaces/{name}/variables")
    dialog_of(page, "Edit colour", "link")
    dialog.get_by_label("Value").fill("red")
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator("#variables")).to_contain_text("red")
    dialog_of(page, "Plan and apply")
    dialog.get_by_role("button", name="Start", exact=True).click()
    confirmed(page, "Confirm and apply", "1 to change")

    page.goto(f"/workspaces/{name}")
    someone.is_live()
    expect(page.get_by_role("region", name="State")).to_contain_text("3 resources")
    page.get_by_label("More").click()
    dialog_of(page, "Destroy everything")
    dialog.get_by_label(f"Type {name} to be sure").fill(name)
    dialog.get_by_role("button", name="Plan the destruction").click()
    confirmed(page, "Confirm and destroy", "3 to destroy")

    page.goto(f"/workspaces/{name}/settings")
    dialog_of(page, "Delete it")
    dialog.get_by_label(f"Type {name} to be sure").fill(name)
    dialog.get_by_role("button", name="Delete it").click()
    page.wait_for_url("**/workspaces")
    page.goto(f"/workspaces?q={name}")
    expect(page.get_by_text("No workspace fits")).to_be_visible()
