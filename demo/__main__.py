"""python -m demo: starts a server, plays the bakery, and stays up until Ctrl-C.

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

from demo.screen import Screen
from demo.server import DRAIN_SECONDS, DemoFailed, Place, Server, running_server
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
        with running_server(place, env) as server:
            screen.done(f"server at {server.url}, ready after {time.monotonic() - began:.1f} s")
            return _perform(screen, server, place, oneshot=oneshot)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (DemoFailed, ApiError, Unreachable, IacError, OSError) as error:
        screen.failed(str(error), place.last_lines())
        return 1


def _perform(screen: Screen, server: Server, place: Place, *, oneshot: bool) -> int:
    """The story, and then the waiting; what it raises ends the server first."""
    told = False
    try:
        with ApiClient(server.url, place.token()) as client:
            story = Story(client, screen)
            story.play()
        told = True
        _recap(screen, story, server, place, over=oneshot)
        if not oneshot:
            screen.note("\n  The server runs until Ctrl-C.")
            raise DemoFailed(f"The server ended by itself (exit code {server.process.wait()}).")
    except KeyboardInterrupt:
        screen.note(f"\n  Stopping. A task that runs may end first, for {DRAIN_SECONDS} s; Ctrl-C again cuts it short.")
        return 0 if told else INTERRUPTED
    return 0


def _recap(screen: Screen, story: Story, server: Server, place: Place, *, over: bool) -> None:
    screen.title("That was it")
    screen.facts((name, f"{seconds:5.1f} s") for name, seconds in story.times.items())
    screen.title("Without ONESHOT you could go on from here" if over else "Go on from here")
    screen.facts(
        [
            ("API", f"{server.url}/api/v1"),
            ("its description", f"{server.url}/docs"),
            ("command line", f'iac login --url {server.url} --token "$(cat {place.token_file})"'),
            ("server's log", str(place.log)),
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
