"""Every page of the UI, by the path that it is declared with, and where to find one of each that has something on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from iac.web.platform import Platform
from iac.web.ui.app import ui_of
from tests.browser.people import Site
from tests.browser.shop import Shop
from tests.web.visitors import Visitor, visitor

DECLARED = tuple(page.path for page in ui_of(cast(Platform, None)).pages)
TASK = "/tasks/<int(max=9223372036854775807):task_id>"
BESIDES = {
    "/no/such/page": "/no/such/page",
    "nothing found": "/workspaces?q=nothing-is-called-so&state=failed",
    "nothing in the audit": "/audit?subject=ws-none",
    "an empty workspace": "/workspaces/nothing",
    "an empty configuration": "/workspaces/nothing/configuration",
    "an empty state": "/workspaces/nothing/state",
    "a pool without agents": "/agents/pools/edge",
    "a new agent": "/agents/agent-pod-new",
}
"""Pages that look different when they have nothing, or something unusual, to show."""
EVERY = (*DECLARED, *BESIDES, "a lost apply", "a failed task", "a running task", "a queued task")


def addresses(site: Site, shop: Shop) -> Mapping[str, str]:
    """For each of `EVERY` an address. The shop and the workspace `nothing` are there already."""
    admin = site.server.admin
    variable = admin.get(f"{shop.path}/variables")["items"][0]["id"]
    block = admin.get(f"{shop.path}/resources")["items"][0]["id"]
    agents_token = admin.post("/agent-pools/eu-west/tokens", 201, json={"name": "of a page"})["id"]
    token = admin.post("/tokens", 201, json={"name": "of a page", "role": "viewer"})["id"]
    state, compared = f"{shop.path}/state", f"{shop.path}/state/compare?before={shop.first}"
    with visitor(site.url) as anna:
        thing = _first(anna, f"{state}/{shop.first}", r'id="object-([^"]+)"')
        difference = _first(anna, compared, r'id="change-([^"]+)"')
        disallow = _first(anna, "/agents/pools/eu-west", r'"(/agents/pools/eu-west/workspaces/[^"]+/disallow)"')
        version = _first(anna, f"{shop.path}/configuration", r'[?&;]version=([^"&]+)')
        change = _first(anna, f"/tasks/{shop.plan}/plan", r'id="change-([^"]+)"')
    tasks = site.scenery.tasks
    of = {
        "/workspaces/<ws>/configuration/remove": f"{shop.path}/configuration/remove?file=main.tf",
        "/workspaces/<ws>/configuration/use": f"{shop.path}/configuration/use?version={version}",
        "/workspaces/<ws>/state/<which>/objects/<key>": f"{state}/{shop.first}/objects/{thing}",
        "/workspaces/<ws>/state/<which>": f"{state}/{shop.first}",
        "/workspaces/<ws>/state/compare": compared,
        "/workspaces/<ws>/state/compare/<key>": compared.replace("?", f"/{difference}?"),
        f"{TASK}/plan/<key>": f"/tasks/{shop.plan}/plan/{change}",
        "/agents/pools/<pool>/workspaces/<ws>/disallow": disallow,
        "/tokens/<token_id>/revoke": f"/tokens/{token}/revoke",
        "a lost apply": f"/tasks/{tasks['lost']}",
        "a failed task": f"/tasks/{tasks['failed']}",
        "a running task": f"/tasks/{tasks['applying']}",
        "a queued task": f"/tasks/{tasks['queued-0']}",
        **BESIDES,
    }
    usual = {
        TASK: f"/tasks/{shop.plan}",
        "<ws>": shop.name,
        "<var>": variable,
        "<res>": block,
        "<pool>/tokens/<token_id>": f"eu-west/tokens/{agents_token}",
        "<pool>": "eu-west",
        "<agent_id>": "agent-dub-01",
    }
    return {**{path: _filled(path, usual) for path in DECLARED if path not in of}, **of}


def _filled(path: str, values: Mapping[str, str]) -> str:
    for place, value in values.items():
        path = path.replace(place, value)
    assert "<" not in path, f"{path}: say where there is one"
    return path


def _first(anna: Visitor, page: str, pattern: str) -> str:
    """The key of the first thing on a page."""
    found = re.search(pattern, anna.get(page).text)
    assert found is not None, (page, pattern)
    return found[1]
