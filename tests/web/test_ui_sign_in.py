"""Signing in and out, over HTTP: cookies, forged requests, ends of sessions."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.harness.server import TOKEN
from tests.web.clients import Served
from tests.web.requests_of import error_of, fresh
from tests.web.test_api_access import only_one_admin
from tests.web.visitors import Visitor, visitor


@pytest.fixture
def stranger(api: Served) -> Iterator[Visitor]:
    with visitor(api.url, None) as made:
        yield made


@pytest.fixture
def anna(api: Served) -> Iterator[Visitor]:
    with visitor(api.url) as made:
        yield made


def test_a_page_asks_who_one_is_and_leads_back(stranger: Visitor) -> None:
    asked = stranger.get("/workspaces?q=a%20b&page=2")
    assert (asked.status_code, asked.headers["Location"]) == (303, "/login?next=%2Fworkspaces%3Fq%3Da%2520b%26page%3D2")
    form = stranger.get(asked.headers["Location"])
    assert 'name="next" value="/workspaces?q=a%20b&amp;page=2"' in form.text
    done = stranger.signs_in(next="/workspaces?q=a%20b&page=2")
    assert (done.status_code, done.headers["Location"]) == (303, "/workspaces?q=a%20b&page=2")
    assert stranger.get("/workspaces").status_code == 200
    assert stranger.get("/login?next=/workspaces").headers["Location"] == "/workspaces", "once is enough"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\/evil",
        "javascript:alert(1)",
        "",
        "/a\nb",
        "login",
    ],
)
def test_nobody_is_sent_to_another_site_after_signing_in(stranger: Visitor, elsewhere: str) -> None:
    assert stranger.signs_in(next=elsewhere).headers["Location"] == "/"


def test_the_cookie_is_for_the_server_alone(stranger: Visitor) -> None:
    told = stranger.signs_in().headers["Set-Cookie"]
    name, _, _ = told.partition("=")
    assert name == f"iac-{stranger.url.rpartition(':')[2]}", (
        "two servers on one host do not sign each other's people out"
    )
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in told.split(";")}
    assert "Secure" not in told
    assert TOKEN not in told


def test_the_cookie_is_another_one_each_time_and_the_old_one_is_over(anna: Visitor) -> None:
    old = anna.cookie
    anna.signs_in()
    assert anna.cookie != old
    with visitor(anna.url, None) as thief:
        name = next(iter(anna.http.cookies.keys()))
        assert thief.get("/", headers={"Cookie": f"{name}={old}"}).status_code == 303
        assert thief.get("/", headers={"Cookie": f"{name}={anna.cookie}"}).status_code == 200


@pytest.mark.parametrize("token", ["", "nonsense", "x" * 5000, "tökén", "'; DROP TABLE api_token"])
def test_a_bad_token_is_refused_and_is_not_shown_again(stranger: Visitor, token: str) -> None:
    refused = stranger.signs_in(token, next="/workspaces")
    assert refused.status_code in (401, 429)
    assert "Set-Cookie" not in refused.headers
    assert 'value="/workspaces"' in refused.text
    assert not token or token not in refused.text


def test_guessing_is_slowed_down_and_a_good_token_still_gets_in(stranger: Visitor) -> None:
    answers = [stranger.signs_in(f"guess-{n}") for n in range(12)]
    assert answers[-1].status_code == 429
    assert float(answers[-1].headers["Retry-After"]) > 0
    assert "Too many bad tokens" in answers[-1].text
    assert stranger.signs_in().status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": None},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_another_site_can_neither_sign_anybody_in_nor_do_anything_for_him(
    anna: Visitor, headers: dict[str, str | None]
) -> None:
    csrf = anna.csrf
    for path, form in (
        ("/login", {"token": TOKEN}),
        ("/logout", {"csrf": csrf}),
        ("/workspaces", {"csrf": csrf, "name": "x"}),
    ):
        refused = anna.post(path, data=form, headers=headers)
        assert (path, refused.status_code) == (path, 403)
    assert anna.get("/").status_code == 200


def test_a_change_needs_the_sessions_own_csrf_token(api: Served, anna: Visitor) -> None:
    name = fresh("w")
    with visitor(api.url) as other:
        for csrf in ("", "x", other.csrf, "é"):
            assert anna.post("/workspaces", data={"name": name, "csrf": csrf}).status_code == 403
    assert anna.post("/workspaces", data={"name": name, "csrf": anna.csrf}).status_code == 303
    assert anna.post("/workspaces", data={"name": fresh("w")}, headers={"X-CSRF-Token": anna.csrf}).status_code == 303
    assert anna.post(
        "/workspaces", data={"name": "x", "csrf": anna.csrf}, headers={"Sec-Fetch-Site": "same-origin"}
    ).is_redirect


def test_signing_out_ends_the_session_and_not_only_the_cookie(anna: Visitor) -> None:
    name, cookie = next(iter(anna.http.cookies.items()))
    assert anna.post("/logout", data={"csrf": "wrong"}).status_code == 403
    done = anna.post("/logout", data={"csrf": anna.csrf})
    assert (done.status_code, done.headers["Location"]) == (303, "/login")
    assert anna.get("/", headers={"Cookie": f"{name}={cookie}"}).status_code == 303
    assert anna.post("/logout").status_code == 303, "twice is no error"


def test_a_session_ends_with_its_token(api: Served) -> None:
    made = api.admin.post("/tokens", 201, json={"name": fresh("t"), "role": "viewer"})
    with visitor(api.url, made["token"]) as guest:
        assert guest.get("/").status_code == 200
        api.admin.delete(f"/tokens/{made['id']}")
        assert guest.get("/").status_code == 303


def test_the_last_admin_cannot_shut_everybody_out(api: Served, anna: Visitor) -> None:
    answer = anna.asks(f"/tokens/{only_one_admin(api)}/revoke")
    assert answer.status_code == 409
    assert "the last token of an admin" in answer.headers["HX-Trigger"]
    assert anna.get("/tokens").status_code == 200


def test_a_script_whose_session_is_over_is_told_so_and_can_sign_in_where_it_is(api: Served, anna: Visitor) -> None:
    script = {"HX-Request": "true", "HX-Trigger": "again-form"}
    api.sql("DELETE FROM browser_session")
    for answer in (
        anna.get("/workspaces", headers=script),
        anna.post("/workspaces", data={"name": "x"}, headers=script),
    ):
        assert answer.status_code == 204
        assert json.loads(answer.headers["HX-Trigger"]) == {"signed_out": True}
        assert "HX-Redirect" not in answer.headers
    refused = anna.post("/login", data={"token": "nonsense"}, headers=script)
    assert json.loads(refused.headers["HX-Trigger"])["refused"]["field"] == "token"
    done = anna.post("/login", data={"token": TOKEN}, headers=script)
    told = json.loads(done.headers["HX-Trigger"])["signed_in"]
    assert (done.status_code, told["name"]) == (204, "admin")
    name = fresh("w")
    assert anna.post("/workspaces", data={"name": name}, headers={**script, "X-CSRF-Token": told["csrf"]}).is_success


def test_a_page_from_before_signing_in_anew_is_put_right_for_its_script_alone(api: Served, anna: Visitor) -> None:
    stale, name = anna.csrf, fresh("w")
    anna.signs_in()
    script = {"HX-Request": "true", "HX-Trigger": "x-form", "X-CSRF-Token": stale}
    refused = anna.post("/workspaces", data={"name": name}, headers=script)
    told = json.loads(refused.headers["HX-Trigger"])
    assert (refused.status_code, told["signed_in"]["csrf"]) == (403, anna.csrf)
    assert "send it once more" in told["refused"]["says"]
    for elsewhere in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": None}):
        forged = anna.post("/workspaces", data={"name": name}, headers={**script, **elsewhere})
        assert forged.status_code == 403
        assert "signed_in" not in forged.headers.get("HX-Trigger", "")
    assert not api.admin.get("/workspaces", params={"search": name})["items"]


def test_a_script_can_ask_whether_another_tab_has_signed_in(anna: Visitor, stranger: Visitor) -> None:
    script = {"HX-Request": "true"}
    assert json.loads(anna.get("/login", headers=script).headers["HX-Trigger"])["signed_in"]["csrf"] == anna.csrf
    assert json.loads(stranger.get("/login", headers=script).headers["HX-Trigger"]) == {"signed_out": True}


def test_without_scripts_one_comes_back_to_the_page_that_the_form_was_on(api: Served, stranger: Visitor) -> None:
    sent = stranger.post("/agents/agent-x/approve", headers={"Referer": f"{api.url}/agents/agent-x"})
    assert sent.headers["Location"] == "/login?next=%2Fagents%2Fagent-x"
    elsewhere = stranger.post("/workspaces", headers={"Referer": "https://evil.example/agents"})
    assert elsewhere.headers["Location"] == "/login?next=%2Fworkspaces"


def test_a_cookie_in_use_for_long_is_replaced_and_the_session_goes_on(api: Served, anna: Visitor) -> None:
    old, csrf = anna.cookie, anna.csrf
    assert "Set-Cookie" not in anna.get("/").headers
    api.sql("UPDATE browser_session SET rotated_at = now() - interval '2 hours'")
    answer = anna.get("/")
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    assert anna.cookie != old
    assert anna.csrf == csrf, "pages that are open go on"


def test_use_is_noted_on_the_session_and_its_token(api: Served) -> None:
    made = api.admin.post("/tokens", 201, json={"name": fresh("t"), "role": "viewer"})
    with visitor(api.url, made["token"]) as guest:
        api.sql("UPDATE browser_session SET seen_at = now() - interval '1 hour' WHERE token_id = $1", made["id"])
        guest.get("/")
        [row] = api.rows(
            """SELECT s.seen_at > now() - interval '1 minute' AS seen, t.last_used_at IS NOT NULL AS used
               FROM browser_session s JOIN api_token t ON t.id = s.token_id WHERE t.id = $1""",
            made["id"],
        )
        assert (row["seen"], row["used"]) == (True, True)


def test_the_api_takes_the_cookie_for_reading_and_with_the_csrf_token_for_more(api: Served, anna: Visitor) -> None:
    assert anna.get("/api/v1/me").json()["name"] == "admin"
    body = {"name": fresh("w")}
    assert error_of(anna.post("/api/v1/workspaces", json=body), 403)["code"] == "csrf"
    headers = {"X-CSRF-Token": anna.csrf}
    assert error_of(anna.post("/api/v1/workspaces", json=body, headers={**headers, "Origin": "http://evil"}), 403)
    assert anna.post("/api/v1/workspaces", json=body, headers=headers).status_code == 201
    api.sql("DELETE FROM browser_session")
    assert error_of(anna.get("/api/v1/me"), 401)["code"] == "unauthenticated"


def test_a_token_that_is_sent_counts_and_not_the_cookie_beside_it(api: Served, anna: Visitor) -> None:
    answer = anna.get("/api/v1/me", headers={"Authorization": "Bearer nonsense"})
    assert error_of(answer, 401)["code"] == "unauthenticated"


def test_what_was_refused_is_counted_in_the_audit_without_the_token(api: Served, stranger: Visitor) -> None:
    stranger.signs_in("a-very-particular-guess")
    assert httpx.get(f"{api.url}/healthz").status_code == 200
    assert "a-very-particular-guess" not in str(api.rows("SELECT a::text FROM audit a"))


def test_behind_tls_the_cookie_never_travels_in_clear(stranger: Visitor) -> None:
    told = stranger.post("/login", data={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"}).headers["Set-Cookie"]
    assert told.startswith("__Host-iac")
    assert {"Secure", "HttpOnly", "Path=/"} <= {part.strip() for part in told.split(";")}
    assert "Domain" not in told
