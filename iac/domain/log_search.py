"""Finding a text in a log that is read piece by piece: as people see it, so without colours, and whether large or small.

Only ASCII letters are taken for equal in both cases: bytes are compared, which is what makes a hundred megabytes quick.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import pairwise

import msgspec

from iac.domain.log_index import ROW

MOST_HELD = 64 * 1024
_KEPT = 4096
"""Bytes of a long line that are looked at again with what follows: a match may go on there, with colours inside."""
ESCAPE = b"\x1b"
_SGR, _SGRS = re.compile(rb"\x1b\[[0-9;:]*m"), re.compile(rb"(?:\x1b\[[0-9;:]*m)+")
_REST_OF_COLOURS = rb"\[[0-9;:]*m(?:\x1b\[[0-9;:]*m)*"
_MOST_COLOURS = 16


class Needle(msgspec.Struct, frozen=True):
    """`text` is in lower case; `letters` its different bytes; `broken` finds where colours may stand inside of it."""

    text: bytes
    letters: tuple[bytes, ...]
    broken: re.Pattern[bytes] | None


class LogSearch:
    """`settled` is the offset before which every match has been told; whoever goes on later begins there."""

    def __init__(self, text: str, offset: int = 0) -> None:
        """`text` without newlines; `offset` is where the first piece begins, at a line's start or a former `settled`."""
        self.settled = offset
        self._needle = needle_of(text.encode("utf-8", "surrogatepass").lower())
        self._rest = b""

    def feed(self, data: bytes) -> list[int]:
        """The byte offsets at which matches begin, one in a row."""
        text = self._rest + data
        cut = text.rfind(b"\n") + 1
        if len(text) - cut > MOST_HELD:
            cut = len(text) - _KEPT
        return self._told(text, cut)

    def finish(self) -> list[int]:
        """Those in what was held back."""
        return self._told(self._rest, len(self._rest))

    def _told(self, text: bytes, cut: int) -> list[int]:
        base, self.settled = self.settled, self.settled + cut
        self._rest = text[cut:]
        # Of a long line, a match may begin before the cut and end behind it.
        return [base + found for found in matches(text, self._needle) if found < cut]


def matches(text: bytes, needle: Needle) -> list[int]:
    """Where the needle begins in the text: once in a line, or in each ROW bytes of a long one.

    Most texts lack a letter of it; or they have neither the whole of it nor colours that may stand inside of it, and
    looking for both takes half of what taking out the colours does.
    """
    plain = text.lower()
    if any(letter not in plain for letter in needle.letters):
        return []
    if ESCAPE not in plain:
        return _starts(plain, needle.text)
    if needle.broken is not None and needle.text not in plain and not needle.broken.search(plain):
        return []
    plain = _without_colours(text).lower()
    found = _starts(plain, needle.text)
    return _with_colours(text, plain, needle.text, found) if found else found


def _starts(plain: bytes, needle: bytes) -> list[int]:
    found, at = [], plain.find(needle)
    while at >= 0:
        found.append(at)
        newline = plain.find(b"\n", at, at + ROW)
        at = plain.find(needle, newline + 1 if newline >= 0 else at + ROW)
    return found


def needle_of(text: bytes) -> Needle:
    return Needle(text, tuple(bytes((letter,)) for letter in sorted(set(text))), _broken(text))


def _broken(needle: bytes) -> re.Pattern[bytes] | None:
    """Colours between two bytes that follow each other in the needle; more than those may fit, never less.

    It begins with the one byte that all colours begin with, which makes it quick. Where a colour stands behind another one,
    the `m` before it is no letter.
    """
    pairs = set(pairwise(needle))
    if not pairs:
        return None
    ways = []
    for letter_m, is_letter in ((False, b""), (True, rb"(?<!\x1b\[[0-9]m\x1b)(?<!\x1b\[[0-9][0-9]m\x1b)")):
        some = {pair for pair in pairs if (pair[0] == ord("m")) is letter_m}
        if some:
            before, behind = (_one_of({pair[side] for pair in some}) for side in (0, 1))
            ways.append(b"(?<=%s\x1b)%s%s%s" % (before, is_letter, _REST_OF_COLOURS, behind))
    return re.compile(b"\x1b(?:%s)" % b"|".join(ways))


def _one_of(letters: set[int]) -> bytes:
    return b"[%s]" % b"".join(re.escape(bytes((letter,))) for letter in sorted(letters))


def _without_colours(text: bytes) -> bytes:
    """Few colours are used in a piece, and the same ones again and again: each is taken out of all of it at once."""
    rest = text
    for _ in range(_MOST_COLOURS):
        at = rest.find(ESCAPE)
        if at < 0:
            return rest
        colours = _SGRS.match(rest, at)
        if colours is None:
            break
        rest = rest.replace(colours[0], b"")
    return _SGR.sub(b"", text)


def _with_colours(text: bytes, plain: bytes, needle: bytes, found: list[int]) -> list[int]:
    """Offsets in the text without colours, as offsets in the text."""
    starts, removed, gone = [], [0], 0
    for escape in _SGR.finditer(text):
        starts.append(escape.start() - gone)
        gone += escape.end() - escape.start()
        removed.append(gone)
    if gone != len(text) - len(plain):  # taking out one colour has made another, of what is none
        found = _starts(_SGR.sub(b"", text).lower(), needle)
    return [at + removed[bisect_right(starts, at)] for at in found]
