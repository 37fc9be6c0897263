"""Stands before the real terraform and bears witness: `witness.py LEDGER_DIR TERRAFORM… -- ARGUMENTS…`.

Of each plan and each apply it writes into LEDGER_DIR/ledger that it starts, and whether another one of the same task still
runs; then it becomes the real program. The second is known by a lock on a file that Terraform inherits, and with it
everything that Terraform starts: however they die, the kernel lets go of it. The lines are those of
tests.fakes.fake_terraform. Standard library only; it runs in the environment of Terraform.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path

WATCHED = ("plan", "apply")


def main(place: Path, program: list[str], arguments: list[str]) -> None:
    """Does not return."""
    command = next((each for each in arguments if not each.startswith("-")), "")
    if command in WATCHED:
        run = Path(os.environ.get("TMPDIR", "")).parent.name
        _note(place, command, "start", run)
        other = _hold(place, command, run)
        if other is not None:
            _note(place, command, "overlap", run, with_run=other)
    os.execv(program[0], [*program, *arguments])  # noqa: S606 - this is what it is for


def _hold(place: Path, command: str, run: str) -> str | None:
    """The assignment that does the same for the task at this moment; none is told if the lock was free."""
    held = os.open(place / f"{run.partition('-')[0]}-{command}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(held, True)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(held, 200, 0).decode() or "somebody"
    os.truncate(held, 0)
    os.pwrite(held, run.encode(), 0)
    return None


def _note(place: Path, command: str, event: str, run: str, **more: str) -> None:
    entry = {"event": event, "command": command, "pid": os.getpid(), "run": run, "at": time.monotonic(), **more}
    ledger = os.open(place / "ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(ledger, f"{json.dumps(entry)}\n".encode())
    os.close(ledger)


if __name__ == "__main__":
    border = sys.argv.index("--")
    main(Path(sys.argv[1]), sys.argv[2:border], sys.argv[border + 1 :])
