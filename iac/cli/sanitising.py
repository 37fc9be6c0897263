"""Text from elsewhere, made safe for a terminal: colours may stay, nothing else that a terminal would obey.

A log holds what providers, modules and remote commands chose to print. A terminal obeys it: titles, clipboard, cursor
movements that overwrite what was shown before. Nothing is hidden either: an escape sequence that never ends loses its
escape character and shows as text.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

RESET = "\x1b[0m"
_SGR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_CSI = r"\[[0-?]{0,256}[ -/]{0,16}"
# OSC, DCS, SOS, PM and APC carry text; one that takes longer to end is taken for text.
_STRING = r"[\]PX^_][^\x07\x1b\n]{0,4096}"
_SHORT = r"[0-OQ-WYZ\\`-~]"
_SEQUENCE = re.compile(rf"\x1b(?:{_CSI}[@-~]|{_STRING}(?:\x07|\x1b\\)|[ -/]{{1,16}}[0-~]|{_SHORT})")
_UNFINISHED = re.compile(rf"(?:\x1b(?:{_CSI}|{_STRING}\x1b?|[ -/]{{0,16}})|\r)\Z")
# C0 but tab and newline, DEL, C1, and the marks that turn the direction of what follows.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(slots=True)
class Sanitiser:
    """Bytes of a log in pieces of any size become text; how they were cut makes no difference to it."""

    colours: bool
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    _held: str = ""

    def feed(self, data: bytes) -> str:
        return self._safe(self._held + self._decoder.decode(data), final=False)

    def finish(self) -> str:
        """What was held back because its end was not there yet."""
        return self._safe(self._held + self._decoder.decode(b"", final=True), final=True)

    def _safe(self, text: str, *, final: bool) -> str:
        unfinished = None if final else _UNFINISHED.search(text)
        end = len(text) if unfinished is None else unfinished.start()
        self._held = text[end:]
        return _cleaned(text[:end], colours=self.colours)


def safe_text(data: bytes, *, colours: bool) -> str:
    """A whole log."""
    sanitiser = Sanitiser(colours)
    return sanitiser.feed(data) + sanitiser.finish()


def one_line(text: object) -> str:
    """A value for a table or a message: no control characters, no line breaks."""
    return _cleaned(str(text), colours=False).replace("\n", " ").replace("\t", " ")


def escaped(json: str) -> str:
    """The same JSON without a character that a terminal would obey."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", json)


def _cleaned(text: str, *, colours: bool) -> str:
    # A bare carriage return would let a line overwrite itself.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    parts, at = [], 0
    for match in _SEQUENCE.finditer(text):
        parts.append(_CONTROL.sub("", text[at : match.start()]))
        if colours and _SGR.fullmatch(match[0]):
            parts.append(match[0])
        at = match.end()
    parts.append(_CONTROL.sub("", text[at:]))
    return "".join(parts)
