"""What a soak leaves on the machine: processes, descriptors, files."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def processes_below(root: Path) -> dict[int, str]:
    """Every process that works in `root`, was started with something of it, or has it in its environment; its command.

    PostgreSQL's own are not told: they have a keeper.
    """
    mark, found = os.fsencode(root), {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        place = Path("/proc", name)
        with suppress(OSError):
            command = (place / "cmdline").read_bytes()
            facts = command + (place / "environ").read_bytes() + os.fsencode((place / "cwd").readlink())
            if mark in facts and int(name) != os.getpid() and (place / "comm").read_text().strip() != "postgres":
                found[int(name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def kill_all_below(root: Path) -> None:
    """One by one, by their numbers."""
    for pid in processes_below(root):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def descriptors(pid: int | None) -> int:
    """How many a process has open; 0 if there is none."""
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def work_left(data_dir: Path) -> list[Path]:
    """Work directories of assignments."""
    tasks = data_dir / "tasks"
    return sorted(each for each in tasks.iterdir() if each.is_dir()) if tasks.exists() else []
