"""Our end of a shim (iac.executor.shim): one process for each assignment, in which its Terraform commands run in turn.

When this program dies, the shim and Terraform do not: the command is seen to its end, and how it ended is on the disk.
"""

from __future__ import annotations

import errno
import logging
import marshal
import os
import signal
import socket
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec
import trio

from iac.errors import IacError
from iac.executor import oom
from iac.executor import shim as program
from iac.executor.leftovers import alive

log = logging.getLogger(__name__)

READY_WITHIN = 30.0
"""Seconds for an interpreter to start. Only a machine out of everything takes longer."""
GO_WITHIN = 10.0
"""Seconds for a shim that has nothing to do any more to end."""
LOOK_EVERY = 0.2


_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


class ProcessStartFailed(IacError):
    """Terraform was not started: nothing ran. `retryable` if the machine was merely out of memory or descriptors."""

    code = "process_start_error"


def start_failure(what: str, cwd: Path, error: Exception) -> ProcessStartFailed:
    """What the system refused, in words."""
    match error:
        case FileNotFoundError() | NotADirectoryError() if error.filename in (cwd, str(cwd)):
            reason = f"the working directory {cwd} does not exist"
        case OSError():
            reason = f"{error.filename or what}: {error.strerror}"
        case _:
            reason = str(error)
    failure = ProcessStartFailed(f"{what} could not be started: {reason}")
    failure.retryable = isinstance(error, RuntimeError) or getattr(error, "errno", None) in _PASSING
    return failure


class EndRecord(msgspec.Struct, frozen=True):
    """The content of ended.json: how the last command ended. `signals` are those that the shim gave it, `oom_kills` how many
    processes the kernel killed meanwhile because memory had run out.
    """

    number: int
    label: str
    exit_code: int
    signals: tuple[int, ...] = ()
    oom_kills: int = 0


class _Told(msgspec.Struct, frozen=True):
    """Anything that a shim says."""

    ready: bool | None = None
    number: int = 0
    pid: int | None = None
    start_time: int | None = None
    failed: int | None = None
    what: str = ""
    exit_code: int | None = None
    signals: tuple[int, ...] = ()
    swept: int = 0
    oom_kills: int = 0


def read_end(directory: Path) -> EndRecord | None:
    """How the last command ended there; None if none did, or nobody lived to see it."""
    try:
        return msgspec.json.decode((directory / "ended.json").read_bytes(), type=EndRecord)
    except (OSError, msgspec.DecodeError):
        return None


