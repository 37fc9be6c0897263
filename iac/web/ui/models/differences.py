"""What differs between two values, as lines that read like Terraform's own, and a value alone as such lines.

Lines are flat, each with its depth, so that a template needs no recursion. What did not change is counted, not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import islice
from typing import Literal, TypeAlias, TypeVar

import msgspec

from iac.web.ui.models.values import (
    Mark,
    Number,
    Path,
    Value,
    embedded_json,
    first_difference,
    key_of,
    printable,
    shown,
    shown_name,
    without_nulls,
)

Sign = Literal["+", "-", "~", ""]
Kind = Literal["text", "number", "word", "unknown", "secret", "bracket", "line", "rest"]
FORCES = "forces replacement"
MOST_LINES = 1500
"""Lines of one difference; what comes after is in the raw document."""
_AROUND = 3
_TOO_MANY_PAIRS = 4_000_000
LONG_LINE = 2000
"""Characters of one line of a text."""
_ALWAYS = frozenset({"id", "name"})
"""Unchanged attributes that are shown all the same at the top: they say what it is."""


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`before` is the old value where it changes in place; `note` stands behind it all."""

    sign: Sign
    depth: int
    kind: Kind
    text: str
    name: str = ""
    before: str = ""
    note: str = ""


class _Where(msgspec.Struct, frozen=True):
    """A place in a value: its name as it is shown, how deep, its path, and what the page says about paths."""

    name: str
    depth: int
    path: Path
    forced: frozenset[Path]

    def inside(self, step: str | int, name: str) -> _Where:
        return _Where(name, self.depth + 1, (*self.path, step), self.forced)

    @property
    def note(self) -> str:
        return FORCES if self.path in self.forced else ""

    def line(self, sign: Sign, value: Value) -> Line:
        return Line(sign=sign, depth=self.depth, name=self.name, kind=kind_of(value), text=shown(value), note=self.note)

    def opening(self, sign: Sign, bracket: str, note: str = "") -> Line:
        note = note or self.note
        return Line(sign=sign, depth=self.depth, name=self.name, kind="bracket", text=bracket, note=note)

    def closing(self, sign: Sign, bracket: str) -> Line:
        return Line(sign=sign, depth=self.depth, kind="bracket", text=bracket)


Lines: TypeAlias = Iterator[Line]
H = TypeVar("H", bound=Hashable)


def difference(before: Value, after: Value, *, forced: Iterable[Path] = ()) -> tuple[Line, ...]:
    """What becomes of `before` to be `after`; `forced` are the paths whose change needs a replacement."""
    return _bounded(lambda: _top(without_nulls(before), without_nulls(after), frozenset(forced)))


def value_lines(value: Value) -> tuple[Line, ...]:
    """A value alone, without signs."""
    return _bounded(lambda: _top_of_one(without_nulls(value), ""))


def _bounded(lines: Callable[[], Lines]) -> tuple[Line, ...]:
    try:
        drawn = tuple(islice(lines(), MOST_LINES + 1))
    except RecursionError:
        return (_rest(0, "nested too deeply to be shown; the raw document has it"),)
    if len(drawn) > MOST_LINES:
        return (*drawn[:MOST_LINES], _rest(0, f"more than {MOST_LINES:,} lines; the raw document has the rest"))
    return drawn


def _top(before: Value, after: Value, forced: frozenset[Path]) -> Lines:
    top = _Where("", -1, (), forced)
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _fields(before, after, top)
    elif _nothing(before):
        yield from _top_of_one(after, "+", forced)
    elif _nothing(after):
        yield from _top_of_one(before, "-", forced)
    else:
        yield from _pair(before, after, _Where("", 0, (), forced))


def _top_of_one(value: Value, sign: Sign, forced: frozenset[Path] = frozenset()) -> Lines:
    if isinstance(value, dict):
        yield from _inner(value, sign, _Where("", -1, (), forced))
    elif value is not Mark.ABSENT:
        yield from _whole(value, sign, _Where("", 0, (), forced))


