"""A log that is followed over connections that break."""

from __future__ import annotations

import socket
from itertools import pairwise

import pytest

from iac.cli.client import ApiClient, ApiError, End, LogBytes, Rewound, StatusEvent, Unreachable
from tests.cli.broken_server import LOG, Breaking, end_event, event, log_event, log_server


def quick_client(url: str) -> ApiClient:
    return ApiClient(url, "t", pause=lambda seconds: None)


@pytest.mark.parametrize("seed", range(8))
def test_each_byte_comes_once_however_often_the_connection_breaks(seed: int) -> None:
    breaking, breaks = Breaking(seed), list[str]()
    with log_server(breaking) as url, quick_client(url) as client:
        events = list(client.follow_log(5, on_break=breaks.append))
    pieces = [told for told in events if isinstance(told, LogBytes)]
    assert b"".join(piece.data for piece in pieces) == LOG
    assert all(one.next_offset == two.offset for one, two in pairwise(pieces))
    assert isinstance(events[-1], End)
    assert events[-1].outcome == "applied"
    assert sum(isinstance(told, End) for told in events) == 1
    assert any(type(told) is StatusEvent for told in events)
    assert len(breaks) == breaking.connections - 1 > 3


def test_it_begins_where_it_is_told_to() -> None:
    with log_server(Breaking(1)) as url, quick_client(url) as client:
        data = b"".join(told.data for told in client.follow_log(5, 1000) if isinstance(told, LogBytes))
    assert data == LOG[1000:]


class Scripted(Breaking):
    """Tells these, one after the other."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        super().__init__(0)
        self.answers = list(answers)

    def stream(self, offset: int) -> tuple[int, bytes]:
        self.connections += 1
        return self.answers.pop(0)


def test_a_gap_is_not_shown_as_if_it_were_none() -> None:
    script = Scripted(
        (200, log_event(0, b"one") + log_event(5, b"three")),
        (200, log_event(3, b"2") + b"event: log\ndata: {}\n\n"),
        (200, log_event(3, b"2x") + event("news", {"kind": "unknown"}) + end_event(5)),
    )
    breaks: list[str] = []
    with log_server(script) as url, quick_client(url) as client:
        events = list(client.follow_log(5, on_break=breaks.append))
    assert b"".join(told.data for told in events if isinstance(told, LogBytes)) == b"one2x"
    assert "bytes 3 to 5" in breaks[0]
    assert "cannot be read" in breaks[1]
    assert script.asked == ["0", "3", "4"]


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (401, "unauthenticated"), (500, "internal")])
def test_a_refusal_for_good_ends_it(status: int, code: str) -> None:
    body = b'{"error": {"code": "%s", "message": "no", "retryable": false, "hint": 1}}' % code.encode()
    with (
        log_server(Scripted((status, body))) as url,
        quick_client(url) as client,
        pytest.raises(ApiError, match="no") as raised,
    ):
        list(client.follow_log(5))
    error = raised.value
    assert (error.code, error.status, error.retryable, error.extras) == (code, status, False, {"hint": 1})


def test_patience_ends() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        with quick_client(f"http://127.0.0.1:{taken.getsockname()[1]}") as client, pytest.raises(Unreachable):
            list(client.follow_log(5, patience=0.01))


def test_an_answer_from_something_else_is_told_as_that() -> None:
    with (
        log_server(Scripted((404, b"<html>nginx"))) as url,
        quick_client(url) as client,
        pytest.raises(ApiError, match="not as an IAC server does"),
    ):
        list(client.follow_log(5))


def test_a_proxy_that_has_no_server_behind_it_is_waited_for() -> None:
    script = Scripted((502, b"<html>bad gateway"), (200, log_event(0, b"x") + end_event(1)))
    with log_server(script) as url, quick_client(url) as client:
        assert [told.data for told in client.follow_log(5) if isinstance(told, LogBytes)] == [b"x"]


def test_live_bytes_that_were_not_stored_are_taken_back_and_equal_ones_are_not_told_twice() -> None:
    script = Scripted(
        (
            200,
            log_event(0, b"same, live\n")
            + event("reset", {"offset": 4})
            + log_event(4, b", li")  # so far it is the same
            + log_event(8, b"st\n")
            + event("reset", {"offset": 9})
            + end_event(9),
        ),
    )
    with log_server(script) as url, quick_client(url) as client:
        events = [told for told in client.follow_log(5) if not isinstance(told, End)]
    assert events == [
        LogBytes(0, 11, b"same, live\n"),
        Rewound(8),
        LogBytes(8, 11, b"st\n"),
        Rewound(9),
    ]
