"""A server of logs on a real socket that breaks off whenever it pleases."""

from __future__ import annotations

import base64
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOG = b"".join(b"line %d of a log, with \xc3\xa4 in it\n" % number for number in range(400))
_STATUS = {"status": "running", "phase": "plan", "stage": "planning", "outcome": None, "reason": None}


def event(name: str, data: object, at: int | None = None) -> bytes:
    first = b"" if at is None else b"id: %d\n" % at
    return first + f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def log_event(offset: int, data: bytes) -> bytes:
    after = offset + len(data)
    return event(
        "log", {"offset": offset, "next_offset": after, "data": base64.b64encode(data).decode()}, offset + len(data)
    )


def end_event(offset: int) -> bytes:
    return event("end", {**_STATUS, "status": "succeeded", "outcome": "applied", "offset": offset})


class Breaking:
    """How the stream is told; each connection is one call of `stream`."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a test's dice
        self.connections = 0
        self.asked: list[str] = []

    def stream(self, offset: int) -> tuple[int, bytes]:
        """The status and what is written before the connection is closed."""
        self.connections += 1
        if self.connections % 4 == 2:
            body = {"error": {"code": "unavailable", "message": "stopping", "retryable": True}}
            return 503, json.dumps(body).encode()
        # What was told before may be told once more.
        at = max(0, offset - self.random.choice([0, 0, 7]))
        told = b": hello\n\n" + event("status", _STATUS)
        while at < len(LOG):
            piece = LOG[at : at + self.random.randint(1, 700)]
            told += log_event(at, piece)
            at += len(piece)
        told += end_event(len(LOG))
        return 200, told if self.connections > 12 else told[: self.random.randint(0, 6000)]


@contextmanager
def log_server(breaking: Breaking) -> Iterator[str]:
    """Its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Authorization"] == "Bearer t"
            last = self.headers["Last-Event-ID"]
            breaking.asked.append(last)
            status, body = breaking.stream(int(last))
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream" if status == 200 else "application/json")
            # Longer than what comes: the client sees the connection break.
            self.send_header("Content-Length", str(len(body) + (status == 200 and breaking.connections <= 12)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
