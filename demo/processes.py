"""The demo's programs: processes of their own, each with a log, stopped gently and once."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STOP_WITHIN = 60.0
"""Seconds; longer than a program gives a task that still runs (DRAIN_SECONDS)."""
DRAIN_SECONDS = 20
LOOK_EVERY = 0.05
LAST_LINES = 15
_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class DemoFailed(Exception):
    """What went wrong and what to do, for people; `log` is that of the program that it happened to."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


def start(module: str, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """`python -m module`, its output in a new `log`.

    It has a session of its own: Ctrl-C reaches the demo alone, which then stops its programs one after the other. Where
    the system can (Linux), it is also told to stop when the demo is killed.
    """
    log.unlink(missing_ok=True)  # a program of an earlier demo may still write to the old one
    with log.open("xb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_stop_with_parent,  # noqa: PLW1509 - this program has one thread
        )


def _stop_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_SET_PDEATHSIG, signal.SIGTERM)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Gently; a second Ctrl-C hurries it, and nothing is left behind either way."""
    hurry = (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL)
    for number in hurry:
        if process.poll() is not None:
            return
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(STOP_WITHIN)


def environment(env: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The user's environment with these settings, without those of other programs; those about Terraform may stay."""
    kept = {
        name: value for name, value in env.items() if not name.startswith("IAC_") or name.startswith("IAC_TERRAFORM_")
    }
    return {**kept, "IAC_DRAIN_SECONDS": str(DRAIN_SECONDS), **settings}


def last_lines(log: Path) -> str:
    """The end of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
    except OSError:
        return ""


def private(path: str, flags: int) -> int:
    """Opens a file that only its owner can read."""
    return os.open(path, flags, 0o600)
