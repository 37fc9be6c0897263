"""Files of others are what VENDORED.md says they are."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
UI = ROOT / "iac" / "web" / "ui"
TABLE = re.findall(
    r"^\| `([^`]+)` .*`([0-9a-f]{64})` \|$", (UI / "VENDORED.md").read_text(encoding="utf-8"), re.MULTILINE
)


@pytest.mark.parametrize(("file", "digest"), TABLE)
def test_a_file_of_others_is_as_it_was_released(file: str, digest: str) -> None:
    path = ROOT / file if file.startswith("tests/") else UI / file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_every_minified_file_is_in_the_table() -> None:
    assert {Path(file).name for file, _ in TABLE} == {
        path.name
        for place in (UI / "static", ROOT / "tests" / "browser" / "vendored")
        for path in place.glob("*.min.js")
    }


def test_our_own_scripts_can_be_read_at_a_sitting() -> None:
    for path in (UI / "static").glob("*.js"):
        if ".min." not in path.name:
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 150, path.name
