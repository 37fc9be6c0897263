"""stand_in.py MANNER DIRECTORY TERRAFORM [arguments]: Terraform, which in a plan does something of ours first.

Standard library only, because it is started with an environment that knows nothing of ours. What the benchmark wants to
know is written into files of DIRECTORY, each as a whole.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

BEGIN = b"the flood begins\n"
TICKS, TICK_EVERY = 200, 0.05


def flood(place: Path) -> None:
    """Prints a file several times over, as fast as the disk takes it."""
    block, times = (place / "block").read_bytes(), int((place / "times").read_text())
    sys.stdout.buffer.write(BEGIN)
    sys.stdout.buffer.flush()
    note(place / "began", time.time())
    for _ in range(times):
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(1, rest) :]


def tick(place: Path) -> None:
    """Prints lines that say when they were printed."""
    for number in range(TICKS):
        os.write(1, f"tick {number} {time.monotonic():.6f}\n".encode())
        time.sleep(TICK_EVERY)  # noqa: TID251 - nothing else happens in this program


def wait(place: Path) -> None:
    """Waits for a SIGTERM, notes when it came, and ends."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        note(place / "stopped", time.monotonic())
        sys.exit(1)

    signal.signal(signal.SIGTERM, stop)
    note(place / "ready", time.monotonic())
    while True:
        signal.pause()


def note(path: Path, at: float) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(repr(at))
    draft.replace(path)


MANNERS: dict[str, Callable[[Path], None]] = {"flood": flood, "tick": tick, "wait": wait}


def main() -> None:
    manner, place, terraform, *arguments = sys.argv[1:]
    if arguments[0] == "plan":
        MANNERS[manner](Path(place))
    argv = [*shlex.split(terraform), *arguments]
    os.execv(argv[0], argv)  # noqa: S606 - it takes our place


if __name__ == "__main__":
    main()
