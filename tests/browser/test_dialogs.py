"""Every dialog: opened, looked at, left by Escape, refused with what was typed still there. What it does: see its page's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest
from playwright.sync_api import Browser, Locator, expect

from iac.web.platform import Platform
from iac.web.ui.app import ui_of
from tests.browser.addresses import addresses
from tests.browser.people import LAPTOP, PHONE, Person, Site, as_size
from tests.browser.shop import Shop
from tests.harness.server import TOKEN

pytestmark = pytest.mark.slow_browser
TEMPLATES = Path(__file__).parents[2] / "iac/web/ui/templates"
WS, STATE, POOL, AGENT = (
    "/workspaces/<ws>",
    "/workspaces/<ws>/state/<which>",
    "/agents/pools/<pool>",
    "/agents/<agent_id>",
)
ON = {
    "run-plan": WS, "run-apply": WS, "run-refresh": WS, "run-destroy": WS, "delete": f"{WS}/settings",
    "lock": "unlocked settings", "unlock": "a locked workspace", "rollback": STATE, "promote": "a state kept apart",
    "confirm": "/tasks/<int(max=9223372036854775807):task_id>", "discard": "a plan that waits",
    "cancel": "a running task", "force": "a task that is being stopped", "retry": "a failed task",
    "apply": "a finished plan", "resolve": "a lost apply",
    "/new-workspace": "/workspaces", f"{WS}/variables/<var>": f"{WS}/variables",
    f"{WS}/variables/<var>/delete": f"{WS}/variables", f"{WS}/resources/<res>": f"{WS}/resources",
    f"{WS}/resources/<res>/delete": f"{WS}/resources", f"{WS}/configuration/upload": f"{WS}/configuration",
    f"{WS}/configuration/remove": "a file", f"{WS}/configuration/use": "an old configuration",
    "/agents/new-pool": "/agents", f"{POOL}/settings": POOL, f"{POOL}/workspaces/new": POOL, f"{POOL}/delete": POOL,
    f"{POOL}/workspaces/<ws>/disallow": POOL, f"{POOL}/tokens/new": POOL, f"{POOL}/tokens/<token_id>/rotate": POOL,
    f"{POOL}/tokens/<token_id>/revoke": POOL, f"{AGENT}/drain": AGENT, f"{AGENT}/remove": AGENT,
    "/tokens/new": "/tokens", "/tokens/<token_id>/revoke": "/tokens",
}  # fmt: skip
"""Each dialog, by its id or by the page that is fetched into it, and the page on which it is opened."""
WITHIN = {
    f"{WS}/variables/<var>/delete": f"{WS}/variables/<var>",
    f"{WS}/resources/<res>/delete": f"{WS}/resources/<res>",
}
"""Those that another one leads to."""
PAGES_ONLY = {f"{WS}/configuration/edit"}
"""Forms that are too large for a dialog."""


def test_no_dialog_is_forgotten() -> None:
    fixed = {
        found
        for path in TEMPLATES.rglob("*.html")
        for found in re.findall(r'form_dialog\("([\w-]+)"', path.read_text())
    }
    sheets = {page.path for page in ui_of(cast(Platform, None)).pages if _is_sheet(page.template)}
    assert fixed | sheets == set(ON) | PAGES_ONLY | {"again"}  # which is on every page: see test_sign_in.py


def _is_sheet(template: str) -> bool:
    extended = re.search(r'{% extends "([^"]+)"', (TEMPLATES / template).read_text())
    return template == "workspace/sheet.html" or (extended is not None and _is_sheet(extended[1]))


@pytest.fixture(scope="module")
def site(shop_site: Site) -> Site:
    return shop_site


@pytest.fixture(scope="module")
def places(site: Site, shop: Shop) -> Mapping[str, str]:
    """Where each page is; before there is a browser, for Terraform runs for it."""
    admin, tasks = site.server.admin, site.scenery.tasks
    admin.workspace(name="apart")
    admin.post("/workspaces/apart/state-versions", 201, json=STATE_OF_NOTHING)
    of = addresses(site, shop)
    apart = site.server.rows(
        """UPDATE state_version SET verdict = 'quarantined', reason = 'it came too late'
           WHERE workspace_id = (SELECT id FROM workspace WHERE name = 'apart') RETURNING id"""
    )[0]["id"]
    site.server.sql(
        """UPDATE task SET status = 'cancelling', cancel_id = 'c', cancel_by = 'admin',
           cancel_requested_at = now() - interval '1 hour' WHERE id = $1""",
        tasks["planning"],
    )
    finished = admin.task("shop", "plan")
    admin.until(finished, "succeeded")
    return {
        **of,
        "unlocked settings": "/workspaces/nothing/settings",
        "a locked workspace": "/workspaces/mail-prod",
        "a state kept apart": f"/workspaces/apart/state/{apart}",
        "a plan that waits": of["/tasks/<int(max=9223372036854775807):task_id>"],
        "a task that is being stopped": f"/tasks/{tasks['planning']}",
        "a finished plan": f"/tasks/{finished}",
        "a file": f"{of[WS]}/configuration?file=main.tf",
        "an old configuration": of[f"{WS}/configuration/use"].replace("/use?", "?"),
    }


STATE_OF_NOTHING = {
    "version": 4, "terraform_version": "1.11.4", "serial": 1, "lineage": "l", "outputs": {}, "resources": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def reader(places: Mapping[str, str], chromium: Browser, site: Site) -> Iterator[Person]:
    with Person.arrives(chromium, site) as someone:
        someone.signs_in(TOKEN)
        yield someone


def opened(reader: Person, places: Mapping[str, str], name: str) -> Locator:
    """The dialog, on its page, which is live."""
    page, dialog = reader.page, reader.page.get_by_role("dialog")
    page.goto(places[ON[name]])
    if page.locator("#connection").count():
        reader.is_live()
    for each in (WITHIN.get(name), name):
        if each:
            opener = page.locator(
                f'a[hx-get="{places[each]}"]' if each.startswith("/") else f'[data-opens="{each}"]'
            ).first
            opener.evaluate("o => o.closest('details')?.setAttribute('open', '')")
            opener.click()
            expect(dialog).to_be_visible()
    if name in WITHIN:
        expect(dialog.locator("form")).to_have_attribute("action", places[name])
    return dialog


@pytest.mark.parametrize("name", ON)
def test_a_dialog_is_opened_fits_has_no_serious_finding_and_is_left_by_escape(
    reader: Person, places: Mapping[str, str], name: str
) -> None:
    page, dialog = reader.page, opened(reader, places, name)
    expect(dialog.locator(":focus")).to_have_count(1)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert (theme, reader.findings()) == (theme, [])
    page.set_viewport_size(as_size(PHONE))
    assert (reader.sideways(), dialog.evaluate("d => d.scrollWidth - d.clientWidth")) == (0, 0)
    page.set_viewport_size(as_size(LAPTOP))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert reader.complaints == []


@pytest.mark.parametrize("name", ON)
def test_a_dialog_that_is_refused_says_so_stays_and_keeps_what_was_typed(
    reader: Person, places: Mapping[str, str], name: str
) -> None:
    """The refusal that every form can get: its page is from before one signed in anew."""
    page, dialog = reader.page, opened(reader, places, name)
    typed = dialog.locator("input[type=text]:visible, textarea:visible").first
    if typed.count():
        typed.fill("1")
    reader.site.sql("UPDATE browser_session SET csrf = 'another-' || csrf")
    try:
        dialog.locator("form").evaluate("form => { form.noValidate = true; }")
        dialog.locator("footer button[type=submit]").last.click()
        expect(dialog.locator(".form-error")).to_contain_text("from before you signed in again")
    finally:
        reader.site.sql("UPDATE browser_session SET csrf = substr(csrf, 9)")
    if typed.count():
        expect(typed).to_have_value("1")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
