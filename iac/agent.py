"""python -m iac.agent: settings, signals on the outside, the agent inside (iac.actors.agent_tree).

The first SIGTERM or SIGINT drains: nothing new is taken, running tasks have IAC_DRAIN_SECONDS to finish (with
IAC_SHUTDOWN_MODE=detach applies are left to their shims instead). A second one, if it is no echo of the first, or SIGQUIT,
stops them; a third ends the program. Whatever cannot be brought home in the end stays in the data directory.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from functools import partial

import trio

from iac import __version__, telemetry
from iac.actors.agent_tree import Orders, run_agent
from iac.actors.patience import AgentTimes
from iac.actors.supervision import leave_now, obey_signals, ungrouped
from iac.agent_settings import TOKEN_NAMES, AgentSettings
from iac.errors import StartFailed

log = logging.getLogger("iac.agent")


async def main_async(settings: AgentSettings, env: Mapping[str, str]) -> None:
    """The program. Raises StartFailed."""
    orders, times = Orders(overdue=leave_now), AgentTimes()
    log.info("agent", extra={"version": __version__, "agent_name": settings.name, "server": settings.endpoint})
    with ungrouped(StartFailed):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(obey_signals, orders.stop, orders.hurry, leave_now, deaf=times.deaf))
            await run_agent(settings, env, orders=orders, times=times)
            nursery.cancel_scope.cancel()


def settings_of(env: dict[str, str]) -> AgentSettings:
    """Reads the settings and forgets the token: no process that is started, and no dump of the environment, gets it."""
    try:
        return AgentSettings.from_env(env)
    finally:
        for name in TOKEN_NAMES:
            env.pop(name, None)
            os.environ.pop(name, None)


def main() -> None:
    """Exit codes: 0 drained, 3 not let in, 4 protocol too old or new, 5 name or identity taken, 6 data directory in use,
    78 settings.
    """
    env = dict(os.environ)
    try:
        settings = settings_of(env)
        telemetry.configure(settings.log_level, settings.log_format, settings.log_file or sys.stdout)
        trio.run(main_async, settings, env, strict_exception_groups=True)
    except StartFailed as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
