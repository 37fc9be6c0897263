"""Whom the kernel kills first when memory runs out, and where it counts that."""

from __future__ import annotations

from pathlib import Path

from iac.executor import oom

COUNTS = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return root


def test_terraform_is_killed_first_and_its_shim_last(tmp_path: Path) -> None:
    assert oom.scores(machine(tmp_path, {"proc/self/oom_score_adj": "100\n"})) == (-400, 600)


def test_scores_stay_within_what_the_kernel_takes(tmp_path: Path) -> None:
    assert oom.scores(machine(tmp_path, {"proc/self/oom_score_adj": "-900"})) == (-1000, -400)
    assert oom.scores(machine(tmp_path, {"proc/self/oom_score_adj": "1000"})) == (500, 1000)


def test_without_a_score_of_ours_the_usual_one_is_assumed(tmp_path: Path) -> None:
    assert oom.scores(tmp_path) == (-500, 500)


def test_the_counter_is_that_of_our_control_group_version_2(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.events": "oom 1\noom_kill 1\n"}
    assert oom.counter(machine(tmp_path, files)) == str(tmp_path / "sys/fs/cgroup/a/b/memory.events")


def test_the_counter_is_that_of_our_control_group_version_1(tmp_path: Path) -> None:
    place = "sys/fs/cgroup/memory/a/memory.oom_control"
    files = {"proc/self/cgroup": "4:cpu:/\n3:memory,hugetlb:/a\n0::/\n", place: COUNTS}
    assert oom.counter(machine(tmp_path, files)) == str(tmp_path / place)


def test_in_a_container_the_path_of_the_host_does_not_exist(tmp_path: Path) -> None:
    place = "sys/fs/cgroup/memory.events"
    files = {"proc/self/cgroup": "0::/system.slice/x:y\n", place: "oom_kill 0\n"}
    assert oom.counter(machine(tmp_path, files)) == str(tmp_path / place)


def test_without_a_counter_of_a_group_it_is_that_of_the_machine(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.events": "low 0\n"}
    assert oom.counter(machine(tmp_path, files)) == str(tmp_path / "proc/vmstat")
    assert oom.counter(tmp_path / "no machine at all") == str(tmp_path / "no machine at all/proc/vmstat")
