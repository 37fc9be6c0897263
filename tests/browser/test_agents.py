"""Pools and agents in a browser: each dialog, live rows, tokens that are shown once, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.people import LAPTOP, PHONE, Person, Site
from tests.harness.server import TOKEN
from tests.web.requests_of import fresh as fresh_name

pytestmark = pytest.mark.slow_browser


@pytest.fixture
def pool(someone: Person) -> str:
    """The path of a pool with nothing in it."""
    name = fresh_name("pool")
    someone.site.server.admin.post("/agent-pools", 201, json={"name": name})
    return f"/agents/pools/{name}"


@pytest.fixture
def agent(someone: Person, pool: str) -> Iterator[str]:
    """The id of an agent of that pool, which was heard just now."""
    agent_id = f"agent-{fresh_name('a')}"
    someone.site.sql(
        """INSERT INTO agent (id, pool_id, name, instance_id, secret_hash, approved, boot_id, plan_limit, last_seen_at,
             cpu_usage, mem_usage, disk_free, version, os, arch)
           SELECT $1, id, 'host one', $1, '', true, 'b', 3, now() + interval '1 hour', 0.42, 0.95, 5368709120,
             '0.1.0', 'linux', 'x86_64' FROM agent_pool WHERE name = $2""",
        agent_id,
        name_of(pool),
    )
    yield agent_id
    someone.site.sql("UPDATE agent SET retired_at = now() WHERE id = $1", agent_id)


def name_of(pool: str) -> str:
    return pool.rpartition("/")[2]


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def test_pools_say_who_is_there_what_waits_and_why(someone: Person) -> None:
    page = someone.page
    page.goto("/agents")
    someone.is_live()
    expect(page.get_by_role("navigation", name="Main").get_by_role("link", name="Agents")).to_have_attribute(
        "aria-current", "page"
    )
    edge = page.get_by_role("row", name="edge")
    expect(edge).to_contain_text("3 tasks wait")
    expect(edge).to_contain_text("No agents yet")
    expect(page.get_by_role("row", name="cluster")).to_contain_text("1 draining")
    edge.get_by_role("link", name="edge").click()
    expect(page.get_by_role("heading", name="edge", level=1)).to_be_visible()
    expect(page.locator("#waiting > li")).to_have_count(3)
    assert someone.complaints == []


def test_a_pool_is_made_changed_and_deleted_in_dialogs(someone: Person) -> None:
    page, name = someone.page, fresh_name("born")
    page.goto("/agents")
    page.get_by_role("link", name="New pool").click()
    expect(dialog(page).get_by_label("Name", exact=True)).to_be_focused()
    dialog(page).get_by_label("Name", exact=True).fill("a/b")
    dialog(page).get_by_role("button", name="Create pool").click()
    expect(page.locator("#sheet-name-error")).to_contain_text("1 to 90 letters")
    dialog(page).get_by_label("Name", exact=True).fill(name)
    dialog(page).get_by_text("More settings").click()
    dialog(page).get_by_label("Agents register from").fill("10.0.0.0/8\nhome")
    dialog(page).get_by_role("button", name="Create pool").click()
    expect(page.locator("#sheet-networks-error")).to_be_visible()
    dialog(page).get_by_label("Agents register from").fill("10.0.0.0/8")
    dialog(page).get_by_role("button", name="Create pool").click()
    page.wait_for_url(f"**/agents/pools/{name}")
    expect(page.locator("#pool-facts")).to_contain_text("10.0.0.0/8")

    page.get_by_role("link", name="Settings of the pool").click()
    dialog(page).get_by_label("Name", exact=True).fill(f"{name} renamed")
    dialog(page).get_by_label("New agents wait for approval").check()
    dialog(page).get_by_role("button", name="Save").click()
    page.wait_for_url(re.compile(f"{name}%20renamed$"))
    expect(page.locator("#pool-facts")).to_contain_text("Wait for an admin's approval")

    page.get_by_role("link", name="Delete the pool").click()
    dialog(page).get_by_label(f"Type {name} renamed to be sure").fill(name)
    dialog(page).get_by_role("button", name="Delete it").click()
    expect(page.locator("#sheet-typed-error")).to_contain_text("renamed")
    dialog(page).get_by_label(f"Type {name} renamed to be sure").fill(f"{name} renamed")
    dialog(page).get_by_role("button", name="Delete it").click()
    page.wait_for_url("**/agents")
    expect(page.get_by_role("row", name=name)).to_have_count(0)
    assert [each for each in someone.complaints if "422" not in each] == []


def test_a_token_is_shown_once_copied_and_stays_until_one_says_so(someone: Person, pool: str) -> None:
    page = someone.page
    someone.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(pool)
    page.get_by_role("link", name="Add an agent").first.click()
    dialog(page).get_by_label("Name of the token").fill("hosts")
    dialog(page).get_by_role("button", name="Create token").click()
    token = page.locator("#once").inner_text()
    assert token.startswith("iacp_")
    copy = dialog(page).get_by_role("button", name="Copy the token")
    expect(copy).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog(page).get_by_role("status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == token
    assert someone.findings() == []
    page.mouse.click(5, 5)  # beside the dialog
    expect(dialog(page)).to_be_visible()

    dialog(page).get_by_text("Docker", exact=True).click()
    expect(dialog(page).get_by_text("docker build -t iac-agent")).to_be_visible()
    expect(dialog(page).get_by_text("python3 -m venv .venv")).to_be_hidden()  # one way at a time
    dialog(page).get_by_role("button", name="Copy step 2").locator("visible=true").click()
    assert token in page.evaluate("navigator.clipboard.readText()")
    dialog(page).get_by_role("link", name="I have it").click()
    expect(page.locator("#tokens > li")).to_contain_text("hosts")
    assert token not in page.content()
    page.go_back()
    assert token not in page.content()
    assert someone.complaints == []


def test_a_token_is_copied_where_scripts_have_no_clipboard(someone: Person, pool: str) -> None:
    page = someone.page
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.goto(f"{pool}/tokens/new")  # a page of its own does it as well
    page.get_by_label("Name of the token").fill("hosts")
    page.get_by_role("button", name="Create token").click()
    page.get_by_role("button", name="Copy the token").click()
    expect(page.locator("#toasts")).to_contain_text("Copied.")
    page.get_by_role("link", name="I have it").click()
    page.wait_for_url(f"**{pool}")
    assert someone.complaints == []


def test_a_token_is_rotated_then_revoked_softly_then_hard(someone: Person, pool: str, agent: str) -> None:
    page, admin = someone.page, someone.site.server.admin
    made = admin.post(f"/agent-pools/{name_of(pool)}/tokens", 201, json={"name": "first"})
    someone.site.sql("UPDATE agent SET pool_token_id = $2 WHERE id = $1", agent, made["id"])
    page.goto(pool)
    someone.is_live()
    page.get_by_role("link", name="Rotate first").click()
    dialog(page).get_by_label("The old one still lets agents in").select_option("For two hours")
    dialog(page).get_by_role("button", name="Rotate").click()
    expect(page.locator("#once")).to_contain_text("iacp_")
    dialog(page).get_by_role("link", name="I have it").click()
    old = page.locator(f"#{made['id']}")
    expect(old).to_contain_text("Being replaced")
    expect(old).to_contain_text("1 agent")

    someone.is_live()
    old.get_by_role("link", name="Revoke first").click()
    expect(dialog(page).get_by_label("Type first to be sure")).to_be_hidden()
    dialog(page).get_by_role("button", name="Revoke").click()
    expect(dialog(page)).to_be_hidden()
    expect(old).to_contain_text("Revoked")
    expect(page.locator(f"#{agent}")).to_contain_text("Draining")

    old.get_by_role("link", name="Revoke first").click()
    dialog(page).get_by_role("button", name="Revoke").click()
    expect(page.locator("#sheet-typed-error")).to_contain_text("Type the token's name")
    expect(dialog(page).get_by_label("Type first to be sure")).to_be_focused()
    dialog(page).get_by_label("Type first to be sure").fill("first")
    dialog(page).get_by_role("button", name="Revoke").click()
    expect(old).to_contain_text("Shut out")
    expect(old.get_by_role("link")).to_have_count(0)
    expect(page.locator(f"#{agent}")).to_contain_text("Shut out")


def test_workspaces_are_allowed_and_disallowed(someone: Person, pool: str) -> None:
    page = someone.page
    page.goto(pool)
    someone.is_live()
    expect(page.get_by_text("Serves nobody yet")).to_be_visible()
    page.get_by_role("link", name="Allow a workspace").click()
    dialog(page).get_by_label("Workspace").fill("payments-prod")
    dialog(page).get_by_role("button", name="Allow").click()
    expect(page.locator("#allowed")).to_contain_text("payments-prod")
    page.get_by_role("link", name="Disallow payments-prod").click()
    dialog(page).get_by_role("button", name="Disallow").click()
    expect(page.get_by_text("Serves nobody yet")).to_be_visible()
    assert someone.complaints == []


def test_an_agents_row_follows_its_heartbeats_and_nothing_else_is_drawn(someone: Person, pool: str, agent: str) -> None:
    page = someone.page
    page.goto(pool)
    someone.is_live()
    row = page.locator(f"#{agent}")
    expect(row).to_contain_text("42%")
    page.evaluate("for (const e of document.querySelectorAll('[data-digest]')) e.dataset.kept = 'yes'")
    someone.site.sql("UPDATE agent SET cpu_usage = 0.77, clock_ahead_s = -95 WHERE id = $1", agent)
    someone.site.server.admin.post("/workspaces", 201, json={"name": fresh_name("rings")})
    expect(row).to_contain_text("77%")
    expect(row).to_contain_text("clock 1 min 35 s behind")
    drawn = page.evaluate("[...document.querySelectorAll('[data-digest]:not([data-kept])')].map((e) => e.id).sort()")
    assert drawn == sorted([agent, "capacity-shown"])


def test_an_agent_is_drained_undrained_and_removed(someone: Person, pool: str, agent: str) -> None:
    page, admin = someone.page, someone.site.server.admin
    page.goto(f"/agents/{agent}")
    someone.is_live()
    expect(page.locator("#agent-load")).to_contain_text("5.0 GiB of disk free")
    page.get_by_role("link", name="Drain host one").click()
    dialog(page).get_by_label("Reason").fill("a new disk")
    dialog(page).get_by_role("button", name="Drain").click()
    expect(dialog(page)).to_be_hidden()
    expect(page.locator("#agent-head")).to_contain_text("Draining")
    assert admin.get("/audit", params={"subject": agent})["items"][0]["facts"] == {"reason": "a new disk"}
    page.get_by_role("button", name="Undrain host one").click()
    expect(page.locator("#agent-head")).to_contain_text("Online")
    page.get_by_role("link", name="Remove host one").click()
    dialog(page).get_by_label("Type host one to be sure").fill("host one")
    dialog(page).get_by_role("button", name="Remove it").click()
    page.wait_for_url(f"**{pool}")
    expect(page.locator("#agents").get_by_text("No agents yet")).to_be_visible()
    assert admin.get(f"/agents/{agent}")["status"] == "retired"
    assert someone.complaints == []


def test_a_newcomer_is_approved_where_it_is_seen(someone: Person, pool: str, agent: str) -> None:
    page = someone.page
    someone.site.sql("UPDATE agent SET approved = false WHERE id = $1", agent)
    page.goto("/agents")
    someone.is_live()
    waiting = page.locator(f"#approval-{agent}")
    expect(waiting).to_contain_text("host one wants to join")
    waiting.get_by_role("button", name="Approve host one").click()
    expect(waiting).to_have_count(0)
    expect(page.get_by_role("row", name=name_of(pool))).to_contain_text("Online")


def test_a_menu_stays_open_while_its_row_is_drawn_anew_and_works_by_keyboard(
    someone: Person, pool: str, agent: str
) -> None:
    page = someone.page
    page.goto(pool)
    someone.is_live()
    row = page.locator(f"#{agent}")
    row.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(row.get_by_role("link", name="Remove")).to_be_visible()
    someone.site.sql("UPDATE agent SET cpu_usage = 0.11 WHERE id = $1", agent)
    someone.site.server.admin.post("/workspaces", 201, json={"name": fresh_name("rings")})
    expect(row).to_contain_text("11%")
    expect(row.get_by_role("link", name="Remove")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(dialog(page).get_by_label("Type host one to be sure")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog(page)).to_be_hidden()


DIALOGS = {
    "/agents": ("New pool",),
    "/agents/pools/eu-west": ("Add an agent", "Settings of the pool", "Delete the pool", "Allow a workspace"),
    "/agents/agent-dub-01": ("Drain dub-01", "Remove dub-01"),
    "/tokens": ("New token",),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_every_dialog_is_in_sight_and_has_no_serious_finding(
    chromium: Browser, site: Site, theme: str, size: tuple[int, int]
) -> None:
    with Person.arrives(chromium, site, size=size, color_scheme=theme) as person:
        person.signs_in(TOKEN)
        for path, names in DIALOGS.items():
            for name in names:
                person.page.goto(path)
                person.page.get_by_role("link", name=name).first.click()
                expect(dialog(person.page)).to_be_visible()
                assert (name, person.findings(), person.sideways()) == (name, [], 0)
                wider = dialog(person.page).evaluate("d => d.scrollWidth - d.clientWidth")
                assert (name, wider) == (name, 0)


def test_without_scripts_everything_is_read_and_most_is_done(chromium: Browser, site: Site) -> None:
    with Person.arrives(chromium, site, java_script_enabled=False) as person:
        person.signs_in(TOKEN)
        page, name = person.page, fresh_name("plain")
        page.goto("/agents")
        expect(page.get_by_role("row", name="edge")).to_contain_text("3 tasks wait")
        page.get_by_role("link", name="New pool").click()
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Create pool").click()
        page.get_by_role("link", name="Add an agent").first.click()
        page.get_by_label("Name of the token").fill("hosts")
        page.get_by_role("button", name="Create token").click()
        expect(page.locator("#once")).to_contain_text("iacp_")
        page.get_by_role("link", name="I have it").click()
        expect(page.locator("#tokens")).to_contain_text("hosts")


def test_a_viewer_sees_agents_and_no_button(chromium: Browser, site: Site) -> None:
    token = site.server.admin.post("/tokens", 201, json={"name": fresh_name("guest"), "role": "viewer"})["token"]
    with Person.arrives(chromium, site) as person:
        person.signs_in(token)
        for path in ("/agents", "/agents/pools/eu-west", "/agents/agent-dub-01"):
            person.page.goto(path)
            person.is_live()
            main = person.page.get_by_role("main")
            expect(main.get_by_role("button")).to_have_count(0)
            expect(
                main.get_by_role("link", name=re.compile("New|Add|Settings|Delete|Drain|Remove|Allow"))
            ).to_have_count(0)
        person.page.locator("header .menu summary").click()
        expect(person.page.get_by_role("link", name="API description")).to_be_visible()
        expect(person.page.get_by_role("link", name="API tokens")).to_have_count(0)
        assert person.complaints == []
