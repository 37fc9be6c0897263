"""Server-sent events as bytes."""

from __future__ import annotations

import msgspec

STILL_HERE = b": still here\n\n"
"""A comment: proxies and clients learn that the stream lives."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
CONTENT_TYPE = "text/event-stream; charset=utf-8"


def event(name: str, data: object, event_id: str = "") -> bytes:
    """An event with JSON as its data. With the id a browser comes back after its connection broke."""
    told = f"id: {event_id}\n" if event_id else ""
    return told.encode() + b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
