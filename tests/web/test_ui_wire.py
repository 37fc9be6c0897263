"""What goes over the wire for a page: compressed where that gives nothing away, kept where it may be, weighed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from iac.web.ui.assets import asset, assets
from iac.web.ui.pages import LIVE
from tests.web.clients import STUCK_PLAN, Served
from tests.web.visitors import Visitor, visitor

LIGHT = 250_000
"""Bytes of a first visit, headers and all."""


@pytest.fixture
def anna(api: Served) -> Iterator[Visitor]:
    with visitor(api.url) as someone:
        yield someone


def encoding(answer: httpx.Response) -> str | None:
    assert answer.status_code in (200, 404)
    found: str | None = answer.headers.get("Content-Encoding")
    return found


def without_times(page: str) -> str:
    """Each look says anew how long ago something was."""
    return re.sub(r"data-ago>[^<]*<", "data-ago><", page)


def test_pages_are_compressed_for_those_who_take_it(anna: Visitor) -> None:
    packed = anna.get("/workspaces", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert encoding(packed) == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert packed.num_bytes_downloaded < len(packed.content) / 2
    assert int(packed.headers["Content-Length"]) == packed.num_bytes_downloaded
    for refused in ("identity", "br", "gzip;q=0"):
        plain = anna.get("/workspaces", headers={"Accept-Encoding": refused})
        assert encoding(plain) is None
        assert without_times(plain.text) == without_times(packed.text)
    assert encoding(anna.get("/no/such/page")) == "gzip"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "something new"])
def test_a_page_that_another_site_asks_for_is_not_compressed_with_its_secrets(anna: Visitor, site: str) -> None:
    assert encoding(anna.get("/workspaces?q=guess", headers={"Sec-Fetch-Site": site})) is None


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_a_page_that_a_person_or_our_own_page_asks_for_is_compressed(anna: Visitor, site: str) -> None:
    assert encoding(anna.get("/workspaces?q=guess", headers={"Sec-Fetch-Site": site})) == "gzip"


def test_under_tls_a_browser_that_does_not_say_who_asks_gets_it_uncompressed(api: Served) -> None:
    tls = {"X-Forwarded-Proto": "https"}
    login = f"{api.url}/login"
    assert encoding(httpx.get(login, headers=tls)) is None
    assert encoding(httpx.get(login, headers={**tls, "Sec-Fetch-Site": "none"})) == "gzip"


def test_files_are_compressed_once_and_asked_for_once(api: Served) -> None:
    for name, kept in assets().items():
        plain = httpx.get(f"{api.url}{kept.href}", headers={"Accept-Encoding": "identity"})
        packed = httpx.get(f"{api.url}{kept.href}")
        assert plain.content == packed.content == kept.data, name
        assert (encoding(packed) == "gzip") == (len(kept.packed) < len(kept.data))
        assert plain.num_bytes_downloaded >= packed.num_bytes_downloaded
        assert packed.headers["Vary"] == "Accept-Encoding"
        again = httpx.get(f"{api.url}{kept.href}", headers={"If-None-Match": packed.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    newer = httpx.get(f"{api.url}{asset('ui.css')}", headers={"If-None-Match": 'W/"of another file"'})
    assert newer.status_code == 200


def test_a_head_has_everything_but_the_body(anna: Visitor) -> None:
    for path in ("/", "/workspaces", asset("ui.css")):
        head, whole = anna.http.head(path), anna.get(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["Content-Type"] == whole.headers["Content-Type"]
        assert {*head.headers} == {*whole.headers}
    stream = anna.http.head(f"{LIVE}/workspaces", timeout=5)
    assert (stream.status_code, stream.content) == (200, b"")
    assert stream.headers["Content-Type"].startswith("text/event-stream")


def test_a_head_of_a_log_reads_none_of_it(api: Served, anna: Visitor) -> None:
    ws = api.admin.workspace({"main.tf": 'resource "terraform_data" "a" {}\n'}, terraform_version=STUCK_PLAN)
    task = api.operator.task(ws, "plan")
    api.operator.until_stuck(task)
    for path, kind in (("raw", "text/plain"), ("stream", "text/event-stream")):
        head = anna.http.head(f"/api/v1/tasks/{task}/logs/{path}", timeout=5)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["Content-Type"].startswith(kind), path
    api.operator.post(f"/tasks/{task}/cancel")


def test_a_page_and_all_that_it_loads_is_light(anna: Visitor) -> None:
    page = anna.get("/workspaces")
    loaded = [anna.get(href) for href in set(re.findall(r"/ui/static/[^\"]+", page.text))]
    assert len(loaded) > 5
    assert sum(_size(answer) for answer in [page, *loaded]) < LIGHT


def _size(answer: httpx.Response) -> int:
    return answer.num_bytes_downloaded + sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)
