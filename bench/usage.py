"""What processes take, as the kernel counts it (Linux: /proc)."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads, without its children."""
    fields = _stat(Path(f"/proc/{pid}/stat"))
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> int:
    """Bytes that are resident now."""
    return _status(pid, "VmRSS")


def peak_memory(pid: int) -> int:
    """The most bytes that were ever resident."""
    return _status(pid, "VmHWM")


def postgres_of(data_dir: Path) -> list[int]:
    """The processes of a server's embedded database."""
    postmaster = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    found = [postmaster]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(_stat(stat)[1])
        except OSError:  # it has ended meanwhile
            continue
        if parent == postmaster:
            found.append(int(stat.parent.name))
    return found


def _stat(path: Path) -> list[str]:
    """The fields behind the name; the first is the state, the second the parent."""
    return path.read_text().rpartition(")")[2].split()


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status has no {name}")
