"""One server for all tests of the user API; each test works in workspaces of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iac.settings import TerraformSettings
from tests.fakes.fake_terraform import install
from tests.harness.postgres import fresh_database
from tests.web.clients import BEGUN, PLAIN, SILENT, STUCK_APPLY, STUCK_PLAN, Served, served


@pytest.fixture(scope="session")
def terraform_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fake Terraforms by version, for tests of what happens around one; the real one is on PATH."""
    directory = tmp_path_factory.mktemp("terraform")
    stuck = {"lines": [BEGUN], "sleep": "forever"}
    manners = {
        PLAIN: {},
        STUCK_PLAN: {"plan": stuck},
        STUCK_APPLY: {"apply": stuck},
        SILENT: {"version": {"sleep": "forever"}},
    }
    for version, commands in manners.items():
        scenario = {"version": version, "commands": commands, "ledger": str(directory / f"{version}.jsonl")}
        install(directory / version, scenario)
    return directory


@pytest.fixture(scope="session")
def api(postgres: str, tmp_path_factory: pytest.TempPathFactory, terraform_dir: Path) -> Iterator[Served]:
    terraform = TerraformSettings(directory=terraform_dir, download=False)
    with served(tmp_path_factory.mktemp("api") / "data", fresh_database(postgres), terraform=terraform) as server:
        yield server


@pytest.fixture(scope="module")
def workspace(api: Served) -> str:
    """A workspace with nothing in it."""
    return api.admin.workspace()
