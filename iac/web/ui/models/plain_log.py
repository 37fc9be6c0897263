"""The end of a log as plain text, for a page before its script runs, or without one: no colours, nothing invisible."""

from __future__ import annotations

import re

SHOWN = 24 * 1024
"""Bytes."""
_SGR = re.compile("\x1b\\[[0-9;:]*m")
# The same signs as in static/log-ansi.js.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff"
    "\ufff9-\ufffc\U000e0000-\U000e0fff]"
)


def plain(data: bytes, *, cut: bool) -> str:
    """`cut`: the data begins somewhere in the log; what there is of its first line is left out."""
    if cut:
        _, newline, rest = data.partition(b"\n")
        data = rest if newline else data
    text = _SGR.sub("", data.decode("utf-8", "replace").replace("\r\n", "\n"))
    return _UNSEEN.sub(lambda found: _visible(found[0]), text)


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return f"^{chr(code + 64)}"
    return "^?" if code == 0x7F else f"<U+{code:04X}>"
