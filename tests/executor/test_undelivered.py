"""States that nobody takes any more."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from iac.domain.work import RunTask
from iac.executor import undelivered, workdir

STATE = json.dumps({
    "version": 4, "terraform_version": "1.11.4", "serial": 3, "lineage": "lin-1", "outputs": {}, "resources": [],
}).encode()  # fmt: skip


def an_apply(tasks: Path, fence: int = 42) -> workdir.Workdir:
    order = RunTask(task_id=7, workspace_id="ws-1", action="apply", assignment_id="asg-1", fence=fence, attempt=1)
    return workdir.create(tasks, order, ["secret"])


def test_the_state_is_kept_with_its_assignment_and_nothing_else(tmp_path: Path) -> None:
    place = an_apply(tmp_path / "tasks")
    workdir.write_file(place.state, STATE)
    kept = undelivered.set_aside(place, undelivered.place_beside(tmp_path / "tasks"))
    assert kept == tmp_path / "undelivered" / "7-42"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        "terraform.tfstate": STATE,
        "assignment.json": place.assignment.read_bytes(),
    }
    assert [path.stat().st_mode & 0o077 for path in (kept, *kept.iterdir())] == [0, 0, 0]


def test_a_state_that_nobody_can_read_is_kept_as_it_is(tmp_path: Path) -> None:
    place = an_apply(tmp_path / "tasks")
    workdir.write_file(place.state, STATE[:20])
    workdir.write_file(place.errored_state, b"{")
    kept = undelivered.set_aside(place, tmp_path / "kept")
    assert kept is not None
    assert (kept / "terraform.tfstate").read_bytes() == STATE[:20]
    assert (kept / "errored.tfstate").read_bytes() == b"{"


def test_without_a_state_nothing_is_kept(tmp_path: Path) -> None:
    assert undelivered.set_aside(an_apply(tmp_path / "tasks"), tmp_path / "kept") is None
    assert not (tmp_path / "kept").exists()


def test_the_oldest_goes_when_there_are_too_many_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(undelivered, "MOST", 2)
    for fence in (1, 2, 3):
        place = an_apply(tmp_path / "tasks", fence)
        workdir.write_file(place.state, STATE)
        kept = undelivered.set_aside(place, tmp_path / "kept")
        assert kept is not None
        os.utime(kept, (fence, fence))
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["7-2", "7-3"]
    assert "is deleted: there are too many" in caplog.text
    undelivered.tell(tmp_path / "kept")
    assert "wait for somebody" in caplog.text
