"""The API's description: valid, complete, and true of real answers."""

from __future__ import annotations

import json

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from iac.web.openapi import path_of
from iac.web.routing import Operation
from tests.web.clients import Served
from tests.web.requests_of import ALL_OPERATIONS, BY_NAME, DOCUMENT, OPERATIONS, check


def test_the_description_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert not list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors())


def test_the_validator_would_notice() -> None:
    broken = json.loads(json.dumps(DOCUMENT))
    broken["paths"]["/api/v1/me"]["get"]["responses"]["200"] = {"content": {}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_the_server_serves_exactly_this_description_to_anybody(api: Served) -> None:
    response = httpx.get(f"{api.url}/api/v1/openapi.json")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == DOCUMENT


def test_every_operation_of_the_table_is_described_and_no_other() -> None:
    described = {
        (method.upper(), path, about["operationId"])
        for path, methods in DOCUMENT["paths"].items()
        for method, about in methods.items()
    }
    assert described == {(operation.method, path_of(operation), operation.name) for operation in ALL_OPERATIONS}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_is_described_with_all_that_it_may_answer(operation: Operation) -> None:
    about = DOCUMENT["paths"][path_of(operation)][operation.method.lower()]
    assert set(about["responses"]) == {str(status) for status in operation.statuses}
    assert about["summary"]
    assert about["tags"]
    assert (about["security"] == []) == (operation.right is None)
    assert about.get("x-iac-right") == operation.right
    assert about.get("x-iac-body-limit") == (operation.limit if operation.takes_body else None)
    named = {parameter["name"] for parameter in about["parameters"] if parameter["in"] == "path"}
    assert named == {part[1:-1] for part in path_of(operation).split("/") if part.startswith("{")}
    asked = {parameter["name"] for parameter in about["parameters"] if parameter["in"] == "query"}
    assert asked == set(operation.query.__struct_fields__)  # type: ignore[attr-defined]
    for code in operation.conflicts:
        assert code in about["responses"]["409"]["description"]


def test_operations_have_names_of_their_own() -> None:
    assert len(BY_NAME) == len(ALL_OPERATIONS)


def test_no_component_of_the_description_is_left_over() -> None:
    text = json.dumps(DOCUMENT)
    for name in DOCUMENT["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


def test_no_schema_of_an_answer_has_a_field_for_a_secret_that_is_not_shown_once() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    holders = {name for name, shape in schemas.items() if "token" in shape.get("properties", {})}
    assert holders == {"TokenView", "PoolTokenView", "LockView", "UnlockRequest"}


# Every answer that the tests of the API get goes through `check`. These show that it looks.


def _answer(status: int, body: object) -> httpx.Response:
    return httpx.Response(status, json=body)


def test_the_check_refuses_a_status_that_is_not_declared() -> None:
    with pytest.raises(AssertionError, match="not declared"):
        check(_answer(418, {}), BY_NAME["show_me"])


def test_the_check_refuses_an_answer_of_another_shape() -> None:
    with pytest.raises(Exception, match="'rights' is a required property"):
        check(_answer(200, {"name": "a", "role": "admin", "version": "1"}), BY_NAME["show_me"])


def test_the_check_refuses_an_error_without_a_code() -> None:
    with pytest.raises(Exception, match="'code' is a required property"):
        check(_answer(401, {"error": {"message": "x", "retryable": False}}), BY_NAME["show_me"])


def test_the_check_refuses_a_conflict_that_is_not_declared() -> None:
    error = {"error": {"code": "surprise", "message": "x", "retryable": False}}
    with pytest.raises(AssertionError, match="surprise"):
        check(_answer(409, error), BY_NAME["lock_workspace"])


def test_every_declared_schema_is_a_schema() -> None:
    for shape in DOCUMENT["components"]["schemas"].values():
        OAS31Validator.check_schema(shape)
