"""A client of the API in bad times: what fails in transit is asked again or let go, what should never be said is noted."""

from __future__ import annotations

from typing import Any

import httpx
import trio

from tests.harness.server import TOKEN
from tests.soak.record import Record

EXPECTED = frozenset({409, 429, 503})
"""What a good request may be answered besides 2xx: it comes too late, too often, or while the database is away."""
ANSWER_WITHIN = 20.0
AGAIN = 0.25


class User:
    """Somebody with an admin's token."""

    def __init__(self, url: str, record: Record) -> None:
        self._record = record
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self.client = httpx.AsyncClient(base_url=url, headers=headers, timeout=ANSWER_WITHIN)

    async def ask(self, method: str, path: str, **request: Any) -> Any:
        """The decoded answer; None if there was none, or it was a refusal that the times explain."""
        response = await self._sent(method, path, **request)
        if response is None or not response.is_success:
            return None
        is_json = response.headers.get("content-type", "").startswith("application/json")
        return response.json() if is_json and response.content else response.content

    async def insist(self, method: str, path: str, *, within: float = 60.0, **request: Any) -> Any:
        """The same, again and again until there is an answer. Raises trio.TooSlowError."""
        with trio.fail_after(within):
            while (answer := await self.ask(method, path, **request)) is None:  # noqa: ASYNC110
                await trio.sleep(AGAIN)
            return answer

    async def everything(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a list."""
        items: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await self.insist("GET", path, params={"limit": 200, **query, **cursor})
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            cursor = {"cursor": page["next_cursor"]}

    async def _sent(self, method: str, path: str, **request: Any) -> httpx.Response | None:
        try:
            response = await self.client.request(method, f"/api/v1{path}", **request)
        except httpx.TransportError as error:
            self._record.calls[type(error).__name__] += 1
            return None
        self._record.calls[str(response.status_code)] += 1
        if not response.is_success and response.status_code not in EXPECTED:
            self._record.complain(f"{method} {path} was answered {response.status_code}: {response.text[:300]}")
        return response
