"""`python -m tests.harness.crowd`: many agents in one process, each of them whole: its own connections, identity, actors.

IAC_CROWD is the directory with a data directory for each; the rest comes from an agent's usual settings. Ends at SIGTERM.
"""

from __future__ import annotations

import os
import ssl
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from iac import telemetry
from iac.actors.agent_tree import Orders, run_agent
from iac.actors.supervision import stop_signals
from iac.agent import settings_of
from iac.agent_settings import AgentSettings
from tests.harness.scaled import AGENT, AGENT_POLICY, times_in

TRUST = ssl.create_default_context()


class OneOfMany(AgentSettings):
    """Reading the system's authorities once for each of 500 agents would take ten seconds."""

    def tls(self) -> ssl.SSLContext:
        return TRUST


async def live(settings: AgentSettings, env: dict[str, str], over: dict[str, float], places: list[Path]) -> None:
    orders, times = Orders(), replace(AGENT, **over)

    async def obey() -> None:
        async for _ in stop_signals():
            orders.stop.set()

    async with trio.open_nursery() as watch:
        watch.start_soon(obey)
        async with trio.open_nursery() as agents:
            for place in places:
                own = OneOfMany(
                    endpoint=settings.endpoint, token=settings.token, name=place.name, data_dir=place, plan_limit=1
                )
                agents.start_soon(partial(run_agent, own, env, orders=orders, times=times, policy=AGENT_POLICY))
        watch.cancel_scope.cancel()


if __name__ == "__main__":
    environment = dict(os.environ)
    over = times_in(environment)
    crowd = sorted(Path(environment.pop("IAC_CROWD")).iterdir())
    given = settings_of(environment)
    telemetry.configure("info", "json", sys.stdout)
    trio.run(live, given, environment, over, crowd, strict_exception_groups=True)
