"""What stands in deploy/ and in the documents is what the programs read and say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from iac.agent_settings import AgentSettings
from iac.settings import BadSettings, ServerSettings
from iac.web.ui.models.joining import recipes

ROOT = Path(__file__).resolve().parent.parent
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
NAME = re.compile(r"\bIAC_[A-Z0-9_]*[A-Z0-9]\b")
ELSEWHERE = frozenset({"IAC_URL", "IAC_TOKEN", "IAC_WORKSPACE", "IAC_TEST_THOROUGH"})
"""What the command line reads, and the tests."""


class Asked(dict[str, str]):
    """An environment that remembers what was looked for in it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, key: str, default: object = None) -> None:  # type: ignore[override]
        self.names.add(key)


def names_of(settings: type[AgentSettings | ServerSettings]) -> set[str]:
    """Every name that this program reads from its environment."""
    asked = Asked()
    with suppress(BadSettings):  # what is required is not there
        settings.from_env(asked)
    return asked.names


AGENT, SERVER = names_of(AgentSettings), names_of(ServerSettings)


def settings_in(text: str) -> set[str]:
    return set(NAME.findall(text))


def section(title: str) -> str:
    """A part of deploy/env.example, what is commented out included."""
    text = (ROOT / "deploy" / "env.example").read_text()
    return text.split(f"/{title}.env", 1)[1].split("\n# ----", 1)[0]


def test_the_programs_were_asked() -> None:
    assert {"IAC_API_ENDPOINT", "IAC_AGENT_TOKEN_FILE"} <= AGENT - SERVER
    assert {"IAC_BIND", "IAC_SECRET_KEY_FILE"} <= SERVER - AGENT


def test_the_example_has_only_settings_that_there_are() -> None:
    assert settings_in(section("agent")) <= AGENT
    assert settings_in(section("server")) <= SERVER
    assert {"IAC_API_ENDPOINT", "IAC_AGENT_NAME", "IAC_AGENT_TOKEN_FILE"} <= settings_in(section("agent"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_sets_only_what_its_program_reads(unit: Path) -> None:
    read = AGENT if "agent" in unit.name else SERVER
    assert settings_in(unit.read_text()) <= read
    assert f"-m iac.{'agent' if 'agent' in unit.name else 'server'}\n" in unit.read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_understands_the_units(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace("/opt/iac/.venv/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


def test_what_the_ui_tells_to_paste_has_only_settings_that_there_are() -> None:
    for endpoint in ("https://iac.example.com", "http://iac.lan"):
        codes = [step.code for recipe in recipes(endpoint, "token") for step in recipe.steps]
        assert {"IAC_API_ENDPOINT", "IAC_AGENT_TOKEN_FILE", "IAC_AGENT_NAME"} <= settings_in("\n".join(codes)) <= AGENT


@pytest.mark.parametrize("document", ["README.md", "docs/agents.md"])
def test_the_documents_have_only_settings_that_there_are(document: str) -> None:
    assert settings_in((ROOT / document).read_text()) <= AGENT | SERVER | ELSEWHERE


@pytest.mark.parametrize(("document", "names"), [("README.md", SERVER), ("docs/agents.md", AGENT)])
def test_the_documents_have_all_settings(document: str, names: set[str]) -> None:
    wanted = {name for name in names if not name.endswith("_FILE") or name.removesuffix("_FILE") not in names}
    assert wanted <= settings_in((ROOT / document).read_text())
