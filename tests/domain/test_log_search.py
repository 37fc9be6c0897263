"""Finding a text in a log that comes piece by piece."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.log_search import MOST_HELD, LogSearch

PIECES = st.sampled_from(
    [b"needle", b"Need", b"le", b"\n", b"\x1b[1m", b"\x1b[0m", b"\x1b[38;5;9m", b"hay ", b"x" * 3000]
)


def found(log: bytes, text: str, step: int = 1 << 20, offset: int = 0) -> list[int]:
    search = LogSearch(text, offset)
    told: list[int] = []
    for at in range(offset, len(log), step):
        told += search.feed(log[at : at + step])
    told += search.finish()
    assert search.settled == len(log)
    return told


@given(st.lists(PIECES, max_size=50).map(b"".join), st.integers(1, 9000))
def test_matches_do_not_depend_on_how_the_log_came(log: bytes, step: int) -> None:
    assert found(log, "needle", step) == found(log, "needle")


@given(st.lists(PIECES, max_size=50).map(b"".join))
def test_a_line_has_a_match_if_people_see_one_in_it(log: bytes) -> None:
    lines = re.sub(rb"\x1b\[[0-9;]*m", b"", log).lower().split(b"\n")
    told = {log.count(b"\n", 0, at) for at in found(log, "NEEDLE")}
    assert told == {number for number, line in enumerate(lines) if b"needle" in line}


def test_colours_inside_a_word_are_not_in_the_way() -> None:
    log = b"a\n\x1b[1mfoo\x1b[0m: Creating\nfoo: creating\n"
    assert found(log, "foo: creating") == [log.index(b"foo"), log.rindex(b"foo")]
    assert found(b"be\n\x1b[1mf\x1b[31m\x1b[1moo\x1b[0m: Creating\n", "foo: creating") == [7]
    assert found(b"\x1b[1m\x1b[32mMod\x1b[0mule am\x1b[0mx 5m\x1b[0m!\n", "module am") == [9]
    assert found(b"\x1b[1m\x1b[32mMod\x1b[0mule am\x1b[0mx 5m\x1b[0m!\n", "mx 5m!") == [21]


@pytest.mark.parametrize("text", ["ab", "bcd", "abcdef", "f g", "xf", "1m", "[0m", "a", "am", "mb", "mm"])
@given(log=st.lists(st.sampled_from([*b"abcdefm g\n", 0]), max_size=20), colours=st.integers(1, 20))
def test_wherever_colours_are_what_is_found_is_what_people_read(text: str, log: list[int], colours: int) -> None:
    """Each 0 is a colour; more different ones than are taken out one by one, if there are many."""
    marks = (b"\x1b[%dm" % (number % colours) for number in range(len(log)))
    written = b"".join(next(marks) if each == 0 else bytes((each,)) for each in log)
    lines = bytes(each for each in log if each).split(b"\n")
    told = {written.count(b"\n", 0, at) for at in found(written, text)}
    assert told == {number for number, line in enumerate(lines) if text.encode() in line}


def test_what_becomes_a_colour_when_another_is_taken_out_moves_no_match() -> None:
    log = b"\x1b[0mred\n\x1b[\x1b[0m0m ahead of the word\n"
    assert found(log, "word") == [log.index(b"word")]


def test_one_match_in_a_line_and_more_in_a_long_one() -> None:
    assert found(b"ab ab ab\nab\n", "ab") == [0, 9]
    long = b"ab" + b"." * 5000 + b"ab"
    assert found(long, "ab") == [0, 5002]


@pytest.mark.parametrize("size", [1, MOST_HELD // 3, MOST_HELD, 3 * MOST_HELD])
def test_a_match_in_the_middle_of_a_giant_line_is_found_once(size: int) -> None:
    log = b"x" * size + b"needle" + b"y" * (5 * MOST_HELD)
    assert found(log, "needle", step=64 * 1024) == [size]


def test_a_search_goes_on_where_another_has_settled() -> None:
    log = b"".join(b"line %d\n" % n for n in range(1000))
    first = LogSearch("line")
    told = first.feed(log[:3333])
    assert told + found(log, "line", offset=first.settled) == found(log, "line")


def test_other_alphabets_are_found_as_they_are_written() -> None:
    assert found("Ärger 漢字\n".encode(), "漢字") == [7]
