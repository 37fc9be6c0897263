"""Pages of pools, agents, API tokens and the audit trail over HTTP: who may, what is refused, what is shown only once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.web.clients import ROLES, Served
from tests.web.deeds import SHEET, done, refused
from tests.web.pools_of import a_pool, a_served_workspace, a_token, an_agent, verbs
from tests.web.requests_of import fresh
from tests.web.test_ui_live import address_of, stream
from tests.web.visitors import Visitor, visitor

FORGED = {"Origin": "https://elsewhere.example"}


@pytest.fixture(scope="module")
def anna(api: Served) -> Iterator[Visitor]:
    with visitor(api.url) as made:
        yield made


def someone(api: Served, role: str) -> Any:
    return visitor(api.url, api.of(role).http.headers["Authorization"].removeprefix("Bearer "))


# Who may


@pytest.fixture(scope="module")
def places(api: Served) -> dict[str, str]:
    """A pool, one of its agents, one of its tokens, an API token: their addresses."""
    pool = a_pool(api)
    agent = an_agent(api, pool)
    token = a_token(api, pool)["id"]
    return {
        "pool": f"/agents/pools/{pool}",
        "agent": f"/agents/{agent}",
        "token": f"/agents/pools/{pool}/tokens/{token}",
    }


@pytest.mark.parametrize("role", ROLES)
def test_everybody_sees_pools_and_agents_and_admins_alone_what_changes_them(
    api: Served, places: dict[str, str], role: str
) -> None:
    with someone(api, role) as visitor_:
        for place in ("pool", "agent"):
            page = visitor_.get(places[place])
            assert page.status_code == 200
            assert ("Remove" in page.text) == (role == "admin")
            assert ("/tokens/new" in page.text) == (role == "admin" and place == "pool")
        forms = [
            "/agents/new-pool", f"{places['pool']}/settings", f"{places['pool']}/delete", f"{places['pool']}/tokens/new",
            f"{places['pool']}/workspaces/new", f"{places['token']}/rotate", f"{places['token']}/revoke",
            f"{places['agent']}/drain", f"{places['agent']}/remove", "/tokens", "/tokens/new", "/audit",
        ]  # fmt: skip
        expected = 200 if role == "admin" else 403
        assert {path: visitor_.get(path).status_code for path in forms} == dict.fromkeys(forms, expected)


DEEDS = [
    ("/agents/pools", {"name": "x"}), ("{pool}/settings", {"name": "x"}), ("{pool}/delete", {"typed": "x"}),
    ("{pool}/tokens", {"name": "x"}), ("{pool}/workspaces", {"workspace": "x"}), ("{pool}/workspaces/x/disallow", {}),
    ("{token}/rotate", {}), ("{token}/revoke", {}), ("{agent}/drain", {}), ("{agent}/undrain", {}), ("{agent}/approve", {}),
    ("{agent}/remove", {"typed": "x"}), ("/tokens", {"name": "x"}), ("/tokens/tok-x/revoke", {}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "form"), DEEDS, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_is_no_admin_changes_nothing(
    api: Served, places: dict[str, str], role: str, path: str, form: dict[str, str]
) -> None:
    with someone(api, role) as visitor_:
        assert visitor_.asks(path.format(**places), data=form).status_code == 403


@pytest.mark.parametrize(("path", "form"), DEEDS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_another_site_asks_in_an_admins_name_is_refused(
    anna: Visitor, places: dict[str, str], path: str, form: dict[str, str]
) -> None:
    assert anna.post(path.format(**places), data={**form, "csrf": anna.csrf}, headers=FORGED).status_code == 403
    assert anna.post(path.format(**places), data=form).status_code == 403


@pytest.mark.parametrize(
    "path",
    ["/agents/pools/nowhere", "/agents/agent-nobody", "/agents/pools/nowhere/settings", "/agents/agent-nobody/remove",
     "/tokens/tok-none/revoke", "/agents/pools/no%2Fwhere", "/agents/pools/nowhere/tokens/new"],
)  # fmt: skip
def test_what_is_not_there_is_a_page_that_says_so(anna: Visitor, path: str) -> None:
    page = anna.get(path)
    assert page.status_code == 404
    assert "Nothing here" in page.text


@pytest.mark.parametrize(
    "path", ["/agents?after=pool-none", "{pool}?after=agent-none", "/audit?before=x", "/audit?before=-1"]
)
def test_a_page_that_does_not_exist_is_explained(anna: Visitor, places: dict[str, str], path: str) -> None:
    assert anna.get(path.format(**places)).status_code == 422


# Pools


def test_a_pool_is_made_with_all_that_it_can_be_told(api: Served, anna: Visitor) -> None:
    name = fresh("made")
    form = {"name": name, "kind": "k8s", "description": "d", "require_approval": "true", "name_policy": "",
            "apply_exclusivity": "slot", "networks": "10.1.2.3/8\r\n\r\n192.0.2.1", "max_agents": " 12 "}  # fmt: skip
    assert done(anna.asks("/agents/pools", data=form)) == f"/agents/pools/{name}"
    made = api.admin.get(f"/agent-pools/{name}")
    assert (made["kind"], made["name_policy"], made["require_approval"]) == ("k8s", "suffix", True)
    assert (made["apply_exclusivity"], made["networks"], made["max_agents"]) == (
        "slot",
        ["10.0.0.0/8", "192.0.2.1/32"],
        12,
    )


@pytest.mark.parametrize(
    ("given", "field"),
    [({"name": ""}, "name"), ({"name": "a/b"}, "name"), ({"name": "🎉"}, "name"), ({"name": "x" * 91}, "name"),
     ({"networks": "10.0.0.0/8\nhome"}, "networks"), ({"description": "x" * 1001}, "description"), ({"kind": "big"}, "kind"),
     ({"max_agents": "many"}, "max_agents"), ({"max_agents": "0"}, "max_agents"), ({"max_agents": "-3"}, "max_agents")],
)  # fmt: skip
def test_what_is_wrong_with_a_pool_is_told_at_its_field(anna: Visitor, given: dict[str, str], field: str) -> None:
    answer = anna.asks("/agents/pools", data={"name": fresh("p"), **given}, headers=SHEET)
    assert refused(answer)[0] == field


def test_a_pool_of_a_name_that_is_taken_is_refused(api: Served, anna: Visitor) -> None:
    name = a_pool(api)
    assert "already" in refused(anna.asks("/agents/pools", data={"name": name}, headers=SHEET), 409)[1]


def test_only_what_was_changed_is_changed_and_the_address_follows_the_name(api: Served, anna: Visitor) -> None:
    name, other = a_pool(api, max_agents=3, require_approval=True), f"{fresh('other')} one"
    form = {"name": other, "max_agents": "", "networks": "::1"}
    assert done(anna.asks(f"/agents/pools/{name}/settings", data=form)) == f"/agents/pools/{quote(other)}"
    found = api.admin.get(f"/agent-pools/{other}")
    assert (found["max_agents"], found["require_approval"], found["networks"]) == (None, False, ["::1/128"])
    entry = api.admin.get("/audit", params={"subject": found["id"]})["items"][0]
    assert entry["facts"]["fields"] == ["max_agents", "name", "networks", "require_approval"]


def test_a_pool_goes_by_its_typed_name_and_not_while_it_is_used(api: Served, anna: Visitor) -> None:
    pool = a_pool(api)
    path = f"/agents/pools/{pool}/delete"
    assert refused(anna.asks(path, data={"typed": pool.upper()}, headers=SHEET))[0] == "typed"
    agent = an_agent(api, pool)
    assert "online" in refused(anna.asks(path, data={"typed": pool}, headers=SHEET), 409)[1]
    api.admin.delete(f"/agents/{agent}")
    assert done(anna.asks(path, data={"typed": pool})) == "/agents"
    assert anna.get(f"/agents/pools/{pool}").status_code == 404


def test_workspaces_are_allowed_by_name_and_disallowed(api: Served, anna: Visitor) -> None:
    pool, ws = a_pool(api), api.admin.workspace()
    path = f"/agents/pools/{pool}/workspaces"
    assert f'<option value="{ws}">' in anna.get(f"{path}/new").text
    assert "choose it, too" in done(anna.asks(path, data={"workspace": f" {ws} "}))
    assert f'<option value="{ws}">' not in anna.get(f"{path}/new").text
    assert ws in anna.get(f"/agents/pools/{pool}").text
    ws_id = api.admin.get(f"/workspaces/{ws}")["id"]
    done(anna.asks(f"{path}/{ws_id}/disallow"))
    assert api.admin.get(f"/agent-pools/{pool}/workspaces")["items"] == []
    assert refused(anna.asks(path, data={"workspace": " "}, headers=SHEET))[0] == "workspace"
    assert (
        refused(anna.asks(path, data={"workspace": "none"}, headers=SHEET), 404)[1] == "There is no workspace 'none'."
    )


def test_a_pool_says_what_waits_there_and_why(api: Served, anna: Visitor) -> None:
    pool = a_pool(api)
    ws = a_served_workspace(api, pool)
    task = api.operator.task(ws, "plan")
    with stream(anna, address_of(anna.get(f"/agents/pools/{pool}").text)) as events:
        html = anna.get(f"/agents/pools/{pool}").text
        while "has no agents" not in html:
            events.until("patch")
            html = anna.get(f"/agents/pools/{pool}").text
    assert f"/tasks/{task}" in html
    row = re.search(f'<tr id="{api.admin.get(f"/agent-pools/{pool}")["id"]}".*?</tr>', anna.get("/agents").text, re.S)
    assert row is not None
    assert "task waits" in row[0]


# Agents


def test_an_agent_is_drained_with_a_reason_and_undrained(api: Served, anna: Visitor) -> None:
    agent = an_agent(api, a_pool(api))
    done(anna.asks(f"/agents/{agent}/drain", data={"reason": "new disk"}))
    assert api.admin.get(f"/agents/{agent}")["draining"]
    assert "Undrain" in anna.get(f"/agents/{agent}").text
    done(anna.asks(f"/agents/{agent}/undrain"))
    assert verbs(api, agent)[:2] == ["agent.undrain", "agent.drain"]
    assert refused(anna.asks(f"/agents/{agent}/drain", data={"reason": "x" * 1001}, headers=SHEET))[0] == "reason"


def test_a_newcomer_is_on_the_list_until_it_is_approved(api: Served, anna: Visitor) -> None:
    pool = a_pool(api, require_approval=True)
    agent = an_agent(api, pool, fresh("new"), approved=False)
    with someone(api, "viewer") as guest:
        assert f"{agent}/approve" not in guest.get("/agents").text
    with stream(anna, address_of(anna.get("/agents").text)) as events:
        done(anna.asks(f"/agents/{agent}/approve"))
        gone: dict[str, list[str]] = {}
        while f"approval-{agent}" in gone.get("approvals", [f"approval-{agent}"]):
            gone = events.patch()["lists"]
    assert "Online" in anna.get(f"/agents/{agent}").text


def test_an_agent_is_removed_by_its_typed_name_and_its_page_stays(api: Served, anna: Visitor) -> None:
    pool = a_pool(api)
    agent = an_agent(api, pool, "going")
    path = f"/agents/{agent}/remove"
    assert refused(anna.asks(path, data={"typed": "gone"}, headers=SHEET))[0] == "typed"
    assert done(anna.asks(path, data={"typed": "going"})) == f"/agents/pools/{pool}"
    page = anna.get(f"/agents/{agent}")
    assert page.status_code == 200
    assert "Removed" in page.text
    assert "Drain" not in page.text


def test_an_agent_with_tasks_is_removed_by_force_only(api: Served, anna: Visitor) -> None:
    pool = a_pool(api)
    agent = an_agent(api, pool, "busy")
    task = api.operator.task(a_served_workspace(api, pool), "plan")
    api.sql("UPDATE task SET status = 'running', agent_id = $2, fence = 77001 WHERE id = $1", task, agent)
    api.sql(
        """INSERT INTO assignment (id, task_id, fence, agent_id, phase, attempt, scope)
           VALUES ($2, $1, 77001, $3, 'plan', 1, 'full')""", task, fresh("as"), agent,
    )  # fmt: skip
    page = anna.get(f"/agents/{agent}").text
    assert f"plan #{task}" in page
    assert "Planning" in page
    form = {"typed": "busy"}
    assert "still has task" in refused(anna.asks(f"/agents/{agent}/remove", data=form, headers=SHEET), 409)[1]
    assert "Although it has 1 task" in anna.get(f"/agents/{agent}/remove").text
    done(anna.asks(f"/agents/{agent}/remove", data={**form, "force": "true"}))
    assert api.admin.get(f"/agents/{agent}")["status"] == "retired"


# Audit


def test_the_audit_is_filtered_by_subject_and_links_to_what_it_is_about(api: Served, anna: Visitor) -> None:
    ws = api.admin.get(f"/workspaces/{api.admin.workspace()}")["id"]
    page = anna.get("/audit", params={"subject": f" {ws} "}).text
    assert page.count('class="audit-entry"') == 1
    assert f'href="/workspaces/{ws}"' in page
    assert "Nothing found" in anna.get("/audit?subject=ws-none").text


def test_the_audit_goes_back_page_by_page(api: Served, anna: Visitor) -> None:
    ws = api.admin.workspace()
    for n in range(51):
        api.admin.patch(f"/workspaces/{ws}", json={"description": str(n)})
    ws_id = api.admin.get(f"/workspaces/{ws}")["id"]
    first = anna.get("/audit", params={"subject": ws_id}).text
    assert first.count('class="audit-entry"') == 50
    older = re.search(r'id="ways-older"[^>]* href="([^"]+)"', first)
    assert older is not None
    second = anna.get(older[1].replace("&amp;", "&")).text
    assert second.count('class="audit-entry"') == 2
    assert "Newest" in second


def test_what_is_hostile_is_shown_as_it_is(api: Served, anna: Visitor) -> None:
    nasty = "<script>alert(1)</script> \u202e"
    pool = a_pool(api, description=nasty)
    api.admin.post(f"/agent-pools/{pool}/tokens", 201, json={"name": nasty})
    agent = an_agent(api, pool)
    done(anna.asks(f"/agents/{agent}/drain", data={"reason": nasty}))
    for path in ("/agents", f"/agents/pools/{pool}", f"/audit?subject={agent}", f"/agents/pools/{pool}/settings"):
        page = anna.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;" in page
