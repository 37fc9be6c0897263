"""Starting one Terraform process and seeing it dead, whatever happens in between.

It runs below a shim (iac.executor.shimming), so that it goes on, and its exit code is kept, when this program dies. Its
output goes to a file, never to a pipe: if the reader of a pipe dies, SIGPIPE ends Terraform in the middle of an apply. It
is stopped by cancelling the surrounding scope: SIGTERM to Terraform alone (providers do not ignore SIGTERM, and without
them Terraform loses what it was creating), a second one, then SIGKILL to all.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from iac.domain.ladder import APART, Ladder, LadderStep
from iac.executor.leftovers import alive, kill_leftovers, refuse_shared
from iac.executor.shimming import Command, ProcessStartFailed, Shim, start_failure

logger = logging.getLogger(__name__)

SPAWN_WITHIN = 30.0
"""Seconds for the shim to fork. Only a machine out of everything takes longer."""
DIE_WITHIN = 30.0
"""Seconds between SIGKILL and death. Only a process stuck in the kernel (a dead network disk) takes longer."""
SWEEP_WITHIN = 10.0
"""Seconds for one hunt for leftovers."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Wishes:
    """What may be wanted while a process is stopped: `hurry` cuts its grace short; `kills`, asked then, skips the second
    SIGTERM. `leaves`, asked when it is cancelled: it goes on alone below its shim, for a later life of this program.
    """

    hurry: trio.Event = field(default_factory=trio.Event)
    kills: Callable[[], bool] = _never
    leaves: Callable[[], bool] = _never


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
    oom_kills: int = 0
    """Processes that the kernel killed meanwhile because memory had run out: Terraform, or one of its providers."""

    @property
    def was_killed(self) -> bool:
        """Somebody sent SIGKILL, and it was not us."""
        return self.exit_code == -signal.SIGKILL and not self.killed


@dataclass(slots=True)
class ProcessFacts:
    """What is known of one process, filled in as it happens. The caller's copy outlives Cancelled."""

    pid: int | None = None
    start_time: int | None = None
    """Clock ticks since boot: with the pid, the name of the process."""
    steps: list[LadderStep] = field(default_factory=list)
    stepped_at: list[float] = field(default_factory=list)
    """When each of the steps was done, by Trio's clock."""
    ended: Ended | None = None
    """None: not started, or still running."""
    left: bool = False
    """It was not stopped, and goes on without this program."""
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
    shim: Shim,
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: int | Path,
    ladder: Ladder,
    stderr: int | Path | None = None,
    facts: ProcessFacts | None = None,
    on_step: Callable[[LadderStep], None] = lambda step: None,
    wishes: Wishes | None = None,
) -> Ended:
    """Run to the end and leave no process behind; the environment is exactly `env`.

    `output` takes stdout, and stderr too unless that has a place of its own: a path is opened for appending (0600), a
    descriptor must be a regular file opened with O_APPEND and stays the caller's. If cancelled, climbs the ladder, tells
    each step to `on_step`, records all in `facts`, and only then lets Cancelled go on; see Wishes for what changes that.
    `env["TMPDIR"]` must be the task's own: what escapes the shim is found by it, and killed.

    At worst returns grace + second + DIE_WITHIN + 2 * SWEEP_WITHIN after the cancellation. Raises ProcessStartFailed.
    """
    facts = ProcessFacts() if facts is None else facts
    wishes = Wishes() if wishes is None else wishes
    command = await _spawn(shim, argv, cwd, env, output, stderr, ladder)
    since = trio.current_time()
    sweep = partial(_sweep, shim, command, env.get("TMPDIR"), facts)
    facts.pid, facts.start_time = command.pid, command.start_time
    try:
        await command.wait()
    except trio.Cancelled:
        facts.left = shim.left = not command.over and wishes.leaves()
        raise
    finally:
        if not facts.left:
            await _stop(command, ladder, wishes, partial(_note, facts, on_step))
            facts.ended = ended = _ended(command, facts, trio.current_time() - since)
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


