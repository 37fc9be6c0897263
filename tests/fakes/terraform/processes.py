"""Children that stay, children that work, and whoever runs the whole."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.fakes.terraform.files import publish, read, touch

TYPE_CHECKING = False  # that of `typing` costs an import of its own at each start
if TYPE_CHECKING:
    from typing import Any

    Manners = dict[str, Any]

CHILD_SECONDS = 120
_ROOT = os.path.abspath(__file__ + "/../../../..")
_CHILD = f"import sys; sys.path.append({_ROOT!r}); from tests.fakes.terraform.processes import stay; stay(sys.argv[1])"
_BUSY = "while True: pass"
_QUIET = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]


def works(pid: int) -> bool:
    """Whether there is such a process, more than the record of its end, and not as stopped as its suspended machine."""
    try:
        return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] not in "ZT"
    except OSError:
        return False


def is_told_to_end(within: float) -> bool:
    """Whether a SIGTERM came."""
    told = signal.sigtimedwait({signal.SIGTERM}, max(0.0, within))
    # One that was stopped and goes on when its time is over gets whatever was on the stack (a fault of CPython 3.11).
    return told is not None and told.si_signo == signal.SIGTERM


def kill_agent() -> None:
    agent = int(read(f"/proc/{os.getppid()}/stat").rpartition(")")[2].split()[1])
    if "tests.harness.scaled_agent" in read(f"/proc/{agent}/cmdline"):
        os.kill(agent, signal.SIGKILL)


def _python(code: str, *arguments: str, env: dict[str, str], own_session: bool = False) -> int:
    """The pid of a new process, which prints nothing."""
    argv = [sys.executable, "-I", "-S", "-c", code, *arguments]
    return os.posix_spawn(sys.executable, argv, env, file_actions=_QUIET, setsid=own_session)


@contextmanager
def busy(count: int) -> Iterator[None]:
    children = [_python(_BUSY, env=dict(os.environ)) for _ in range(count)]
    try:
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def start_child(child: Manners) -> None:
    """Start a child that stays, and wait until it says so."""
    env = {**os.environ, **child.get("env", {})}
    if child["kind"] == "double_fork" and not child.get("forked"):
        _, status = os.waitpid(_python(_CHILD, json.dumps({**child, "forked": True}), env=env), 0)
        assert status == 0, "the middle process of a double fork"
        return
    _python(_CHILD, json.dumps(child), env=env, own_session=child["kind"] != "background")
    while not os.path.exists(child["pid_file"]):
        signal.sigtimedwait([], 0.005)


def stay(described: str) -> None:
    """Be a child: publish the pid, note SIGTERMs, live on."""
    child: Manners = json.loads(described)
    if child.pop("forked", False):
        # The middle one of a double fork: its child outlives it and becomes an orphan in a session of its own.
        start_child({**child, "kind": "setsid"})
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    publish(child["pid_file"], str(os.getpid()))
    end = time.monotonic() + CHILD_SECONDS
    while is_told_to_end(end - time.monotonic()):
        touch(child.get("sigterm_file"))
