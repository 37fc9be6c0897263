"""The room that an agent's raw logs may take on its disk, and who makes some when there is none."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from iac.domain.spool_quota import refuses, to_give_up
from iac.executor.log_disk import allocated_in
from iac.executor.log_spool import LogSpool

log = logging.getLogger(__name__)

MOST_AT_ONCE = 64


class SpoolRoom:
    """`tasks` is the directory of the work directories, `quota` in bytes."""

    def __init__(self, tasks: Path, quota: int) -> None:
        self._tasks, self._quota = tasks, quota
        self._used = 0
        self._helpless = False

    @property
    def used(self) -> int:
        """Bytes of the disk that raw logs take, as of the last look."""
        return self._used

    @property
    def is_scarce(self) -> bool:
        """Whether no new task should come."""
        return refuses(self._used, self._quota)

    def look(self, spools: Mapping[int, LogSpool]) -> None:
        """Measures, and gives up what has to go of the open logs (by fence)."""
        for _ in range(MOST_AT_ONCE):
            self._used = allocated_in(self._tasks)
            raw = [spool.as_raw_log(fence) for fence, spool in spools.items()]
            what = None if self._helpless else to_give_up(raw, self._used, self._quota)
            if what is None:
                return
            if not spools[what.fence].give_up(what):
                log.error("the disk of the spool takes nothing back; the quota cannot be kept")
                self._helpless = True
