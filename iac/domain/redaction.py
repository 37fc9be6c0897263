"""Secrets leave the log before the log leaves the machine.

Every occurrence of every form of every secret becomes `***`. Occurrences that overlap become one `***`, so the end of
one secret never shows because it was the beginning of another. The output depends on the bytes alone, not on how they
were cut into feeds: offsets in the masked stream are the same after a restart.

What is not masked: a secret under 4 bytes (it would eat every log), the words true, false and null, and lines under 8
bytes of a secret with several lines when they are printed apart from each other.
"""

from __future__ import annotations

import base64
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, quote_plus

REPLACEMENT = b"***"
MIN_SECRET = 4
MIN_LINE = 8
MIN_BASE64_PART = 12
_TOO_COMMON = frozenset({b"true", b"false", b"null"})

_BLOCK = 256 * 1024
_ANCHOR = 4
_ANCHOR_WINDOW = 64
# Bytes from frequent to rare in logs. A needle is looked for by its rarest four bytes, which is ten times faster than
# by its first ones; the order decides speed only, never the result.
_FREQUENT = b" etaoinsrldcumpf_.0h-1\"g=/2[]m:3kby4v5w678x9zqj\n*+'{}()"
_WEIGHT = [len(_FREQUENT) - _FREQUENT.find(byte) if byte in _FREQUENT else 0 for byte in range(256)]


def needles(secrets: Iterable[str | bytes]) -> frozenset[bytes]:
    """Every form in which the secrets may turn up in a log: as they are, escaped, URL-quoted, inside base64."""
    found: set[bytes] = set()
    for secret in secrets:
        whole = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
        core = whole.strip()
        if len(core) < MIN_SECRET or core.lower() in _TOO_COMMON:
            continue
        for base in {whole, core}:
            found |= {base} | _text_forms(base) | _url_forms(base) | _base64_forms(base)
        # Terraform prints a text of several lines as an indented heredoc: only its single lines can be recognised.
        for line in core.splitlines():
            stripped = line.strip()
            if len(stripped) >= MIN_LINE:
                found |= {stripped} | _text_forms(stripped)
    return frozenset(form for form in found if len(form) >= MIN_SECRET)


def _text_forms(secret: bytes) -> set[bytes]:
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return set()
    once = {escape(text) for escape in (_json, _json_ascii, _json_go)}
    # A string inside jsonencode() inside a JSON line is escaped twice.
    twice = {escape(form) for form in once if form != text for escape in (_json, _json_go)}
    return {form.encode() for form in once | twice | _hcl(text)}


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _json_ascii(text: str) -> str:
    return json.dumps(text)[1:-1]


def _json_go(text: str) -> str:
    """Go's encoding/json: also what HTML and JavaScript could misread, but no other non-ASCII character."""
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", _json(text))


def _hcl(text: str) -> set[str]:
    """A quoted HCL string, and Go's %q, which Terraform's plan uses; each with and without template markers escaped."""
    quoted = {_quoted(text, go=False), _quoted(text, go=True)}
    return quoted | {form.replace("${", "$${").replace("%{", "%%{") for form in quoted}


_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SHORT_GO = _SHORT | {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}


def _quoted(text: str, *, go: bool) -> str:
    short = _SHORT_GO if go else _SHORT
    return "".join(short.get(character) or _unshortened(character, go=go) for character in text)


def _unshortened(character: str, *, go: bool) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80 and go:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _url_forms(secret: bytes) -> set[bytes]:
    # The last one is how Go writes a password into the user part of a URL.
    forms = {quote(secret, safe=""), quote(secret), quote_plus(secret), quote(secret, safe="$&+,;=")}
    return {form.encode() for form in forms}


def _base64_forms(secret: bytes) -> set[bytes]:
    """The whole encoded secret, and at each of the 3 alignments the characters that depend on the secret alone."""
    forms: set[bytes] = set()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms |= _base64_parts(secret, encode)
    return forms


