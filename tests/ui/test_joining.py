"""The commands that an admin pastes: the token is on no command line, and what the shell makes of them is what was meant."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from iac.web.ui.models.joining import recipes, warning

TOKEN = "iacp_" + "T" * 43
HERE = Path(__file__).parents[2]
HTTPS = "https://iac.example.com:8443"
ODD = "https://ev'il$(touch x)\"`.example.com"
ALL = [recipe for endpoint in (HTTPS, ODD, "http://iac.lan") for recipe in recipes(endpoint, TOKEN)]


def without_input(code: str) -> str:
    """The command lines alone, without what they are given on their standard input."""
    return re.sub(r"<<'EOF'\n.*?\nEOF", "", code, flags=re.S)


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.id)
def test_the_token_is_on_no_command_line_and_in_no_address(recipe: object) -> None:
    codes = [step.code for step in recipe.steps]  # type: ignore[attr-defined]
    assert not [code for code in codes if TOKEN in without_input(code)]
    assert sum(TOKEN in code for code in codes) == 1


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.id)
def test_every_command_is_one_that_a_shell_can_read(recipe: object) -> None:
    for step in recipe.steps:  # type: ignore[attr-defined]
        checked = subprocess.run(["bash", "-n"], input=step.code, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), step.code


def steps(name: str, endpoint: str = HTTPS) -> list[str]:
    found = next(recipe for recipe in recipes(endpoint, TOKEN) if recipe.id == name)
    return [step.code for step in found.steps]


def run(code: str, place: Path) -> None:
    subprocess.run(["bash", "-euc", code], cwd=place, check=True)


def test_the_token_comes_into_a_file_that_nobody_else_reads(tmp_path: Path) -> None:
    run(steps("host")[0], tmp_path)
    made = tmp_path / "agent-token"
    assert (made.read_text(), made.stat().st_mode & 0o777) == (f"{TOKEN}\n", 0o600)


@pytest.mark.parametrize("endpoint", [HTTPS, ODD])
def test_what_systemd_reads_is_written_as_it_is_meant(tmp_path: Path, endpoint: str) -> None:
    keep, settings = steps("systemd", endpoint)[1:3]
    for code in (keep, settings):
        here = code.replace("/etc/iac", str(tmp_path))
        for foreign in ("sudo ", "-g iac-agent ", "-o iac-agent "):
            here = here.replace(foreign, "")
        run(here, tmp_path)
    token, environment = tmp_path / "agent-token", tmp_path / "agent.env"
    assert (token.read_text(), token.stat().st_mode & 0o777) == (f"{TOKEN}\n", 0o400)
    lines = environment.read_text().splitlines()
    assert lines[0] == f"IAC_API_ENDPOINT={endpoint}"
    assert [line.partition("=")[0] for line in lines[1:]] == ["IAC_AGENT_NAME", "IAC_AGENT_TOKEN_FILE"]
    assert not (tmp_path / "x").exists()


def test_what_the_commands_take_from_the_repository_is_there() -> None:
    named = {path for recipe in ALL for step in recipe.steps for path in re.findall(r"deploy/[\w./-]+\w", step.code)}
    assert named == {"deploy/systemd/iac-agent.service", "deploy/docker/agent.Dockerfile"}
    assert all((HERE / path).is_file() for path in named)


def test_a_pool_for_kubernetes_has_its_recipe_first() -> None:
    assert recipes(HTTPS, TOKEN, kubernetes_first=True)[0].id == "kubernetes"
    assert "terminationGracePeriodSeconds: 360" in steps("kubernetes")[2]
    assert f'name: IAC_API_ENDPOINT, value: "{HTTPS}"' in steps("kubernetes")[2]


@pytest.mark.parametrize("endpoint", [HTTPS, ODD])
def test_what_kubernetes_is_given_names_the_image_the_secret_and_the_volume_of_the_other_steps(
    tmp_path: Path, endpoint: str
) -> None:
    build, secret, start = steps("kubernetes", endpoint)
    (tmp_path / "kubectl").write_text("#!/bin/sh\ncat > applied.yaml\n")
    (tmp_path / "kubectl").chmod(0o755)
    run(f"PATH={tmp_path}:$PATH; {build.splitlines()[0]}\n{start}", tmp_path)
    applied = (tmp_path / "applied.yaml").read_text()
    assert "image: registry.example.com/iac-agent\n" in applied
    assert 'docker push "$IMAGE"' in build
    assert "secret generic iac-agent --from-file=token=" in secret
    assert "secret: { secretName: iac-agent" in applied
    assert "IAC_AGENT_TOKEN_FILE, value: /run/iac/token" in applied
    assert "{ name: token, mountPath: /run/iac, readOnly: true }" in applied
    found = re.search(r"IAC_API_ENDPOINT, value: (\".*\") \}", applied)
    assert found is not None
    assert json.loads(found[1]) == endpoint
    image = (HERE / "deploy" / "docker" / "agent.Dockerfile").read_text()
    assert "VOLUME /var/lib/iac-agent\n" in image
    assert "{ name: data, mountPath: /var/lib/iac-agent }" in applied
    assert "USER 1000\n" in image
    assert "fsGroup: 1000" in applied


@pytest.mark.parametrize(
    ("endpoint", "allowed", "warned"),
    [
        (HTTPS, False, False),
        ("http://iac.lan:8080", True, True),
        ("http://127.0.0.1:8080", False, True),
        ("http://[::1]", False, True),
    ],
)
def test_plain_http_has_to_be_wanted(endpoint: str, allowed: bool, warned: bool) -> None:
    assert ("IAC_ALLOW_HTTP=1" in steps("host", endpoint)[2]) == allowed
    assert bool(warning(endpoint)) == warned
