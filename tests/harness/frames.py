"""WebSocket frames (RFC 6455) as far as something between the two ends must know them: cut out of a stream, made anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

TEXT, BINARY, CLOSE, PING = 0x1, 0x2, 0x8, 0x9
_FIN, _MASKED = 0x80, 0x80


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `raw` is how it came; `masked` as all frames of a client are."""

    opcode: int
    payload: bytes
    final: bool
    masked: bool
    raw: bytes

    @property
    def is_text(self) -> bool:
        """A whole message of text."""
        return self.final and self.opcode == TEXT


class Frames:
    """Bytes in, frames out, whatever pieces they come in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while (frame := self._cut()) is not None:
            yield frame

    def _cut(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(buffer) < at + width:
                return None
            size, at = int.from_bytes(buffer[at : at + width], "big"), at + width
        masked = bool(buffer[1] & _MASKED)
        mask = bytes(buffer[at : at + 4]) if masked else b""
        at += 4 if masked else 0
        if len(buffer) < at + size:
            return None
        raw = bytes(buffer[: at + size])
        del buffer[: at + size]
        payload = _masked(raw[at:], mask) if masked else raw[at:]
        return Frame(raw[0] & 0x0F, payload, bool(raw[0] & _FIN), masked, raw)


def frame(payload: bytes, opcode: int = TEXT, *, masked: bool, final: bool = True) -> bytes:
    """A frame on the wire."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
    head = bytes([(_FIN if final else 0) | opcode])
    if not masked:
        return head + length + payload
    mask = os.urandom(4)
    return head + bytes([length[0] | _MASKED]) + length[1:] + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    key = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")
