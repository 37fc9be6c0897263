"""A page's stream of events: what is sent to whom, and what is not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from iac.cli.sse import EventParser, ServerEvent
from iac.web.ui.live import MOST_OF_ONE
from tests.harness.postgres import fresh_database, own_cluster
from tests.web.clients import PLAIN, Served, served
from tests.web.requests_of import error_of, fresh
from tests.web.tasks_of import MAIN
from tests.web.visitors import Visitor, visitor


@pytest.fixture
def anna(api: Served) -> Iterator[Visitor]:
    with visitor(api.url) as made:
        yield made


@dataclass
class Stream:
    """Events as they come; None at the end. Comments are not events."""

    response: httpx.Response
    events: Iterator[ServerEvent]

    def next(self) -> ServerEvent | None:
        return next(self.events, None)

    def until(self, name: str) -> ServerEvent:
        while (event := self.next()) is not None:
            if event.name == name:
                return event
        raise AssertionError(f"the stream ended without {name}")

    def patch(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.until("patch").data)
        return found

    def changed(self, part: str) -> str:
        """The new HTML of this part, when it comes."""
        while True:
            parts: dict[str, str] = self.patch()["parts"]
            if part in parts:
                return parts[part]


@contextmanager
def stream(visitor: Visitor, address: str, **headers: str) -> Iterator[Stream]:
    with visitor.http.stream("GET", address, headers={"Accept": "text/event-stream", **headers}) as response:
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        parser = EventParser()
        yield Stream(response, (event for piece in response.iter_bytes() for event in parser.feed(piece)))


def address_of(page: str) -> str:
    found = re.search(r'data-live="([^"]+)"', page)
    assert found is not None
    return found[1].replace("&amp;", "&")


def test_who_has_the_page_is_sent_only_what_changes(api: Served, anna: Visitor) -> None:
    names = sorted(api.admin.workspace(name=fresh("live")) for _ in range(3))
    address = address_of(anna.get("/workspaces?q=live").text)
    with stream(anna, address) as events:
        api.admin.patch(f"/workspaces/{names[1]}", json={"description": "is another one now"})
        patch = events.patch()
        assert list(patch["parts"]) == [api.admin.get(f"/workspaces/{names[1]}")["id"]]
        assert patch["lists"] == {}
        assert "is another one now" in next(iter(patch["parts"].values()))


def test_who_has_nothing_that_is_remembered_is_sent_everything(anna: Visitor) -> None:
    with stream(anna, "/ui/live/?since=another-life.7") as events:
        patch = events.patch()
        assert set(patch["lists"]) >= {"attention", "running", "waiting", "pools", "outcomes"}
        assert {part for ids in patch["lists"].values() for part in ids} == set(patch["parts"])


def test_a_stream_goes_on_where_it_broke_off(api: Served, anna: Visitor) -> None:
    name = api.admin.workspace(name=fresh("resumed"))
    address = address_of(anna.get("/workspaces?q=resumed").text)
    with stream(anna, address) as events:
        api.admin.patch(f"/workspaces/{name}", json={"description": "one"})
        last = events.until("patch").id
    api.admin.patch(f"/workspaces/{name}", json={"description": "two"})
    with stream(anna, address, **{"Last-Event-ID": last}) as events:
        patch = events.patch()
        assert len(patch["parts"]) == 1
        assert "two" in next(iter(patch["parts"].values()))


def test_a_new_row_comes_with_its_place_and_the_counters(api: Served, anna: Visitor) -> None:
    first = api.admin.workspace(name=fresh("placed"))
    with stream(anna, address_of(anna.get("/workspaces?q=placed").text)) as events:
        second = api.admin.workspace(name=fresh("placed"))
        ids = [api.admin.get(f"/workspaces/{name}")["id"] for name in sorted((first, second))]
        patch = events.patch()
        assert patch["lists"] == {"rows": ids}
        assert {"counter-all", "counter-new", "pages-shown"} < set(patch["parts"])


def test_a_task_is_followed_from_its_beginning_to_its_end(api: Served, anna: Visitor) -> None:
    ws = api.admin.workspace(MAIN, terraform_version=PLAIN)
    with stream(anna, address_of(anna.get("/").text)) as events:
        task = api.operator.task(ws, "plan_and_apply")
        assert "To confirm" in events.changed(f"attention-{task}")
        api.operator.post(f"/tasks/{task}/discard")
        lists: dict[str, list[str]] = {"attention": [f"attention-{task}"]}
        while f"attention-{task}" in lists.get("attention", [f"attention-{task}"]):
            lists = events.patch()["lists"]


def test_nobody_is_told_anything_without_a_session(api: Served) -> None:
    with visitor(api.url, None) as stranger, stream(stranger, "/ui/live/") as events:
        event = events.next()
        assert event is not None
        assert event.name == "signed-out"
        assert events.next() is None


def test_a_page_that_does_not_exist_has_no_stream(anna: Visitor) -> None:
    assert anna.get("/ui/live/nothing").status_code == 404
    assert anna.get("/ui/live/workspaces?state=nonsense").status_code == 422


def test_one_person_may_have_many_pages_open_and_not_any_number(anna: Visitor) -> None:
    with ExitStack() as open_ones:
        kept = [open_ones.enter_context(stream(anna, "/ui/live/")) for _ in range(MOST_OF_ONE)]
        assert all(each.patch() for each in kept)
        with anna.http.stream("GET", "/ui/live/", headers={"Accept": "text/event-stream"}) as refused:
            assert refused.status_code == 429
            refused.read()
        assert error_of(refused, 429)["code"] == "rate_limited"
    with stream(anna, "/ui/live/") as events:
        events.patch()


def test_what_is_shown_may_be_old_while_the_database_is_away_and_the_page_says_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("away")
    with own_cluster() as cluster, served(place, cluster.url) as server:
        with visitor(server.url) as person, stream(person, address_of(person.get("/workspaces").text)) as events:
            cluster.stop()
            try:
                page = person.get("/workspaces")
                assert page.status_code == 503
                assert "Not now" in page.text
                events.until("trouble")  # of which that one told: nothing else rings while nothing can be changed
            finally:
                cluster.start()
            events.until("calm")
            server.admin.workspace(name="after")
            assert "after" in next(html for part, html in events.patch()["parts"].items() if part.startswith("ws-"))


def test_a_server_that_stops_ends_its_streams_at_once(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with ExitStack() as later:
        with served(tmp_path_factory.mktemp("ends") / "data", fresh_database(postgres)) as server:
            person = later.enter_context(visitor(server.url))
            events = later.enter_context(stream(person, "/ui/live/"))
            events.patch()
        assert events.next() is None
