"""The agent's HTTP client: one attempt a call, and every way in which it may fail as an error of ours.

the server cannot be reached, no answer in time        Unavailable
an answer that is not ours (a proxy's page, any code)  Unavailable
429, 5xx                                               Unavailable, StorageFull; `retry_after_s` in the extras
an error of the platform                               the class that the platform raised, found by its code
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
import msgspec
import trio

from iac import __version__
from iac.errors import (
    AlreadyFinal,
    BadRequest,
    Conflict,
    Fenced,
    Forbidden,
    Gone,
    IacError,
    IllegalTransition,
    Invalid,
    LogRefused,
    NotAllowedHere,
    NotFound,
    PlanStale,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UpgradeRequired,
    WorkspaceLocked,
    WrongContentType,
)
from iac.executor.proxying import Proxy

T = TypeVar("T")

API = "/api/v1"
IN_A_THREAD = PIECE = 64 * 1024
SEND_BUFFER = 128 * 1024
"""Bytes that the kernel holds back at most: what it still has to send counts as waiting for the answer."""
LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30.0)
"""An idle connection is given up well before the server (75 s) or a proxy (60 s, mostly) does it."""

_BY_CODE: Mapping[str, type[IacError]] = {
    "fenced": Fenced,
    "not_claimable": IllegalTransition,
    "illegal_transition": IllegalTransition,
    "already_final": AlreadyFinal,
    "plan_stale": PlanStale,
    "workspace_locked": WorkspaceLocked,
    "log_gap": LogRefused,
    "log_conflict": LogRefused,
    "log_closed": LogRefused,
    "log_incomplete": LogRefused,
    "log_mismatch": LogRefused,
}
_BY_STATUS: Mapping[int, type[IacError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: NotAllowedHere,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    415: WrongContentType,
    422: Invalid,
    426: UpgradeRequired,
    507: StorageFull,
}
_OWN = frozenset({"code", "message", "retryable"})
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds until a server is given up: that does not take the connection, or of which nothing more comes."""

    connect: float = 10.0
    answer: float = 60.0


USUAL = Patience()


class Done(msgspec.Struct, frozen=True):
    """An answer that says nothing; an empty one will do if it claims to be JSON, as a proxy's page does not."""


class _Error(msgspec.Struct, frozen=True):
    code: str
    message: str
    retryable: bool = False


class _ErrorBody(msgspec.Struct, frozen=True):
    error: msgspec.Raw


class AgentClient:
    """Calls of the agent API. Tokens are arguments: nothing here remembers one."""

    def __init__(self, http: httpx.AsyncClient, endpoint: str) -> None:
        self._http = http
        self._base = endpoint.rstrip("/") + API

    async def call(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        token: str,
        body: msgspec.Struct | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[T, httpx.Headers]:
        """The decoded answer and its headers. `body` in bytes is JSON that was encoded before.

        Raises IacError as the module says.
        """
        content = msgspec.json.encode(body) if isinstance(body, msgspec.Struct) else body
        own = {"Authorization": f"Bearer {token}"}
        if content is not None:
            own |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        try:
            response = await self._http.request(
                method,
                self._base + path,
                content=None if content is None else _pieces(content),
                headers={**own, **(headers or {})},
            )
        except (httpx.HTTPError, OSError) as error:
            told = explain(error)
            if isinstance(error, httpx.RemoteProtocolError) and self._base.startswith("http:"):
                told += " If it serves HTTPS, IAC_API_ENDPOINT has to begin with https://."
            raise Unavailable(told) from error
        if not response.is_success:
            raise error_of(response.status_code, response.content, response.headers)
        return await _decoded(response, answer), response.headers


@asynccontextmanager
async def open_client(
    endpoint: str, *, tls: ssl.SSLContext, proxy: Proxy | None, patience: Patience = USUAL
) -> AsyncIterator[AgentClient]:
    """A client for this server, with connections of its own."""
    transport = httpx.AsyncHTTPTransport(
        verify=tls,
        trust_env=False,
        limits=LIMITS,
        proxy=None if proxy is None else httpx.Proxy(proxy.url),
        socket_options=[(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)],
    )
    timeout = httpx.Timeout(patience.answer, connect=patience.connect)
    headers = {"User-Agent": f"iac-agent/{__version__}"}
    async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout, headers=headers) as http:
        yield AgentClient(http, endpoint)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    """In pieces, because the limit on the time of a write holds for each: a slow link needs minutes for the whole."""
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]


async def _decoded(response: httpx.Response, answer: type[T]) -> T:
    content = response.content
    if answer is Done and not content and response.headers.get("content-type", "").startswith("application/json"):
        content = b"{}"
    try:
        if len(content) < IN_A_THREAD:
            return msgspec.json.decode(content, type=answer)
        return await trio.to_thread.run_sync(lambda: msgspec.json.decode(content, type=answer))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_ours(response.status_code, response.headers) from error


def error_of(status: int, body: bytes, headers: Mapping[str, str]) -> IacError:
    """The error that an answer is."""
    try:
        raw = msgspec.json.decode(body, type=_ErrorBody).error
        told = msgspec.json.decode(raw, type=_Error)
        extras = {key: value for key, value in msgspec.json.decode(raw).items() if key not in _OWN}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _not_ours(status, headers)
    wait = _seconds(headers.get("retry-after"))
    if wait is not None:
        extras.setdefault("retry_after_s", wait)
    kind = _BY_CODE.get(told.code) or _BY_STATUS.get(status)
    if kind is None:
        # Over 500 it is the server's own trouble, which passes; 429 passes by itself.
        kind = Unavailable if status >= 500 or status in (408, 425, 429) or told.retryable else Conflict
    return kind(told.message, **{**extras, "code": told.code})


def _not_ours(status: int, headers: Mapping[str, str]) -> Unavailable:
    told = f"An answer ({status}) that is not from the platform; a proxy, or IAC_API_ENDPOINT names another server."
    if location := headers.get("location"):
        told = f"The server redirects to {location} ({status}); set IAC_API_ENDPOINT to where it really is."
    wait = _seconds(headers.get("retry-after"))
    return Unavailable(told, code="not_ours", **({} if wait is None else {"retry_after_s": wait}))


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdecimal() else None


def explain(error: BaseException) -> str:
    """Why the server cannot be reached, for the one who set this up."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return (
                f"The server's certificate was refused: {seen.verify_message}. If an authority of your own issued it, put "
                "that one's certificate into the file that IAC_CA_FILE names; check this machine's clock, too."
            )
        if isinstance(seen, ssl.SSLError) and seen.reason in _NO_TLS:
            return "What answers there does not speak TLS; if it is the server, IAC_API_ENDPOINT has to begin with http://."
        seen = seen.__cause__ or seen.__context__
    told = str(error) or type(error).__name__
    return f"The server cannot be reached: {told}"
