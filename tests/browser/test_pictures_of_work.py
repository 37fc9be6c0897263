"""Pictures of a workspace, a plan and a state. With IAC_TEST_PICTURES=docs/images they are those of the documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.people import Person, Site
from tests.browser.shop import Shop
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser

CLUSTER = """
locals { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
resource "terraform_data" "network" { input = "10.20.0.0/16" }
resource "terraform_data" "subnet" {
  for_each = toset(local.zones)
  input    = { network = terraform_data.network.id, zone = each.key }
}
resource "terraform_data" "role" { input = "cluster-nodes" }
resource "terraform_data" "cluster" {
  input      = { size = "m5.xlarge", nodes = 3 }
  depends_on = [terraform_data.subnet, terraform_data.role]
  provisioner "local-exec" {
    command = "for n in 1 2 3; do echo node $n of 3 is ready; done; while [ ! -e %s ]; do sleep 0.1; done"
  }
}
resource "terraform_data" "release" { input = terraform_data.cluster.id }
"""
BLANK = 15_000
"""Bytes of a picture on which nothing is."""


@pytest.fixture(scope="module")
def site(shop_site: Site) -> Site:
    return shop_site


@pytest.mark.parametrize(
    ("name", "tab", "theme"),
    [
        ("ui-workspace", "", "light"),
        ("ui-plan", "plan", "light"),
        ("ui-state", "/state", "dark"),
        ("ui-configuration", "/configuration", "dark"),
    ],
)
def test_the_pages_of_a_workspace_have_their_picture_taken(
    chromium: Browser, site: Site, shop: Shop, pictures: Path, *, name: str, tab: str, theme: str
) -> None:
    with Person.arrives(chromium, site, color_scheme=theme) as someone:
        someone.signs_in(TOKEN)
        someone.page.goto(f"/tasks/{shop.plan}/plan" if tab == "plan" else shop.path + tab)
        expect(someone.page.get_by_role("main")).to_contain_text("shop")
        someone.page.screenshot(path=pictures / f"{name}.png")
    assert (pictures / f"{name}.png").stat().st_size > BLANK


def test_an_apply_under_way_has_its_picture_taken(
    chromium: Browser, site: Site, pictures: Path, tmp_path: Path
) -> None:
    admin, gate = site.server.admin, tmp_path / "gate"
    name = admin.workspace({"main.tf": CLUSTER % gate}, name="cluster-staging", tags={"env": "staging"})
    task = admin.task(name, "plan_and_apply", auto_apply=True, message="A cluster for the next release")
    try:
        with Person.arrives(chromium, site, size=(1280, 1000)) as someone:
            someone.signs_in(TOKEN)
            someone.page.goto(f"/tasks/{task}")
            expect(someone.page.locator("#log")).to_contain_text("node 3 of 3 is ready")
            expect(someone.page.locator("#progress-head")).to_contain_text("5 of 7")
            over = someone.page.locator("#log .log-stage", has_text="terraform init").last
            expect(over).not_to_contain_text("running")
            someone.page.screenshot(path=pictures / "ui-task.png")
            gate.touch()
            expect(someone.page.locator("#task-head .badge")).to_have_text("Applied")
    finally:
        gate.touch()
    assert (pictures / "ui-task.png").stat().st_size > BLANK
