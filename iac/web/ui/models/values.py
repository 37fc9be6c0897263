"""JSON values of Terraform as pages compare and show them: numbers as they were written, marks for what has no value.

Nothing that a value holds can change how a page reads: control and bidirectional characters are shown by their number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from enum import Enum
from itertools import zip_longest
from typing import TypeAlias

from iac.domain.plan_masking import SENSITIVE
from iac.web.ui.models.words import many


class Number(str):
    """A number exactly as it was written: 1.10 is not 1.1, forty digits stay forty digits, and no text equals it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and str.__eq__(self, other)

    def __hash__(self) -> int:
        return str.__hash__(self)


class Mark(Enum):
    """What stands where there is no value to show. A NEW_SECRET is one that differs from what was there before."""

    ABSENT = ""
    UNKNOWN = "(known after apply)"
    SECRET = SENSITIVE
    NEW_SECRET = f"{SENSITIVE[:-1]}, changes)"


Value: TypeAlias = "bool | str | Number | Mark | dict[str, Value] | list[Value] | None"
Path: TypeAlias = "tuple[str | int, ...]"

LONGEST = 300
"""Characters of a value on one line; a longer one is shown in part."""
CONTEXT = 40
"""Characters that are shown before the first difference of two long texts."""
LONGEST_JSON = 256 * 1024
"""Characters of a text that is still tried as JSON."""
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def decoded(document: bytes | str) -> Value:
    """A JSON document's value. Raises ValueError when it is none, RecursionError if it is too deep."""
    found: Value = json.loads(document, parse_float=Number, parse_int=Number, parse_constant=Number)
    return found


def with_unknown(value: Value, unknown: Value) -> Value:
    """`value` with UNKNOWN wherever `after_unknown` says so; such places are often missing in `after`."""
    if unknown is True:
        return Mark.UNKNOWN
    if not _tells(unknown):
        return value
    if isinstance(unknown, dict) and (isinstance(value, dict) or value in (None, Mark.ABSENT)):
        held = value if isinstance(value, dict) else {}
        merged = {name: with_unknown(held.get(name, Mark.ABSENT), unknown.get(name, False)) for name in held | unknown}
        return {name: inner for name, inner in merged.items() if inner is not Mark.ABSENT}
    if isinstance(unknown, list) and (isinstance(value, list) or value in (None, Mark.ABSENT)):
        items = value if isinstance(value, list) else []
        pairs = zip_longest(items, unknown, fillvalue=None)
        return [with_unknown(item, mark) for item, mark in pairs]
    return value


def _tells(unknown: Value) -> bool:
    """Whether anything at all is unknown there."""
    if isinstance(unknown, dict):
        return any(map(_tells, unknown.values()))
    return any(map(_tells, unknown)) if isinstance(unknown, list) else unknown is True


def with_secrets(value: Value, changed: frozenset[Path] = frozenset(), at: Path = ()) -> Value:
    """`value` with a mark wherever the masking left its words; at the paths in `changed` it is a NEW_SECRET."""
    if isinstance(value, dict):
        return {name: with_secrets(inner, changed, (*at, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_secrets(inner, changed, (*at, index)) for index, inner in enumerate(value)]
    if value == SENSITIVE:
        return Mark.NEW_SECRET if at in changed else Mark.SECRET
    return value


def hidden_changes(masked: tuple[Value, Value], raw: tuple[Value, Value], at: Path = ()) -> frozenset[Path]:
    """Where a secret differs between before and after, which the masked values alone do not tell. Paths only."""
    before, after = masked
    if before == SENSITIVE and after == SENSITIVE:
        return frozenset({at}) if raw[0] != raw[1] else frozenset()
    pairs: list[tuple[str | int, tuple[Value, Value], tuple[Value, Value]]] = []
    if _all(masked, raw, dict):
        names = before.keys() & after.keys()  # type: ignore[union-attr]  # both are objects
        pairs = [(name, _inside(masked, name), _inside(raw, name)) for name in names]
    elif _all(masked, raw, list):
        shorter = min(len(side) for side in (*masked, *raw))  # type: ignore[arg-type]  # all are lists
        pairs = [(index, _inside(masked, index), _inside(raw, index)) for index in range(shorter)]
    return frozenset().union(*(hidden_changes(hid, told, (*at, step)) for step, hid, told in pairs))


def _all(masked: tuple[Value, Value], raw: tuple[Value, Value], kind: type) -> bool:
    return all(isinstance(side, kind) for side in (*masked, *raw))


def _inside(sides: tuple[Value, Value], step: str | int) -> tuple[Value, Value]:
    first, second = (_at(side, step) for side in sides)
    return first, second


def _at(value: Value, step: str | int) -> Value:
    if isinstance(value, Mapping):
        return value.get(str(step), Mark.ABSENT)
    return value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else Mark.ABSENT


def embedded_json(text: str) -> dict[str, Value] | list[Value] | None:
    """What a text holds that is itself a JSON object or list, as policies do; None for any other text."""
    if len(text) > LONGEST_JSON or text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        found = decoded(text)
    except (ValueError, RecursionError):
        return None
    return _with_nulls(found) if isinstance(found, dict | list) and found else None  # type: ignore[return-value]


def _with_nulls(value: Value) -> Value:
    """Inside of a text null is a value like others, not an attribute that is not set."""
    if isinstance(value, dict):
        return {name: _with_nulls(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_nulls(inner) for inner in value]
    return Number("null") if value is None else value


def without_nulls(value: Value) -> Value:
    """The value without attributes that are null: they are not set. Elements that are null stay."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def key_of(value: Value) -> Hashable:
    """What two values share exactly if they are equal: to align lists by."""
    match value:
        case dict():
            return dict, tuple((name, key_of(value[name])) for name in sorted(value))
        case list():
            return list, tuple(key_of(item) for item in value)
        case _:
            return type(value), value


def printable(text: str) -> str:
    """The text with what would disturb the page replaced by its number."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown_name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else quoted(name)


def quoted(text: str) -> str:
    return printable(json.dumps(text, ensure_ascii=False))


def shown(value: Value, since: int = 0) -> str:
    """A value on one line; of a long one the part around the character `since`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Mark():
            return value.value
        case Number():
            return str(value)
        case str():
            return _cut(value, since)
        case dict():
            return f"{{ {many(len(value), 'attribute')} }}" if value else "{}"
        case list():
            return f"[ {many(len(value), 'element')} ]" if value else "[]"


def _cut(text: str, since: int) -> str:
    if len(text) <= LONGEST:
        return quoted(text)
    begin = max(0, min(since - CONTEXT, len(text) - LONGEST))
    part = quoted(text[begin : begin + LONGEST])[1:-1]
    ends = ("…" if begin else '"', "…" if begin + LONGEST < len(text) else '"')
    return f"{ends[0]}{part}{ends[1]} ({len(text):,} characters)"


def first_difference(one: str, other: str) -> int:
    """How many characters both begin with."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    low, high = 0, shorter
    while low < high:  # by halves: comparing slices is far faster than comparing characters
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
