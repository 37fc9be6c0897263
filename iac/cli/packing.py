"""A directory on disk becomes an archive: the same bytes for the same files, and nothing that was not meant."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from iac.cli.ignoring import FILE, Rules, rules_of
from iac.cli.sanitising import one_line
from iac.domain.archives import ArchiveLimits, File, checked_path, write_archive
from iac.errors import Invalid, TooLarge

_HOW = f"Leave it out with a line in {FILE}."


@dataclass(frozen=True, slots=True)
class Packed:
    """`files` by relative path; `size` counts their bytes before compression."""

    archive: bytes
    files: tuple[str, ...]
    size: int


def pack(directory: Path, limits: ArchiveLimits | None = None) -> Packed:
    """Everything in `directory` that is not ignored; links that stay inside are followed.

    Raises Invalid (with the path) for what cannot be packed and for a link that leads outside, TooLarge.
    """
    limits = limits or ArchiveLimits()
    try:
        root = directory.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise Invalid(f"Cannot read {one_line(directory)}: {_why(error)}.", path=str(directory)) from None
    if not root.is_dir():
        raise Invalid(f"{one_line(directory)} is no directory.", path=str(directory))
    walk = _Walk(root, rules_of(_ignore_lines(root)), limits)
    walk.directory(root, "", ())
    archive = write_archive(walk.files)
    if len(archive) > limits.compressed_bytes:
        raise TooLarge(
            f"The archive has {len(archive):,} bytes, {limits.compressed_bytes:,} is the most. {walk.largest()}"
        )
    return Packed(archive, tuple(sorted(walk.files)), walk.size)


def _ignore_lines(root: Path) -> list[str]:
    path = root / FILE
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"Cannot read {FILE}: {_why(error)}.", path=FILE) from None


@dataclass(slots=True)
class _Walk:
    """The files found so far."""

    root: Path
    rules: Rules
    limits: ArchiveLimits
    files: dict[str, File] = field(default_factory=dict)
    size: int = 0
    directories: int = 0

    def directory(self, real: Path, path: str, inside: tuple[Path, ...]) -> None:
        """`real` is where it is on disk, `inside` the real directories on the way here."""
        self.directories += 1
        if self.directories > self.limits.members:
            raise TooLarge(f"There are over {self.limits.members:,} directories in {one_line(self.root)}.")
        if real in inside:
            raise Invalid(f"{one_line(path)} is a link to a directory that it is in itself. {_HOW}", path=path)
        try:
            with os.scandir(real) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise Invalid(f"Cannot read {one_line(path) or '.'}: {_why(error)}. {_HOW}", path=path) from None
        for entry in found:
            self._entry(entry, f"{path}/{entry.name}" if path else entry.name, (*inside, real))

    def _entry(self, entry: os.DirEntry[str], path: str, inside: tuple[Path, ...]) -> None:
        is_link, is_directory = entry.is_symlink(), os.path.isdir(entry.path)
        if is_link and self.rules.ignores(path, directory=is_directory):
            return
        if is_directory and not self.rules.ignores_all_below(path):
            self.directory(self._inside(path, entry) if is_link else Path(entry.path), path, inside)
        elif not is_directory and not self.rules.ignores(path):
            self._file(self._inside(path, entry) if is_link else Path(entry.path), path)

    def _inside(self, path: str, entry: os.DirEntry[str]) -> Path:
        """What the link points to."""
        shown = f"{one_line(path)} is a link to {one_line(os.readlink(entry.path))}"
        try:
            real = Path(entry.path).resolve(strict=True)
        except (OSError, RuntimeError):
            raise Invalid(f"{shown}, which is not there. {_HOW}", path=path) from None
        if not real.is_relative_to(self.root):
            raise Invalid(
                f"{shown}, which is outside of {one_line(self.root)} and would not be there on the server. "
                f"Copy it in, or pack from further up with --dir. {_HOW}",
                path=path,
            )
        return real

    def _file(self, real: Path, path: str) -> None:
        checked_path(path, self.limits.path_bytes)
        try:
            facts = real.stat()
            if not stat.S_ISREG(facts.st_mode):
                raise Invalid(f"{one_line(path)} is neither a file nor a directory. {_HOW}", path=path)
            self._make_room(path, facts.st_size)
            data = real.read_bytes()
        except OSError as error:
            raise Invalid(f"Cannot read {one_line(path)}: {_why(error)}. {_HOW}", path=path) from None
        self.size += len(data)
        self.files[path] = File(data, bool(facts.st_mode & 0o100))

    def _make_room(self, path: str, size: int) -> None:
        if len(self.files) >= self.limits.members:
            raise TooLarge(f"There are over {self.limits.members:,} files in {one_line(self.root)}. {self.largest()}")
        if self.size + size > self.limits.unpacked_bytes:
            self.files[path] = File(bytes(min(size, self.limits.unpacked_bytes)))
            raise TooLarge(
                f"The files in {one_line(self.root)} have over {self.limits.unpacked_bytes:,} bytes together. "
                f"{self.largest()}"
            )

    def largest(self) -> str:
        """What to look at first."""
        sizes: dict[str, int] = {}
        for path, file in self.files.items():
            top = path.partition("/")[0] + ("/" if "/" in path else "")
            sizes[top] = sizes.get(top, 0) + len(file.data)
        most = sorted(sizes, key=lambda top: -sizes[top])[:3]
        return (
            f"Most is in {', '.join(f'{one_line(top)} ({sizes[top]:,} bytes)' for top in most)}: if that is nothing "
            f"that Terraform needs, leave it out in {FILE}."
        )


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
