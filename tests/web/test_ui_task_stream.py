"""A task's page has one stream: what changes on the page, and the log from where its viewer is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from iac.cli.sse import ServerEvent
from tests.web.clients import Served
from tests.web.requests_of import fresh
from tests.web.test_ui_live import Stream, address_of, stream
from tests.web.visitors import Visitor, visitor


@pytest.fixture
def anna(api: Served) -> Iterator[Visitor]:
    with visitor(api.url) as made:
        yield made


def talkative(api: Served, gate: Path) -> int:
    """An apply that writes numbered lines until its gate is there."""
    loop = f"i=0; while [ ! -e {gate} ]; do i=$((i+1)); echo line $i; sleep 0.01; done"
    main = f'resource "terraform_data" "a" {{\n  provisioner "local-exec" {{\n    command = "{loop}"\n  }}\n}}\n'
    ws = api.admin.workspace({"main.tf": main}, name=fresh("talks"))
    task = api.admin.task(ws, "plan_and_apply", auto_apply=True)
    return int(task)


class Log:
    """The bytes that were told, by their places: none twice, none missing; and the page's head as it was sent last."""

    def __init__(self, begin: int = 0) -> None:
        self.begin, self.data, self.head = begin, b"", ""

    def take(self, event: ServerEvent) -> None:
        told = json.loads(event.data)
        if event.name == "log":
            assert told["offset"] == self.begin + len(self.data)
            self.data += base64.b64decode(told["data"])
        elif event.name == "reset":
            self.data = self.data[: told["offset"] - self.begin]
        elif event.name == "patch":
            self.head = told["parts"].get("task-head-shown", self.head)


def hear(events: Stream, log: Log, *, until: bytes = b"", name: str = "") -> list[str]:
    """The names of the events up to the one that the test waits for."""
    heard = []
    while (event := events.next()) is not None:
        heard.append(event.name)
        log.take(event)
        if (until and until in log.data) or event.name == name:
            return heard
    raise AssertionError(f"the stream ended: {heard}, {log.data[-300:]!r}")


def test_parts_and_log_come_by_one_stream_and_go_on_where_it_broke_off(
    api: Served, anna: Visitor, tmp_path: Path
) -> None:
    task, log = talkative(api, tmp_path / "gate"), Log()
    address = address_of(anna.get(f"/tasks/{task}").text) + "&log=0"
    with stream(anna, address) as events:
        heard = hear(events, log, until=b"line 20\n")
        assert "patch" in heard, "the page changed meanwhile"
        last = events.until("log")
        log.take(last)
    picture, _, place = last.id.partition("~")
    assert picture
    assert int(place.partition(":")[0]) == len(log.data)
    with stream(anna, address, **{"Last-Event-ID": last.id}) as events:
        (tmp_path / "gate").touch()
        hear(events, log, name="end")
        api.admin.until(task, "succeeded", "failed")
        while 'data-log-follows="no"' not in log.head:
            hear(events, log, name="patch")  # the log's end is not the stream's
    assert log.data == api.admin.http.get(f"/api/v1/tasks/{task}/logs", params={"limit": 1 << 20}).content


def test_a_log_that_is_over_is_told_from_the_place_that_is_asked_for(
    api: Served, anna: Visitor, tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    task = talkative(api, tmp_path / "gate")
    api.admin.until(task, "succeeded", "failed")
    whole, log = api.admin.http.get(f"/api/v1/tasks/{task}/logs").content, Log(begin=100)
    with stream(anna, address_of(anna.get(f"/tasks/{task}").text) + "&log=100") as events:
        hear(events, log, name="end")
    assert log.data == whole[100:]


def test_without_being_asked_for_the_log_does_not_come(api: Served, anna: Visitor, tmp_path: Path) -> None:
    task = talkative(api, tmp_path / "gate")
    with stream(anna, f"/ui/live/tasks/{task}?since=another.1~5") as events:
        assert [event.name for event in (events.next(), events.next()) if event is not None] == ["patch", "patch"]
        (tmp_path / "gate").touch()


@pytest.mark.parametrize("place", ["", "x", "-1", "1:x", "9" * 30])
def test_a_place_that_is_none_is_refused(api: Served, anna: Visitor, tmp_path: Path, place: str) -> None:
    (tmp_path / "gate").touch()
    task = talkative(api, tmp_path / "gate")
    refused = anna.get(f"/ui/live/tasks/{task}?log={place}")
    assert refused.status_code == 422
    assert "not a place in a log" in refused.text


def test_other_pages_have_no_log_to_send_along(anna: Visitor) -> None:
    with stream(anna, "/ui/live/workspaces?log=0") as events:
        assert events.patch()["lists"]


def test_with_the_session_the_log_ends_too(api: Served, anna: Visitor, tmp_path: Path) -> None:
    task = talkative(api, tmp_path / "gate")
    address = f"/ui/live/tasks/{task}?log=0"
    anna.asks("/logout")
    with stream(anna, address) as events:
        event = events.next()
        assert event is not None
        assert event.name == "signed-out"
        assert events.next() is None
    (tmp_path / "gate").touch()
