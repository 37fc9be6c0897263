"""The route table as tests see it: the least request for each operation, and whether an answer is a declared one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any, cast

import httpx
import msgspec
import pytest
from openapi_schema_validator import OAS31Validator

from iac.domain.agent_tokens import Kind, make_token
from iac.web.app import api_of
from iac.web.openapi import document, path_of
from iac.web.platform import Platform
from iac.web.routing import JSON, Operation

ALL_OPERATIONS: tuple[Operation, ...] = tuple(api_of(cast(Platform, None)).operations)
OPERATIONS: tuple[Operation, ...] = tuple(operation for operation in ALL_OPERATIONS if operation.auth == "user")
"""The user API. Declaring needs no platform, only answering does."""
AGENT_OPERATIONS: tuple[Operation, ...] = tuple(operation for operation in ALL_OPERATIONS if operation.auth != "user")
"""What agents call; test_agent_table.py holds their statuses against tests."""
BY_NAME = {operation.name: operation for operation in ALL_OPERATIONS}
DOCUMENT: dict[str, Any] = json.loads(document(ALL_OPERATIONS))
LINEAGE = "3f0c8a52-6d5d-4c55-9d2a-0a6e8c1d7b11"
_numbers = count(1)


def state(
    serial: int, lineage: str = LINEAGE, *, resources: int = 0, outputs: Mapping[str, Any] | None = None
) -> bytes:
    """A state file whose bytes nobody's encoder would write exactly like this."""
    instances = [{"schema_version": 0, "attributes": {"id": str(n)}, "index_key": n} for n in range(resources)]
    block = {"mode": "managed", "type": "terraform_data", "name": "a", "instances": instances}
    block["provider"] = 'provider["terraform.io/builtin/terraform"]'
    content = {"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": lineage}
    content |= {"outputs": dict(outputs or {}), "resources": [block] if resources else [], "check_results": None}
    return json.dumps(content, indent=3).encode() + b"\n \n"


MINIMAL: dict[str, Any] = {
    "create_workspace": {"name": "unused"},
    "create_variable": {"key": "k", "value": "v"},
    "create_resource": {"type": "terraform_data", "name": "a", "body": {}},
    "change_resource": {"body": {}},
    "put_configuration": {"files": {"main.tf": ""}},
    "create_task": {"action": "plan"},
    "create_token": {"name": "unused"},
    "create_pool": {"name": "unused"},
    "create_pool_token": {"name": "unused"},
    "upload_state": state(1),
}
"""The least that each operation takes for a body; those that are not here take an empty object."""


def forged(kind: Kind) -> str:
    """A token of that kind that is right in itself, and that nobody gave out."""
    return make_token(kind, b"\x07" * 32)


def forged_for(operation: Operation) -> str:
    """One of the kind that the operation takes first."""
    return forged({"pool": "pool", "task": "task"}.get(operation.auth, "session"))  # type: ignore[arg-type]


def fresh(prefix: str) -> str:
    """A name that no other test has."""
    return f"{prefix}-{next(_numbers)}"


@dataclass(frozen=True)
class Request:
    """A request for an operation: what is not given is the least that the operation takes."""

    operation: Operation
    path: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        unknown = {"ws": "ws-0000000000000000", "task_id": "4611686018427387904", "serial": "7"}
        return re.sub(
            r"{(\w+)}", lambda m: {**unknown, **self.path}.get(m[1], "x-0000000000000000"), path_of(self.operation)
        )

    def send(self, client: httpx.Client, **headers: str) -> httpx.Response:
        operation = self.operation
        content = None
        if operation.takes_body:
            body = self.body if self.body is not None else MINIMAL.get(operation.name, {})
            content = body if isinstance(body, bytes) else msgspec.json.encode(body)
            raw = operation.body is None
            headers["Content-Type"] = self.content_type or (operation.raw_body[-1] if raw else JSON)
        asked = client.build_request(
            operation.method, self.url, params=dict(self.params) or None, content=content, headers=headers
        )
        response = client.send(asked, stream=operation.raw_answer == "text/event-stream")
        if not response.is_success:
            response.read()
        check(response, operation)
        response.close()
        return response


@cache
def _patterns() -> list[tuple[str, re.Pattern[str], Operation]]:
    return [
        (operation.method, re.compile(re.sub(r"{\w+}", "[^/]+", path_of(operation))), operation)
        for operation in OPERATIONS
    ]


def operation_of(method: str, path: str) -> Operation | None:
    """The operation that a request is for."""
    found = [op for verb, pattern, op in _patterns() if verb == method and pattern.fullmatch(path)]
    return min(found, key=lambda op: op.path.count("<")) if found else None


@cache
def validator(name: str, status: int) -> OAS31Validator | None:
    """For the declared JSON answer of this status; None if no JSON is declared."""
    operation = BY_NAME[name]
    declared = DOCUMENT["paths"][path_of(operation)][operation.method.lower()]["responses"][str(status)]
    shape = declared.get("content", {}).get(JSON, {}).get("schema")
    if shape is None:
        return None
    return OAS31Validator({**shape, "components": DOCUMENT["components"]})


def check(response: httpx.Response, operation: Operation) -> None:
    """Whether the answer is one that the API description promises."""
    where = f"{operation.name}: {response.status_code}"
    assert response.status_code in operation.statuses, f"{where} is not declared: {_text(response)}"
    success = response.status_code == operation.status
    if success and operation.raw_answer is not None:
        assert response.headers["Content-Type"].startswith(operation.raw_answer), where
    elif response.status_code == 204:
        assert response.content == b""
    else:
        assert response.headers["Content-Type"] == JSON, where
        shape = validator(operation.name, response.status_code)
        assert shape is not None, where
        shape.validate(response.json())
    if response.status_code == 409:
        assert response.json()["error"]["code"] in operation.conflicts, f"{where} {response.text}"
    if response.status_code == 422:
        assert response.json()["error"]["message"]


def _text(response: httpx.Response) -> str:
    return "a stream" if not response.is_closed and not response.is_stream_consumed else response.text[:2000]


def each(operations: Iterable[Operation]) -> pytest.MarkDecorator:
    """The test once for each operation, under its name."""
    return pytest.mark.parametrize("operation", operations, ids=lambda operation: operation.name)


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """What is inside `error`, if the answer has this status."""
    assert response.status_code == status, f"{response.request.method} {response.request.url}: {response.text}"
    error: dict[str, Any] = response.json()["error"]
    return error
