"""What strangers printed does nothing to a terminal."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iac.cli.sanitising import Sanitiser, escaped, one_line, safe_text
from tests.harness.thoroughness import examples

EVIL = [
    b"\x1b]0;title\x07",
    b"\x1b]52;c;ZXZpbA==\x1b\\",  # writes the clipboard
    b"\x1b[2J\x1b[H",
    b"\x1b[1A\x1b[2K",
    b"\x1bc",
    b"\x1bP+q544e\x1b\\",
    b"\x1b(0",
    b"\x1b[?1049h",
    b"\x1b[6n",
    b"\x08\x08\x08",
    b"\x07",
    "\u009b".encode(),  # the same as ESC [ to some
    "\u202e".encode(),
    b"\x1b[38;5;1x",
]


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_terminal_would_obey_is_taken_out(evil: bytes) -> None:
    assert safe_text(b"be" + evil + b"fore\n", colours=True).replace("\x1b[0m", "") == "before\n"


def test_colours_stay_or_go() -> None:
    log = b"\x1b[1m\x1b[32mApply complete!\x1b[0m\n"
    assert safe_text(log, colours=True) == log.decode()
    assert safe_text(log, colours=False) == "Apply complete!\n"


def test_a_line_cannot_overwrite_itself() -> None:
    assert safe_text(b"destroys all\radds one   \r\n", colours=True) == "destroys all\nadds one   \n"


def test_a_sequence_without_an_end_hides_nothing() -> None:
    assert safe_text(b"\x1b]0;plan: 9 to destroy\nmore", colours=True) == "]0;plan: 9 to destroy\nmore"
    assert safe_text(b"\x1b]8;;" + b"x" * 9000 + b"\x07", colours=True).count("x") == 9000


def test_letters_of_the_world_stay() -> None:
    assert safe_text("äß日本🙂\t|\n".encode(), colours=False) == "äß日本🙂\t|\n"


PARTS = st.one_of(
    st.sampled_from(EVIL),
    st.sampled_from([b"\x1b", b"\x1b[", b"\x1b]", b"\r", b"\n", b"\x1b\\", b"\x07", b"\x1b[31m", b"[31m", b"\\", b"m"]),
    st.binary(max_size=6),
)
ALLOWED = re.compile(r"(?:[^\x00-\x08\x0b-\x1f\x7f-\x9f]|\x1b\[[0-9;:]*m)*")


@given(parts=st.lists(PARTS, max_size=12), cuts=st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=examples(300), deadline=None)
def test_how_the_bytes_are_cut_makes_no_difference(parts: list[bytes], cuts: list[int]) -> None:
    log = b"".join(parts)
    edges = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    sanitiser = Sanitiser(colours=True)
    fed = "".join(sanitiser.feed(log[low:high]) for low, high in pairwise(edges))
    fed += sanitiser.finish()
    assert fed == safe_text(log, colours=True)
    assert ALLOWED.fullmatch(fed)
    assert safe_text(fed.encode(), colours=True) == fed


def test_a_value_for_a_table_is_one_line() -> None:
    assert one_line("a\nb\tc\x1b[31md\x1b[2J") == "a b cd"


def test_json_for_a_terminal_means_the_same() -> None:
    assert escaped('{"a":"\x9b2J\u202e"}') == '{"a":"\\u009b2J\\u202e"}'
