"""What differs between two values, as lines: every change is told, nothing that stayed is, and no text can lie."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.plan_masking import SENSITIVE
from iac.web.ui.models.differences import FORCES, MOST_LINES, Line, difference, value_lines
from iac.web.ui.models.values import (
    LONGEST,
    Mark,
    Value,
    decoded,
    first_difference,
    hidden_changes,
    key_of,
    printable,
    shown,
    with_secrets,
    with_unknown,
)


def of(value: object) -> Value:
    return decoded(json.dumps(value))


def drawn(lines: tuple[Line, ...]) -> list[str]:
    """Lines as somebody reads them."""
    return [_drawn(line) for line in lines]


def _drawn(line: Line) -> str:
    name = f"{line.name} = " if line.name else ""
    before = f"{line.before} → " if line.before else ""
    note = f" # {line.note}" if line.note else ""
    mark = "# " if line.kind == "rest" else ""
    return f"{line.sign or ' '} {'  ' * line.depth}{mark}{name}{before}{line.text}{note}"


def told(before: object, after: object, **more: Any) -> list[str]:
    return drawn(difference(of(before), of(after), **more))


def test_what_stays_is_counted_and_what_changes_is_told() -> None:
    before = {"id": "i-1", "size": 1, "zone": "a", "kept": "x", "gone": True, "null": None}
    after = {"id": "i-1", "size": 2, "zone": "a", "kept": "x", "new": [], "null": None}
    assert told(before, after) == [
        "- gone = true",
        '  id = "i-1"',
        "+ new = []",
        "~ size = 1 → 2",
        "  # 2 unchanged attributes hidden",
    ]


def test_a_creation_leaves_out_what_is_not_set() -> None:
    assert told(None, {"a": 1, "b": None, "c": {"d": ["x"]}}) == [
        "+ a = 1",
        "+ c = {",
        "+   d = [",
        '+     "x"',
        "+   ]",
        "+ }",
    ]


def test_the_path_that_forces_a_replacement_is_marked_at_its_line() -> None:
    lines = told({"a": {"b": [1, 2]}, "c": 1}, {"a": {"b": [1, 3]}, "c": 1}, forced=[("a", "b", 1)])
    assert [line for line in lines if FORCES in line] == [f"-     2 # {FORCES}", f"+     3 # {FORCES}"]


def test_elements_are_aligned_and_nested_ones_compared() -> None:
    lines = told({"l": ["a", "b", "c"], "o": [{"n": 1, "m": 1}]}, {"l": ["a", "c", "d"], "o": [{"n": 2, "m": 1}]})
    assert lines == [
        "~ l = [",
        '-   "b"',
        '+   "d"',
        "    # 2 unchanged elements hidden",
        "  ]",
        "~ o = [",
        "~   {",
        "~     n = 1 → 2",
        "      # 1 unchanged attribute hidden",
        "    }",
        "  ]",
    ]


def test_texts_of_several_lines_are_compared_line_by_line() -> None:
    text = "".join(f"line {n}\n" for n in range(20))
    lines = told({"t": text}, {"t": text.replace("line 15\n", "other\n")})
    assert lines == [
        "~ t = <<EOT",
        *[f"    line {n}" for n in range(3)],
        "    # 9 unchanged lines hidden",
        *[f"    line {n}" for n in range(12, 15)],
        "-   line 15",
        "+   other",
        *[f"    line {n}" for n in range(16, 20)],
        "  EOT",
    ]


def test_json_inside_a_text_is_compared_as_json() -> None:
    lines = told({"p": '{"a": [1, 2], "b": 1}'}, {"p": '{"b":1,"a":[1,3]}'})
    assert lines[0] == "~ p = jsonencode({"
    assert "-     2" in lines
    assert "+     3" in lines
    assert told({"p": '{"a": 1}'}, {"p": '{"a":1, "n": null}'})[1] == "+   n = null"
    same = told({"p": '{"a": 1}'}, {"p": '{"a":1}'})
    assert same == ["~ p = jsonencode( … ) # whitespace or order only"]


def test_a_number_and_a_text_that_look_alike_are_not_the_same() -> None:
    assert told({"a": 1}, {"a": "1"}) == ['~ a = 1 → "1"']
    assert told({"a": [1]}, {"a": ["1"]}) == ["~ a = [", "-   1", '+   "1"', "  ]"]


def test_numbers_are_shown_as_they_were_written() -> None:
    document = '{"a": 1.10, "b": 12345678901234567890123456789012345678901, "c": 1e400}'
    assert drawn(value_lines(decoded(document))) == [
        "  a = 1.10",
        "  b = 12345678901234567890123456789012345678901",
        "  c = 1e400",
    ]


def test_what_is_known_after_the_apply_is_said_so_wherever_it_is() -> None:
    after = with_unknown(of({"a": "x", "l": ["y"], "n": None}), of({"id": True, "l": [False, True], "m": {"k": True}}))
    assert drawn(difference(None, after)) == [
        '+ a = "x"',
        "+ id = (known after apply)",
        "+ l = [",
        '+   "y"',
        "+   (known after apply)",
        "+ ]",
        "+ m = {",
        "+   k = (known after apply)",
        "+ }",
    ]


def test_secrets_are_never_shown_and_whether_they_change_is() -> None:
    masked = (of({"p": SENSITIVE, "q": SENSITIVE}), of({"p": SENSITIVE, "q": SENSITIVE}))
    raw = (of({"p": "old", "q": "same"}), of({"p": "new", "q": "same"}))
    changed = hidden_changes(masked, raw)
    assert changed == {("p",)}
    lines = drawn(difference(with_secrets(masked[0]), with_secrets(masked[1], changed)))
    assert lines == ["~ p = (sensitive value, changes)", "  # 1 unchanged attribute hidden"]


@pytest.mark.parametrize("sign", ["\u202e", "\u2066", "\x1b", "\x00", "\u200b", "\ud800", "\u2028", "\x9b"])
def test_no_character_can_turn_the_page_around(sign: str) -> None:
    lines = drawn(difference(None, {f"k{sign}": f"v{sign}", "t": f"a{sign}\nb"}))
    assert sign not in "".join(lines)
    assert f"\\u{ord(sign):04x}" in "".join(lines)
    "".join(lines).encode()


def test_long_texts_are_shown_around_their_first_difference() -> None:
    before, after = "x" * 5000 + "old" + "y" * 5000, "x" * 5000 + "new" + "y" * 5000
    (line,) = told({"a": before}, {"a": after})
    assert "old" in line.partition("→")[0]
    assert "new" in line.partition("→")[2]
    assert len(line) < 3 * LONGEST


def test_lines_are_bounded_and_so_is_depth() -> None:
    many = difference(None, of({"l": list(range(MOST_LINES * 2))}))
    assert len(many) == MOST_LINES + 1
    assert "the raw document has the rest" in many[-1].text
    deep: Value = "x"
    for _ in range(2000):
        deep = [deep]
    assert "nested too deeply" in difference(None, {"d": deep})[-1].text


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["a\nb\n", "a\nc\n", '{"a":1}', "[2]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["id", "a", "b", "c"]), JSONS, max_size=4)


@given(OBJECTS)
def test_equal_values_have_no_difference(value: dict[str, Any]) -> None:
    assert [line for line in difference(of(value), of(value)) if line.sign] == []


@given(OBJECTS, OBJECTS)
def test_any_change_that_counts_has_a_sign_and_brackets_match(before: dict[str, Any], after: dict[str, Any]) -> None:
    lines = difference(of(before), of(after))
    assert any(line.sign for line in lines) is (_set(before) != _set(after))
    depth = 0
    for line in lines:
        if line.kind == "bracket" and line.text[:1] in "})]E":
            depth -= 1
        assert line.depth == depth
        if line.kind == "bracket" and line.text[-1:] in "{[T" and not line.text.startswith("EOT"):
            depth += 1
    assert depth == 0


def _set(value: Any) -> Any:
    """A JSON value without attributes that are null: they are not set, which is no difference."""
    if isinstance(value, dict):
        return {name: _set(inner) for name, inner in value.items() if inner is not None}
    return [_exact(item) for item in value] if isinstance(value, list) else _exact(value)


def _exact(value: Any) -> Any:
    return _set(value) if isinstance(value, dict | list) else (type(value), value)


@given(JSONS, JSONS)
def test_keys_are_equal_exactly_where_values_are(one: Any, other: Any) -> None:
    assert (key_of(of(one)) == key_of(of(other))) is (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_the_first_difference_is_where_two_texts_part(common: str, one: str, other: str) -> None:
    at = first_difference(common + one, common + other)
    assert at >= len(common)
    assert (common + one)[:at] == (common + other)[:at]
    assert (common + one)[at : at + 1] != (common + other)[at : at + 1] or at == len(common + one) == len(
        common + other
    )


@given(st.text())
def test_whatever_a_text_holds_it_can_be_sent_and_has_no_control(text: str) -> None:
    sent = printable(text).encode().decode()
    assert not any(ord(sign) < 32 and sign not in "\t\n" for sign in sent)


def test_a_mark_is_told_by_its_words() -> None:
    assert [shown(mark) for mark in Mark] == ["", "(known after apply)", SENSITIVE, "(sensitive value, changes)"]
