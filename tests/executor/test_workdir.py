"""The private directory of an assignment."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from iac.domain.archives import File
from iac.domain.work import RunTask
from iac.errors import StorageFull
from iac.executor import workdir
from iac.executor.workdir import Workdir
from tests.harness.tmpfs import fill, small_disk

ORDER = RunTask(task_id=7, workspace_id="ws-1", action="apply", assignment_id="asg-1", fence=42, attempt=1)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        fill(disk)
        yield disk


def test_it_is_named_after_task_and_fence_and_nobody_else_may_look_into_it(tmp_path: Path) -> None:
    made = workdir.create(tmp_path / "tasks", ORDER, ["secret"])

    assert made.root == tmp_path / "tasks" / "7-42"
    for path in (made.root.parent, made.root, *made.root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert workdir.masked_values(made) == ("secret",)


def test_an_umask_that_is_too_open_opens_nothing(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = workdir.create(tmp_path / "tasks", ORDER)
        workdir.write_files(made.config, {"a/b/main.tf": File(b"x"), "run.sh": File(b"x", executable=True)})
    finally:
        os.umask(before)

    assert stat.S_IMODE((made.config / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((made.config / "a" / "b" / "main.tf").stat().st_mode) == 0o600
    assert stat.S_IMODE((made.config / "run.sh").stat().st_mode) == 0o700


def test_there_cannot_be_two_for_one_assignment(tmp_path: Path) -> None:
    made = workdir.create(tmp_path, ORDER)
    workdir.write_file(made.state, b"precious")

    with pytest.raises(FileExistsError):
        workdir.create(tmp_path, ORDER)
    assert made.state.read_bytes() == b"precious"


def test_what_is_left_behind_is_found_with_its_order(tmp_path: Path) -> None:
    made = workdir.create(tmp_path, ORDER)
    (tmp_path / "8-43").mkdir()
    (tmp_path / "9-44").mkdir()
    (tmp_path / "9-44" / "assignment.json").write_bytes(b"{")

    found = {place.root.name: order for place, order in workdir.left_behind(tmp_path)}

    assert found == {"7-42": ORDER, "8-43": None, "9-44": None}
    workdir.remove(made)
    assert list(workdir.left_behind(tmp_path / "never")) == []
    assert not made.root.exists()


def test_terraform_runs_in_the_working_directory(tmp_path: Path) -> None:
    place = Workdir(tmp_path, "stacks/prod")

    assert place.cwd == tmp_path / "config" / "stacks" / "prod"
    assert place.errored_state == place.cwd / "errored.tfstate"
    assert place.state == tmp_path / "state" / "terraform.tfstate"


def test_a_file_is_not_written_through_a_symbolic_link(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / "link").symlink_to(target)

    with pytest.raises(OSError, match="symbolic"):
        workdir.write_file(tmp_path / "link", b"x")
    assert not target.exists()


def test_a_full_disk_is_told_with_its_place_and_leaves_nothing_half_made(full_disk: Path) -> None:
    with pytest.raises(StorageFull, match="disk is full at"):
        workdir.create(full_disk / "tasks", ORDER, ["x" * 200_000])

    assert list(workdir.left_behind(full_disk / "tasks")) == []


def test_a_directory_that_is_gone_or_locked_is_removed_without_complaint(tmp_path: Path) -> None:
    made = workdir.create(tmp_path, ORDER)
    workdir.remove(made)
    workdir.remove(made)

    assert not made.root.exists()


def test_a_removal_that_was_cut_off_leaves_nothing_that_looks_like_an_assignment(tmp_path: Path) -> None:
    made = workdir.create(tmp_path, ORDER)
    workdir.write_file(made.state, b"precious")
    made.root.rename(made.root.with_name("7-42.doomed"))

    assert list(workdir.left_behind(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_was_begun_before_there_is_a_log(tmp_path: Path) -> None:
    made = workdir.create(tmp_path, ORDER)

    assert not workdir.was_begun(made)
    made.raw_log.touch()
    assert workdir.was_begun(made)