def _nothing(value: Value) -> bool:
    """An attribute that is null is one that is not set."""
    return value is None or value is Mark.ABSENT


def _fields(before: dict[str, Value], after: dict[str, Value], at: _Where) -> Lines:
    unchanged = 0
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, Mark.ABSENT), after.get(name, Mark.ABSENT)
        here = at.inside(name, shown_name(name))
        if old == new:
            if at.depth < 0 and name in _ALWAYS and isinstance(old, str):
                yield here.line("", old)
            else:
                unchanged += 1
        else:
            yield from _pair(old, new, here)
    if unchanged:
        yield _rest(at.depth + 1, f"{unchanged} unchanged {'attribute' if unchanged == 1 else 'attributes'} hidden")


def _pair(old: Value, new: Value, at: _Where) -> Lines:
    """Two values that differ."""
    if _nothing(old) or _nothing(new):
        value, sign = (new, "+") if _nothing(old) else (old, "-")
        yield from _whole(value, sign, at)  # type: ignore[arg-type]  # one of the two signs
    elif isinstance(old, dict) and isinstance(new, dict):
        yield from _between(at, "{", _fields(old, new, at), "}")
    elif isinstance(old, list) and isinstance(new, list):
        yield from _between(at, "[", _items(old, new, at), "]")
    elif new is not Mark.UNKNOWN and (isinstance(old, dict | list) or isinstance(new, dict | list)):
        yield from _whole(old, "-", at)
        yield from _whole(new, "+", at)
    elif _is_text(old) and _is_text(new):
        yield from _texts(str(old), str(new), at)
    elif new is Mark.NEW_SECRET:
        yield at.line("~", new)  # of the old one there is no more to say
    else:
        yield Line(
            sign="~", depth=at.depth, name=at.name, kind=kind_of(new), text=shown(new), before=shown(old), note=at.note
        )


def _between(at: _Where, bracket: str, inside: Lines, closing: str, note: str = "") -> Lines:
    yield at.opening("~", bracket, note)
    yield from inside
    yield at.closing("", closing)


def _is_text(value: Value) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def _texts(old: str, new: str, at: _Where) -> Lines:
    one, other = embedded_json(old), embedded_json(new)
    if one is not None and type(one) is type(other):
        if one == other:
            yield at.opening("~", "jsonencode( … )", "whitespace or order only")
        elif isinstance(one, dict):
            yield from _between(at, "jsonencode({", _fields(one, other, at), "})")  # type: ignore[arg-type]
        else:
            yield from _between(at, "jsonencode([", _items(one, other, at), "])")  # type: ignore[arg-type]
    elif "\n" in old or "\n" in new:
        yield at.opening("~", "<<EOT")
        yield from _text_lines(old.splitlines(), new.splitlines(), at.depth + 1)
        if old.endswith("\n") != new.endswith("\n"):
            yield _rest(at.depth + 1, f"{'without' if old.endswith(chr(10)) else 'with'} a newline at the end now")
        yield at.closing("", "EOT")
    else:
        since = first_difference(old, new)
        yield Line(
            sign="~", depth=at.depth, name=at.name, kind="text", text=shown(new, since), before=shown(old, since),
            note=at.note,
        )  # fmt: skip


def _text_lines(old: list[str], new: list[str], depth: int) -> Lines:
    for tag, one, other in _hunks(old, new):
        if tag != "equal":
            yield from (_line_of_text("-", depth, text) for text in one)
            yield from (_line_of_text("+", depth, text) for text in other)
        elif len(one) <= 2 * _AROUND + 1:
            yield from (_line_of_text("", depth, text) for text in one)
        else:
            yield from (_line_of_text("", depth, text) for text in one[:_AROUND])
            yield _rest(depth, f"{len(one) - 2 * _AROUND} unchanged lines hidden")
            yield from (_line_of_text("", depth, text) for text in one[-_AROUND:])


