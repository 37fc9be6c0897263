"""The real command line as a process, on pipes or on a terminal of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import trio

from tests.cli import preloaded
from tests.harness.server import PATIENT, TOKEN

COMMAND = [sys.executable, "-m", "iac.cli"]
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Done:
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class CommandLine:
    """Calls `iac` with these options in the environment; nothing of the machine's own settings is seen."""

    home: Path
    url: str | None = None
    token: str | None = TOKEN
    workspace: str | None = None
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        own = {"IAC_URL": self.url, "IAC_TOKEN": self.token, "IAC_WORKSPACE": self.workspace}
        given = {name: value for name, value in own.items() if value is not None}
        machine = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}
        return {**machine, **given, **self.more}

    def but(self, **changes: Any) -> CommandLine:
        return replace(self, **changes)

    async def __call__(self, *args: str, expect: int | None = 0, stdin: str = "", cwd: Path | None = None) -> Done:
        return await trio.to_thread.run_sync(lambda: self.call(*args, expect=expect, stdin=stdin, cwd=cwd))

    def call(self, *args: str, expect: int | None = 0, stdin: str = "", cwd: Path | None = None) -> Done:
        """Blocks; `expect` None takes any exit code."""
        code, out, err = preloaded.call(args, self.env, cwd or self.home, stdin.encode(), PATIENT)
        done = Done(code, out.decode(), err.decode())
        assert expect is None or done.code == expect, (args, done)
        return done


class OnTerminal:
    """A call that has a terminal; its methods block, for a thread."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process, self._terminal = process, terminal
        self.shown = b""
        self._seen = 0

    def until(self, text: str) -> str:
        """What was shown up to this text, from where the last call of this ended."""
        wanted, deadline = text.encode(), time.monotonic() + PATIENT
        while (at := self.shown.find(wanted, self._seen)) < 0:
            assert time.monotonic() < deadline, f"{text!r} did not come; shown: {self.shown[self._seen :]!r}"
            assert self._read(), f"it ended before {text!r} came; shown: {self.shown[self._seen :]!r}"
        start, self._seen = self._seen, at + len(wanted)
        return self.shown[start : self._seen].decode()

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal sends it."""
        self.type("\x03")

    def ended(self) -> int:
        """Its exit code, when all of its output is read."""
        while self._read():
            pass
        return self.process.wait(PATIENT)

    def _read(self) -> bool:
        """False at the end."""
        ready, _, _ = select.select([self._terminal], [], [], PATIENT)
        assert ready, f"nothing came for {PATIENT} s; shown: {self.shown!r}"
        try:
            piece = os.read(self._terminal, 65536)
        except OSError:  # Linux's way to say that the other side was closed
            return False
        self.shown += piece
        return bool(piece)


@contextmanager
def on_terminal(command_line: CommandLine, *args: str, cwd: Path | None = None) -> Iterator[OnTerminal]:
    """The call, ended with the body."""
    ours, theirs = pty.openpty()
    # The child makes the terminal its own before it becomes the program, so that Ctrl-C is a signal to it.
    become = (
        "import os, sys; os.login_tty(0); os.execv(sys.executable, [sys.executable, '-m', 'iac.cli', *sys.argv[1:]])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", become, *args],
        env=command_line.env,
        cwd=cwd or command_line.home,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield OnTerminal(process, ours)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(ours)


@contextmanager
def in_background(command_line: CommandLine, *args: str, out: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The call, stdout into a file or a pipe, ended with the body."""
    with ExitStack() as stack:
        process = subprocess.Popen(
            [*COMMAND, *args],
            env=command_line.env,
            cwd=command_line.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if out is None else stack.enter_context(out.open("wb")),
            stderr=subprocess.PIPE,
        )
        stack.enter_context(process)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_until(stream: IO[bytes] | None, text: bytes) -> None:
    """Blocks until a line has this text."""
    assert stream is not None
    read = b""
    for line in stream:
        read += line
        if text in line:
            return
    raise AssertionError(f"it ended before {text!r} came: {read!r}")
