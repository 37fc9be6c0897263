"""The index of a log: rows, pages, colours, stages, errors; the same however the log was cut into pieces."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from iac.domain.log_index import PAGE_BYTES, PAGE_ROWS, ROW, LogIndex, Place
from iac.domain.rendering import stage_marker

PIECES = st.sampled_from(
    [
        b"a line\n",
        b"\n",
        b"\x1b[1mbold\x1b[0m\n",
        b"\x1b[31m",
        "é漢🙂".encode(),
        b"x" * 700,
        b"\x1b[38;5;208mo",
        b"\r\n",
    ]
)


def indexed(log: bytes, step: int = 1 << 20) -> LogIndex:
    index = LogIndex()
    for at in range(0, len(log), step):
        index.feed(log[at : at + step])
    return index


def rows(index: LogIndex) -> tuple[int, int, int, object, object]:
    return index.length, index.rows, index.lines, index.stages, index.first_error


@given(st.lists(PIECES, max_size=60).map(b"".join), st.integers(1, 5000))
def test_what_it_says_of_rows_does_not_depend_on_how_the_log_came(log: bytes, step: int) -> None:
    assert rows(indexed(log, step)) == rows(indexed(log))


@given(st.lists(PIECES, max_size=60).map(b"".join))
def test_lines_are_counted_as_everybody_counts_them(log: bytes) -> None:
    assert indexed(log).lines == log.count(b"\n") + bool(log and not log.endswith(b"\n"))


def test_a_page_begins_where_a_row_begins_and_holds_no_more_than_can_be_shown() -> None:
    log = b"".join(b"line %d of some length\n" % n for n in range(20_000))
    index = indexed(log)
    for before, page in pairwise(index.pages):
        assert log[page.start.offset - 1 : page.start.offset] == b"\n"
        between = log[before.start.offset : page.start.offset]
        assert page.start.row - before.start.row == page.start.line - before.start.line == between.count(b"\n")
        assert len(between) < PAGE_BYTES + ROW + 1
        assert between.count(b"\n") < PAGE_ROWS + ROW
    assert index.rows == index.lines == 20_000


def test_a_long_line_is_many_rows_and_one_line() -> None:
    index = indexed(b"first\n" + b"x" * (10 * ROW + 5) + b"\nlast", step=777)
    assert (index.rows, index.lines) == (1 + 11 + 1, 3)


def test_a_line_as_long_as_a_row_is_one() -> None:
    assert indexed(b"x" * ROW + b"\n").rows == 1
    assert indexed(b"x" * (ROW + 1) + b"\n").rows == 2


def test_no_character_and_no_colour_is_cut_in_two() -> None:
    beginnings = (b"x" * (ROW - 1) + "é".encode(), b"x" * (ROW - 3) + b"\x1b[38;5;208m")
    for beginning, whole in zip(beginnings, (ROW - 1, ROW - 3), strict=True):
        log = beginning + b"y" * (2 * PAGE_BYTES)
        index = indexed(log)
        assert index.pages[1].continued
        assert (index.pages[1].start.offset - whole) % ROW == 0


def test_a_page_says_which_colours_are_in_force_where_it_begins() -> None:
    red = b"\x1b[1m\x1b[31m" + b"row\n" * (2 * PAGE_BYTES // 4)
    assert {page.colours for page in indexed(red).pages[1:]} == {"1;31"}
    assert {page.colours for page in indexed(red.replace(b"31mrow", b"31m\x1b[0mrow")).pages} == {""}
    # Codes that nothing ends are not collected for ever.
    endless = b"\x1b[32mrow\n" * PAGE_BYTES
    assert max(len(page.colours) for page in indexed(endless).pages) < 100


def test_stages_and_the_first_error_are_found_in_their_rows() -> None:
    begin = stage_marker("init", "begin", "2026-11-25T10:00:00Z")
    end = stage_marker("init", "end", "2026-11-25T10:00:02Z", "failed")
    log = begin + b"a\n" + "\x1b[31m│\x1b[0m \x1b[1m\x1b[31mError: \x1b[0mno\n".encode() + b"Error: again\n" + end
    index = indexed(log, step=13)
    assert [(each.mark.stage, each.mark.edge, each.at.row) for each in index.stages] == [
        ("init", "begin", 0),
        ("init", "end", 4),
    ]
    assert index.first_error == Place(len(begin) + 2, 2, 2)


def test_a_sentence_about_an_error_is_none() -> None:
    assert indexed(b"this is not an Error: really\n").first_error is None
