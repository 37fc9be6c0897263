"""Where the rows of a log begin, so that any part of it can be shown without reading what stands before it.

A row is a line, or a piece of one that is longer than ROW bytes: never half a character, never half a colour. Rows are
gathered into pages that can be read alone; `static/log-pages.js` cuts what is told live in the very same way.
"""

from __future__ import annotations

import re

import msgspec

from iac.domain.rendering import StageMark, parse_marker

ROW = 2048
"""Bytes of a row at most, its newline not counted."""
PAGE_BYTES, PAGE_ROWS = 64 * 1024, 1000
MOST_MARKS = 1000
_SGR = re.compile(rb"\x1b\[([0-9;:]*)m")
_WHOLE_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[^\[])")
_LONGEST_ESCAPE = 32
_AT_ONCE = 16 * 1024
"""Bytes of whole rows that are looked through together: what is done for each piece takes longer than looking through it."""
_MOST_CODES = 16
_MARK = "── iac: stage ".encode()
_ERROR = b"Error: "
_ERROR_LINE = re.compile(rb"(?:\x1b\[[0-9;:]*m|\xe2\x94\x82|[\s|])*Error: ")


class Place(msgspec.Struct, frozen=True):
    """A row: its byte offset, its number, and the number of the line that it is in. Both count from 0."""

    offset: int
    row: int
    line: int


class Page(msgspec.Struct, frozen=True):
    """Where a page begins. `colours` are the SGR codes that are in force there, joined by semicolons; `continued` when
    it begins inside a line.
    """

    start: Place
    colours: str = ""
    continued: bool = False


class StageAt(msgspec.Struct, frozen=True):
    """A stage's mark and the row that it is."""

    mark: StageMark
    at: Place


class LogIndex:
    """Grows with the log, by pieces of any size; where rows begin does not depend on how they were cut."""

    def __init__(self) -> None:
        self.length = 0
        """Bytes that were fed."""
        self.pages: list[Page] = [Page(Place(0, 0, 0))]
        self.stages: list[StageAt] = []
        self.first_error: Place | None = None
        self._rest = b""  # the row that is not complete yet, without what it may still be cut behind
        self._row = self._line = 0
        self._inside = False
        self._codes: tuple[bytes, ...] = ()

    @property
    def rows(self) -> int:
        """An unfinished one is counted too."""
        return self._row + bool(self._rest)

    @property
    def lines(self) -> int:
        return self._line + bool(self._rest)

    def feed(self, data: bytes) -> None:
        """What the log goes on with."""
        text = self._rest + data
        base, at = self.length - len(self._rest), 0
        self.length += len(data)
        while at < len(text):
            # As many rows at once as end within the length of one: no line among them can be too long.
            newline = text.rfind(b"\n", at, at + ROW + 1)
            if newline < 0 and len(text) - at <= ROW:
                break
            self._begin_page(base + at)
            end = self._end_of_rows(text, base, at, newline + 1) if newline >= 0 else cut_of(text, at)
            self._rows(text[at:end], base + at, whole=newline >= 0)
            at = end
        self._rest = text[at:]

    def _begin_page(self, offset: int) -> None:
        first = self.pages[-1].start
        if offset - first.offset >= PAGE_BYTES or self._row - first.row >= PAGE_ROWS:
            start = Place(offset, self._row, self._line)
            self.pages.append(Page(start, b";".join(self._codes).decode(), self._inside))

    def _end_of_rows(self, text: bytes, base: int, at: int, end: int) -> int:
        """Where the rows end that can be taken together with those up to `end`, without more of them than a page holds."""
        more, stop = end, min(at + _AT_ONCE, self.pages[-1].start.offset + PAGE_BYTES - base)
        while more < stop and (newline := text.rfind(b"\n", more, more + ROW + 1)) >= 0:
            more = newline + 1
        return more if text.count(b"\n", at, more) <= PAGE_ROWS else end

    def _rows(self, piece: bytes, offset: int, *, whole: bool) -> None:
        """Some complete rows: `whole` lines, or one piece of a line."""
        # A single byte is found ten times as fast as a word that begins with it.
        if _MARK[:1] in piece and _MARK in piece and len(self.stages) < MOST_MARKS:
            self._marks(piece, offset)
        if self.first_error is None and _ERROR[:1] in piece and _ERROR in piece:
            self._error(piece, offset)
        if b"\x1b" in piece:
            self._codes = codes_after(self._codes, piece)
        self._inside = not whole
        newlines = piece.count(b"\n")
        self._line += newlines
        self._row += newlines if whole else 1

    def _marks(self, piece: bytes, offset: int) -> None:
        at = 0
        for line in piece.splitlines(keepends=True):
            if _MARK in line and (mark := parse_marker(line)) is not None:
                self.stages.append(StageAt(mark, self._place(piece, at, offset)))
            at += len(line)

    def _error(self, piece: bytes, offset: int) -> None:
        found = piece.find(_ERROR)
        while found >= 0:
            start = piece.rfind(b"\n", 0, found) + 1
            if _ERROR_LINE.match(piece, start):
                self.first_error = self._place(piece, start, offset)
                return
            found = piece.find(_ERROR, found + 1)

    def _place(self, piece: bytes, at: int, offset: int) -> Place:
        before = piece.count(b"\n", 0, at)
        return Place(offset + at, self._row + before, self._line + before)


def cut_of(text: bytes, at: int) -> int:
    """Where the row that begins at `at` and has no newline within ROW bytes is cut."""
    cut = at + ROW
    escape = text.rfind(b"\x1b", cut - _LONGEST_ESCAPE, cut)
    if escape > at and not _WHOLE_ESCAPE.match(text, escape, cut):
        return escape
    while cut > at + ROW - 4 and text[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def codes_after(codes: tuple[bytes, ...], piece: bytes) -> tuple[bytes, ...]:
    """The SGR codes that are in force behind a piece, given those before it: the newest few of them."""
    reset = max(piece.rfind(b"\x1b[0m"), piece.rfind(b"\x1b[m"))
    found = tuple(code for code in _SGR.findall(piece, max(0, reset)) if code not in (b"", b"0"))
    return (found if reset >= 0 else codes + found)[-_MOST_CODES:]