def _base64_parts(secret: bytes, encode: Callable[[bytes], bytes]) -> set[bytes]:
    parts = {encode(secret)}
    for before in range(3):
        encoded = encode(b"\0" * before + secret)
        part = encoded[(8 * before + 5) // 6 : 8 * (before + len(secret)) // 6]
        if len(part) >= MIN_BASE64_PART:
            parts.add(part)
    return parts


class _Finder:
    """Finds needles in a block, and the end of a block that may be the beginning of one."""

    def __init__(self, forms: frozenset[bytes]) -> None:
        self._longest = max(map(len, forms), default=0)
        self._anchored: dict[bytes, list[tuple[int, bytes]]] = {}
        self._headed: dict[bytes, list[bytes]] = {}
        for form in sorted(forms):
            at = _rarest(form)
            self._anchored.setdefault(form[at : at + _ANCHOR], []).append((at, form))
            self._headed.setdefault(form[:_ANCHOR], []).append(form)
        self._anchors = _any_of(self._anchored)
        self._first_bytes = bytes({anchor[0] for anchor in self._anchored})
        self._heads = _any_of(self._headed)
        self._stubs = frozenset(head[:size] for head in self._headed for size in range(1, _ANCHOR))

    def __bool__(self) -> bool:
        return self._longest > 0

    def occurrences(self, data: bytes, stop: int) -> list[tuple[int, int]]:
        """(start, end) of every needle that starts before `stop`, those inside one another too, by start."""
        found: list[tuple[int, int]] = []
        if len(data.translate(None, self._first_bytes)) == len(data):  # five times faster than to search in vain
            return found
        for at in _starts(self._anchors, data, 0):
            if at >= stop + _ANCHOR_WINDOW:
                break
            for before, form in self._anchored[data[at : at + _ANCHOR]]:
                start = at - before
                if 0 <= start < stop and data.startswith(form, start):
                    found.append((start, start + len(form)))
        found.sort()
        return found

    def unfinished(self, data: bytes) -> int:
        """Where the longest suffix starts that is a proper prefix of a needle; `len(data)` if there is none."""
        size = len(data)
        first = max(0, size - self._longest + 1)
        for at in _starts(self._heads, data, first):
            if any(_may_become(form, data, at) for form in self._headed[data[at : at + _ANCHOR]]):
                return at
        for at in range(max(first, size - _ANCHOR + 1), size):
            if data[at:] in self._stubs:
                return at
        return size


def _rarest(form: bytes) -> int:
    def weight(at: int) -> int:
        # The search jumps from one possible first byte to the next: that one counts most.
        return 3 * _WEIGHT[form[at]] + sum(_WEIGHT[byte] for byte in form[at + 1 : at + _ANCHOR])

    return min(range(min(len(form) - _ANCHOR + 1, _ANCHOR_WINDOW)), key=weight)


def _any_of(words: Iterable[bytes]) -> re.Pattern[bytes]:
    """Grouped by first byte, so that a candidate is compared with a few words and not with all."""
    rest: dict[bytes, list[bytes]] = defaultdict(list)
    for word in words:
        rest[word[:1]].append(re.escape(word[1:]))
    return re.compile(b"|".join(re.escape(first) + b"(?:" + b"|".join(rest[first]) + b")" for first in sorted(rest)))


def _starts(pattern: re.Pattern[bytes], data: bytes, at: int) -> Iterator[int]:
    while hit := pattern.search(data, at):
        yield hit.start()
        at = hit.start() + 1


def _may_become(form: bytes, data: bytes, at: int) -> bool:
    size = len(data) - at
    # A short look first: comparing a long secret at each of its own lengths would be quadratic.
    return size < len(form) and form.startswith(data[at : at + 64]) and form.startswith(data[at:])


class Masker:
    """One stream. Feed it bytes, pass on what it returns, and in the end what `finish` returns.

    Only a suffix that is a proper prefix of some needle is held back, never longer than the longest needle.
    """

    def __init__(self, secrets: Iterable[str | bytes]) -> None:
        self._finder = _Finder(needles(secrets))
        self._held = b""
        self._covered = 0  # so many first bytes of `_held` are inside an occurrence whose `***` went out already

    @property
    def settled(self) -> bool:
        """Nothing is held back: a new masker that gets the bytes from here on gives the same output as this one."""
        return not self._held

    def feed(self, data: bytes) -> bytes:
        """What is sure by now."""
        if not self._finder:
            return data
        return b"".join(self._step(data[at : at + _BLOCK], last=False) for at in range(0, len(data), _BLOCK))

    def finish(self) -> bytes:
        """The rest. The masker is as new afterwards."""
        return self._step(b"", last=True) if self._finder else b""

    def cut(self) -> int:
        """What comes next does not follow what came: the bytes held back are forgotten. Returns how many they were."""
        held, self._held, self._covered = len(self._held), b"", 0
        return held

    def mask(self, data: bytes) -> bytes:
        """A whole text that is not part of the stream."""
        apart = self.another()
        return apart.feed(data) + apart.finish()

    def another(self) -> Masker:
        """A masker for another stream with the same secrets."""
        apart = Masker(())
        apart._finder = self._finder
        return apart

    def _step(self, block: bytes, *, last: bool) -> bytes:
        data = self._held + block
        stop = len(data) if last else self._finder.unfinished(data)
        out: list[bytes] = []
        done = self._covered
        for start, end in self._finder.occurrences(data, stop):
            if start >= done:
                out += (data[done:start], REPLACEMENT)
            done = max(done, end)
        out.append(data[done:stop])
        self._held = data[stop:]
        self._covered = max(0, done - stop)
        return b"".join(out)
