"""What is left of a task after its Terraform: processes found by a marker that each of them inherited.

A provisioner may start processes that leave Terraform's process group (`setsid`, a double fork), so the group is not
enough. What they keep is their environment: every process of a task has `TMPDIR=<workdir>/tmp` in it, a directory that
belongs to this task alone. A process that changes both its session and its TMPDIR is out of reach; the container it
runs in is the last resort.

Linux only: without /proc nothing is found and nothing is alive. All functions block for milliseconds (they read /proc):
from Trio, call the ones that scan in a thread.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import tempfile
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

logger = logging.getLogger(__name__)

KILL_WITHIN = 5.0
"""Seconds that kill_leftovers goes on while new processes keep appearing or killed ones have not died yet."""
ROUND = 0.05
"""Seconds between two scans at most; a death ends the wait earlier."""
PIECE = 64 * 1024


_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say something about this process, not about the one it looks at."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """One process with the marker. `start_time` is in clock ticks since boot; pid and start time name it for ever.

    `command` is the short name that the kernel keeps, not the arguments: those may hold secrets.
    """

    pid: int
    start_time: int
    command: str


class _Stat(NamedTuple):
    command: str
    state: str
    start_time: int


def start_time_of(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if there is no such process (or no /proc)."""
    stat = _stat(pid)
    return None if stat is None else stat.start_time


def alive(pid: int, start_time: int) -> bool:
    """Whether exactly this process still runs: same pid, same start time, and not a zombie.

    Raises OSError if this process may not open another file just now: then nobody knows.
    """
    stat = _stat(pid)
    return stat is not None and stat.start_time == start_time and stat.state not in "ZX"


def refuse_shared(tmpdir: str) -> None:
    """Raise ValueError if the directory cannot mark a task: killing by it would hit processes that are not the task's."""
    if not os.path.isabs(tmpdir) or tmpdir in {"/", tempfile.gettempdir(), os.environ.get("TMPDIR")}:
        raise ValueError(f"TMPDIR {tmpdir!r} does not belong to one task alone; give each task a directory of its own")


def find_leftovers(tmpdir: str) -> list[Leftover]:
    """Every process whose environment has `TMPDIR=<tmpdir>` exactly, as far as this user may look; never this process.

    Raises ValueError for a directory that is not private to a task, OSError if /proc cannot be read (no descriptors).
    """
    refuse_shared(tmpdir)
    marker = b"TMPDIR=" + os.fsencode(tmpdir)
    found = (_marked(pid, marker) for pid in _pids() if pid != os.getpid())
    return [process for process in found if process is not None]


def kill_leftovers(tmpdir: str, *, spare: Collection[int] = ()) -> int:
    """SIGKILL everything that find_leftovers finds, until nothing new appears and all are dead; how many were killed.

    Never kills this process nor the pids in `spare`. Takes at most about KILL_WITHIN seconds; what is still there then
    is logged. Raises as find_leftovers does.
    """
    spared = {os.getpid(), *spare}
    killed: set[Leftover] = set()
    deadline = time.monotonic() + KILL_WITHIN
    while found := [process for process in find_leftovers(tmpdir) if process.pid not in spared]:
        if time.monotonic() > deadline:
            logger.error("still running after SIGKILL: %s", ", ".join(f"{p.command} ({p.pid})" for p in found))
            break
        for process, sent in _kill_and_wait(found):
            if sent is None:
                spared.add(process.pid)
            elif sent:
                killed.add(process)
    return len(killed)


def _kill_and_wait(found: list[Leftover]) -> list[tuple[Leftover, bool | None]]:
    """Kill each one, then wait up to ROUND for the first death."""
    dying = select.poll()
    with ExitStack() as open_pidfds:
        outcome = [(process, _kill(process, dying, open_pidfds)) for process in found]
        dying.poll(ROUND * 1000)
    return outcome


def _kill(process: Leftover, dying: select.poll, open_pidfds: ExitStack) -> bool | None:
    """Send SIGKILL to exactly this process. False if it is gone (its pid may be another's now), None if forbidden."""
    try:
        pidfd = _pin(process.pid)
        if pidfd is not None:
            open_pidfds.callback(os.close, pidfd)
        # Compared after pinning: from here on the descriptor cannot come to mean another process.
        if start_time_of(process.pid) != process.start_time:
            return False
        if pidfd is None:
            os.kill(process.pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            dying.register(pidfd, select.POLLIN)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None
    return True


def _pin(pid: int) -> int | None:
    """A descriptor of the process, or None where the kernel (or its sandbox) has none to give."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (OSError, AttributeError):
        return None


def _marked(pid: int, marker: bytes) -> Leftover | None:
    if not _has(pid, marker):
        return None
    # Once more, after the start time: if the pid changes hands in between, the pair fits nobody and is not hit.
    stat = _stat(pid)
    if stat is None or not _has(pid, marker):
        return None
    return Leftover(pid, stat.start_time, stat.command)


def _has(pid: int, marker: bytes) -> bool:
    environment = _read(pid, "environ") or b""
    return marker in environment and marker in environment.split(b"\0")


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def _stat(pid: int) -> _Stat | None:
    text = _read(pid, "stat")
    if not text:
        return None
    # "pid (command) state …": the command may itself contain spaces and parentheses, so the last one counts.
    head, _, tail = text.rpartition(b")")
    fields = tail.split()
    return _Stat(head.partition(b"(")[2].decode(errors="replace"), fields[0].decode(), int(fields[19]))


def _read(pid: int, name: str) -> bytes | None:
    # Not with pathlib: a scan reads a file of every process on the machine, and the difference is a factor of ten.
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return b"".join(iter(partial(os.read, fd, PIECE), b""))
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _OURS:
            raise
        return None
