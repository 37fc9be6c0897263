"""The room that an agent's raw logs may take on its disk, and who makes some when there is none."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from iac.domain.spool_quota import refuses, to_give_up
from iac.executor.log_disk import allocated_in
from iac.executor.log_spool import LogSpool

log = logging.getLogger(__name__)

MOST_AT_ONCE = 64
REST = 60
"""Looks after one that could give nothing up: the disk may be of the wrong kind, or only too full to note down what goes."""
LEFT_FREE = 1024 * 1024
"""Bytes of the disk that raw logs leave to others, whatever the quota says: to states, and to the notes about a log."""


class SpoolRoom:
    """`tasks` is the directory of the work directories, `quota` in bytes."""

    def __init__(self, tasks: Path, quota: int) -> None:
        self._tasks, self._quota = tasks, quota
        self._used = 0
        self._rest = 0
        self._blind = False

    @property
    def used(self) -> int:
        """Bytes of the disk that raw logs take, as of the last look."""
        return self._used

    @property
    def is_scarce(self) -> bool:
        """Whether no new task should come."""
        return refuses(self._used, self._quota)

    def _limit(self) -> int:
        """The quota, or less on a disk that is smaller than that, or that others have filled."""
        try:
            found = os.statvfs(self._tasks)
        except OSError:
            return self._quota
        return min(self._quota, self._used + found.f_bavail * found.f_frsize - LEFT_FREE)

    def look(self, spools: Mapping[int, LogSpool]) -> None:
        """Measures, and gives up what has to go of the open logs (by fence). What cannot be measured now stays as it is."""
        if self._rest > 0:
            self._rest -= 1
            self._measure()
            return
        for _ in range(MOST_AT_ONCE):
            if not self._measure():
                return
            raw = [spool.as_raw_log(fence) for fence, spool in spools.items()]
            what = to_give_up(raw, self._used, self._limit())
            if what is None:
                return
            if not spools[what.fence].give_up(what):
                log.error("the disk of the spool takes nothing back now; the quota cannot be kept")
                self._rest = REST
                return

    def _measure(self) -> bool:
        """False when the host does not let us look, as without a descriptor; the agent has to outlive that."""
        try:
            self._used = allocated_in(self._tasks)
        except OSError as error:
            if not self._blind:
                log.error("what raw logs take of the disk cannot be measured", extra={"error": str(error)})
            self._blind = True
        else:
            self._blind = False
        return not self._blind
