"""How fast a person with a browser gets to see a long log, and moves in it."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from bench.bare import configuration
from bench.chromium import MISSING, find_chromium
from bench.furnishing import task_with_log
from bench.phases import new_workspace
from bench.rows import Row, at_most, missed, noted, percentile
from bench.server import Server
from bench.viewer import Asked, Log, Looked, Step

MB = 1_000_000
MOST_SECONDS, MOST_MS, MOST_KB = 1.0, 200.0, 250.0
WITHIN = 600.0
STEPS = [
    Step("to the top", "top"),
    Step("scroll far", "scroll", "0.TURN6"),
    Step("jump to a line", "line", "7TURN5432"),
    Step("search, a match near the top", "search", "[123TURN]"),
    Step("search, its only match at the end", "search", "error: node TURN is gone"),
    Step("search, the same of letters that are all over the log", "search", "error: case TURN of moving it"),
]
GIANT_STEPS = [
    Step("scroll far", "scroll", "0.TURN6"),
    Step("jump to it", "line", "2"),
    Step("search, its only match in the middle", "search", "needle-TURN"),
]
_LAST = ((b"node", b"is gone"), (b"case", b"of moving it"))
FIRST = ("first paint", "the log's rows stand there")


def rows(server: Server, *, visits: int, times: int) -> list[Row]:
    """Logs of 100 MB, of 1,000,000 lines, and of one line of 50 MB. Without a Chromium the rows say so."""
    chromium = find_chromium()
    if chromium is None:
        return _missing()
    new_workspace(server, "payments-prod", configuration(1))
    logs = [
        Log(task_with_log(server, _coloured(100 * MB)), visits, [], 0),
        Log(task_with_log(server, coloured_lines(1_000_000, times)), 1, STEPS, times),
        Log(task_with_log(server, _giant(times)), 1, GIANT_STEPS, times),
    ]
    hundred, million, giant = looked(Asked(chromium, server.url, server.token, logs))
    return [
        *_first(hundred),
        *_steps("log of 1,000,000 lines", million),
        *_steps("log with a line of 50 MB", giant),
    ]


def looked(asked: Asked) -> list[Looked]:
    """What the process with the browser found, for each log."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.viewer"],
        input=msgspec.json.encode(asked),
        stdout=subprocess.PIPE,
        check=True,
        timeout=WITHIN,
        env=dict(os.environ),
    )
    return msgspec.json.decode(done.stdout, type=list[Looked])


def _first(seen: Looked) -> list[Row]:
    found = []
    for what, times in zip(FIRST, (seen.painted, seen.rows), strict=True):
        name = f"task with a log of 100 MB, {what}"
        found += [
            at_most(MOST_SECONDS, f"{name}: the first visit", times[0] / 1000, "s"),
            at_most(MOST_SECONDS, f"{name}: median of {len(times)} visits", percentile(times, 50) / 1000, "s"),
        ]
    return [*found, at_most(MOST_KB, "task with a log of 100 MB: bytes until then", seen.bytes / 1000, "KB")]


def _steps(name: str, seen: Looked) -> list[Row]:
    found = []
    for step, times in seen.steps.items():
        found += [
            at_most(MOST_MS, f"{name}, {step}: median of {len(times)}", percentile(times, 50), "ms"),
            noted(f"{name}, {step}: the slowest", max(times), "ms"),
        ]
    return found


def _missing() -> list[Row]:
    first = [missed(MOST_SECONDS, f"task with a log of 100 MB, {what}", "s", MISSING) for what in FIRST]
    steps = [missed(MOST_MS, f"log of 1,000,000 lines, {step.name}", "ms", MISSING) for step in STEPS]
    giant = [missed(MOST_MS, f"log with a line of 50 MB, {step.name}", "ms", MISSING) for step in GIANT_STEPS]
    return [*first, *steps, *giant]


def _coloured(size: int) -> bytes:
    """Lines as Terraform prints them, of many resources."""
    line = "\x1b[0m\x1b[1mmodule.network.aws_subnet.private[{0}]: Still creating... [{1}s elapsed]\x1b[0m\x1b[0m\n"
    lines, length = list[bytes](), 0
    while length < size:
        lines.append(line.format(len(lines) % 5000, len(lines) // 5000 * 10).encode())
        length += len(lines[-1])
    return b"".join(lines)


def coloured_lines(lines: int, times: int) -> bytes:
    """So many, the last ones with what is looked for in so many turns."""
    usual = b"\x1b[0m\x1b[1mterraform_data.moving_case_of_it[%d]: Creating an error...\x1b[0m and more\n"
    last = b"\x1b[31mError: \x1b[0m\x1b[1m%s %d \x1b[0m%s\n"
    ends = [last % (*words[:1], turn, *words[1:]) for turn in range(times) for words in _LAST]
    return b"".join([*(usual % number for number in range(lines - len(ends))), *ends])


def _giant(times: int) -> bytes:
    needles = b" ".join(b"needle-%d" % turn for turn in range(times))
    return b"begin\n" + b"x" * (25 * MB) + needles + b"y" * (25 * MB) + b"\nend\n"
