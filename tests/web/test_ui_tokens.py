"""Pages of pool tokens and API tokens over HTTP: each is shown only once."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.web.clients import Served
from tests.web.deeds import SHEET, done, refused
from tests.web.http_agent import register_body
from tests.web.pools_of import a_pool, a_token, verbs
from tests.web.requests_of import fresh
from tests.web.visitors import Visitor, visitor


@pytest.fixture(scope="module")
def anna(api: Served) -> Iterator[Visitor]:
    with visitor(api.url) as made:
        yield made


def test_a_token_is_shown_once_with_the_commands_that_use_it(api: Served, anna: Visitor) -> None:
    pool = a_pool(api)
    made = anna.asks(f"/agents/pools/{pool}/tokens", data={"name": "hosts", "lifetime": "86400"}, headers=SHEET)
    assert made.status_code == 200
    assert made.headers["Cache-Control"] == "no-store"
    found = re.search(r'id="once">([^<]+)<', made.text)
    assert found is not None
    token = found[1]
    assert "<html" not in made.text  # it goes into the dialog that asked
    assert api.url in made.text
    assert made.text.count("<details") == 4
    assert token not in str(made.headers)
    kept = api.admin.get(f"/agent-pools/{pool}/tokens")["items"][0]
    assert (kept["name"], kept["expires_at"] is None) == ("hosts", False)
    assert token not in anna.get(f"/agents/pools/{pool}").text
    bearer = {"Authorization": f"Bearer {token}"}
    joined = httpx.post(f"{api.url}/api/v1/agents/register", json=register_body(), headers=bearer)
    assert joined.status_code == 201, joined.text


def test_without_scripts_the_token_is_a_page(api: Served, anna: Visitor) -> None:
    pool = a_pool(api)
    page = anna.post(f"/agents/pools/{pool}/tokens", data={"name": "hosts", "csrf": anna.csrf})
    assert page.status_code == 200
    assert "<html" in page.text
    assert "iacp_" in page.text


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 91}, "name"),
        ({"lifetime": "17"}, "lifetime"),
        ({"lifetime": "x"}, "lifetime"),
    ],
)
def test_what_is_wrong_with_a_token_is_told_at_its_field(
    api: Served, anna: Visitor, given: dict[str, str], field: str
) -> None:
    pool = a_pool(api)
    for path in (f"/agents/pools/{pool}/tokens", "/tokens"):
        assert refused(anna.asks(path, data={"name": "t", **given}, headers=SHEET))[0] == field
    assert api.admin.get(f"/agent-pools/{pool}/tokens")["items"] == []


def test_a_rotated_token_is_good_for_a_while_and_rotated_only_once(api: Served, anna: Visitor) -> None:
    pool = a_pool(api)
    path = f"/agents/pools/{pool}/tokens/{a_token(api, pool)['id']}/rotate"
    made = anna.asks(path, data={"overlap": "7200"}, headers=SHEET)
    assert "iacp_" in made.text
    old, new = api.admin.get(f"/agent-pools/{pool}/tokens")["items"]
    assert (old["replaced_by"], old["expires_at"] is None, new["name"]) == (new["id"], False, "t")
    assert "rotated already" in refused(anna.asks(path, data={"overlap": "0"}, headers=SHEET), 409)[1]
    assert refused(anna.asks(path, data={"overlap": "-1"}, headers=SHEET))[0] == "overlap"
    assert "Being replaced" in anna.get(f"/agents/pools/{pool}").text


def test_a_token_is_revoked_softly_at_once_and_hard_by_its_typed_name(api: Served, anna: Visitor) -> None:
    pool = a_pool(api)
    token = a_token(api, pool)["id"]
    path = f"/agents/pools/{pool}/tokens/{token}/revoke"
    assert refused(anna.asks(path, data={"mode": "hard", "typed": "T"}, headers=SHEET))[0] == "typed"
    assert "finish what they have" in done(anna.asks(path, data={"mode": "soft"}))
    assert 'name="mode" value="hard"' in anna.get(path).text
    assert "shut out" in done(anna.asks(path, data={"mode": "hard", "typed": "t"}))
    assert verbs(api, token) == ["pool_token.revoke", "pool_token.revoke", "pool_token.create"]


def test_an_api_token_is_made_shown_once_used_and_revoked(api: Served, anna: Visitor) -> None:
    name = fresh("ci")
    made = anna.asks("/tokens", data={"name": name, "role": "viewer", "lifetime": "0"}, headers=SHEET)
    found = re.search(r'id="once">([^<]+)<', made.text)
    assert found is not None
    with visitor(api.url, found[1]) as guest:
        assert guest.get("/tokens").status_code == 403
        assert name in anna.get("/tokens").text
        token = next(each["id"] for each in api.admin.get("/tokens")["items"] if each["name"] == name)
        assert done(anna.asks(f"/tokens/{token}/revoke")) == f"{name} is revoked."
        assert guest.get("/").status_code == 303
    assert refused(anna.asks("/tokens", data={"name": "n", "role": "king"}, headers=SHEET))[0] == "role"


def test_who_revokes_his_own_token_is_warned_and_is_out(api: Served, anna: Visitor) -> None:
    made = api.admin.post("/tokens", 201, json={"name": fresh("own"), "role": "admin"})
    with visitor(api.url, made["token"]) as person:
        path = f"/tokens/{made['id']}/revoke"
        assert "You are signed in with this token" in person.get(path).text
        assert "You are signed in with this token" not in anna.get(path).text
        assert done(person.asks(path)) == "/tokens"
        assert person.get("/tokens").headers["Location"].startswith("/login")
