"""How busy the host is, read from made-up /proc and /sys trees."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from iac.actors.host import Host

MEMINFO = "MemTotal:       1000 kB\nMemFree:        100 kB\nMemAvailable:   250 kB\n"
TICK = os.sysconf("SC_CLK_TCK")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def proc_stat(busy_s: float, idle_s: float = 0.0) -> str:
    return f"cpu  {int(busy_s * TICK)} 0 0 {int(idle_s * TICK)} 0 0 0 0 0 0\ncpu0 1 1 1 1\n"


def busy_between(
    root: Path, before: Mapping[str, str], after: Mapping[str, str], *, seconds: float
) -> tuple[float, float]:
    clock = Clock()
    write(root, before)
    host = Host(root, root=root, clock=clock)
    write(root, after)
    clock.now += seconds
    return host.usage()


def test_a_bare_machine_is_measured_as_a_whole(tmp_path: Path) -> None:
    cores = os.cpu_count() or 1
    before, after = {"proc/stat": proc_stat(0), "proc/meminfo": MEMINFO}, {"proc/stat": proc_stat(5 * cores, 5)}
    assert busy_between(tmp_path, before, after, seconds=10) == (0.5, 0.75)


def test_a_cgroup_of_version_2_is_measured_by_its_own_limits(tmp_path: Path) -> None:
    before = {
        "proc/stat": proc_stat(0),
        "proc/meminfo": MEMINFO,
        "sys/fs/cgroup/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/cpu.stat": "usage_usec 1000000\nuser_usec 1\n",
        "sys/fs/cgroup/memory.max": "512000\n",
        "sys/fs/cgroup/memory.current": "384000\n",
        "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 128000\n",
    }
    after = {"sys/fs/cgroup/cpu.stat": "usage_usec 6000000\n"}
    assert busy_between(tmp_path, before, after, seconds=10) == (0.25, 0.5)


def test_a_cgroup_of_version_1_is_measured_by_its_own_limits(tmp_path: Path) -> None:
    base = "sys/fs/cgroup"
    before = {
        "proc/meminfo": MEMINFO,
        f"{base}/cpu/cpu.cfs_quota_us": "50000\n",
        f"{base}/cpu/cpu.cfs_period_us": "100000\n",
        f"{base}/cpuacct/cpuacct.usage": "0\n",
        f"{base}/memory/memory.usage_in_bytes": "512000\n",
        f"{base}/memory/memory.limit_in_bytes": "512000\n",
        f"{base}/memory/memory.stat": "cache 5\ntotal_inactive_file 256000\n",
    }
    after = {f"{base}/cpuacct/cpuacct.usage": "2500000000\n"}
    assert busy_between(tmp_path, before, after, seconds=10) == (0.5, 0.5)


@pytest.mark.parametrize(
    "limits",
    [
        {"cpu.max": "max 100000\n", "memory.max": "max\n", "memory.current": "1\n"},
        {
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "cpuacct/cpuacct.usage": "5\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/memory.usage_in_bytes": "1\n",
        },
    ],
)
def test_a_cgroup_without_limits_is_the_machine(tmp_path: Path, limits: Mapping[str, str]) -> None:
    cores = os.cpu_count() or 1
    before = {"proc/stat": proc_stat(0), "proc/meminfo": MEMINFO}
    before |= {f"sys/fs/cgroup/{name}": text for name, text in limits.items()}
    after = {"proc/stat": proc_stat(10 * cores)}
    assert busy_between(tmp_path, before, after, seconds=10) == (1.0, 0.75)


def test_what_is_not_told_is_nothing(tmp_path: Path) -> None:
    garbage = {"proc/stat": "cpu x\n", "proc/meminfo": "\xff\n", "sys/fs/cgroup/cpu.max": "1 2 3\n"}
    assert busy_between(tmp_path, {}, {}, seconds=1) == (0.0, 0.0)
    assert busy_between(tmp_path, garbage, garbage, seconds=1) == (0.0, 0.0)
    assert Host(tmp_path / "nowhere", root=tmp_path).disk_free() == 0


def test_two_looks_at_the_same_moment_are_no_error(tmp_path: Path) -> None:
    write(tmp_path, {"proc/stat": proc_stat(1)})
    host = Host(tmp_path, root=tmp_path, clock=Clock())
    assert host.usage().cpu == 0.0


def test_this_machine_can_be_measured(tmp_path: Path) -> None:
    host = Host(tmp_path)
    usage = host.usage()
    assert 0 <= usage.cpu <= 1
    assert 0 < usage.memory <= 1
    assert host.disk_free() > 0
