"""Somebody with a browser, as HTTP sees him: a cookie jar, and the headers that browsers send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.harness.server import TOKEN

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Visitor:
    """Sends what a browser sends; follows nothing by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, headers=PAGE, timeout=30)

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.http.get(path, **request)

    def post(self, path: str, **request: Any) -> httpx.Response:
        """From one of the server's own pages, unless `headers` say otherwise."""
        headers = {"Origin": self.url, **request.pop("headers", {})}
        return self.http.post(
            path, headers={name: text for name, text in headers.items() if text is not None}, **request
        )

    def signs_in(self, token: str = TOKEN, **more: str) -> httpx.Response:
        return self.post("/login", data={"token": token, **more})

    @property
    def cookie(self) -> str:
        """The only one there is."""
        [value] = self.http.cookies.values()
        return value

    @property
    def csrf(self) -> str:
        found = re.search(r'<meta name="csrf" content="([^"]+)">', self.get("/").text)
        assert found is not None
        return found[1]

    def asks(self, path: str, **request: Any) -> httpx.Response:
        """As htmx does, for a script."""
        headers = {"HX-Request": "true", "HX-Current-URL": f"{self.url}/workspaces?q=x", "X-CSRF-Token": self.csrf}
        return self.post(path, headers={**headers, **request.pop("headers", {})}, **request)


@contextmanager
def visitor(url: str, token: str | None = TOKEN) -> Iterator[Visitor]:
    """Signed in, unless without a token."""
    made = Visitor(url)
    try:
        if token is not None:
            assert made.signs_in(token).status_code == 303
        yield made
    finally:
        made.http.close()
