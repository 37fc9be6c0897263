"""The command line, imported once: every call is a process of its own that begins as a copy of this one.

What a call costs is nearly all the import of its libraries, and the tests make hundreds. As a program (`python -m
tests.cli.preloaded`, a listening socket as its stdin) it serves calls until the other end of its stdout is closed.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

from iac.cli.program import main

LONGEST = 100_000
"""Bytes of arguments and environment that a call may have."""


def call(
    args: tuple[str, ...], env: Mapping[str, str], cwd: Path, stdin: bytes, within: float
) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr of `iac` with these arguments. Blocks; one that takes longer than `within` is killed."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as wire,
        TemporaryFile() as given,
        TemporaryFile() as out,
        TemporaryFile() as err,
    ):
        given.write(stdin)
        given.seek(0)
        wire.settimeout(within)
        wire.connect(_address(os.getpid()))
        asked = json.dumps({"args": args, "env": dict(env), "cwd": str(cwd)}).encode()
        socket.send_fds(wire, [asked], [given.fileno(), out.fileno(), err.fileno()])
        pid = int(wire.recv(100))
        try:
            code = int(wire.recv(100))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


@cache
def _address(_of_process: int) -> bytes:
    """Where this process' own copies are made; the maker ends when this process does."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("")  # Linux finds a name that nobody else has
    listener.listen(64)
    ours, theirs = socket.socketpair()
    with listener, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.preloaded"],
            stdin=listener.fileno(),
            stdout=theirs.fileno(),
            cwd=Path(__file__).parents[2],
            env={"PATH": os.environ["PATH"], "TERM": "xterm"},
        )
        atexit.register(_end, ours, process)
        return bytes(listener.getsockname())


def _end(ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
    ours.close()
    process.wait()


def serve() -> None:
    listener = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener.fileno(), 1], [], [])
        if 1 in ready:
            return
        wire, _ = listener.accept()
        if os.fork() == 0:
            _answer(wire)
        wire.close()


def _answer(wire: socket.socket) -> None:
    """Watches over one call, and tells how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, fds, _, _ = socket.recv_fds(wire, LONGEST, 3)
    if (pid := os.fork()) == 0:
        wire.close()
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        os.closerange(3, 256)
        told = json.loads(asked)
        os.environ.clear()
        os.environ.update(told["env"])
        os.chdir(told["cwd"])
        main(told["args"])
    wire.send(str(pid).encode())
    _, status = os.waitpid(pid, 0)
    wire.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


if __name__ == "__main__":
    serve()
