"""When memory runs out: whom the kernel is to kill first, and where it counts whom it killed. Only Linux tells.

Reading takes microseconds: the files are made up by the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SPARED, FIRST = -500, 500
"""Over our own score: of the one who sees to it that nothing is lost, and of Terraform, which takes the most memory."""
LEAST, MOST = -1000, 1000


def scores(root: Path = Path("/")) -> tuple[int, int]:
    """The oom_score_adj that the shim should have (more than it had, if it may not have less), and that of Terraform."""
    try:
        own = int((root / "proc/self/oom_score_adj").read_text())
    except (OSError, ValueError):
        own = 0
    return max(LEAST, own + SPARED), min(MOST, own + FIRST)


def counter(root: Path = Path("/")) -> str:
    """The file with a line `oom_kill N`: of our control group (version 1 or 2), or else of the machine."""
    return str(next((place for place in _counters(root) if _counts(place)), root / "proc/vmstat"))


def _counters(root: Path) -> Iterator[Path]:
    """In a container, the path that /proc tells may be one that only exists outside; ours is the root there."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for _, controllers, path in (line.split(":", 2) for line in lines):
        for place in (path.lstrip("/"), ""):
            if "memory" in controllers.split(","):
                yield mounted / "memory" / place / "memory.oom_control"
            elif not controllers:
                yield mounted / place / "memory.events"


def _counts(place: Path) -> bool:
    try:
        return any(line.startswith("oom_kill ") for line in place.read_text().splitlines())
    except OSError:
        return False