class Command:
    """One command while it runs. `over`, `returncode`, `swept` and `oom_kills` are known when `wait` has returned."""

    def __init__(self, shim: Shim, number: int, pid: int, start_time: int | None) -> None:
        self._shim, self.number, self.pid, self.start_time = shim, number, pid, start_time
        self.over = False
        self.returncode: int | None = None
        self.swept = self.oom_kills = 0

    async def wait(self) -> int | None:
        """The exit code; None when the shim died before the command, which has ended too by now."""
        told = await self._shim.end_of(self.number)
        if told is not None:
            self.over, self.returncode = True, told.exit_code
            self.swept, self.oom_kills = told.swept, told.oom_kills
            return self.returncode
        log.error("the process that watched Terraform is gone; its exit code is not known", extra={"pid": self.pid})
        while self._runs():  # noqa: ASYNC110 - it is not our child, so nobody tells us
            await trio.sleep(LOOK_EVERY)
        self.over = True
        return None

    async def signal(self, number: int) -> None:
        """To Terraform alone."""
        if await self._shim.order({"signal": int(number)}):
            return
        with suppress(ProcessLookupError):
            if self._runs():
                os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL for it and for everything that it started."""
        if not await self._shim.order({"kill": True}):
            await self.signal(signal.SIGKILL)

    def _runs(self) -> bool:
        return self.start_time is not None and alive(self.pid, self.start_time)


class Shim:
    """`start` is for one command after the other. Made by `open_shim`."""

    def __init__(self, stream: trio.SocketStream, directory: Path) -> None:
        self.directory = directory
        self.adopts = False
        """Whether nothing that Terraform starts can escape it."""
        self.left = False
        """Its command goes on without us, and so does it."""
        self._stream = stream
        self._numbers = 0
        self._told: dict[int, _Told] = {}
        self._heard, self._gone = trio.Event(), False
        self._writing = trio.Lock()

    async def start(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        out: int,
        err: int,
        grace: float,
        second: float,
    ) -> Command:
        """Starts it; its end is awaited at the Command. Raises OSError, ValueError, ProcessStartFailed."""
        if any("\0" in word for word in (*argv, *env, *env.values())):
            raise ValueError("embedded null byte")
        await self._ready()
        self._numbers += 1
        number = self._numbers
        order: dict[str, object] = {
            "number": number,
            "label": _label(argv),
            "argv": list(argv),
            "cwd": str(cwd),
            "env": dict(env),
            "grace": grace,
            "second": second,
            "oom_scores": oom.scores(),
            "oom_counter": oom.counter(),
        }
        if not await self.order(order, descriptors=(out, err)):
            raise _gone()
        told = await self._next(number, lambda told: told.pid is not None or told.failed is not None)
        if told is None:
            raise _gone()
        if told.failed is not None:
            raise OSError(told.failed, os.strerror(told.failed), told.what)
        return Command(self, number, told.pid or 0, told.start_time)

    async def end_of(self, number: int) -> _Told | None:
        """What it says of the end of a command; None when it ended itself before that."""
        return await self._next(number, lambda told: told.exit_code is not None)

    async def order(self, order: dict[str, object], *, descriptors: Sequence[int] = ()) -> bool:
        """False when nobody is there to obey."""
        body = marshal.dumps(order)
        head = len(body).to_bytes(program.LENGTH, "big")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        try:
            # Whole, or the next order would be read as the rest of this one.
            with trio.move_on_after(GO_WITHIN, shield=True) as budget:
                async with self._writing:
                    await self._stream.socket.sendmsg([head], ancillary)
                    await self._stream.send_all(body)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return not budget.cancelled_caught

    async def _ready(self) -> None:
        with trio.move_on_after(READY_WITHIN):
            told = await self._next(0, lambda told: told.ready is not None)
            if told is not None:
                self.adopts = bool(told.ready)
                return
        raise _gone()

    async def listen(self) -> None:
        """Its reader; ends with the shim."""
        received = bytearray()
        try:
            async for data in self._stream:
                received += data
                self._take(received)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._gone = True
            self._ring()

    def _take(self, received: bytearray) -> None:
        length = program.LENGTH
        while len(received) >= length:
            end = length + int.from_bytes(received[:length], "big")
            if len(received) < end:
                return
            told = msgspec.convert(marshal.loads(received[length:end]), _Told)  # noqa: S302 - from our own child
            del received[:end]
            self._told[told.number] = told
            self._ring()

    def _ring(self) -> None:
        self._heard.set()
        self._heard = trio.Event()

    async def _next(self, number: int, wanted: Callable[[_Told], bool]) -> _Told | None:
        while (told := self._told.get(number)) is None or not wanted(told):
            if self._gone:
                return None
            await self._heard.wait()
        return told


def _gone() -> ProcessStartFailed:
    return ProcessStartFailed("The process that starts and watches Terraform has ended, or does not answer.")


def _label(argv: Sequence[str]) -> str:
    """The subcommand's name: the first word that is no option, behind the binary's own words."""
    return next((word for word in argv[1:] if word in _SUBCOMMANDS), "other")


_SUBCOMMANDS = frozenset({"init", "plan", "apply", "show", "version", "refresh", "destroy", "output", "validate"})


@asynccontextmanager
async def open_shim(directory: Path) -> AsyncIterator[Shim]:
    """A shim with its files in this directory, which exists. Its commands have ended when the body ends, or go on alone.

    Raises ProcessStartFailed.
    """
    process, ours = await _begun(directory)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    shim = Shim(stream, directory)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        reading = trio.CancelScope(shield=True)
        nursery.start_soon(_within, reading, shim)
        try:
            yield shim
        except Exception as error:  # raised as itself below, and not in the nursery's group
            failure = error
        finally:
            reading.cancel()
            stream.socket.close()
            if not shim.left:
                with trio.move_on_after(GO_WITHIN, shield=True):
                    await process.wait()
    if failure is not None:
        raise failure


async def _begun(directory: Path) -> tuple[trio.Process, socket.socket]:
    """The process, and our end of its socket."""
    with ExitStack() as stack:
        try:
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            failed = stack.enter_context(ExitStack())
            failed.enter_context(ours)
            output = stack.enter_context((directory / "shim.log").open("ab"))
            argv = [sys.executable, "-I", "-S", str(program.__file__), str(directory), str(theirs.fileno())]
            # Shielded: one that did start must be known to somebody.
            with trio.move_on_after(READY_WITHIN, shield=True):
                process = await trio.lowlevel.open_process(
                    argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={}, cwd=directory,
                    start_new_session=True, pass_fds=[theirs.fileno()],
                )  # fmt: skip
                failed.pop_all()
                return process, ours
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise start_failure("the process that starts Terraform", directory, error) from error
    raise _gone()


async def _within(scope: trio.CancelScope, shim: Shim) -> None:
    with scope:
        await shim.listen()
