"""The private directory of one assignment: `<tasks>/<task>-<fence>`, 0700, removed only when nothing in it is needed.

assignment.json   the order and what else is to be remembered, so that a later start knows whose directory this is
masked.json       what must not be seen in the log, so that a later start masks alike
result.json       how it ended, from the moment when it is told: a later start tells the same
config/           the frozen files; Terraform runs in it, or in the workspace's working directory inside it
data/             TF_DATA_DIR          tmp/   TMPDIR, and the mark by which leftover processes are found
home/             HOME                 state/ the local backend's state
plan/             tfplan, plan.json    raw.log, terraform.pid, cli.tfrc
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path, PurePosixPath

import msgspec

from iac.domain.archives import File
from iac.domain.work import Result, RunTask
from iac.errors import StorageFull

FILE_MODE, EXECUTABLE_MODE = 0o600, 0o700
DOOMED = ".doomed"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Workdir:
    """Paths only; nothing is read or written by making one."""

    root: Path
    working_directory: str = ""

    @property
    def cwd(self) -> Path:
        """Where Terraform runs."""
        return self.config.joinpath(*PurePosixPath(self.working_directory).parts)

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def state(self) -> Path:
        return self.root / "state" / "terraform.tfstate"

    @property
    def errored_state(self) -> Path:
        """Where Terraform puts a state that it could not write to its place."""
        return self.cwd / "errored.tfstate"

    @property
    def plan(self) -> Path:
        return self.root / "plan" / "tfplan"

    @property
    def plan_json(self) -> Path:
        return self.root / "plan" / "plan.json"

    @property
    def raw_log(self) -> Path:
        return self.root / "raw.log"

    @property
    def pid_file(self) -> Path:
        return self.root / "terraform.pid"

    @property
    def shim_pid_file(self) -> Path:
        return self.root / "shim.pid"

    @property
    def cli_config(self) -> Path:
        return self.root / "cli.tfrc"

    @property
    def assignment(self) -> Path:
        return self.root / "assignment.json"

    @property
    def masked(self) -> Path:
        return self.root / "masked.json"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def lock_hcl(self) -> Path:
        return self.cwd / ".terraform.lock.hcl"


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What a later start has to know beside the order. It stands in the same file."""

    working_directory: str = ""
    log_max_bytes: int = 0
    grace_s: float | None = None
    times_out: float | None = None
    """By iac.executor.clocks; None: it never does."""

    @property
    def limit(self) -> float:
        return inf if self.times_out is None else self.times_out


def place_of(tasks: Path, order: RunTask) -> Workdir:
    """Where the assignment has its directory, if it has one."""
    return Workdir(tasks / f"{order.task_id}-{order.fence}")


def create(tasks: Path, order: RunTask, masked: Sequence[str] = (), remembered: Remembered | None = None) -> Workdir:
    """A new directory for this assignment. Raises StorageFull, OSError (FileExistsError if there is one already)."""
    workdir = place_of(tasks, order)
    with storing(workdir.root):
        tasks.mkdir(mode=0o700, parents=True, exist_ok=True)
        workdir.root.mkdir(mode=0o700)
        try:
            _furnish(workdir, order, masked, remembered or Remembered())
        except OSError:
            remove(workdir)
            raise
    return workdir


def _furnish(workdir: Workdir, order: RunTask, masked: Sequence[str], remembered: Remembered) -> None:
    # Durable, the order first: after a power loss a state without its order would be nobody's.
    both = {**msgspec.to_builtins(order), **msgspec.to_builtins(remembered)}
    write_file(workdir.assignment, msgspec.json.encode(both), durable=True)
    write_file(workdir.masked, msgspec.json.encode(masked), durable=True)
    for directory in (
        workdir.config,
        workdir.data,
        workdir.tmp,
        workdir.home,
        workdir.state.parent,
        workdir.plan.parent,
    ):
        directory.mkdir(mode=0o700)


def masked_values(workdir: Workdir) -> tuple[str, ...]:
    """What was masked when this directory was made. Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(workdir.masked.read_bytes(), type=tuple[str, ...])


def remembered(workdir: Workdir) -> Remembered:
    """Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(workdir.assignment.read_bytes(), type=Remembered)


def note_result(workdir: Workdir, result: Result, *, durable: bool) -> None:
    """To be called before it is told to anybody. Raises OSError."""
    if workdir.root.is_dir():  # not to be made again for this alone
        draft = workdir.result.with_suffix(".new")
        write_file(draft, msgspec.json.encode(result), durable=durable)
        draft.replace(workdir.result)


def noted_result(workdir: Workdir) -> Result | None:
    """How the run ended; None if it did not come so far, or only a part of it was written."""
    try:
        return msgspec.json.decode(workdir.result.read_bytes(), type=Result)
    except (OSError, msgspec.DecodeError):
        return None


def kept(workdir: Workdir) -> Remembered:
    """As `remembered`; of what cannot be read, nothing."""
    try:
        return remembered(workdir)
    except (OSError, msgspec.DecodeError):
        return Remembered()


def write_files(directory: Path, files: Mapping[str, File]) -> None:
    """Writes a tree of relative paths that were checked by iac.domain.archives. Raises StorageFull."""
    with storing(directory):
        for name, file in files.items():
            write_file(directory.joinpath(*PurePosixPath(name).parts), file.data, executable=file.executable)


def write_file(path: Path, data: bytes, *, executable: bool = False, durable: bool = False) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, EXECUTABLE_MODE if executable else FILE_MODE
    )
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(fd)


def read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def remove(workdir: Workdir) -> None:
    """Removes it all. What cannot be removed now, or is cut off by a crash, is found by the sweep of the next start."""
    doomed = workdir.root.with_name(workdir.root.name + DOOMED)
    # First it loses its name: a directory of which only a part is left would tell a later start lies.
    with suppress(OSError):
        workdir.root.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def sweep(tasks: Path) -> None:
    """Removes what `remove` did not come to the end of."""
    for doomed in tasks.glob(f"*{DOOMED}") if tasks.is_dir() else ():
        shutil.rmtree(doomed, ignore_errors=True)


def was_begun(workdir: Workdir) -> bool:
    """Whether anything may have been started in it: the log is opened before that."""
    return workdir.raw_log.exists()


def left_behind(tasks: Path) -> Iterator[tuple[Workdir, RunTask | None]]:
    """The directories that are still there, with their orders (None: not even that was written)."""
    if not tasks.is_dir():
        return
    sweep(tasks)
    for root in sorted(path for path in tasks.iterdir() if path.is_dir() and path.suffix != DOOMED):
        workdir = Workdir(root)
        try:
            yield workdir, msgspec.json.decode(workdir.assignment.read_bytes(), type=RunTask)
        except (OSError, msgspec.DecodeError):
            yield workdir, None


class storing:
    """Turns "no space left" into StorageFull with the place; other errors pass."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise StorageFull(f"The disk is full at {self._place}; free some space and run the task again.") from error
