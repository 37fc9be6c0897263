"""The raw log as a person reads it: Terraform's -json lines become text, every other byte stays as it is.

Raw bytes go through the renderer first and the masker second: a secret is whole again once JSON's escapes are gone.
Events carry text that no masker has seen: mask it before it leaves the process.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from iac.domain.narration import ChangeSummary, Diagnostic, Event, Outputs, ResourceProgress, narrate

__all__ = [
    "ChangeSummary",
    "Diagnostic",
    "Event",
    "Outputs",
    "Renderer",
    "ResourceProgress",
    "StageMark",
    "parse_marker",
    "stage_marker",
]

MAX_JSON_LINE = 1024 * 1024
_OPENING = b'{"@level"'
_NEXT_OPENING = b"\n" + _OPENING

Edge = Literal["begin", "end"]


class Renderer:
    """One stream. The output depends on the bytes alone, not on how they were cut into feeds.

    Held back is only an unfinished line that may still be one of Terraform's; one of more than MAX_JSON_LINE bytes
    passes as it is, like anything else.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._fresh = True  # what comes next, after `_held`, begins a line

    @property
    def settled(self) -> bool:
        """At a line's start with nothing held: a new renderer that gets the bytes from here on does what this does."""
        return self._fresh and not self._held

    def feed(self, raw: bytes) -> tuple[bytes, list[Event]]:
        """What is sure by now."""
        if self._only_lengthens(raw):
            self._held += raw
            return b"", []
        data = bytes(self._held) + raw
        self._held.clear()
        out: list[bytes] = []
        events: list[Event] = []
        at = 0
        while at < len(data):
            at = self._line(data, at, out, events) if self._fresh else self._verbatim(data, at, out)
        return b"".join(out), events

    def finish(self) -> tuple[bytes, list[Event]]:
        """The rest: an unfinished line, which may lack its newline only. The renderer is as new afterwards."""
        rest = bytes(self._held)
        self._held.clear()
        self._fresh = True
        out: list[bytes] = []
        events: list[Event] = []
        _tell(rest, out, events)
        return b"".join(out), events

    def _only_lengthens(self, raw: bytes) -> bool:
        """A long line in small pieces: scanning it again at each piece would be quadratic."""
        room = MAX_JSON_LINE - len(self._held)
        return len(self._held) >= len(_OPENING) and len(raw) <= room and b"\n" not in raw

    def _line(self, data: bytes, at: int, out: list[bytes], events: list[Event]) -> int:
        """At a line's start: render it, hold it, or declare it verbatim. Returns where to go on."""
        if data.startswith(_OPENING, at):
            end = data.find(b"\n", at, at + MAX_JSON_LINE + 1)
            if end >= 0:
                _tell(data[at : end + 1], out, events)
                return end + 1
            undecided = len(data) - at <= MAX_JSON_LINE
        else:
            undecided = _OPENING.startswith(data[at : at + len(_OPENING)])
        if undecided:
            self._held += data[at:]
            return len(data)
        self._fresh = False
        return at

    def _verbatim(self, data: bytes, at: int, out: list[bytes]) -> int:
        """Inside a line that passes: up to the next line that may be one of Terraform's."""
        found = data.find(_NEXT_OPENING, at)
        if found < 0:
            newline = data.rfind(b"\n", max(at, len(data) - len(_OPENING)))
            found = newline if newline >= 0 and _OPENING.startswith(data[newline + 1 :]) else -1
        self._fresh = found >= 0
        stop = found + 1 if self._fresh else len(data)
        out.append(data[at:stop])
        return stop


def _tell(line: bytes, out: list[bytes], events: list[Event]) -> None:
    narrated = narrate(line) if line.startswith(_OPENING) else None
    if narrated is None:
        out.append(line)
        return
    text, event = narrated
    out.append(text.encode("utf-8", "replace"))
    if event is not None:
        events.append(event)


class StageMark(msgspec.Struct, frozen=True):
    """A task's stage began or ended. `at` is an RFC 3339 time."""

    stage: str
    edge: Edge
    at: str
    detail: str = ""


_MARK = re.compile("\x1b\\[2m── iac: stage (\\S+) (begin|end) (\\S+)(?: · (.+))? ──\x1b\\[0m\r?\n?")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def stage_marker(stage: str, edge: Edge, at: str, detail: str = "", *, fresh_line: bool = True) -> bytes:
    """The line that tells people and `parse_marker` about a stage. `stage` and `at` are words without blanks.

    `fresh_line=False` when the byte before it is not a newline. It is for reading: a provisioner could print one too.
    """
    told = _UNPRINTABLE.sub(" ", detail).strip()
    tail = f" · {told}" if told else ""
    start = "" if fresh_line else "\n"
    return f"{start}\x1b[2m── iac: stage {stage} {edge} {at}{tail} ──\x1b[0m\n".encode("utf-8", "replace")


def parse_marker(line: bytes) -> StageMark | None:
    """The mark in a line, with or without its newline; None for every other line."""
    try:
        found = _MARK.fullmatch(line.decode())
    except UnicodeDecodeError:
        return None
    if found is None:
        return None
    stage, edge, at, detail = found.groups()
    return StageMark(stage, "begin" if edge == "begin" else "end", at, detail or "")
