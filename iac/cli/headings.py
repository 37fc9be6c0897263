"""The marks that the executor puts between a log's stages, as short headings for whoever watches a run.

`iac task logs` shows the marks themselves, with their times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from iac.domain.rendering import parse_marker

_OPENING = "\x1b[2m── iac: stage ".encode()
_LONGEST = 1000
"""Bytes; what is longer is no mark."""
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_TITLES = {"init": "terraform init", "planning": "terraform plan", "applying": "terraform apply"}


@dataclass(slots=True)
class Headings:
    """Fed with a log in pieces of any size; nothing but marks is changed or held back."""

    _held: bytes = b""
    _fresh: bool = True

    def feed(self, data: bytes) -> bytes:
        lines = _LINE.findall(self._held + data)
        self._held = b""
        told = []
        for line in lines:
            if self._fresh and _may_become_a_mark(line):
                self._held = line
                break  # it has no end yet, so it is the last one
            told.append(_told(line) if self._fresh else line)
            self._fresh = line.endswith(b"\n")
        return b"".join(told)

    def finish(self) -> bytes:
        """What was held back."""
        held, self._held = self._held, b""
        return held


def _may_become_a_mark(line: bytes) -> bool:
    if line.endswith(b"\n") or len(line) > _LONGEST:
        return False
    return line.startswith(_OPENING) or _OPENING.startswith(line)


def _told(line: bytes) -> bytes:
    mark = parse_marker(line) if line.startswith(_OPENING) else None
    if mark is None:
        return line
    title = _TITLES.get(mark.stage) if mark.edge == "begin" else None
    return f"\x1b[1m── {title} ──\x1b[0m\n".encode() if title is not None else b""
