"""The API's description, OpenAPI 3.1, made from the route table and the bodies' own types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from iac import __version__
from iac.domain.bodies import ErrorView
from iac.web.routing import JSON, KEY, LONGEST_KEY, NoQuery, Operation

_KINDS = ("user", "pool", "session", "task")
_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"<(?:(\w+)(?:\([^)]*\))?:)?(\w+)>")
_REASONS = {
    400: "The body is not JSON, or not what its type says.",
    401: "No valid token.",
    403: "The token lacks the right.",
    404: "There is no such thing.",
    410: "It was given out, and is not given out again.",
    409: "The thing is not in a state that allows this.",
    413: "The body is over the limit.",
    415: "The body has the wrong content type.",
    422: "A value is not acceptable; `path` says which.",
    426: "No version of the protocol in common.",
    429: "Too much at once; `retry_after_s` says when to go on.",
    503: "Not now; try again.",
    507: "The disk has no room; nothing was stored.",
}


def document(operations: Sequence[Operation]) -> bytes:
    """The whole description as JSON."""
    types = _types(operations)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for operation in operations:
        paths.setdefault(path_of(operation), {})[operation.method.lower()] = _operation(operation, by_type)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "IAC", "version": __version__, "description": "Runs Terraform for teams."},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {f"{kind}_token": {"type": "http", "scheme": "bearer"} for kind in _KINDS},
            },
        }
    )


def path_of(operation: Operation) -> str:
    """The path with its parameters as OpenAPI writes them."""
    return _PARAMETER.sub(r"{\2}", operation.path)


def _types(operations: Sequence[Operation]) -> list[Any]:
    found: list[Any] = [ErrorView]
    for operation in operations:
        for kind in (operation.body, operation.answer, operation.unavailable):
            if kind is not None and kind not in found:
                found.append(kind)
    return found


def _operation(operation: Operation, schemas: dict[Any, dict[str, Any]]) -> dict[str, object]:
    described: dict[str, object] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_key_parameter(operation)],
        "responses": {str(status): _response(operation, status, schemas) for status in operation.statuses},
        "security": [{f"{kind}_token": []} for kind in operation.auth.split("_or_")] if operation.guarded else [],
    }
    if operation.right is not None:
        described["x-iac-right"] = operation.right
    if operation.takes_body:
        described["requestBody"] = {"required": True, "content": _content(operation, schemas)}
        described["x-iac-body-limit"] = operation.limit
    return described


def _content(operation: Operation, schemas: dict[Any, dict[str, Any]]) -> dict[str, object]:
    content: dict[str, object] = {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in operation.raw_body
    }
    if operation.body is not None:
        content[JSON] = {"schema": schemas[operation.body]}
    return content


def _response(operation: Operation, status: int, schemas: dict[Any, dict[str, Any]]) -> dict[str, object]:
    if status >= 300:
        codes = f" Codes: {', '.join(operation.conflicts)}." if status == 409 else ""
        kind = operation.unavailable if status == 503 else ErrorView
        return {"description": _REASONS[status] + codes, "content": {JSON: {"schema": schemas[kind]}}}
    if operation.answer is not None:
        return {"description": "Done.", "content": {JSON: {"schema": schemas[operation.answer]}}}
    if operation.raw_answer is not None:
        return {"description": "Done.", "content": {operation.raw_answer: {}}}
    return {"description": "Done."}


def _path_parameters(operation: Operation) -> list[dict[str, object]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer" if kind == "int" else "string"}}
        for kind, name in _PARAMETER.findall(operation.path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, object]]:
    if operation.query is NoQuery:
        return []
    schema = msgspec.json.schema(operation.query)
    _, definition = next(iter(schema["$defs"].items()))
    about = inspect.getdoc(operation.query) or ""
    return [
        {"name": name, "in": "query", "required": False, "schema": shape, "description": about}
        for name, shape in definition["properties"].items()
    ]


def _key_parameter(operation: Operation) -> list[dict[str, object]]:
    if not operation.keyed:
        return []
    about = "The same request under the same key is carried out once, and answered with what it made the first time."
    shape = {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY}
    return [{"name": KEY, "in": "header", "required": False, "schema": shape, "description": about}]
