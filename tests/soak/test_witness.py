"""Who stands before terraform tells that it starts, and that two of one task do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.fake_terraform import ledger_of
from tests.soak import witness


@contextmanager
def started(place: Path, run: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that ends when its stdin does."""
    argv = [sys.executable, "-I", "-S", witness.__file__, str(place), "/bin/sh", "-c", "echo begun; cat", "--"]
    env = {"TMPDIR": f"{place}/{run}/tmp", "PATH": "/usr/bin:/bin"}
    with subprocess.Popen([*argv, *arguments], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield process
        process.kill()


def test_a_start_is_noted_and_a_second_copy_at_the_same_time_is_an_overlap(tmp_path: Path) -> None:
    with started(tmp_path, "7-1", "plan"), started(tmp_path, "8-2", "plan"), started(tmp_path, "7-3", "-x", "plan"):
        pass
    with started(tmp_path, "7-4", "plan"), started(tmp_path, "7-5", "version"):
        pass
    told = [(entry["event"], entry["run"], entry.get("with_run")) for entry in ledger_of(tmp_path / "ledger")]
    assert told == [
        ("start", "7-1", None),
        ("start", "8-2", None),
        ("start", "7-3", None),
        ("overlap", "7-3", "7-1"),
        ("start", "7-4", None),
    ]
