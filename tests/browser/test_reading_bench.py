"""The part of the benchmark that reads logs in a Chromium. How fast that is, is not a matter of tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.bare import configuration
from bench.chromium import MISSING, find_chromium
from bench.furnishing import SHOWN, task_with_log
from bench.phases import new_workspace
from bench.reading import STEPS, coloured_lines, looked, rows
from bench.server import running_server
from bench.viewer import Asked, Log

LINES, TURNS = 99_999, 2


def test_every_step_is_taken_in_every_turn(tmp_path: Path) -> None:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(MISSING)
    with running_server(tmp_path) as server:
        new_workspace(server, SHOWN, configuration(1))
        task = task_with_log(server, coloured_lines(LINES, TURNS))
        [found] = looked(Asked(chromium, server.url, server.token, [Log(task, 2, STEPS, TURNS)]))
    assert len(found.painted) == len(found.rows) == 2
    assert all(painted > 0 for painted in found.painted)
    assert {name: len(times) for name, times in found.steps.items()} == {step.name: TURNS for step in STEPS}
    assert 20_000 < found.bytes < 1_000_000


def test_without_a_chromium_every_row_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IAC_TEST_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    found = rows(None, visits=1, times=1)  # type: ignore[arg-type]  # it is not asked for anything
    assert len(found) > len(STEPS)
    assert {(row.value, row.ok, row.missing) for row in found} == {(None, None, MISSING)}
