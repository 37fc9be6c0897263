"""Server-sent events, however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iac.cli import sse
from iac.cli.sse import EventParser, Malformed, ServerEvent

STREAM = (
    b": hello\n\nid: 5\nevent: log\ndata: one\n\n"
    b"data: two\r\ndata: lines\r\n\r\n"
    b"event: x\n\n"  # no data, no event
    b"id: 7\rdata: {\"a\": \"\xe2\x80\xa8\"}\r\r\n"
    b"retry: 10\nunknown: y\nevent: end\ndata\n\ndata: cut"
)  # fmt: skip
EVENTS = [
    ServerEvent("log", b"one", "5"),
    ServerEvent("message", b"two\nlines", "5"),
    ServerEvent("message", b'{"a": "\xe2\x80\xa8"}', "7"),
    ServerEvent("end", b"", "7"),
]


def test_a_stream_is_read_as_the_standard_says() -> None:
    assert EventParser().feed(STREAM) == EVENTS


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=20))
@settings(deadline=None)
def test_how_it_is_cut_makes_no_difference(cuts: list[int]) -> None:
    parser, edges = EventParser(), sorted({0, len(STREAM), *cuts})
    pieces = [STREAM[low:high] for low, high in pairwise(edges)]
    assert [event for piece in pieces for event in parser.feed(piece)] == EVENTS


def test_an_event_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST", 100)
    parser = EventParser()
    parser.feed(b"data: xxxx\n" * 20)
    with pytest.raises(Malformed):
        parser.feed(b"data: xxxx\n" * 20)
