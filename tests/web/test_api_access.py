"""Tokens, the audit trail and health, over HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta

import httpx
import pytest

from iac import __version__
from iac.web.auth import RIGHTS
from tests.web.clients import ROLES, Client, Served
from tests.web.requests_of import fresh


@pytest.mark.parametrize("role", ROLES)
def test_show_me_200(api: Served, role: str) -> None:
    me = api.of(role).get("/me")
    assert me == {"name": role, "role": role, "rights": sorted(RIGHTS[role]), "version": __version__}


def test_create_token_201_shows_it_once(api: Served) -> None:
    name = fresh("ci")
    made = api.admin.post("/tokens", 201, json={"name": name, "role": "viewer"})
    assert (made["name"], made["role"], made["created_by"]) == (name, "viewer", "admin")
    assert (made["expires_at"], made["revoked_at"], made["last_used_at"]) == (None, None, None)
    client = Client(api.url, made["token"])
    assert client.get("/me")["name"] == name
    client.http.close()
    listed = api.admin.send("GET", "/tokens")
    assert made["token"] not in listed.text
    shown = next(item for item in listed.json()["items"] if item["id"] == made["id"])
    assert shown["token"] is None
    assert shown["last_used_at"] is not None
    assert made["token"] not in api.admin.send("GET", "/audit").text


def test_create_token_201_is_an_operator_unless_told_otherwise(api: Served) -> None:
    assert api.admin.post("/tokens", 201, json={"name": "default"})["role"] == "operator"


def test_create_token_201_with_an_end(api: Served) -> None:
    made = api.admin.post("/tokens", 201, json={"name": "short", "expires_in_s": 3600})
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert timedelta(minutes=59) < lasts < timedelta(minutes=61)


@pytest.mark.parametrize("seconds", [0, 59, -1, 10**10])
def test_create_token_422_for_a_life_that_is_too_short_or_too_long(api: Served, seconds: int) -> None:
    error = api.admin.post("/tokens", 422, json={"name": "x", "expires_in_s": seconds})
    assert error["path"] == "$.expires_in_s"


def test_list_tokens_200(api: Served) -> None:
    names = [item["name"] for item in api.admin.get("/tokens")["items"]]
    assert set(ROLES) <= set(names)


def test_revoke_token_204(api: Served) -> None:
    made = api.admin.post("/tokens", 201, json={"name": "leaked"})
    client = Client(api.url, made["token"])
    client.get("/me")
    assert api.admin.delete(f"/tokens/{made['id']}") == b""
    client.get("/me", 401)  # at once, on the connection that is open
    client.http.close()
    revoked = next(item for item in api.admin.get("/tokens")["items"] if item["id"] == made["id"])
    api.admin.delete(f"/tokens/{made['id']}")  # twice is no error, and changes nothing
    again = next(item for item in api.admin.get("/tokens")["items"] if item["id"] == made["id"])
    assert again["revoked_at"] == revoked["revoked_at"] is not None
    verbs = [entry["verb"] for entry in api.admin.get("/audit", params={"subject": made["id"]})["items"]]
    assert verbs[-2:] == ["token.revoke", "token.create"]


def only_one_admin(api: Served) -> str:
    """The id of the one admin's token that is left."""
    admins = [each for each in api.admin.get("/tokens")["items"] if each["role"] == "admin" and not each["revoked_at"]]
    own = next(each["id"] for each in admins if each["name"] == "admin")
    for each in admins:
        if each["id"] != own:
            api.admin.delete(f"/tokens/{each['id']}")
    return str(own)


def test_revoke_token_409_last_admin(api: Served) -> None:
    own = only_one_admin(api)
    error = api.admin.delete(f"/tokens/{own}", 409)
    assert error["code"] == "last_admin"
    assert "Create a new token with the role `admin` first" in error["message"]
    assert api.admin.get("/me")["role"] == "admin"


def test_list_audit_200_pages_newest_first(api: Served) -> None:
    ws = api.admin.workspace()
    for n in range(6):
        api.operator.patch(f"/workspaces/{ws}", json={"description": str(n)})
    subject = api.admin.get(f"/workspaces/{ws}")["id"]
    pages = list(api.admin.pages("/audit", limit=3, subject=subject))
    assert [len(page["items"]) for page in pages] == [3, 3, 1]
    entries = [entry for page in pages for entry in page["items"]]
    assert [entry["verb"] for entry in entries] == ["workspace.change"] * 6 + ["workspace.create"]
    assert [entry["id"] for entry in entries] == sorted((entry["id"] for entry in entries), reverse=True)
    assert [entry["actor"] for entry in entries] == ["operator"] * 6 + ["admin"]


def test_a_request_that_is_refused_leaves_no_trace_in_the_audit(api: Served) -> None:
    ws = api.admin.workspace()
    api.admin.post(f"/workspaces/{ws}/lock")
    subject = api.admin.get(f"/workspaces/{ws}")["id"]
    before = api.admin.get("/audit", params={"subject": subject})
    api.operator.post(f"/workspaces/{ws}/unlock", 409)
    api.operator.post(f"/workspaces/{ws}/unlock", 403, json={"force": True})
    api.operator.patch(f"/workspaces/{ws}", 422, json={"name": ""})
    assert api.admin.get("/audit", params={"subject": subject}) == before


def test_health_is_shown_without_a_token(api: Served) -> None:
    assert httpx.get(f"{api.url}/healthz").json() == {"status": "ok", "version": __version__, "database": None}
    assert httpx.get(f"{api.url}/readyz").json() == {"status": "ok", "version": __version__, "database": "ok"}


def test_show_health_200(api: Served) -> None:
    assert api.admin.get("/healthz")["status"] == "ok"


def test_show_readiness_200(api: Served) -> None:
    assert api.admin.get("/readyz")["database"] == "ok"
