"""The programs of a soak: processes that are killed, stopped, and started again, as often as somebody wishes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from iac.errors import StartFailed
from iac.store.embedded import open_embedded
from tests.harness.killable import processes_of
from tests.harness.server import PATIENT

AGAIN = 0.5
"""Seconds after which one that ended by itself is started again, as by systemd."""


class Program:
    """`python -m module`, started again whenever it ends, until its owner is cancelled.

    That it ends by itself, with any exit code that is not among `may_end_with`, is told to `complain`.
    """

    def __init__(
        self,
        name: str,
        module: str,
        env: Mapping[str, str],
        root: Path,
        *,
        complain: Callable[[str], None],
        may_end_with: frozenset[int] = frozenset(),
    ) -> None:
        self.name, self.data_dir = name, Path(env["IAC_DATA_DIR"])
        self._module, self._env, self._root = module, env, root
        self._complain, self._may_end_with = complain, may_end_with
        self._process: trio.Process | None = None
        self._expected = False
        self._may_run = trio.Event()
        self._may_run.set()
        self.log_file = root / f"{self.data_dir.name}.log"

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def run(self) -> None:
        """Lives until it is cancelled; then the process is dead."""
        while True:
            await self._may_run.wait()
            self._expected = False
            with self.log_file.open("ab") as output:
                process = self._process = await trio.lowlevel.open_process(
                    [sys.executable, "-m", self._module],
                    env=self._env,
                    cwd=self._root,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                code = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    with trio.CancelScope(shield=True):
                        await process.wait()
            if not self._expected:
                if code not in self._may_end_with:
                    self._complain(f"{self.name} ended by itself with {code}; its log is {self.log_file}")
                await trio.sleep(AGAIN)

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens to one that does not run."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """As a crash would; it stays away until it is started."""
        self._may_run = trio.Event()
        self._expected = True
        self.signal(signal.SIGKILL)

    def kill_host(self) -> None:
        """It, and all that runs for a task in its data directory: as if the power were gone."""
        self.kill()
        for pid in processes_of(self.data_dir, shims=True):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def applies(self) -> bool:
        """Whether a Terraform of it changes something right now."""
        found = processes_of(self.data_dir)
        return any(b"\0apply\0" in command for pid in found if (command := _command(pid)))

    def start(self) -> None:
        self._may_run.set()

    async def stop(self, within: float = PATIENT) -> int | None:
        """As an operator would; its exit code, None if it did not end in time, and was killed."""
        self._may_run = trio.Event()
        self._expected = True
        process = self._process
        self.signal(signal.SIGTERM)
        if process is None:
            return 0
        with trio.move_on_after(within):
            return await process.wait()
        process.kill()
        return None


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


class Postgres:
    """A cluster of its own in `directory`, started by the product's own code for the embedded one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.url = ""
        self.failed_starts = 0
        self._may_run = trio.Event()
        self._may_run.set()
        self._killed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Lives until it is cancelled; then the cluster is stopped."""
        while True:
            await self._may_run.wait()
            try:
                async with open_embedded(self._directory) as self.url:
                    self._killed = trio.Event()
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await self._killed.wait()
            except StartFailed:  # somebody of before has not noticed yet that all is over
                self.failed_starts += 1
                await trio.sleep(AGAIN)

    def signal(self, number: signal.Signals) -> None:
        """To the postmaster. SIGQUIT is its immediate stop; after SIGKILL its children end as soon as they notice."""
        self._may_run = trio.Event()
        for pid in self._postmaster():
            os.kill(pid, number)
        self._killed.set()

    def start(self) -> None:
        self._may_run.set()

    def kill_a_backend(self) -> None:
        """PostgreSQL then throws everybody out and recovers by itself."""
        for pid in self._postmaster():
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if b"idle" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
                    return

    def _postmaster(self) -> list[int]:
        with suppress(OSError, ValueError, IndexError):
            return [int((self._directory / "postmaster.pid").read_text().split()[0])]
        return []


@asynccontextmanager
async def living(postgres: Postgres) -> AsyncIterator[Postgres]:
    """The cluster runs as long as the body does, apart from what is done to it."""
    async with trio.open_nursery() as nursery:
        await nursery.start(postgres.run)
        try:
            yield postgres
        finally:
            nursery.cancel_scope.cancel()
