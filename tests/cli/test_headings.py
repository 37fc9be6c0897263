"""Stage marks become headings."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from iac.cli.headings import Headings
from iac.domain.rendering import stage_marker

AT = "2025-01-01T00:00:00Z"
LOG = b"".join(
    [
        stage_marker("preparing", "begin", AT),
        b"[iac] terraform 1.2.3\n",
        stage_marker("preparing", "end", AT),
        stage_marker("planning", "begin", AT),
        "Pläne\n\n".encode(),
        b"\x1b[2m and more, not at the start: " + stage_marker("init", "begin", AT),
        stage_marker("planning", "end", AT, "exit 0"),
        "\x1b[2m── iac: stage".encode(),
    ]
)
SHOWN = (
    b"[iac] terraform 1.2.3\n"
    + "\x1b[1m── terraform plan ──\x1b[0m\nPläne\n\n".encode()
    + b"\x1b[2m and more, not at the start: "
    + stage_marker("init", "begin", AT)
    + "\x1b[2m── iac: stage".encode()
)


@given(cuts=st.lists(st.integers(0, len(LOG)), max_size=20))
def test_marks_become_headings_however_the_log_is_cut(cuts: list[int]) -> None:
    headings, edges = Headings(), sorted({0, len(LOG), *cuts})
    assert b"".join(headings.feed(LOG[low:high]) for low, high in pairwise(edges)) + headings.finish() == SHOWN


def test_nothing_but_a_mark_is_held_back() -> None:
    assert Headings().feed(b"Enter a value: ") == b"Enter a value: "
