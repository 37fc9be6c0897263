"""The page that people read about the API."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx
import pytest

from iac.web.openapi import path_of
from iac.web.routing import Operation
from tests.web.clients import Served
from tests.web.requests_of import OPERATIONS


@pytest.fixture(scope="module")
def page(api: Served) -> httpx.Response:
    """As anybody gets it."""
    return httpx.get(f"{api.url}/docs")


class _Elements(HTMLParser):
    """Every element and attribute of a page, and whether each element was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += attrs
        if tag not in {"meta", "br", "hr", "img", "link", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def elements(page: httpx.Response) -> _Elements:
    parser = _Elements()
    parser.feed(page.text)
    parser.close()
    return parser


def test_the_page_is_for_everybody(page: httpx.Response) -> None:
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"


def test_the_page_may_load_and_run_nothing(page: httpx.Response) -> None:
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert set(policy) <= {"default-src", "style-src", "frame-ancestors", "base-uri", "form-action"}
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"


def test_the_page_asks_nobody_else_for_anything(page: httpx.Response, elements: _Elements) -> None:
    assert not re.search(r"(?:https?:)?//[a-z0-9]", page.text.replace(": //", ""), re.IGNORECASE)
    assert "script" not in elements.names
    links = {value or "" for name, value in elements.attributes if name in {"href", "src", "action"}}
    assert {link for link in links if not link.startswith("#")} == {"/api/v1/openapi.json"}
    targets = {f"#{value}" for name, value in elements.attributes if name == "id"}
    assert {link for link in links if link.startswith("#")} <= targets
    assert not any(name.startswith("on") for name, _ in elements.attributes)


def test_the_page_is_well_formed_and_readable_on_a_phone(elements: _Elements) -> None:
    assert elements.open == []
    assert ("lang", "en") in elements.attributes
    assert ("name", "viewport") in elements.attributes


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_is_on_the_page(page: httpx.Response, operation: Operation) -> None:
    shown = re.sub(r"<[^>]+>", " ", page.text)
    path = path_of(operation).replace("{", "(?:<var>)?{").replace("}", "}(?:</var>)?")
    assert re.search(rf"{operation.method}\s*{path}\s", shown.replace("&lt;", "<"))


def test_the_link_leads_somewhere(api: Served) -> None:
    assert httpx.get(f"{api.url}/api/v1/openapi.json").status_code == 200
