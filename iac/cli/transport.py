"""One HTTP conversation with a server: requests in, decoded answers out, every failure one of two exceptions."""

# ruff: noqa: ANN401 - what httpx takes is handed through, and JSON without a type is anything

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import httpx
import msgspec

from iac import __version__

T = TypeVar("T")
JSON = "application/json"
CONNECT_WITHIN = 10.0
"""Seconds that a connection may take to come about."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
pause_of_the_clock: Callable[[float], None] = time.sleep  # noqa: TID251 - the command line has its one thread to itself


class ApiError(Exception):
    """The server refused. `code` is the stable word for programs, `extras` whatever stood beside it."""

    def __init__(
        self, code: str, message: str, status: int, *, retryable: bool = False, extras: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status
        self.retryable, self.extras = retryable, dict(extras or {})


class Unreachable(Exception):
    """No answer, or none from a server of ours: nobody knows whether the request was carried out."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"cannot reach {url}: {why}")
        self.url, self.why = url, why


class BadServer(Exception):
    """The URL or the CA file cannot be used at all; nothing was sent."""


def backoff() -> Iterator[float]:
    """Seconds to wait before each further attempt: doubling, bounded."""
    seconds = FIRST_PAUSE
    while True:
        yield seconds
        seconds = min(2 * seconds, LONGEST_PAUSE)


class Transport:
    """`url` as the user typed it; `timeout` in seconds for each read and write. Close it, or use it as a context."""

    def __init__(
        self,
        url: str,
        token: str | None,
        ca_file: Path | str | None = None,
        timeout: float = 30,
        *,
        pause: Callable[[float], None] = pause_of_the_clock,
    ) -> None:
        self.url = checked_url(url)
        self.pause = pause
        headers = {"User-Agent": f"iac-cli/{__version__}", "Accept": JSON}
        if token:
            headers["Authorization"] = f"Bearer {_checked_token(token)}"
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_WITHIN)),
            verify=_context(self.url, ca_file),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @overload
    def call(self, method: str, path: str, *, into: type[T], **request: Any) -> T: ...
    @overload
    def call(self, method: str, path: str, *, into: None = None, **request: Any) -> Any: ...
    def call(self, method: str, path: str, *, into: type[T] | None = None, **request: Any) -> T | Any:
        """The answer, decoded `into` a type; without one as plain JSON, as bytes where it is not JSON, or None.

        `request` is what httpx takes, and `body`: anything that msgspec encodes. `patience` is for how many seconds a
        request that got no answer (or a retryable refusal) is repeated; give it to what may be done twice only.
        Raises ApiError, Unreachable.
        """
        patience, waits = request.pop("patience", 0.0), backoff()
        if "body" in request:
            request["content"] = msgspec.json.encode(request.pop("body"))
            request["headers"] = {"Content-Type": JSON, **request.get("headers", {})}
        while True:
            try:
                return _decoded(self._answer(method, path, request), into, self.url)
            except (ApiError, Unreachable) as error:
                wait = next(waits)
                patience -= wait
                if patience <= 0 or not may_pass(error):
                    raise
                self.pause(wait)

    def get(self, path: str, **request: Any) -> Any:
        return self.call("GET", path, **request)

    def post(self, path: str, **request: Any) -> Any:
        return self.call("POST", path, **request)

    def put(self, path: str, **request: Any) -> Any:
        return self.call("PUT", path, **request)

    def patch(self, path: str, **request: Any) -> Any:
        return self.call("PATCH", path, **request)

    def delete(self, path: str, **request: Any) -> Any:
        return self.call("DELETE", path, **request)

    @contextmanager
    def stream(self, path: str, *, read_timeout: float, **request: Any) -> Iterator[httpx.Response]:
        """A GET whose answer is read piece by piece. Raises ApiError, Unreachable, also while it is read."""
        timeout = httpx.Timeout(read_timeout, connect=CONNECT_WITHIN)
        with self._reaching(), self._http.stream("GET", path, timeout=timeout, **request) as response:
            if not response.is_success:
                response.read()
                raise error_of(response, self.url)
            yield response

    def _answer(self, method: str, path: str, request: Mapping[str, Any]) -> httpx.Response:
        with self._reaching():
            response = self._http.request(method, path, **request)
        if not response.is_success:
            raise error_of(response, self.url)
        return response

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise Unreachable(self.url, str(error) or type(error).__name__) from None


def may_pass(error: ApiError | Unreachable) -> bool:
    """Whether the same request may succeed later."""
    return isinstance(error, Unreachable) or error.retryable or error.status in (429, 502, 503, 504)


def checked_url(url: str) -> str:
    """Without a slash at its end. Raises BadServer for what is no http(s) URL."""
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise BadServer(f"{url!r} is no URL: {error}.") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadServer(
            f"{url!r} is no URL of a server; it looks like http://127.0.0.1:8080 or https://iac.example.com."
        )
    if parsed.userinfo:
        raise BadServer("The URL has a user or password in it; the token is all that is needed (iac login).")
    return str(parsed).rstrip("/")


def _checked_token(token: str) -> str:
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise BadServer("The token has characters that no token has; copy it again.")
    return token


def _context(url: str, ca_file: Path | str | None) -> ssl.SSLContext:
    if ca_file is None and url.startswith("http:"):
        # Never used, and trusts nobody: loading the authorities takes longer than most commands.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.create_ssl_context() if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise BadServer(f"The CA file {ca_file} cannot be used: {error}.") from None


def error_of(response: httpx.Response, url: str) -> ApiError | Unreachable:
    """The failure that an answer with a status other than 2xx is."""
    try:
        body = msgspec.json.decode(response.content, type=dict[str, dict[str, Any]])["error"]
        code, message = str(body.pop("code")), str(body.pop("message"))
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
        return _not_ours(response, url)
    retryable = body.pop("retryable", False) is True
    return ApiError(code, message, response.status_code, retryable=retryable, extras=body)


def _not_ours(response: httpx.Response, url: str) -> ApiError | Unreachable:
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if response.status_code in (429, 502, 503, 504):
        return Unreachable(url, f"something in between answered {status}")
    where = f" to {response.headers['location']}" if response.has_redirect_location else ""
    return ApiError(
        "not_an_iac_server", f"{url} answered {status}{where}, not as an IAC server does.", response.status_code
    )


def _decoded(response: httpx.Response, into: type[T] | None, url: str) -> T | Any:
    is_json = response.headers.get("content-type", "").startswith(JSON)
    if into is None:
        return (msgspec.json.decode(response.content) if response.content else None) if is_json else response.content
    try:
        return msgspec.json.decode(response.content, type=into)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(
            "unknown_answer",
            f"{url} answered in a form that this version ({__version__}) does not know: {error}.",
            response.status_code,
        ) from None
