"""Logs over HTTP: bytes by offset, and live as server-sent events."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import time

import pytest

from iac.web import logs
from tests.harness.postgres import fresh_database
from tests.web.clients import PLAIN, REAL, STUCK_PLAN, Served, served
from tests.web.requests_of import BY_NAME, check

MAIN = {"main.tf": 'resource "terraform_data" "a" { input = "é" }\n'}
TICKING = """
resource "terraform_data" "clock" {
  provisioner "local-exec" {
    command = "for n in 1 2 3 4 5 6 7 8; do echo tick-$(date +%s.%N)-; sleep 0.06; done"
  }
}
"""


@pytest.fixture(scope="module")
def told(api: Served) -> tuple[int, bytes]:
    """A finished task and its whole log."""
    ws = api.admin.workspace(MAIN, terraform_version=REAL)
    task = api.operator.task(ws, "plan_and_apply", auto_apply=True)
    api.operator.until(task, "succeeded")
    log = api.viewer.log(task)
    assert len(log) > 500
    return task, log


@pytest.fixture
def waiting(api: Served) -> int:
    """A task that waits for a runner that will never come."""
    return api.operator.task(api.admin.workspace(MAIN, execution_mode="agent"), "plan")


# Reading by offset


def test_read_log_200(api: Served, told: tuple[int, bytes]) -> None:
    task, log = told
    answer = api.viewer.send("GET", f"/tasks/{task}/logs")
    assert answer.content == log
    assert answer.headers["X-IAC-Next-Offset"] == answer.headers["X-IAC-Log-Length"] == str(len(log))
    assert answer.headers["X-IAC-Task-Status"] == "succeeded"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert b"Apply complete!" in log


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_read_log_200_pieces_of_any_size_are_the_whole(api: Served, told: tuple[int, bytes], size: int) -> None:
    task, log = told
    offset, pieces = 0, []
    end = len(log) if size > 50 else 300
    while offset < end:
        answer = api.viewer.send("GET", f"/tasks/{task}/logs", params={"offset": offset, "limit": size})
        assert len(answer.content) == min(size, len(log) - offset)
        pieces.append(answer.content)
        offset = int(answer.headers["X-IAC-Next-Offset"])
    assert b"".join(pieces) == log[:offset]


def test_read_log_200_across_the_seam_of_plan_and_apply(api: Served, told: tuple[int, bytes]) -> None:
    task, log = told
    seam = log.index(b"stage fetching begin", 100)  # the second: each phase has a stream of its own in the database
    answer = api.viewer.send("GET", f"/tasks/{task}/logs", params={"offset": seam - 100, "limit": 200})
    assert answer.content == log[seam - 100 : seam + 100]


def test_read_log_200_beyond_the_end_is_empty_and_stays_there(api: Served, told: tuple[int, bytes]) -> None:
    task, log = told
    for offset in (len(log), len(log) + 1, 2**40, 2**62 - 1):
        answer = api.viewer.send("GET", f"/tasks/{task}/logs", params={"offset": offset})
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["X-IAC-Next-Offset"] == str(offset)
        assert answer.headers["X-IAC-Log-Length"] == str(len(log))


def test_read_log_200_of_a_task_that_has_not_begun(api: Served, waiting: int) -> None:
    answer = api.viewer.send("GET", f"/tasks/{waiting}/logs")
    assert (answer.content, answer.headers["X-IAC-Next-Offset"]) == (b"", "0")
    assert answer.headers["X-IAC-Task-Status"] == "queued"


@pytest.mark.parametrize(
    "params", [{"offset": "-1"}, {"offset": str(2**62)}, {"limit": "0"}, {"limit": str(8 * 1024 * 1024 + 1)}]
)
def test_read_log_422_for_bytes_that_cannot_be(api: Served, told: tuple[int, bytes], params: dict[str, str]) -> None:
    error = api.viewer.get(f"/tasks/{told[0]}/logs", 422, params=params)
    assert next(iter(params)) in error["message"]


@pytest.fixture
def expired(api: Served) -> int:
    """A task whose log was deleted because it was old."""
    task = api.operator.task(api.admin.workspace(MAIN, terraform_version=PLAIN), "plan")
    api.operator.until(task, "succeeded")
    api.sql("UPDATE log_stream SET expired_at = now() WHERE task_id = $1", task)
    return task


def test_read_log_410_for_a_log_that_was_deleted_because_it_was_old(api: Served, expired: int) -> None:
    assert "older than logs are kept" in api.viewer.get(f"/tasks/{expired}/logs", 410, code="log_expired")["message"]


# Following


def test_stream_log_410_for_a_log_that_was_deleted_because_it_was_old(api: Served, expired: int) -> None:
    api.viewer.get(f"/tasks/{expired}/logs/stream", 410, code="log_expired")


def test_stream_log_200_tells_the_whole_log_and_ends(api: Served, told: tuple[int, bytes]) -> None:
    task, log = told
    events = list(api.viewer.events(task))
    pieces = [event for event in events if event.name == "log"]
    assert b"".join(event.bytes for event in pieces) == log
    for event in pieces:
        assert event.data["next_offset"] - event.data["offset"] == len(event.bytes)
        assert event.id == event.data["next_offset"]
    end = events[-1]
    assert end.name == "end"
    assert end.data == {
        "status": "succeeded",
        "phase": "apply",
        "stage": None,
        "outcome": "applied",
        "reason": None,
        "cancel": None,
        "offset": len(log),
    }
    assert events[-2].name == "status"


def test_a_stream_that_is_followed_live_tells_the_same_as_the_stored_log(api: Served) -> None:
    ws = api.admin.workspace(MAIN, terraform_version=REAL)
    task = api.operator.task(ws, "plan_and_apply", auto_apply=True)
    events = list(api.viewer.events(task))
    assert b"".join(event.bytes for event in events if event.name == "log") == api.viewer.log(task)
    offsets = [(event.data["offset"], event.data["next_offset"]) for event in events if event.name == "log"]
    assert [start for start, _ in offsets] == [0, *(end for _, end in offsets[:-1])]
    statuses = [(event.data["phase"], event.data["status"]) for event in events if event.name == "status"]
    order = ["queued", "assigned", "running", "planned", "cancelling", "succeeded"]
    for phase in ("plan", "apply"):
        told = [order.index(status) for one, status in statuses if one == phase]
        assert told == sorted(told)
    assert statuses[-1] == ("apply", "succeeded")
    assert [event.name for event in events].count("end") == 1


def test_a_stream_goes_on_where_the_last_event_id_says(api: Served, told: tuple[int, bytes]) -> None:
    task, log = told
    for last in (0, 1, 123, len(log) - 1, len(log)):
        events = list(api.viewer.events(task, last_event_id=last))
        assert b"".join(event.bytes for event in events if event.name == "log") == log[last:]
        assert events[-1].data["offset"] == len(log)
        assert list(api.viewer.events(task, offset=last)) == events
        # The header wins: a browser that reconnects repeats the URL that it was given.
        assert list(api.viewer.events(task, offset=7, last_event_id=last)) == events


@pytest.mark.parametrize("header", ["x", "-1", "9" * 40, "1.5", "²"])
def test_a_last_event_id_that_was_never_given_is_ignored(api: Served, told: tuple[int, bytes], header: str) -> None:
    task, log = told
    url = f"/api/v1/tasks/{task}/logs/stream"
    with api.viewer.http.stream("GET", url, headers={b"Last-Event-ID": header.encode()}) as response:
        check(response, BY_NAME["stream_log"])
        first = next(line for line in response.iter_lines() if line.startswith("id: "))
    assert first == f"id: {len(log)}"


def test_a_stream_that_was_cut_is_taken_up_without_a_gap_or_a_repetition(api: Served) -> None:
    ws = api.admin.workspace({"main.tf": TICKING}, terraform_version=REAL)
    task = api.operator.task(ws, "plan_and_apply", auto_apply=True)
    data, last, ended, cuts = b"", 0, False, 0
    while not ended:
        stream = api.viewer.events(task, last_event_id=last)
        for event in stream:
            if event.name == "log":
                data, last = data + event.bytes, event.data["next_offset"]
                break
            ended = event.name == "end"
        stream.close()
        cuts += 1
    assert data == api.viewer.log(task)
    assert cuts > 3


def test_a_line_reaches_the_reader_while_terraform_still_runs(
    api: Served, record_property: Callable[[str, object], None]
) -> None:
    """How long it takes is written into the report, and is nothing that a test could promise on a busy machine."""
    ws = api.admin.workspace({"main.tf": TICKING}, terraform_version=REAL)
    task = api.operator.task(ws, "plan_and_apply", auto_apply=True)
    late, before_the_end = [], 0
    for event in api.viewer.events(task):
        if event.name == "log":
            written = [float(at) for at in re.findall(rb"tick-([0-9.]+)-", event.bytes)]
            late += [time() - at for at in written]
            before_the_end += bool(written)
    assert len(late) == 8
    assert before_the_end > 1  # not all at once when it was over
    record_property("log latency, median ms", round(median(late) * 1000))
    record_property("log latency, worst ms", round(max(late) * 1000))


def test_stream_log_200_ends_where_the_task_rests_and_is_opened_anew_when_it_goes_on(api: Served) -> None:
    task = api.operator.task(api.admin.workspace(MAIN, terraform_version=PLAIN), "plan_and_apply")
    first = list(api.viewer.events(task))
    assert (first[-1].name, first[-1].data["status"]) == ("end", "planned")
    planned = first[-1].data["offset"]
    api.operator.post(f"/tasks/{task}/confirm")
    second = list(api.viewer.events(task, offset=planned))
    assert second[-1].data["status"] == "succeeded"
    both = b"".join(event.bytes for event in first + second if event.name == "log")
    assert both == api.viewer.log(task)


def test_a_stream_of_a_waiting_task_tells_when_it_is_cancelled(api: Served, waiting: int) -> None:
    stream = api.viewer.events(waiting)
    assert next(stream).data["status"] == "queued"
    api.operator.post(f"/tasks/{waiting}/cancel")
    assert [event.name for event in stream] == ["status", "end"]


def test_a_silent_stream_says_that_it_lives(api: Served, waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SILENCE", 0.02)
    with api.viewer.http.stream("GET", f"/api/v1/tasks/{waiting}/logs/stream") as response:
        lines = response.iter_lines()
        assert next(lines) == "event: status"
        comments = (line for line in lines if line.startswith(":"))
        assert [next(comments) for _ in range(3)] == [": still here"] * 3
    api.operator.post(f"/tasks/{waiting}/cancel")


def test_a_stream_is_neither_stored_nor_held_back_on_its_way(api: Served, told: tuple[int, bytes]) -> None:
    with api.viewer.http.stream("GET", f"/api/v1/tasks/{told[0]}/logs/stream") as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Accel-Buffering"] == "no"
        response.read()


def test_a_reader_that_leaves_does_not_disturb_the_task_or_other_readers(api: Served) -> None:
    task = api.operator.task(api.admin.workspace(MAIN, terraform_version=STUCK_PLAN), "plan")
    staying = api.viewer.events(task)
    next(staying)
    for _ in range(5):
        leaving = api.viewer.events(task)
        next(leaving)
        leaving.close()
    api.operator.until_stuck(task)
    api.operator.post(f"/tasks/{task}/cancel")
    assert list(staying)[-1].data["status"] == "cancelled"


def test_streams_end_when_the_server_drains(postgres: str, tmp_path: Path) -> None:
    with served(tmp_path / "data", fresh_database(postgres)) as server:
        ws = server.admin.workspace(MAIN, execution_mode="agent")
        task = server.operator.task(ws, "plan")
        streams = [server.viewer.events(task) for _ in range(3)]
        for stream in streams:
            assert next(stream).data["status"] == "queued"
        server.in_loop(server.running.stop)
        # Each ends properly, without an `end`: the task is not over, and a reader that comes back goes on.
        assert [[event.name for event in stream] for stream in streams] == [[], [], []]
