"""Starting one Terraform process and seeing it dead, whatever happens in between.

Its output goes to a file, never to a pipe: if the reader of a pipe dies, SIGPIPE ends Terraform in the middle of an
apply. It is stopped by cancelling the surrounding scope: SIGTERM to Terraform alone (providers do not ignore SIGTERM,
and without them Terraform loses what it was creating), a second one, then SIGKILL to all. PR_SET_PDEATHSIG is no
option: Trio starts processes from a worker thread, and with that idle thread the process would die after ten seconds.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import stat
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

import msgspec
import trio

from iac.errors import IacError
from iac.executor.leftovers import alive, kill_leftovers, refuse_shared, start_time_of

logger = logging.getLogger(__name__)

SPAWN_WITHIN = 30.0
"""Seconds to get a thread and fork. Only a machine out of threads takes longer."""
DIE_WITHIN = 30.0
"""Seconds between SIGKILL and death. Only a process stuck in the kernel (a dead network disk) takes longer."""
SWEEP_WITHIN = 10.0
"""Seconds for one hunt for leftovers."""

APART = 0.5
"""Seconds between two SIGTERMs at least: the kernel merges a second one into a first that was not yet taken."""

_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


class ProcessStartFailed(IacError):
    """Terraform was not started: nothing ran. `retryable` if the machine was merely out of memory or descriptors."""

    code = "process_start_error"


class LadderStep(StrEnum):
    """What was done to stop the process, in this order."""

    FIRST_SIGTERM = "first_sigterm"
    SECOND_SIGTERM = "second_sigterm"
    SIGKILL = "sigkill"
    GAVE_UP = "gave_up"
    """It did not even die of SIGKILL within DIE_WITHIN; it may still write to the work directory."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """How patiently to stop, in seconds: `grace` after the first SIGTERM, `second` after the second one."""

    grace: float
    second: float = 10.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How the process ended. Terraform exits with 1 both when it failed and when it was told to stop: see `signalled`."""

    exit_code: int
    """Negative: ended by this signal."""
    signalled: bool
    """We sent SIGTERM."""
    killed: bool
    """We sent SIGKILL: the state may lack what was being created."""
    seconds: float


@dataclass(slots=True)
class ProcessFacts:
    """What is known of one process, filled in as it happens. The caller's copy outlives Cancelled."""

    pid: int | None = None
    start_time: int | None = None
    """Clock ticks since boot: with the pid, the name of the process."""
    steps: list[LadderStep] = field(default_factory=list)
    ended: Ended | None = None
    """None: not started, or still running."""
    swept: int = 0
    """Processes that outlived Terraform and had to be hunted down by their TMPDIR."""


class PidRecord(msgspec.Struct, frozen=True):
    """The content of a pid file. `boot` keeps a pid of before a reboot from meaning anything."""

    pid: int
    start_time: int
    boot: str

    def running(self) -> bool:
        """Whether this very process still runs."""
        return self.boot == _boot() and alive(self.pid, self.start_time)


async def run_terraform(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: int | Path,
    ladder: Ladder,
    stderr: int | Path | None = None,
    pid_file: Path | None = None,
    facts: ProcessFacts | None = None,
    on_step: Callable[[LadderStep], None] = lambda step: None,
    hurry: trio.Event | None = None,
) -> Ended:
    """Run to the end and leave no process behind; the environment is exactly `env`.

    `output` takes stdout, and stderr too unless that has a place of its own: a path is opened for appending (0600), a
    descriptor must be a regular file opened with O_APPEND and stays the caller's. `pid_file` is written right after
    the start. If cancelled, climbs the ladder, tells each step to `on_step`, records all in `facts`, and only then
    lets Cancelled go on; `hurry` cuts the grace short. `env["TMPDIR"]` must be the task's own: every process that has
    it is killed in the end, after a clean exit too.

    At worst returns grace + second + DIE_WITHIN + 2 * SWEEP_WITHIN after the cancellation. Raises ProcessStartFailed.
    """
    facts = ProcessFacts() if facts is None else facts
    hurry = trio.Event() if hurry is None else hurry
    process = await _spawn(argv, cwd, env, output, stderr)
    since = trio.current_time()
    sweep = partial(_sweep, process.pid, env.get("TMPDIR"), facts)
    try:
        _record_start(process.pid, facts, pid_file)
        await process.wait()
    finally:
        await _stop(process, ladder, hurry, partial(_note, facts, on_step), sweep)
        facts.ended = ended = _ended(process, facts, trio.current_time() - since)
        await sweep()
    return ended


def write_pid_file(path: Path, pid: int, start_time: int) -> None:
    """Write atomically, but not durably: after a power loss there is no process to find either. Raises OSError."""
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(msgspec.json.encode(PidRecord(pid, start_time, _boot())))
    draft.replace(path)


