"""`python -m tests.harness.shifted SECONDS MODULE`: a program of ours on a host whose wall clock is wrong by so much.

What the programs ask for the time of day is `time.time` and `datetime.now` of their own modules; both are shifted. The
clocks that intervals are measured by (monotonic, boottime) are as they are, as on a real host whose date somebody has set.
"""

from __future__ import annotations

import runpy
import sys
import time
from datetime import datetime, timedelta, tzinfo
from importlib import import_module

PARTS = (
    "iac.executor.log_spool",
    "iac.telemetry",
    "iac.web.agent_auth",
    "iac.web.agent_tasks",
    "iac.actors.log_cleaner",
)
"""The modules that ask `datetime.now`, of one program or the other."""


def shift(seconds: float) -> None:
    right = time.time
    time.time = lambda: right() + seconds

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    for name in PARTS:
        names = vars(import_module(name))
        if "datetime" in names:
            names["datetime"] = Shifted


if __name__ == "__main__":
    [_, wrong_by, program] = sys.argv
    shift(float(wrong_by))
    sys.argv = [program]
    runpy.run_module(program, run_name="__main__", alter_sys=True)