async def _spawn(  # noqa: PLR0917 - as run_terraform has them
    shim: Shim,
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    output: int | Path,
    stderr: int | Path | None,
    ladder: Ladder,
) -> Command:
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        _check_start(env)
        with ExitStack() as files:
            out = files.enter_context(_appending(output))
            err = out if stderr is None else files.enter_context(_appending(stderr))
            # Shielded, so that a process which did start is always handed to the one who waits for it.
            with trio.move_on_after(SPAWN_WITHIN, shield=True):
                return await shim.start(
                    argv, cwd=cwd, env=env, out=out, err=err, grace=ladder.grace, second=ladder.second
                )
    except (OSError, ValueError) as error:
        raise start_failure(argv[0], cwd, error) from error
    raise ProcessStartFailed(f"{argv[0]} was not started within {SPAWN_WITHIN:g} s")


def _check_start(env: Mapping[str, str]) -> None:
    if "TMPDIR" in env:
        refuse_shared(env["TMPDIR"])


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


class Stoppable(Protocol):
    """What can be stopped step by step."""

    pid: int
    over: bool

    async def wait(self) -> int | None: ...

    async def signal(self, number: int) -> None: ...

    async def kill(self) -> None: ...


async def _stop(command: Stoppable, ladder: Ladder, wishes: Wishes, note: Callable[[LadderStep], None]) -> None:
    """Climb the ladder; nothing at all if the process has ended already."""
    if command.over:
        return
    # Terraform only, and once: a second SIGTERM makes it drop what it waits for.
    await command.signal(signal.SIGTERM)
    note(LadderStep.FIRST_SIGTERM)
    if await _ends_within(command, max(ladder.grace, APART), wishes.hurry):
        return
    if not (wishes.hurry.is_set() and wishes.kills()):
        await command.signal(signal.SIGTERM)
        note(LadderStep.SECOND_SIGTERM)
        if await _ends_within(command, ladder.second, trio.Event()):
            return
    await command.kill()
    note(LadderStep.SIGKILL)
    if not await _ends_within(command, DIE_WITHIN, trio.Event()):
        logger.error("process %d did not die of SIGKILL within %g s; going on without it", command.pid, DIE_WITHIN)
        note(LadderStep.GAVE_UP)


async def _ends_within(command: Stoppable, seconds: float, hurry: trio.Event) -> bool:
    with trio.move_on_after(seconds, shield=True) as budget:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cut_short, budget, hurry, trio.current_time() + APART)
            await command.wait()
            nursery.cancel_scope.cancel()
    return command.over


async def _cut_short(budget: trio.CancelScope, hurry: trio.Event, not_before: float) -> None:
    await hurry.wait()
    budget.deadline = min(budget.deadline, not_before)


def _note(facts: ProcessFacts, on_step: Callable[[LadderStep], None], step: LadderStep) -> None:
    facts.steps.append(step)
    facts.stepped_at.append(trio.current_time())
    try:
        on_step(step)
    except Exception:
        # The listener only tells people; its fault must not leave a process half stopped.
        logger.exception("the listener failed at step %s", step)


def _ended(command: Command, facts: ProcessFacts, seconds: float) -> Ended:
    # Unknown is treated as the worst: whoever killed its shim may well have killed Terraform.
    code = -signal.SIGKILL if command.returncode is None else command.returncode
    return Ended(code, bool(facts.steps), LadderStep.SIGKILL in facts.steps, seconds, command.oom_kills)


async def _sweep(shim: Shim, command: Command, tmpdir: str | None, facts: ProcessFacts) -> None:
    """The shim has killed what was left of the command; without it, that is found by its TMPDIR."""
    facts.swept += command.swept
    if tmpdir is None or (shim.adopts and command.returncode is not None):
        return
    try:
        with trio.move_on_after(SWEEP_WITHIN, shield=True) as budget:
            facts.swept += await trio.to_thread.run_sync(kill_leftovers, tmpdir, abandon_on_cancel=True)
        if budget.cancelled_caught:
            logger.error("the hunt for leftovers in %s took over %g s and was given up", tmpdir, SWEEP_WITHIN)
    except (OSError, RuntimeError) as error:
        logger.error("leftovers in %s may still run: %s", tmpdir, error)


def _boot() -> str:
    """Names this boot of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
