"""Control groups of the kernel for a test's own processes: a limit on memory, a share of the processor. Versions 1 and 2."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Literal

import pytest

ROOT = Path("/sys/fs/cgroup")
Controller = Literal["memory", "cpu", "pids"]


@contextmanager
def limited(controller: Controller, *, one: Mapping[str, str], two: Mapping[str, str]) -> Iterator[Path]:
    """A new group with these settings, in the files of version 1 or 2. Where that is not permitted, the test is skipped."""
    settings = one if (ROOT / controller).is_dir() else two
    place = _ours(controller) / f"iac-{uuid.uuid4().hex[:8]}"
    try:
        place.mkdir()
        for name, value in settings.items():
            (place / name).write_text(value)
        _try_out(place)
    except OSError as error:
        with suppress(OSError):
            place.rmdir()
        pytest.skip(f"needs a control group for {controller}, and this machine gives none: {error}")
    try:
        yield place
    finally:
        _clear(place)


def _clear(place: Path) -> None:
    """Processes on their way out keep their group for a moment."""
    until = time.monotonic() + 10
    while place.exists():
        for pid in (place / "cgroup.procs").read_text().split():
            with suppress(OSError):
                put_into(place.parent, int(pid))
        try:
            place.rmdir()
        except OSError:
            if time.monotonic() > until:
                raise


def memory(limit: int) -> AbstractContextManager[Path]:
    """Whoever is in the group may have so many bytes of memory, and no swap."""
    return limited(
        "memory",
        one={"memory.limit_in_bytes": str(limit), "memory.swappiness": "0"},
        two={"memory.max": str(limit), "memory.swap.max": "0"},
    )


def cpu(share: float) -> AbstractContextManager[Path]:
    """Whoever is in the group gets this share of one processor."""
    period = 100_000
    quota = str(int(share * period))
    return limited(
        "cpu",
        one={"cpu.cfs_period_us": str(period), "cpu.cfs_quota_us": quota},
        two={"cpu.max": f"{quota} {period}"},
    )


def processes() -> AbstractContextManager[Path]:
    """A group whose processes and threads can be counted, and limited by `no_more_processes`."""
    return limited("pids", one={}, two={})


def no_more_processes(group: Path) -> None:
    """Whoever is in the group starts neither a process nor a thread any more."""
    (group / "pids.max").write_text((group / "pids.current").read_text())


def as_many_as_you_like(group: Path) -> None:
    (group / "pids.max").write_text("max")


def put_into(group: Path, pid: int) -> None:
    """The process, and whatever it starts from now on."""
    (group / "cgroup.procs").write_text(str(pid))


def _ours(controller: Controller) -> Path:
    """The group that this process is in; a new one below it is no way out of its limits."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return ROOT / controller / path.lstrip("/")
    return ROOT


def _try_out(place: Path) -> None:
    """Whether processes may be put there. Raises OSError."""
    pid = os.fork()
    if pid == 0:
        try:
            put_into(place, os.getpid())
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        raise PermissionError("no process may be put into it")
