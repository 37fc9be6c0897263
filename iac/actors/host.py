"""How busy the host is: shares of the CPU and the memory that this process may use, and free bytes on its disk.

In a container those are the cgroup's (v2 or v1, if it has limits), otherwise the machine's. What the system does not tell
is 0. Reading takes microseconds: the files are made up by the kernel.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Shares between 0 and 1."""

    cpu: float
    memory: float


class _Used(NamedTuple):
    """CPU seconds used so far, and how many a second of time has."""

    seconds: float
    limit: float


class Host:
    """Takes two samples to know how busy the CPU was between them. `root` is where /proc and /sys are, for tests."""

    def __init__(self, data_dir: Path, *, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._data_dir = data_dir
        self._proc, self._cgroup = root / "proc", root / "sys/fs/cgroup"
        self._clock = clock
        self._at, self._before = clock(), self._cpu_used()

    def usage(self) -> Usage:
        """Since the last call."""
        now, used = self._clock(), self._cpu_used()
        elapsed = (now - self._at) * used.limit
        busy = (used.seconds - self._before.seconds) / elapsed if elapsed > 0 else 0.0
        self._at, self._before = now, used
        return Usage(round(_share(busy), 3), round(_share(self._memory()), 3))

    def disk_free(self) -> int:
        """Bytes that this user may still write into the data directory."""
        try:
            found = os.statvfs(self._data_dir)
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize

    def _cpu_used(self) -> _Used:
        return self._cpu_of_v2() or self._cpu_of_v1() or self._cpu_of_machine()

    def _cpu_of_v2(self) -> _Used | None:
        quota, _, period = _text(self._cgroup / "cpu.max").partition(" ")
        used = _field(_text(self._cgroup / "cpu.stat"), "usage_usec")
        if not quota.isdecimal() or not period.isdecimal() or used is None:
            return None
        return _Used(used / 1e6, int(quota) / int(period))

    def _cpu_of_v1(self) -> _Used | None:
        quota, period = (_number(self._cgroup / f"cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
        used = _number(self._cgroup / "cpuacct/cpuacct.usage")
        if quota is None or quota <= 0 or not period or used is None:
            return None
        return _Used(used / 1e9, quota / period)

    def _cpu_of_machine(self) -> _Used:
        first = _text(self._proc / "stat").partition("\n")[0].split()
        ticks = [int(word) for word in first[1:9] if word.isdecimal()] if first[:1] == ["cpu"] else []
        if len(ticks) < 5:
            return _Used(0.0, 0.0)
        idle = ticks[3] + ticks[4]
        per_second = os.sysconf("SC_CLK_TCK")
        return _Used((sum(ticks) - idle) / per_second, float(os.cpu_count() or 1))

    def _memory(self) -> float:
        meminfo = _text(self._proc / "meminfo")
        total = (_field(meminfo, "MemTotal:") or 0) * 1024
        available = (_field(meminfo, "MemAvailable:") or 0) * 1024
        for current, limit, stat in (
            ("memory.current", "memory.max", "memory.stat"),
            ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "memory/memory.stat"),
        ):
            used, most = _number(self._cgroup / current), _number(self._cgroup / limit)
            # Without a limit v2 says "max", and v1 a number larger than any memory.
            if used is not None and most and (not total or most < total):
                return (used - self._cache(stat)) / most
        return (total - available) / total if total else 0.0

    def _cache(self, stat: str) -> int:
        """The part of a cgroup's memory that the kernel gives back when it is wanted."""
        text = _text(self._cgroup / stat)
        return _field(text, "total_inactive_file") or _field(text, "inactive_file") or 0


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.removeprefix("-").isdecimal() else None


def _field(text: str, name: str) -> int | None:
    """The number behind a name at the beginning of a line."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return None
