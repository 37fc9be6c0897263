"""python -m bench.load URL CONNECTIONS SECONDS: asks for one URL over and over; prints what it saw as JSON.

A process of its own, so that it measures the server and not the benchmark. The API token comes in BENCH_TOKEN.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
import trio

from bench.connection import Connection
from bench.rows import percentile

WARM_UP = 0.5


class Seen(msgspec.Struct, frozen=True):
    """What the load saw; `latencies` in ms."""

    seconds: float
    latencies: list[float]

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        return percentile(self.latencies, percent)


async def put_under_load(url: str, token: str, connections: int, seconds: float) -> Seen:
    """Each connection asks for the URL again as soon as it has the answer."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    latencies: list[float] = []

    async def one(counted_from: float) -> None:
        connection = Connection(url, token)
        request = connection.request("GET", target)
        while True:
            answer = await connection.ask(request)
            if trio.current_time() >= counted_from:
                latencies.append(answer.seconds * 1000)

    with trio.move_on_after(WARM_UP + seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(one, trio.current_time() + WARM_UP)
    return Seen(seconds, latencies)


def main(arguments: Sequence[str]) -> None:
    url, connections, seconds = arguments
    seen = trio.run(put_under_load, url, os.environ["BENCH_TOKEN"], int(connections), float(seconds))
    sys.stdout.buffer.write(msgspec.json.encode(seen))


if __name__ == "__main__":
    main(sys.argv[1:])
