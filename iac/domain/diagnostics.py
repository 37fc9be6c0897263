"""A diagnostic of Terraform's -json stream, as the box that its human output draws."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

_BOLD = "\x1b[1m"
_GREY = "\x1b[90m"
_RESET = "\x1b[0m"
_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m"}


class Position(msgspec.Struct, frozen=True):
    line: int = 0


class SourceRange(msgspec.Struct, frozen=True):
    filename: str = ""
    start: Position = Position()


class Value(msgspec.Struct, frozen=True):
    """What a variable in the snippet was: `traversal` names it, `statement` reads as "is 3"."""

    traversal: str = ""
    statement: str = ""


class FunctionCall(msgspec.Struct, frozen=True):
    name: str = ""


class Snippet(msgspec.Struct, frozen=True):
    """Source lines; the highlight's offsets count bytes of `code`."""

    context: str | None = None
    code: str = ""
    start_line: int = 0
    highlight_start_offset: int = 0
    highlight_end_offset: int = 0
    values: list[Value] | None = None
    function_call: FunctionCall | None = None


class Finding(msgspec.Struct, frozen=True):
    """The `diagnostic` member of a line."""

    severity: str = "error"
    summary: str = ""
    detail: str = ""
    address: str | None = None
    range: SourceRange | None = None
    snippet: Snippet | None = None


def box(finding: Finding) -> str:
    """The finding as coloured lines, each with its newline."""
    colour = _COLOURS.get(finding.severity, "")
    title = finding.severity.capitalize() or "Error"
    bar = f"{colour}│{_RESET} "
    lines = [f"{colour}╷{_RESET}", f"{bar}{_BOLD}{colour}{title}: {_RESET}{_BOLD}{finding.summary}{_RESET}"]
    for part in (_place(finding, colour), finding.detail.rstrip("\n").split("\n") if finding.detail else []):
        if part:
            lines += [bar, *(bar + line for line in part)]
    return "\n".join([*lines, f"{colour}╵{_RESET}", ""])


def _place(finding: Finding, colour: str) -> list[str]:
    lines = [f"  with {finding.address},"] if finding.address else []
    if finding.range:
        context = finding.snippet.context if finding.snippet else None
        where = f", in {context}" if context else ""
        lines.append(f"  on {finding.range.filename} line {finding.range.start.line}{where}:")
    if finding.snippet:
        lines += _code(finding.snippet, colour)
        lines += _values(finding.snippet)
    return lines


def _code(snippet: Snippet, colour: str) -> Iterator[str]:
    """The source with the culprit marked below it: an underline inside would break a secret in two for the masker."""
    code = snippet.code.encode("utf-8", "surrogatepass")
    start = max(0, snippet.highlight_start_offset)
    # Only the first line of a culprit is marked, which is enough to find it.
    before, culprit = code[:start], code[start : snippet.highlight_end_offset].split(b"\n", 1)[0]
    marked_line = before.count(b"\n")
    indent = re.sub(r"[^\t]", " ", _text(before[before.rfind(b"\n") + 1 :]))
    for index, line in enumerate(code.split(b"\n")):
        yield f"{snippet.start_line + index:4d}: {_text(line)}"
        if index == marked_line and culprit:
            yield f"      {indent}{colour}{'^' * len(_text(culprit))}{_RESET}"


def _text(code: bytes) -> str:
    return code.decode("utf-8", "replace")


def _values(snippet: Snippet) -> Iterator[str]:
    values = [f"{_BOLD}{value.traversal}{_RESET} {value.statement}" for value in snippet.values or ()]
    if snippet.function_call:
        values.insert(0, f"while calling {_BOLD}{snippet.function_call.name}{_RESET}")
    if values:
        yield f"    {_GREY}├────────────────{_RESET}"
        yield from (f"    {_GREY}│{_RESET} {value}" for value in values)
