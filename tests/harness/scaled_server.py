"""`python -m tests.harness.scaled_server`: the server as it is, with the times of tests.harness.scaled."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import msgspec
import trio

from iac import telemetry
from iac.actors.supervision import leave_now, obey_signals, ungrouped
from iac.errors import StartFailed
from iac.server import run_server
from iac.settings import ServerSettings
from tests.harness.scaled import AGENT, POLICY, SERVER, times_in
from tests.harness.server import limits_of


async def serve(env: dict[str, str], over: Mapping[str, float]) -> None:
    stop, hurry = trio.Event(), trio.Event()
    settings = replace(ServerSettings.from_env(env), limits=limits_of(POLICY))
    telemetry.configure(settings.log_level, settings.log_format)
    with ungrouped(StartFailed):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(obey_signals, stop, hurry, leave_now, deaf=AGENT.deaf))
            times = msgspec.structs.replace(SERVER, **over)
            await run_server(settings, env, stop=stop, hurry=hurry, policy=POLICY, times=times)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    environment = dict(os.environ)
    try:
        trio.run(serve, environment, times_in(environment), strict_exception_groups=True)
    except StartFailed as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
