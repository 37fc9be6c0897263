"""What is sent to a browser that has something already: what differs, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from iac.web.ui.models.parts import NOTHING, Part, Parts, Patch, Shape, difference, shape_of


class Row(msgspec.Struct, frozen=True):
    words: str
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


def rows(**words: str) -> Parts:
    return Parts("rows", tuple(Part(name, "x.html:row", Row(said)) for name, said in words.items()))


def test_who_has_nothing_gets_everything() -> None:
    shape = shape_of([rows(a="1", b="2")])
    assert difference(NOTHING, shape) == Patch({"rows": ("a", "b")}, ("a", "b"))


def test_what_says_the_same_is_not_sent_again() -> None:
    before, after = shape_of([rows(a="1", b="2")]), shape_of([rows(a="1", b="3")])
    assert difference(before, before).empty
    assert difference(before, after) == Patch({}, ("b",))


def test_an_order_is_sent_when_something_came_went_or_moved() -> None:
    before = shape_of([rows(a="1", b="2")])
    assert difference(before, shape_of([rows(b="2", a="1")])) == Patch({"rows": ("b", "a")}, ())
    assert difference(before, shape_of([rows(b="2")])) == Patch({"rows": ("b",)}, ())
    assert difference(before, shape_of([rows(a="1", n="0", b="2")])) == Patch({"rows": ("a", "n", "b")}, ("n",))


def test_another_macro_or_another_instant_is_something_else() -> None:
    part = Part("a", "x.html:row", Row("1"))
    assert part.digest != Part("a", "x.html:other", Row("1")).digest
    assert part.digest != Part("a", "x.html:row", Row("1", datetime(2026, 1, 2, tzinfo=UTC))).digest
    assert part.digest == Part("b", "x.html:row", Row("1")).digest


_WORDS = st.dictionaries(st.sampled_from("abcdefgh"), st.text(max_size=2), max_size=8)


@given(_WORDS, _WORDS)
def test_a_browser_that_follows_has_what_is_there(first: dict[str, str], second: dict[str, str]) -> None:
    has = Shape({}, {})
    for words in (first, second):
        now = shape_of([rows(**words)])
        patch = difference(has, now)
        # As live.js does it: draw the parts, then take the order.
        order = patch.lists.get("rows", has.lists.get("rows", ()))
        known = {**has.digests, **{part: now.digests[part] for part in patch.parts}}
        has = Shape({"rows": order}, {part: known[part] for part in order})
        assert has == now