def _line_of_text(sign: Sign, depth: int, text: str) -> Line:
    return Line(sign=sign, depth=depth, kind="line", text=printable(text[:LONG_LINE]) + "…" * (len(text) > LONG_LINE))


def _hunks(old: Sequence[H], new: Sequence[H]) -> Iterator[tuple[str, Sequence[H], Sequence[H]]]:
    """Runs of equal and of different entries. Where both are very long, what lies between common ends is one run."""
    front = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    rest = min(len(old), len(new)) - front
    pairs = zip(reversed(old), reversed(new), strict=False)
    back = next((i for i, (a, b) in enumerate(islice(pairs, rest)) if a != b), rest)
    one, other = old[front : len(old) - back], new[front : len(new) - back]
    if front:
        yield "equal", old[:front], new[:front]
    if len(one) * len(other) > _TOO_MANY_PAIRS:
        yield "replace", one, other
    else:
        for tag, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
            yield tag, one[a:b], other[c:d]
    if back:
        yield "equal", old[-back:], new[-back:]


def _items(old: list[Value], new: list[Value], at: _Where) -> Lines:
    unchanged, i, j = 0, 0, 0
    for tag, one, other in _hunks([key_of(item) for item in old], [key_of(item) for item in new]):
        gone, come = old[i : i + len(one)], new[j : j + len(other)]
        if tag == "equal":
            unchanged += len(one)
        else:
            yield from _replaced(gone, come, at, i, j)
        i, j = i + len(one), j + len(other)
    if unchanged:
        yield _rest(at.depth + 1, f"{unchanged} unchanged {'element' if unchanged == 1 else 'elements'} hidden")


def _replaced(gone: list[Value], come: list[Value], at: _Where, i: int, j: int) -> Lines:
    """Elements that take the place of others: nested ones are compared, simple ones go and come."""
    both = min(len(gone), len(come))
    for n in range(both):
        if isinstance(gone[n], dict | list) and type(gone[n]) is type(come[n]):
            yield from _pair(gone[n], come[n], at.inside(j + n, ""))
        else:
            yield from _whole(gone[n], "-", at.inside(i + n, ""))
            yield from _whole(come[n], "+", at.inside(j + n, ""))
    for n in range(both, len(gone)):
        yield from _whole(gone[n], "-", at.inside(i + n, ""))
    for n in range(both, len(come)):
        yield from _whole(come[n], "+", at.inside(j + n, ""))


def _whole(value: Value, sign: Sign, at: _Where) -> Lines:
    """A value that comes, goes, or just is."""
    told = embedded_json(str(value)) if _is_text(value) else value
    wrapped = ("jsonencode(", ")") if told is not None and told is not value else ("", "")
    if isinstance(told, dict | list) and told:
        opening, closing = ("{", "}") if isinstance(told, dict) else ("[", "]")
        yield at.opening(sign, wrapped[0] + opening)
        yield from _inner(told, sign, at)
        yield at.closing(sign, closing + wrapped[1])
    elif _is_text(value) and "\n" in str(value).rstrip("\n"):
        yield at.opening(sign, "<<EOT")
        yield from (_line_of_text(sign, at.depth + 1, text) for text in str(value).splitlines())
        yield at.closing(sign, "EOT")
    else:
        yield at.line(sign, value)


def _inner(value: dict[str, Value] | list[Value], sign: Sign, at: _Where) -> Lines:
    if isinstance(value, dict):
        for name in sorted(value):
            yield from _whole(value[name], sign, at.inside(name, shown_name(name)))
    else:
        for index, item in enumerate(value):
            yield from _whole(item, sign, at.inside(index, ""))


def _rest(depth: int, text: str) -> Line:
    return Line(sign="", depth=depth, kind="rest", text=text)


def kind_of(value: Value) -> Kind:
    """How a value is drawn."""
    match value:
        case Mark.UNKNOWN:
            return "unknown"
        case Mark():
            return "secret"
        case None | bool():
            return "word"
        case Number():
            return "number"
        case str():
            return "text"
        case _:
            return "bracket"
