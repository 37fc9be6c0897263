"""`make demo`, as somebody runs it who has just cloned the repository."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


class Background:
    """A demo that runs beside the test; its output goes to a file."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process, self.output = process, output

    def shows(self, text: str) -> None:
        deadline = time.monotonic() + WITHIN
        while text not in self.output.read_text(errors="replace"):
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)  # noqa: TID251 - nothing else runs in this test's thread

    def programs(self) -> list[int]:
        """The pids of its server and its agent."""
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]


@contextmanager
def beside(directory: Path, tmp_path: Path) -> Iterator[Background]:
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=ROOT,
            env={**os.environ, "ONESHOT": "", "IAC_DEMO_DIR": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            # Whoever runs the tests in the background has SIGINT ignored, and what is started inherits that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread
        )
    try:
        yield Background(process, output)
    finally:
        process.terminate()
        process.wait(WITHIN)


def is_free(lock: Path) -> bool:
    """Whether no program holds its directory any more."""
    with lock.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


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
        "agent demo-agent (agent-", "workspace bakery runs in pool demo",
        "1  Plan", "(wheel)", "7 to add, 0 to change, 0 to destroy",
        "2  Apply", "oven: hot", "rye: golden brown", "task 1 ran on demo-agent", "7 resources",
        "3  Outputs", '"Morgenrot: open from 06:30"', "supplier_login  (sensitive)",
        "4  Destroy", "Resources: 0 added, 0 changed, 7 destroyed", "nothing is left but the history",
        "iac login --url http://127.0.0.1:", "iac agent list",
    ):  # fmt: skip
        assert told in done.stdout, f"{told!r} is missing in:\n{done.stdout}"
    assert "\x1b" not in done.stdout
    for name in ("admin-token", "agent-token"):
        assert (tmp_path / "demo" / name).stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "demo" / name).read_text().strip() not in done.stdout
    assert not any((tmp_path / "demo" / "agent" / "tasks").iterdir())
    assert is_free(tmp_path / "demo" / "agent" / "agent.lock")
    assert is_free(tmp_path / "demo" / "server" / "server.lock")


def test_ctrl_c_ends_the_agent_first_and_then_the_server(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with beside(directory, tmp_path) as running:
        running.shows("Server and agent run until Ctrl-C")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(WITHIN) == 0
    agent, server = ((directory / f"{name}.log").read_text().splitlines() for name in ("agent", "server"))
    assert agent[-1].endswith("stopped")
    assert server[-1].endswith("stopped")
    told_to_stop = next(line for line in server if " signal " in line)
    assert agent[-1][:12] <= told_to_stop[:12], "both logs begin their lines with the time"
    assert is_free(directory / "agent" / "agent.lock")


def test_after_kill_9_of_everything_the_next_demo_has_the_same_agent(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with beside(directory, tmp_path) as running:
        running.shows("kneading dough")
        for pid in [running.process.pid, *running.programs()]:
            os.kill(pid, signal.SIGKILL)
        running.process.wait(WITHIN)
    done = demo(directory)
    assert done.returncode == 0, done.stdout
    assert "the same as last time" in done.stdout
    assert "of an earlier demo" in done.stdout


def test_a_killed_demo_takes_server_and_agent_with_it(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with beside(directory, tmp_path) as running:
        running.shows("online after")
        running.process.kill()
        running.process.wait(WITHIN)
        deadline = time.monotonic() + WITHIN
        while not (is_free(directory / "agent" / "agent.lock") and is_free(directory / "server" / "server.lock")):
            assert time.monotonic() < deadline
            time.sleep(0.05)  # noqa: TID251 - nothing else runs in this test's thread


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
