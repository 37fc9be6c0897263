"""The clock by which leases and time limits are kept."""

from __future__ import annotations

import time


def lease_clock() -> float:
    """Seconds of a clock that goes on while the machine is suspended, where there is one; the same for all processes."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
