"""`python -m tests.harness.scaled_agent`: the agent as it is, with the times of tests.harness.scaled."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import trio

from iac import telemetry
from iac.actors.agent_tree import Orders, run_agent
from iac.actors.supervision import leave_now, obey_signals, ungrouped
from iac.agent import settings_of
from iac.errors import StartFailed
from tests.harness.scaled import AGENT, AGENT_POLICY, times_in


async def live(env: dict[str, str], over: Mapping[str, float]) -> None:
    settings = settings_of(env)
    telemetry.configure(settings.log_level, settings.log_format, settings.log_file or sys.stdout)
    orders, times = Orders(overdue=leave_now), replace(AGENT, **over)
    with ungrouped(StartFailed):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(obey_signals, orders.stop, orders.hurry, leave_now, deaf=times.deaf))
            await run_agent(settings, env, orders=orders, times=times, policy=AGENT_POLICY)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    environment = dict(os.environ)
    try:
        trio.run(live, environment, times_in(environment), strict_exception_groups=True)
    except StartFailed as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
