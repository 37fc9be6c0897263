"""The identity of an instance, and the lock on its directory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from iac.errors import StartFailed
from iac.executor.identity import FILE, Identity, load, locked, save


def test_an_identity_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first = load(tmp_path)
    assert len(first.instance_id) == 32
    assert load(tmp_path) == first
    known = Identity(instance_id=first.instance_id, agent_id="agent-1", instance_secret="iaci_x")
    save(tmp_path, known)
    assert load(tmp_path) == known
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_draft_that_a_crash_left_does_not_get_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "identity.new").write_text("half")
    (tmp_path / "identity.new").chmod(0o444)
    assert load(tmp_path) == load(tmp_path)


def test_a_damaged_identity_is_refused_not_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"instance_id"')
    with pytest.raises(StartFailed, match="damaged") as caught:
        load(tmp_path)
    assert caught.value.exit_code == 78
    assert (tmp_path / FILE).read_text() == '{"instance_id"'


def test_a_directory_has_one_agent(tmp_path: Path) -> None:
    with locked(tmp_path / "data"):
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        with pytest.raises(StartFailed, match="another agent") as caught, locked(tmp_path / "data"):
            pass
        assert caught.value.exit_code == 6
    with locked(tmp_path / "data"):
        pass


def test_a_place_that_is_no_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartFailed, match="IAC_DATA_DIR") as caught, locked(tmp_path / "file"):
        pass
    assert caught.value.exit_code == 78
