"""`make demo`, as somebody runs it who has just cloned the repository."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHIN = 120.0


def demo(directory: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A demo without a terminal, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "demo"],
        check=False,
        cwd=ROOT,
        env={**os.environ, "ONESHOT": "1", "IAC_DEMO_DIR": str(directory), **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
    )


def without_terraform(programs: Path) -> str:
    """A PATH with what the example needs, and without any Terraform."""
    programs.mkdir()
    for name in ("sh", "sleep"):
        found = [Path(place, name) for place in ("/bin", "/usr/bin") if Path(place, name).exists()]
        (programs / name).symlink_to(found[0])
    kept = [place for place in os.environ["PATH"].split(os.pathsep) if not Path(place, "terraform").exists()]
    return os.pathsep.join([str(programs), *kept])


def test_all_four_acts_happen_on_a_machine_without_terraform(tmp_path: Path) -> None:
    done = demo(tmp_path / "demo", PATH=without_terraform(tmp_path / "programs"))
    assert done.returncode == 0, done.stdout
    for told in (
        "1  Plan", "(wheel)", "7 to add, 0 to change, 0 to destroy",
        "2  Apply", "oven: hot", "rye: golden brown", "7 resources",
        "3  Outputs", '"Morgenrot: open from 06:30"', "supplier_login  (sensitive)",
        "4  Destroy", "Resources: 0 added, 0 changed, 7 destroyed", "nothing is left but the history",
        "iac login --url http://127.0.0.1:",
    ):  # fmt: skip
        assert told in done.stdout, f"{told!r} is missing in:\n{done.stdout}"
    assert "\x1b" not in done.stdout
    assert (tmp_path / "demo" / "admin-token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "demo" / "admin-token").read_text().strip() not in done.stdout
    with (tmp_path / "demo" / "server" / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the server is gone


def test_a_server_of_an_earlier_demo_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    (directory / "server").mkdir(parents=True)
    (directory / "server.pid").write_text("4711\n")
    with (directory / "server" / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = demo(directory)
    assert done.returncode == 1
    assert "Stop it with `kill 4711`" in done.stdout
    assert (directory / "server.pid").exists()


def test_a_directory_that_cannot_be_used_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file")
    done = demo(tmp_path / "demo")
    assert done.returncode == 1
    assert "✗" in done.stdout
    assert "Traceback" not in done.stdout
