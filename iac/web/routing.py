"""The route table: every operation of the API is declared once, and server, tests and API description read it.

A handler gets a `Call` whose parts are decoded already, and returns a view, or a Response for raw bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from iac.domain.bodies import ErrorView
from iac.domain.records import ApiToken
from iac.errors import BadRequest, Invalid, WrongContentType
from iac.web.auth import RIGHTS, Auth, Authenticate, Right, require

KIB, MIB = 1024, 1024 * 1024
JSON = "application/json"
KEY, LONGEST_KEY = "Idempotency-Key", 200
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
B = TypeVar("B")
Q = TypeVar("Q")


class NoQuery(msgspec.Struct, frozen=True):
    """For operations without query parameters."""


@dataclass(frozen=True, slots=True)
class Call(Generic[B, Q]):
    """A decoded request. `body` is None where the operation has none, bytes where it is raw."""

    caller: Any
    """The record that the token stands for: an ApiToken unless the operation's `auth` says otherwise; None without one."""
    path: Mapping[str, Any]
    query: Q
    body: B
    content_type: str
    key: str | None = None
    """The Idempotency-Key, where the operation knows them: under one key a request is carried out once."""

    @property
    def by(self) -> str:
        """Who calls, as it is written into records."""
        if isinstance(self.caller, ApiToken):
            return self.caller.name
        return "anonymous" if self.caller is None else str(self.caller.id)


Handler = Callable[[Call[Any, Any]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `conflicts` are the 409 codes that it may answer with, `also` statuses beside the usual ones.

    `auth` is the kind of token that it takes; a `right` is asked of users only.
    """

    method: Method
    path: str
    name: str
    summary: str
    handler: Handler
    tag: str
    right: Right | None
    body: type | None = None
    raw_body: tuple[str, ...] = ()
    query: type = NoQuery
    answer: type | None = None
    raw_answer: str | None = None
    status: int = 200
    limit: int = 256 * KIB
    conflicts: tuple[str, ...] = ()
    auth: Auth = "user"
    also: tuple[int, ...] = ()
    keyed: bool = False
    """Whether it takes an Idempotency-Key."""
    unavailable: type | None = ErrorView
    """What it answers with 503; None where it never does."""

    @property
    def takes_body(self) -> bool:
        return self.body is not None or bool(self.raw_body)

    @property
    def guarded(self) -> bool:
        """Whether it takes a token at all."""
        return self.right is not None or self.auth != "user"

    @property
    def statuses(self) -> tuple[int, ...]:
        """Every status that it may answer with, declared in the API description and each with a test."""
        found = {self.status, 422, *self.also}  # a query parameter that nobody knows is refused everywhere
        if self.unavailable is not None:
            found.add(503)
        if self.guarded:
            found.add(401)
        if self.auth not in ("user", "pool"):
            found.add(403)  # a token is good for its own agent, its own task
        if self.auth != "user":
            found.add(429)
        if self.right is not None and any(self.right not in rights for rights in RIGHTS.values()):
            found.add(403)
        if "<" in self.path and "user" in self.auth:
            found.add(404)  # an agent's path is its own, or it is refused
        if self.body is not None:
            found.add(400)
        if self.takes_body:
            found |= {413, 415}
        if self.conflicts:
            found.add(409)
        return tuple(sorted(found))


@dataclass(slots=True)
class Api:
    """Collects operations; `register` puts them on an app."""

    operations: list[Operation] = field(default_factory=list)

    def operation(self, method: Method, path: str, summary: str, **declared: Any) -> Callable[[Handler], Handler]:  # noqa: ANN401 - the fields of Operation
        """Declares the decorated function as the operation named like it."""

        def declare(handler: Handler) -> Handler:
            name = handler.__name__
            self.operations.append(Operation(method, path, name, summary, handler, **declared))
            return handler

        return declare

    def register(self, app: QuartTrio, authenticate: Authenticate) -> None:
        for operation in self.operations:
            app.add_url_rule(
                operation.path,
                endpoint=operation.name,
                view_func=_view(operation, authenticate),
                methods=[operation.method],
            )


def _view(operation: Operation, authenticate: Authenticate) -> Callable[..., Awaitable[Response]]:
    async def view(**path: object) -> Response:
        caller = await authenticate(operation.auth, request.headers.get("Authorization")) if operation.guarded else None
        if isinstance(caller, ApiToken) and operation.right is not None:
            require(caller, operation.right)
        call = Call(
            caller=caller,
            path=path,
            query=_query(operation),
            body=await _body(operation),
            content_type=request.mimetype or "",
            key=_key() if operation.keyed else None,
        )
        return _answer(operation, await operation.handler(call))

    return view


def _key() -> str | None:
    key: str | None = request.headers.get(KEY)
    if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise Invalid(f"An {KEY} has 1 to {LONGEST_KEY} printable ASCII characters; a UUID is a good one.", path=KEY)
    return key


def _query(operation: Operation) -> object:
    known = set(operation.query.__struct_fields__)  # type: ignore[attr-defined]
    values = request.args.to_dict()
    if strangers := sorted(set(values) - known):
        raise Invalid(f"There is no query parameter {strangers[0]!r} here.", path=f"$.{strangers[0]}")
    try:
        return msgspec.convert(values, operation.query, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"Query: {error}", path=_path_of(str(error))) from None


async def _body(operation: Operation) -> object:
    if not operation.takes_body:
        return None
    kind = request.mimetype or ""
    if operation.raw_body and kind in operation.raw_body:
        return await _bytes()
    if operation.body is None or kind not in (JSON, ""):
        wanted = [*operation.raw_body, *([JSON] if operation.body is not None else [])]
        raise WrongContentType(f"Content-Type is {kind or 'missing'!r}; send one of: {', '.join(wanted)}.")
    data = await _bytes()
    if not data and _all_optional(operation.body):
        return operation.body()
    if kind == "":
        raise WrongContentType(f"The request has no Content-Type; send {JSON}.")
    return decode(data, operation.body)


async def _bytes() -> bytes:
    data = await request.get_data(cache=False)
    return data.encode() if isinstance(data, str) else data


def decode(data: bytes, kind: type[B]) -> B:
    """Raises BadRequest for what is not JSON, Invalid with the path for what does not fit."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), path=_path_of(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not JSON: {error}.", code="bad_json") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.", code="bad_json") from None


def _all_optional(body: type) -> bool:
    return all(not entry.required for entry in msgspec.structs.fields(body))


def _path_of(message: str) -> str:
    _, _, path = message.rpartition(" - at `")
    return path.rstrip("`") if path.startswith("$") else "$"


def _answer(operation: Operation, result: object) -> Response:
    if isinstance(result, Response):
        return result
    if result is None:
        return Response(b"", status=operation.status, content_type=JSON)
    return Response(msgspec.json.encode(result), status=operation.status, content_type=JSON)
