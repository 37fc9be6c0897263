"""Finding a text in a log that is read piece by piece: as people see it, so without colours, and whether large or small.

Only ASCII letters are taken for equal in both cases: bytes are compared, which is what makes a hundred megabytes quick.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from iac.domain.log_index import ROW

MOST_HELD = 64 * 1024
_KEPT = 4096
"""Bytes of a long line that are looked at again with what follows: a match may go on there, with colours inside."""
_SGR = re.compile(rb"\x1b\[[0-9;:]*m")
_USUAL = tuple(b"\x1b[%dm" % code for code in (0, 1, 2, 31, 32, 33, 36, 90))


class LogSearch:
    """`settled` is the offset before which every match has been told; whoever goes on later begins there."""

    def __init__(self, text: str, offset: int = 0) -> None:
        """`text` without newlines; `offset` is where the first piece begins, at a line's start or a former `settled`."""
        self.settled = offset
        self._needle = text.encode("utf-8", "surrogatepass").lower()
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
        whole = text[:cut] if text[cut - 1 : cut] == b"\n" else text
        return [base + found for found in matches(whole, self._needle) if found < cut]


def matches(text: bytes, needle: bytes) -> list[int]:
    """Where the needle, which is in lower case, begins in the text: once in a line, or in each ROW bytes of a long one."""
    plain = text.lower()
    if b"\x1b" in plain:
        plain = _without_colours(plain)
    found, at = [], plain.find(needle)
    while at >= 0:
        found.append(at)
        newline = plain.find(b"\n", at, at + ROW)
        at = plain.find(needle, newline + 1 if newline >= 0 else at + ROW)
    return found if len(plain) == len(text) else _with_colours(text, found)


def _without_colours(text: bytes) -> bytes:
    for code in _USUAL:
        text = text.replace(code, b"")
    return _SGR.sub(b"", text) if b"\x1b" in text else text


def _with_colours(text: bytes, found: list[int]) -> list[int]:
    """Offsets in the text without colours, as offsets in the text."""
    if not found:
        return found
    starts, removed, gone = [], [0], 0
    for escape in _SGR.finditer(text):
        starts.append(escape.start() - gone)
        gone += escape.end() - escape.start()
        removed.append(gone)
    return [at + removed[bisect_right(starts, at)] for at in found]