def read_pid_file(path: Path) -> PidRecord | None:
    """None if there is none or its content makes no sense: then no process of this boot was ever recorded."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=PidRecord)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


async def _spawn(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], output: int | Path, stderr: int | Path | None
) -> trio.Process:
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        _check_start(env)
        with ExitStack() as files:
            out = files.enter_context(_appending(output))
            err = subprocess.STDOUT if stderr is None else files.enter_context(_appending(stderr))
            # Shielded, so that a process which did start is always handed to the one who waits for it.
            with trio.move_on_after(SPAWN_WITHIN, shield=True):
                return await trio.lowlevel.open_process(
                    argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
                )
    except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
        raise _start_failure(argv[0], cwd, error) from error
    raise ProcessStartFailed(f"{argv[0]} was not started within {SPAWN_WITHIN:g} s: no thread became free")


def _check_start(env: Mapping[str, str]) -> None:
    if "TMPDIR" in env:
        refuse_shared(env["TMPDIR"])
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        # Inherited through exec from a careless parent. The kernel then throws exit codes away, and the standard
        # library makes a 0 of that: a failed apply would look like a success.
        raise ValueError("SIGCHLD is ignored, so exit codes are lost; start this program with SIGCHLD at its default")


def _start_failure(program: str, cwd: Path, error: Exception) -> ProcessStartFailed:
    match error:
        case FileNotFoundError() | NotADirectoryError() if error.filename == cwd:
            reason = f"the working directory {cwd} does not exist"
        case OSError():
            reason = f"{error.filename or program}: {error.strerror}"
        case _:
            reason = str(error)
    failure = ProcessStartFailed(f"{program} could not be started: {reason}")
    failure.retryable = isinstance(error, RuntimeError) or getattr(error, "errno", None) in _PASSING
    return failure


@contextmanager
def _appending(target: int | Path) -> Iterator[int]:
    """A descriptor for the process to append to; closed on leaving if it was opened here."""
    with ExitStack() as opened:
        if isinstance(target, int):
            fd = target
        else:
            # O_NONBLOCK: if someone put a FIFO there, opening it must not freeze the program.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW
            fd = os.open(target, flags, 0o600)
            opened.callback(os.close, fd)
            os.set_blocking(fd, True)
        if not stat.S_ISREG(os.fstat(fd).st_mode) or not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
            raise ValueError(f"output {target} must be a regular file opened for appending")
        yield fd


def _record_start(pid: int, facts: ProcessFacts, pid_file: Path | None) -> None:
    facts.pid = pid
    try:
        facts.start_time = start_time_of(pid)
        if pid_file is not None and facts.start_time is not None:
            write_pid_file(pid_file, pid, facts.start_time)
    except OSError as error:
        # The process runs already and is watched; stopping it would cost more than the record is worth.
        logger.error("process %d cannot be adopted after a crash, its pid file was not written: %s", pid, error)


async def _stop(
    process: trio.Process,
    ladder: Ladder,
    hurry: trio.Event,
    note: Callable[[LadderStep], None],
    sweep: Callable[[], Awaitable[None]],
) -> None:
    """Climb the ladder; nothing at all if the process has ended already."""
    if process.returncode is not None:
        return
    # The leader only, and once: a second SIGTERM makes Terraform drop what it waits for.
    process.terminate()
    note(LadderStep.FIRST_SIGTERM)
    if await _ends_within(process, max(ladder.grace, APART), hurry):
        return
    process.terminate()
    note(LadderStep.SECOND_SIGTERM)
    if await _ends_within(process, ladder.second, trio.Event()):
        return
    _kill_group(process.pid)
    note(LadderStep.SIGKILL)
    await sweep()
    if not await _ends_within(process, DIE_WITHIN, trio.Event()):
        logger.error("process %d did not die of SIGKILL within %g s; going on without it", process.pid, DIE_WITHIN)
        note(LadderStep.GAVE_UP)


async def _ends_within(process: trio.Process, seconds: float, hurry: trio.Event) -> bool:
    with trio.move_on_after(seconds, shield=True) as budget:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cut_short, budget, hurry, trio.current_time() + APART)
            await process.wait()
            nursery.cancel_scope.cancel()
    return process.returncode is not None


async def _cut_short(budget: trio.CancelScope, hurry: trio.Event, not_before: float) -> None:
    await hurry.wait()
    budget.deadline = min(budget.deadline, not_before)


def _note(facts: ProcessFacts, on_step: Callable[[LadderStep], None], step: LadderStep) -> None:
    facts.steps.append(step)
    try:
        on_step(step)
    except Exception:
        # The listener only tells people; its fault must not leave a process half stopped.
        logger.exception("the listener failed at step %s", step)


def _ended(process: trio.Process, facts: ProcessFacts, seconds: float) -> Ended:
    code = -signal.SIGKILL if process.returncode is None else process.returncode
    return Ended(code, bool(facts.steps), LadderStep.SIGKILL in facts.steps, seconds)


def _kill_group(leader: int) -> None:
    # Safe right after the leader was reaped: its pid stays taken while the group has members, and to give it
    # away the kernel would have to go once around all pids in this instant. EPERM: nothing but zombies (macOS).
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


async def _sweep(leader: int, tmpdir: str | None, facts: ProcessFacts) -> None:
    """Kill what is left of the group, and whatever left the group."""
    _kill_group(leader)
    if tmpdir is None:
        return
    try:
        with trio.move_on_after(SWEEP_WITHIN, shield=True) as budget:
            facts.swept += await trio.to_thread.run_sync(kill_leftovers, tmpdir, abandon_on_cancel=True)
        if budget.cancelled_caught:
            logger.error("the hunt for leftovers of process %d took over %g s and was given up", leader, SWEEP_WITHIN)
    except (OSError, RuntimeError) as error:
        logger.error("leftovers of process %d may still run: %s", leader, error)


def _boot() -> str:
    """Names this boot of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
