"""What becomes of a raw log: rendered, masked, capped. A pure function of the raw bytes, the gaps in them and the secrets.

So a log can be made again from its raw file at any time, by another process too, and comes out the same to the byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from iac.domain.logs import Capped
from iac.domain.redaction import Masker
from iac.domain.rendering import Event, Renderer
from iac.domain.work import LogDigest

TAIL_KEPT = 1024 * 1024

Read = Callable[[int, int], bytes]
"""`(size, offset)` → up to `size` bytes of the raw file; none at its end."""


class Gap(msgspec.Struct, frozen=True):
    """Raw bytes from `start` to before `end` that were given up, because there was no room for them."""

    start: int
    end: int


class Transform:
    """Raw bytes in, the bytes to be stored out; and the events that Terraform's -json lines told."""

    def __init__(self, secrets: Sequence[str], limit: int) -> None:
        self._renderer = Renderer()
        self._masker = Masker(secrets)
        self._capped = Capped(limit, min(TAIL_KEPT, limit))
        self._hash = hashlib.sha256()
        self._lost = self._dropped = 0
        self._fresh = True
        self.length = 0

    @property
    def digest(self) -> LogDigest:
        """Of all that came out so far."""
        truncated = self._dropped + self._capped.truncated_bytes
        return LogDigest(length=self.length, sha256=self._hash.hexdigest(), truncated_bytes=truncated)

    def feed(self, raw: bytes) -> tuple[bytes, list[Event]]:
        resumed = b""
        if self._lost:
            # The rest of a line whose beginning is lost may be the end of a secret.
            rest, newline, raw = raw.partition(b"\n")
            self._lost += len(rest) + len(newline)
            if not newline:
                return b"", []
            resumed = self._out(self._marker())
        text, events = self._renderer.feed(raw)
        return resumed + self._out(self._masker.feed(text)), events

    def drop(self, count: int) -> tuple[bytes, list[Event]]:
        """`count` raw bytes are missing here: a line says so, where the next line begins.

        What was held back goes too, unless it is sure: it may be the first half of a secret.
        """
        text, events = self._renderer.finish()
        before = self._out(self._masker.feed(text))
        self._lost += count + self._masker.cut()
        return before, events

    def finish(self) -> tuple[bytes, list[Event]]:
        if self._lost:
            return self._out(self._marker()) + self._counted(self._capped.finish()), []
        text, events = self._renderer.finish()
        masked = self._out(self._masker.feed(text) + self._masker.finish())
        return masked + self._counted(self._capped.finish()), events

    def _marker(self) -> bytes:
        lost, self._lost = self._lost, 0
        self._dropped += lost
        return (b"" if self._fresh else b"\n") + f"[iac: {lost} bytes dropped: spool full]\n".encode()

    def _out(self, masked: bytes) -> bytes:
        if masked:
            self._fresh = masked.endswith(b"\n")
        return self._counted(self._capped.feed(masked))

    def _counted(self, data: bytes) -> bytes:
        self.length += len(data)
        self._hash.update(data)
        return data


class Reading:
    """A raw file on its way through a transform. `offset` is how far it was read."""

    def __init__(self, transform: Transform, read: Read, gaps: Sequence[Gap]) -> None:
        """`gaps` may grow behind `offset` while it is read."""
        self.transform = transform
        self.offset = 0
        self._read, self._gaps = read, gaps

    def step(self, size: int) -> tuple[int, bytes, list[Event]]:
        """(raw bytes that were read or passed over, what came out, events); nothing is read at the end, for now."""
        for gap in self._gaps:
            if gap.start == self.offset < gap.end:
                self.offset = gap.end
                return gap.end - gap.start, *self.transform.drop(gap.end - gap.start)
            if self.offset < gap.start:
                size = min(size, gap.start - self.offset)
                break
        raw = self._read(size, self.offset)
        self.offset += len(raw)
        return len(raw), *self.transform.feed(raw)


class Replay:
    """The log once more, from its beginning: for a platform that lost what it had taken already."""

    def __init__(self, reading: Reading, *, step: int) -> None:
        self.offset = 0
        """Where in the log the next byte of `take` is."""
        self._reading, self._step = reading, step
        self._made = bytearray()
        self._ended = False

    def take(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, which is never before `self.offset`; fewer only where the log ends."""
        while len(self._made) < offset - self.offset + size and not self._ended:
            self._skip(offset)
            read, text, _ = self._reading.step(self._step)
            if not read:
                text += self._reading.transform.finish()[0]
                self._ended = True
            self._made += text
        self._skip(offset)
        found = bytes(self._made[:size])
        self._skip(offset + len(found))
        return found

    def _skip(self, offset: int) -> None:
        gone = min(max(0, offset - self.offset), len(self._made))
        del self._made[:gone]
        self.offset += gone
