"""python -m demo: starts a server and an agent, plays the bakery, and stays up until Ctrl-C.

ONESHOT=1 ends with the run. IAC_DEMO_DIR is where everything is kept (./.demo). Exit code 1 when anything failed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from demo.agent import POOL, Agent, running_agent, wait_for_the_last_one
from demo.processes import DRAIN_SECONDS, LOOK_EVERY, DemoFailed, last_lines
from demo.screen import Screen
from demo.server import Place, Server, running_server
from demo.story import Story
from iac.cli.client import ApiClient, ApiError, Unreachable
from iac.errors import IacError

TRUE = ("1", "true", "yes", "on")
INTERRUPTED = 130


def run(env: Mapping[str, str], screen: Screen) -> int:
    """The demo's exit code."""
    place, oneshot = Place(Path(env.get("IAC_DEMO_DIR") or ".demo")), env.get("ONESHOT", "").lower() in TRUE
    try:
        screen.title("IAC demo", f"everything is kept in {place.root}")
        began = time.monotonic()
        with running_server(place, env) as server, ApiClient(server.url, place.token()) as client:
            screen.done(f"server at {server.url}, ready after {time.monotonic() - began:.1f} s")
            wait_for_the_last_one(place, screen.note)
            began = time.monotonic()
            # Stopped before the server is: what it has to say at its end is heard.
            with running_agent(place, env, server, client) as agent:
                _introduce(screen, agent, time.monotonic() - began)
                return _perform(screen, client, (server, agent), place, oneshot=oneshot)
    except KeyboardInterrupt:
        return INTERRUPTED
    except DemoFailed as failure:
        screen.failed(str(failure), "" if failure.log is None else last_lines(failure.log))
        return 1
    except (ApiError, Unreachable, IacError, OSError) as error:
        screen.failed(str(error), last_lines(place.log))
        return 1


def _introduce(screen: Screen, agent: Agent, seconds: float) -> None:
    view = agent.view
    again = ", the same as last time" if agent.known else ""
    screen.done(f"agent {view.name} ({view.id}{again}), online after {seconds:.1f} s")
    screen.note("  a process of its own that only ever calls out: HTTPS and one WebSocket to the server")


def _perform(screen: Screen, client: ApiClient, programs: tuple[Server, Agent], place: Place, *, oneshot: bool) -> int:
    """The story, and then the waiting; what it raises ends the programs first."""
    told = False
    try:
        story = Story(client, screen, agent=programs[1].view)
        story.play()
        told = True
        _recap(screen, story, programs[0], place, over=oneshot)
        if not oneshot:
            screen.note("\n  Server and agent run until Ctrl-C.")
            _wait_for_the_end_of(*programs, place)
    except KeyboardInterrupt:
        screen.note(
            f"\n  Stopping the agent, then the server. A task that runs may end first, for {DRAIN_SECONDS} s; "
            "Ctrl-C again cuts it short."
        )
        return 0 if told else INTERRUPTED
    return 0


def _wait_for_the_end_of(server: Server, agent: Agent, place: Place) -> None:
    """Raises DemoFailed when one of them ends by itself."""
    while True:
        for name, process, log in (("server", server.process, place.log), ("agent", agent.process, place.agent_log)):
            if (code := process.poll()) is not None:
                raise DemoFailed(f"The {name} ended by itself (exit code {code}).", log)
        time.sleep(10 * LOOK_EVERY)  # noqa: TID251 - this program has its one thread to itself


def _recap(screen: Screen, story: Story, server: Server, place: Place, *, over: bool) -> None:
    screen.title("That was it")
    screen.facts((name, f"{seconds:5.1f} s") for name, seconds in story.times.items())
    screen.title("Without ONESHOT you could go on from here" if over else "Go on from here")
    screen.facts(
        [
            ("in a browser", f"{server.url}  (sign in with what is in {place.token_file})"),
            ("API", f"{server.url}/api/v1"),
            ("its description", f"{server.url}/docs"),
            ("log in", f'iac login --url {server.url} --token "$(cat {place.token_file})"'),
            ("the agent", f"iac agent list; iac pool workspaces {POOL}"),
            ("the tasks", "iac task list; iac task logs 1"),
            ("your own", f"iac workspace create NAME --pool {POOL}; iac run apply -w NAME"),
            ("program logs", f"{place.log}, {place.agent_log}"),
        ]
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    sys.exit(run(os.environ, Screen()))


if __name__ == "__main__":
    main()
