"""What is printed: lines as Terraform prints them, and more of them than anybody wants."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time


def event(kind: str, message: str, *, level: str = "info", **fields: object) -> str:
    """One line of the JSON output."""
    head = {"@level": level, "@message": message, "@module": "terraform.ui", "@timestamp": now()}
    return json.dumps({**head, **fields, "type": kind})


def change_summary(message: str, operation: str) -> str:
    """The line that counts what was planned or done."""
    changes = {"add": 1, "change": 0, "import": 0, "remove": 0, "operation": operation}
    return event("change_summary", message, changes=changes)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def write(fd: int, content: bytes) -> None:
    """All of it, however little the kernel takes at once."""
    view = memoryview(content)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except OSError as error:  # Terraform does not mind that nobody takes its output
            if error.errno != errno.ENOSPC:
                raise
            return


def write_lines(fd: int, lines: list[str]) -> None:
    write(fd, "".join(f"{line}\n" for line in lines).encode())


def flood(in_lines: int, in_one_line: int) -> None:
    line = b"x" * 79 + b"\n"
    for size, block in ((in_lines, line * 8192), (in_one_line, b"y" * 655_360)):
        left = size
        while left > 0:
            write(1, block[:left])
            left -= len(block)
    if in_one_line:
        write(1, b"\n")


def chapter(seed: int, size: int) -> bytes:
    """At least `size` bytes of numbered lines; the same for the same seed."""
    lines: list[bytes] = []
    length = 0
    while length < size:
        number = len(lines)
        lines.append(b"ch%d %d %s\n" % (seed, number, hashlib.sha256(b"%d/%d" % (seed, number)).hexdigest().encode()))
        length += len(lines[-1])
    return b"".join(lines)
