"""What an agent has accepted, written down before it says so: `<tasks>/<task>-<fence>.json`, beside the work directory.

A restarted agent knows from it which orders it had taken, and has the tokens to report and to bring what was left behind.
An entry goes when nothing of its assignment is left: its result was taken and its directory removed.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from iac.domain.work import RunTask
from iac.errors import IacError
from iac.executor.workdir import Workdir, left_behind, place_of, storing, write_file

log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An order that was accepted, and the token that is good for it."""

    order: RunTask
    token: str

    def __repr__(self) -> str:
        return f"Entry({self.order!r}, …)"


class Journal:
    """One agent's; whoever uses it holds the lock of the data directory. All methods block for a disk's time."""

    def __init__(self, tasks: Path) -> None:
        self._tasks = tasks

    def accept(self, order: RunTask, token: str) -> None:
        """On the disk for good when it returns; again is no error. Raises StorageFull, OSError."""
        path = self._path(order)
        draft = path.with_suffix(".new")
        try:
            with storing(path):
                self._tasks.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_file(draft, msgspec.json.encode(Entry(order=order, token=token)), durable=True)
                draft.replace(path)
                self._sync()
        except (IacError, OSError):
            # What is on the disk all the same must not count: the order was refused, and may be another agent's by now.
            for half in (draft, path):
                with suppress(OSError):
                    half.unlink()
            raise

    def close(self, order: RunTask) -> None:
        """Nothing of it is left. While its work directory is still there, the entry stays as well."""
        if not self.place(order).root.exists():
            self._path(order).unlink(missing_ok=True)

    def place(self, order: RunTask) -> Workdir:
        return place_of(self._tasks, order)

    def entries(self) -> list[Entry]:
        """What earlier lives accepted and did not bring to an end. What nobody can act on is left where it is, and told."""
        found = []
        for path in sorted(self._tasks.glob("*.json")) if self._tasks.is_dir() else ():
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Entry))
            except (OSError, msgspec.DecodeError) as error:
                log.error("an accepted order cannot be read", extra={"path": str(path), "error": str(error)})
        known = {self.place(entry.order).root for entry in found}
        for place, _ in left_behind(self._tasks):
            if place.root not in known:
                log.error("a work directory that no accepted order has is kept", extra={"directory": str(place.root)})
        return found

    def _path(self, order: RunTask) -> Path:
        root = self.place(order).root
        return root.with_name(f"{root.name}.json")

    def _sync(self) -> None:
        fd = os.open(self._tasks, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
