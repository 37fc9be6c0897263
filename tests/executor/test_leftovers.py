"""Processes found by their marker: real processes, started here, killed here."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from iac.executor import leftovers
from iac.executor.leftovers import Leftover, alive, find_leftovers, kill_leftovers, start_time_of

LINGER = "import signal, sys; print('up', flush=True); signal.pause()"
FORK_ON_AND_ON = """
import os, signal, time
print('up', flush=True)
for generation in range(200):
    if os.fork():
        signal.pause()
signal.pause()
"""


class Started:
    """Starts processes with a chosen environment, and sees to it that none outlives the test."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def __call__(self, env: Mapping[str, str], code: str = LINGER, name: str = sys.executable) -> int:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            executable=name,
            env=dict(env),
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        return process.pid


@pytest.fixture
def start() -> Iterator[Started]:
    started = Started()
    yield started
    for process in started.processes:
        process.kill()
        process.communicate()


def test_a_process_with_the_marker_is_found_under_its_short_name(start: Started, tmp_path: Path) -> None:
    pid = start({"TMPDIR": str(tmp_path)})

    [found] = find_leftovers(str(tmp_path))

    assert found == Leftover(pid, start_time_of(pid) or 0, Path(f"/proc/{pid}/comm").read_text().strip())


@pytest.mark.parametrize(
    "env",
    [
        {"TMPDIR": "{marker}2"},
        {"TMPDIR": "{marker}/"},
        {"TMPDIR": "{marker}/sub"},
        {"XTMPDIR": "{marker}"},
        {"OTHER": "TMPDIR={marker}"},
        {},
    ],
)
def test_a_process_with_almost_the_marker_is_left_alone(start: Started, tmp_path: Path, env: dict[str, str]) -> None:
    marker = str(tmp_path)
    pid = start({name: value.format(marker=marker) for name, value in env.items()})

    assert find_leftovers(marker) == []
    assert kill_leftovers(marker) == 0
    assert alive(pid, start_time_of(pid) or 0)


def test_a_process_with_parentheses_and_spaces_in_its_name_is_found(start: Started, tmp_path: Path) -> None:
    odd = tmp_path / ") S 1 (x"
    odd.symlink_to(sys.executable)
    pid = start({"TMPDIR": str(tmp_path)}, name=str(odd))

    [found] = find_leftovers(str(tmp_path))

    assert (found.pid, found.command) == (pid, ") S 1 (x")
    assert alive(pid, found.start_time)


def test_all_with_the_marker_are_dead_when_the_kill_returns(start: Started, tmp_path: Path) -> None:
    pids = [start({"TMPDIR": str(tmp_path)}) for _ in range(3)]
    times = [start_time_of(pid) or 0 for pid in pids]

    assert kill_leftovers(str(tmp_path)) == 3

    assert not any(map(alive, pids, times))
    assert kill_leftovers(str(tmp_path)) == 0


def test_a_process_that_forks_while_it_is_hunted_does_not_escape(start: Started, tmp_path: Path) -> None:
    start({"TMPDIR": str(tmp_path)}, FORK_ON_AND_ON)

    assert kill_leftovers(str(tmp_path)) >= 1

    assert find_leftovers(str(tmp_path)) == []


def test_a_spared_process_survives(start: Started, tmp_path: Path) -> None:
    spared, other = (start({"TMPDIR": str(tmp_path)}) for _ in range(2))

    assert kill_leftovers(str(tmp_path), spare=[spared]) == 1

    assert [found.pid for found in find_leftovers(str(tmp_path))] == [spared]
    assert not alive(other, start_time_of(other) or 0)


def test_a_process_that_hunts_its_own_marker_survives(tmp_path: Path) -> None:
    hunter = (
        "import os, tempfile; from iac.executor.leftovers import *; tempfile.tempdir = '/tmp';"
        "marker = os.environ.pop('TMPDIR'); print(find_leftovers(marker), kill_leftovers(marker))"
    )
    env = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(leftovers.__file__).parents[2])}

    done = subprocess.run([sys.executable, "-c", hunter], env=env, capture_output=True, check=True)

    assert done.stdout == b"[] 0\n"


def test_a_pid_that_changed_hands_is_not_hit(start: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = start({"TMPDIR": str(tmp_path)})
    earlier = Leftover(pid, (start_time_of(pid) or 0) - 1, "sleep")
    rounds = iter([[earlier], []])
    monkeypatch.setattr(leftovers, "find_leftovers", lambda tmpdir: next(rounds))

    assert kill_leftovers(str(tmp_path)) == 0

    assert alive(pid, start_time_of(pid) or 0)


def test_without_pidfds_the_kill_works_too(start: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    pid = start({"TMPDIR": str(tmp_path)})
    start_time = start_time_of(pid) or 0

    assert kill_leftovers(str(tmp_path)) == 1

    assert not alive(pid, start_time)


def test_a_process_that_may_not_be_killed_does_not_hold_up_the_rest(
    start: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbidden, other = (start({"TMPDIR": str(tmp_path)}) for _ in range(2))
    kill = os.kill

    def refuse(pid: int, number: int) -> None:
        if pid == forbidden:
            raise PermissionError
        kill(pid, number)

    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.setattr(os, "kill", refuse)

    assert kill_leftovers(str(tmp_path)) == 1

    assert not alive(other, start_time_of(other) or 0)


@pytest.mark.parametrize("shared", ["/", "/tmp", "relative/tmp", ""])
def test_a_directory_that_others_share_is_refused_as_a_marker(shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    with pytest.raises(ValueError, match="does not belong to one task alone"):
        find_leftovers(shared)


def test_this_programs_own_tmpdir_is_refused_as_a_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(ValueError, match="does not belong to one task alone"):
        kill_leftovers(str(tmp_path))


def test_a_zombie_is_not_alive(start: Started, tmp_path: Path) -> None:
    pid = start({"TMPDIR": str(tmp_path)})
    start_time = start_time_of(pid) or 0
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert start_time_of(pid) == start_time
    assert not alive(pid, start_time)


def test_this_process_is_alive_under_its_own_start_time_only() -> None:
    start_time = start_time_of(os.getpid())
    assert start_time is not None
    assert alive(os.getpid(), start_time)
    assert not alive(os.getpid(), start_time + 1)


def test_a_pid_that_nobody_has_has_no_start_time() -> None:
    nobody = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    assert start_time_of(nobody) is None
    assert not alive(nobody, 1)
