"""A soak of half a minute, so that it is there when it is needed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.soak.report import text
from tests.soak.run import soak


@pytest.mark.slow_fault
async def test_half_a_minute_of_trouble_breaks_no_promise() -> None:
    with tempfile.TemporaryDirectory(prefix="iac-soak-") as place:
        Path(place).chmod(0o755)  # as root, PostgreSQL runs as another user
        report = await soak(Path(place), seed="short", seconds=30, workspaces=8)
        assert report.passed, text(report)
        assert sum(report.faults.values()) >= 3
        assert report.tasks
