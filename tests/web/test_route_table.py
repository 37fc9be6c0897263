"""Every operation with every status that has the same cause everywhere; and that no operation is left without tests."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from iac.web.auth import RIGHTS
from iac.web.openapi import path_of
from iac.web.routing import Operation
from tests.harness.postgres import own_cluster
from tests.web.clients import ROLES, Served, served
from tests.web.requests_of import AGENT_OPERATIONS, ALL_OPERATIONS, OPERATIONS, Request, each, error_of, forged_for

MODULES = (
    "apart",
    "workspaces",
    "configurations",
    "variables",
    "resources",
    "tasks",
    "decisions",
    "logs",
    "log_reading",
    "live",
    "states",
    "access",
    "pools",
    "pool_agents",
)
GUARDED = [operation for operation in OPERATIONS if operation.right is not None]
WITH_PATH = [operation for operation in OPERATIONS if "<" in operation.path]


@pytest.fixture(scope="module")
def bad_tokens(api: Served) -> dict[str, str]:
    made = {name: api.admin.post("/tokens", 201, json={"name": name, "role": "admin"}) for name in ("old", "revoked")}
    api.admin.delete(f"/tokens/{made['revoked']['id']}")
    api.sql("UPDATE api_token SET expires_at = now() - interval '1 second' WHERE id = $1", made["old"]["id"])
    return {"unknown": "iac-" + "x" * 40, "expired": made["old"]["token"], "revoked": made["revoked"]["token"]}


# 401


@each(GUARDED)
def test_401_for_a_token_that_is_missing_unknown_expired_or_revoked(
    api: Served, bad_tokens: dict[str, str], operation: Operation
) -> None:
    headers = [{}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}]
    headers += [{"Authorization": f"Bearer {token}"} for token in bad_tokens.values()]
    with httpx.Client(base_url=api.url) as nobody:
        for each_one in headers:
            response = Request(operation).send(nobody, **each_one)
            assert error_of(response, 401)["code"] == "unauthenticated"
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="iac"'


def test_401_does_not_tell_an_expired_token_from_an_unknown_one(api: Served, bad_tokens: dict[str, str]) -> None:
    answers = {
        httpx.get(f"{api.url}/api/v1/me", headers={"Authorization": f"Bearer {token}"}).text
        for token in bad_tokens.values()
    }
    assert len(answers) == 1


@pytest.mark.parametrize("header", [b"Bearer " + b"x" * 600, "Bearer é".encode(), b"Bearer a b", b"bearer", b"Token x"])
def test_401_for_a_header_that_is_no_bearer_token(api: Served, header: bytes) -> None:
    response = httpx.get(f"{api.url}/api/v1/me", headers={b"Authorization": header})
    assert error_of(response, 401)["code"] == "unauthenticated"


def test_401_for_an_expired_token_even_if_it_was_good_a_moment_ago(api: Served) -> None:
    made = api.admin.post("/tokens", 201, json={"name": "short", "role": "viewer"})
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert httpx.get(f"{api.url}/api/v1/me", headers=headers).status_code == 200
    api.sql("UPDATE api_token SET expires_at = now() WHERE id = $1", made["id"])
    assert httpx.get(f"{api.url}/api/v1/me", headers=headers).status_code == 401


# 403


@each([operation for operation in GUARDED if 403 in operation.statuses])
def test_403_for_every_role_that_lacks_the_right(api: Served, operation: Operation) -> None:
    lacking = [role for role in ROLES if operation.right not in RIGHTS[role]]
    assert lacking
    for role in lacking:
        error = error_of(Request(operation).send(api.of(role).http), 403)
        assert (error["code"], error["right"]) == ("forbidden", operation.right)


@each(GUARDED)
def test_every_role_that_has_the_right_gets_past_the_guard(api: Served, operation: Operation) -> None:
    # With a query that is refused after the guard and before anything is done.
    for role in (role for role in ROLES if operation.right in RIGHTS[role]):
        assert Request(operation, params={"stranger": "1"}).send(api.of(role).http).status_code == 422


# 404, 405


@each(WITH_PATH)
def test_404_for_an_unknown_id_in_each_place_of_the_path(api: Served, workspace: str, operation: Operation) -> None:
    places = re.findall(r"{(\w+)}", path_of(operation))
    for at in range(len(places)):
        known = {"ws": workspace} if at else {}
        error = error_of(Request(operation, path=known).send(api.admin.http), 404)
        assert error["code"] in ("not_found", "no_plan")
        assert len(error["message"]) > 20


@each(WITH_PATH)
@pytest.mark.parametrize("odd", ["%00", "%ff", "%2e%2e", "9" * 40, "-1", "é", "a" * 3000, "'; DROP TABLE task"])
def test_404_or_422_for_an_id_that_nothing_could_have(
    api: Served, workspace: str, operation: Operation, odd: str
) -> None:
    places = re.findall(r"{(\w+)}", path_of(operation))
    for place in places:
        path = {"ws": workspace, place: odd}
        response = api.admin.http.request(operation.method, Request(operation, path=path).url)
        assert response.status_code in (404, 405, 415, 422), response.text


@each(OPERATIONS)
def test_405_for_a_method_that_the_path_does_not_take(api: Served, operation: Operation) -> None:
    taken = {other.method for other in ALL_OPERATIONS if path_of(other) == path_of(operation)}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - taken:
        response = api.admin.http.request(method, Request(operation).url)
        assert error_of(response, 405)["code"] == "method_not_allowed"
        assert taken <= set(response.headers["Allow"].replace(" ", "").split(","))


# 503


def test_503_from_every_operation_while_the_database_is_away_and_service_when_it_is_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("away")
    with own_cluster() as cluster, served(place, cluster.url) as server:
        ws = server.admin.workspace({"main.tf": 'resource "terraform_data" "a" {}'})
        cluster.stop()
        try:
            for operation in OPERATIONS:
                _refused_for_now(Request(operation).send(server.admin.http), operation)
            for operation in AGENT_OPERATIONS:
                token = {"Authorization": f"Bearer {forged_for(operation)}"}
                _refused_for_now(Request(operation).send(server.admin.http, **token), operation)
        finally:
            cluster.start()
        server.admin.get("/readyz")
        for operation in OPERATIONS:
            if operation.method == "GET" and "<" not in operation.path:
                assert Request(operation).send(server.admin.http).status_code == 200
        done = server.admin.until(server.admin.task(ws, "plan_and_apply", auto_apply=True), "succeeded")
        assert done["outcome"] == "applied"


def _refused_for_now(response: httpx.Response, operation: Operation) -> None:
    if operation.unavailable is None:
        assert response.status_code == 200
    elif operation.name == "show_readiness":
        assert response.status_code == 503
        assert response.json()["status"] == "degraded"
    else:
        error = error_of(response, 503)
        assert (error["code"], error["retryable"]) == ("db_unavailable", True)
        assert response.headers["Retry-After"] == "2"


# Completeness

GENERATED = {
    400: "test_400_for_a_body_that_is_not_json",
    401: "test_401_for_a_token_that_is_missing_unknown_expired_or_revoked",
    403: "test_403_for_every_role_that_lacks_the_right",
    404: "test_404_for_an_unknown_id_in_each_place_of_the_path",
    413: "test_413_for_an_announced_length_over_the_limit_before_any_of_it_is_sent",
    415: "test_415_for_another_content_type",
    422: "test_422_for_a_query_parameter_that_nobody_knows",
    503: "test_503_from_every_operation_while_the_database_is_away_and_service_when_it_is_back",
}


def named_tests() -> set[str]:
    """The names of all tests in the modules of the areas."""
    modules: list[ModuleType] = [importlib.import_module(f"tests.web.test_api_{area}") for area in MODULES]
    return {name for module in modules for name in vars(module) if name.startswith("test_")}


def generated_tests() -> set[str]:
    """The names of all tests that are made from the table."""
    modules = [importlib.import_module(f"tests.web.test_route_{part}") for part in ("table", "bodies")]
    return {name for module in modules for name in vars(module)}


def wanted_of(operation: Operation) -> list[str]:
    """What its own tests have to be called: its success, what only it refuses, and each reason for a conflict."""
    own = {operation.status, *operation.statuses} - GENERATED.keys() - {409}
    codes = [f"409_{code}" for code in operation.conflicts]
    return [f"test_{operation.name}_{what}" for what in (*sorted(own), *codes)]


@each(OPERATIONS)
def test_every_status_of_an_operation_has_a_test(operation: Operation) -> None:
    named = named_tests()
    missing = [name for name in wanted_of(operation) if not any(f"{test}_".startswith(f"{name}_") for test in named)]
    assert not missing
    assert {GENERATED[status] for status in GENERATED.keys() & set(operation.statuses)} <= generated_tests()


def test_every_module_of_the_areas_is_looked_at() -> None:
    files = {path.stem.removeprefix("test_api_") for path in Path(__file__).parent.glob("test_api_*.py")}
    assert files == set(MODULES)


def test_a_named_test_belongs_to_an_operation_and_a_status_that_it_declares() -> None:
    declared = {f"test_{operation.name}_{status}" for operation in OPERATIONS for status in operation.statuses}
    for name in named_tests():
        if found := re.match(r"test_(.+?)_(\d{3})(_|$)", name):
            assert f"test_{found[1]}_{found[2]}" in declared, name
