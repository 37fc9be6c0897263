"""Every operation with every body and query that it refuses, or must bear."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import get_type_hints

import httpx
import msgspec
import pytest

from iac.web.routing import JSON, MIB, NoQuery, Operation
from tests.harness.server import PATIENT
from tests.web.clients import Served
from tests.web.requests_of import MINIMAL, OPERATIONS, Request, each, error_of, fresh

WITH_JSON = [operation for operation in OPERATIONS if operation.body is not None]
WITH_BODY = [operation for operation in OPERATIONS if operation.takes_body]
WITH_QUERY = [operation for operation in OPERATIONS if operation.query is not NoQuery]


def _requires(body: type) -> bool:
    return any(entry.required for entry in msgspec.structs.fields(body))


# 400, 415


@each(WITH_JSON)
@pytest.mark.parametrize("body", [b"{", b"nonsense", b'{"\xff": 1}', b'"\\ud800"', b" "])
def test_400_for_a_body_that_is_not_json(api: Served, operation: Operation, body: bytes) -> None:
    error = error_of(Request(operation, body=body, content_type=JSON).send(api.admin.http), 400)
    assert error["code"] == "bad_json"


@each(WITH_JSON)
def test_400_for_something_behind_the_json(api: Served, operation: Operation) -> None:
    body = msgspec.json.encode(MINIMAL.get(operation.name, {})) + b" x"
    error = error_of(Request(operation, body=body, content_type=JSON).send(api.admin.http), 400)
    assert error["code"] == "bad_json"


@each(WITH_JSON)
def test_json_that_is_nested_without_end_is_refused_and_no_fault_of_the_server(
    api: Served, workspace: str, operation: Operation
) -> None:
    assert operation.body is not None
    for entry in msgspec.structs.fields(operation.body):
        for depth in (100, 500, 900, 20_000):
            nested = msgspec.Raw(f'{{"a": {"[" * depth}{"]" * depth}}}'.encode())
            body = {**MINIMAL.get(operation.name, {}), entry.name: nested}
            response = Request(operation, {"ws": workspace}, body).send(api.admin.http)
            assert response.status_code < 500
            assert depth < 1000 or response.status_code in (400, 422)


@each(WITH_BODY)
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_415_for_another_content_type(api: Served, operation: Operation, content_type: str) -> None:
    error = error_of(Request(operation, body=b"{}", content_type=content_type).send(api.admin.http), 415)
    assert error["code"] == "wrong_content_type"
    assert JSON in error["message"]


@each(WITH_BODY)
def test_415_for_a_body_without_a_content_type(api: Served, operation: Operation) -> None:
    response = api.admin.http.request(operation.method, Request(operation).url, content=b"{}")
    assert error_of(response, 415)["code"] == "wrong_content_type"


@each(WITH_JSON)
def test_a_charset_beside_the_content_type_is_no_reason_to_refuse(api: Served, operation: Operation) -> None:
    request = Request(operation, body=b"{", content_type="application/json; charset=utf-8")
    assert error_of(request.send(api.admin.http), 400)["code"] == "bad_json"


# 413


@each(WITH_BODY)
def test_413_for_an_announced_length_over_the_limit_before_any_of_it_is_sent(api: Served, operation: Operation) -> None:
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=PATIENT)
    connection.putrequest(operation.method, Request(operation).url)
    connection.putheader("Content-Type", JSON if operation.body is not None else operation.raw_body[0])
    connection.putheader("Content-Length", str(operation.limit + 1))
    connection.endheaders()
    response = connection.getresponse()
    error = msgspec.json.decode(response.read())["error"]
    connection.close()
    assert (response.status, error["code"]) == (413, "too_large")
    assert error["limit"] == operation.limit


@each([operation for operation in WITH_BODY if operation.limit <= MIB])
def test_413_for_more_than_the_limit_though_nothing_was_announced(api: Served, operation: Operation) -> None:
    def flood() -> Iterator[bytes]:
        for _ in range(operation.limit // 4096):
            yield b" " * 4096
        yield b"{}"

    response = api.admin.http.request(
        operation.method, Request(operation).url, content=flood(), headers={"Content-Type": JSON}
    )
    error = error_of(response, 413)
    assert (error["code"], error["limit"]) == ("too_large", operation.limit)


@each([operation for operation in WITH_JSON if operation.limit <= MIB])
def test_a_body_of_exactly_the_limit_is_read(api: Served, operation: Operation) -> None:
    body = b'{"stranger":1}'.rjust(operation.limit)
    assert Request(operation, body=body, content_type=JSON).send(api.admin.http).status_code == 422


def test_large_bodies_one_after_the_other_on_one_connection_are_all_answered(api: Served) -> None:
    """A client that has its answer may send the next request before our handler has returned."""
    with httpx.Client(base_url=api.url, headers=api.viewer.http.headers) as client:
        for _ in range(100):
            headers = {"Content-Type": JSON}
            response = client.post("/api/v1/workspaces", content=b"{}".rjust(70_000), headers=headers)
            assert response.status_code == 403


# 422


@each(OPERATIONS)
def test_422_for_a_query_parameter_that_nobody_knows(api: Served, operation: Operation) -> None:
    error = error_of(Request(operation, params={"stranger": "1"}).send(api.admin.http), 422)
    assert (error["code"], error["path"]) == ("invalid", "$.stranger")


@each(WITH_QUERY)
def test_422_for_a_query_parameter_of_the_wrong_type(api: Served, workspace: str, operation: Operation) -> None:
    kinds = get_type_hints(operation.query)
    known = {"ws": workspace}
    for name, kind in kinds.items():
        wrong = {"limit": ["0", "-1", "x", "1e400", "99999999999999999999"]}.get(name, [])
        if kind in (bool, bool | None):
            wrong = ["maybe", "2"]
        elif not wrong and kind in (int, int | None):
            wrong = ["x", "", "1.5"]
        for value in wrong:
            error = error_of(Request(operation, known, params={name: value}).send(api.admin.http), 422)
            assert error["path"] in (f"$.{name}", "$"), error
            assert name in error["message"] or error["path"] == f"$.{name}"


@each([operation for operation in WITH_QUERY if "cursor" in operation.query.__struct_fields__])  # type: ignore[attr-defined]
def test_422_or_an_empty_page_for_a_cursor_from_nowhere(api: Served, workspace: str, operation: Operation) -> None:
    pool = fresh("pool")
    api.admin.post("/agent-pools", 201, json={"name": pool})
    for cursor in ("x-0000000000000000", "99999999999999999999999", "\0"):
        response = Request(operation, {"ws": workspace, "pool": pool}, params={"cursor": cursor}).send(api.admin.http)
        if operation.name == "list_workspaces" and "\0" not in cursor:
            assert response.status_code == 200  # its cursor is a name, and names may be deleted between two pages
        else:
            assert response.status_code == 422, response.text


@each(WITH_JSON)
def test_422_for_a_field_that_nobody_knows(api: Served, operation: Operation) -> None:
    body = {**MINIMAL.get(operation.name, {}), "stranger": 1}
    error = error_of(Request(operation, body=body).send(api.admin.http), 422)
    assert (error["code"], error["path"]) == ("invalid", "$")
    assert "`stranger`" in error["message"]


@each(WITH_JSON)
def test_422_for_a_value_of_the_wrong_type_names_the_field(api: Served, operation: Operation) -> None:
    assert operation.body is not None
    for entry in msgspec.structs.fields(operation.body):
        body = {**MINIMAL.get(operation.name, {}), entry.name: [[]]}
        error = error_of(Request(operation, body=body).send(api.admin.http), 422)
        assert error["code"] == "invalid"
        assert error["path"].startswith(f"$.{entry.name}")
        assert "Expected" in error["message"]


@each([operation for operation in WITH_JSON if operation.body and _requires(operation.body)])
def test_422_for_a_required_field_that_is_missing(api: Served, operation: Operation) -> None:
    error = error_of(Request(operation, body={}).send(api.admin.http), 422)
    assert error["message"]


@each(WITH_JSON)
@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"7"])
def test_422_for_json_that_is_not_an_object(api: Served, operation: Operation, body: bytes) -> None:
    error = error_of(Request(operation, body=body, content_type=JSON).send(api.admin.http), 422)
    assert error["path"] == "$"


@each(WITH_JSON)
def test_no_value_that_fits_its_type_is_a_fault_of_the_server(
    api: Served, workspace: str, operation: Operation
) -> None:
    """What JSON can say and the database cannot keep."""
    assert operation.body is not None
    odd = ["\0", "a\0b", 2**63, -(2**63) - 1, 10**30, {"a\0": "b\0"}, ["\0"], "\U0010ffff", "é" * 500]
    for entry in msgspec.structs.fields(operation.body):
        for value in odd:
            body = (
                {**MINIMAL.get(operation.name, {}), "name": fresh("odd")}
                if "name" in MINIMAL.get(operation.name, {})
                else dict(MINIMAL.get(operation.name, {}))
            )
            body[entry.name] = value
            response = Request(operation, {"ws": workspace}, body=body).send(api.admin.http)
            assert response.status_code < 500


@each(WITH_QUERY)
def test_no_query_is_a_fault_of_the_server(api: Served, workspace: str, operation: Operation) -> None:
    for name in operation.query.__struct_fields__:  # type: ignore[attr-defined]
        for value in ("\0", "%", "_", "\\", "'", "9223372036854775808", "-9223372036854775809", "é" * 2000):
            response = Request(operation, {"ws": workspace}, params={name: value}).send(api.admin.http)
            assert response.status_code < 500
