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
from demo.server import DemoFailed, Place, Server, running_server
from demo.story import Story
from iac.cli.client import ApiClient, ApiError, Unreachable
from iac.errors import IacError

TRUE = ("1", "true", "yes", "on")


def run(env: Mapping[str, str], screen: Screen) -> int:
    """The demo's exit code."""
    place, oneshot = Place(Path(env.get("IAC_DEMO_DIR") or ".demo")), env.get("ONESHOT", "").lower() in TRUE
    try:
        screen.title("IAC demo", f"everything is kept in {place.root}")
        began = time.monotonic()
        with running_server(place, env) as server:
            screen.done(f"server at {server.url}, ready after {time.monotonic() - began:.1f} s")
            with ApiClient(server.url, place.token()) as client:
                story = Story(client, screen)
                story.play()
            _recap(screen, story, server, place)
            if not oneshot:
                _stay(screen, server)
    except KeyboardInterrupt:
        screen.note("\n  stopped; `make demo` starts again where this left off")
        return 0 if not oneshot else 130
    except (DemoFailed, ApiError, Unreachable, IacError, OSError) as error:
        screen.failed(str(error), place.last_lines())
        return 1
    return 0


def _recap(screen: Screen, story: Story, server: Server, place: Place) -> None:
    screen.title("That was it")
    screen.facts((name, f"{seconds:5.1f} s") for name, seconds in story.times.items())
    screen.title("Go on from here")
    screen.facts(
        [
            ("API", f"{server.url}/api/v1"),
            ("its description", f"{server.url}/docs"),
            ("command line", f'iac login --url {server.url} --token "$(cat {place.token_file})"'),
            ("server's log", str(place.log)),
        ]
    )


def _stay(screen: Screen, server: Server) -> None:
    screen.note("\n  The server runs until Ctrl-C.")
    code = server.process.wait()
    raise DemoFailed(f"The server ended by itself (exit code {code}).")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    sys.exit(run(os.environ, Screen()))


if __name__ == "__main__":
    main()
