"""The renderer against what the real Terraform says."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from iac.domain.redaction import Masker
from iac.domain.rendering import ChangeSummary, Diagnostic, Event, Outputs, Renderer, ResourceProgress

CONFIGURATION = """
variable "password" {
  type      = string
  sensitive = true
}
variable "exit_code" {
  type = number
}
resource "terraform_data" "first" {
  input = "one"
  provisioner "local-exec" {
    command = "echo hello from the first; printf '{\\"@level\\":\\"info\\"}\\\\n'"
  }
}
resource "terraform_data" "second" {
  input = terraform_data.first.output
  provisioner "local-exec" {
    command = "exit ${var.exit_code}"
  }
}
output "plain" {
  value = "<${terraform_data.second.output}>"
}
output "password" {
  value     = var.password
  sensitive = true
}
output "leaked" {
  value = nonsensitive(var.password)
}
"""
PASSWORD = 'pa"ss<word>&${1}'


def terraform(directory: Path, *arguments: str) -> tuple[int, bytes]:
    clean = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
        "TF_VAR_password": PASSWORD,
    }
    done = subprocess.run(
        ["terraform", *arguments], cwd=directory, env=clean, capture_output=True, timeout=120, check=False
    )
    assert done.stderr == b""
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("configuration")
    (made / "main.tf").write_text(CONFIGURATION)
    assert terraform(made, "init", "-input=false")[0] == 0
    return made


def apply(directory: Path, *, exit_code: int, destroy: bool = False) -> tuple[int, bytes]:
    """As a task does it: a saved plan in human form, then its apply as JSON, in one stream."""
    more = ["-destroy"] if destroy else []
    planned, plan = terraform(directory, "plan", "-input=false", "-out=plan", f"-var=exit_code={exit_code}", *more)
    assert planned == 0
    code, log = terraform(directory, "apply", "-json", "-input=false", "plan")
    return code, plan + log


def rendered(raw: bytes, seed: int) -> tuple[str, list[Event]]:
    """Rendered and masked in pieces of random sizes."""
    dice = random.Random(seed)  # noqa: S311 - a failure must be repeatable
    renderer, masker = Renderer(), Masker([PASSWORD])
    out: list[bytes] = []
    events: list[Event] = []
    at = 0
    while at < len(raw):
        size = dice.choice([1, 7, 100, 5000])
        text, more = renderer.feed(raw[at : at + size])
        out.append(masker.feed(text))
        events += more
        at += size
    text, more = renderer.finish()
    whole = b"".join([*out, masker.feed(text), masker.finish()]).decode()
    return re.sub("\x1b\\[[0-9;]*m", "", whole), events + more


@pytest.mark.parametrize("seed", range(5))
def test_an_apply_and_a_destroy_read_like_terraforms_own_words(directory: Path, seed: int) -> None:
    code, raw = apply(directory, exit_code=0)
    text, events = rendered(raw, seed)
    assert code == 0
    assert "Terraform will perform the following actions:" in text
    for said in (
        "\nterraform_data.first: Creating...\n",
        "\nterraform_data.first: Provisioning with 'local-exec'...\n",
        "\nterraform_data.first (local-exec): hello from the first\n",
        '\nterraform_data.first (local-exec): {"@level":"info"}\n',
        "\nApply complete! Resources: 2 added, 0 changed, 0 destroyed.\n",
        '\nOutputs:\n\nleaked = "***"\npassword = (sensitive value)\nplain = "<one>"\n',
    ):
        assert said in text
    assert '"@message"' not in text
    assert "word>" not in text
    resources = [event for event in events if isinstance(event, ResourceProgress)]
    assert [(event.address, event.action, event.status) for event in resources] == [
        ("terraform_data.first", "create", "started"),
        ("terraform_data.first", "create", "complete"),
        ("terraform_data.second", "create", "started"),
        ("terraform_data.second", "create", "complete"),
    ]
    assert resources[1].id
    assert events[4:] == [
        ChangeSummary(add=2, change=0, remove=0, import_=0, operation="apply"),
        Outputs(("leaked", "password", "plain")),
    ]
    assert rendered(raw, seed + 100) == (text, events)

    code, raw = apply(directory, exit_code=0, destroy=True)
    text, events = rendered(raw, seed)
    assert code == 0
    # A saved plan is applied, whatever it plans: Terraform says "destroy" only when `destroy` itself is run.
    assert text.endswith("\nApply complete! Resources: 0 added, 0 changed, 2 destroyed.\n")
    assert events[-2:] == [ChangeSummary(add=0, change=0, remove=2, import_=0, operation="apply"), Outputs(())]


def test_a_failed_apply_shows_where_and_why(directory: Path) -> None:
    code, raw = apply(directory, exit_code=7)
    text, events = rendered(raw, seed=1)
    assert code == 1
    assert "\nterraform_data.second: Creation errored after" in text
    box = text[text.index("╷") :].splitlines()
    assert box[:4] == [
        "╷",
        "│ Error: local-exec provisioner error",
        "│ ",
        "│   with terraform_data.second,",
    ]
    assert re.fullmatch(r'│   on main\.tf line \d+, in resource "terraform_data" "second":', box[4])
    assert box[5].endswith('provisioner "local-exec" {')
    assert box[6].index("^") == box[5].index("{")
    assert any("exit status 7" in shown for shown in box)
    assert box[-1] == "╵"
    assert Diagnostic("error", "local-exec provisioner error", "terraform_data.second") in events
    failed = [event.address for event in events if isinstance(event, ResourceProgress) and event.status == "errored"]
    assert failed == ["terraform_data.second"]
    assert not any(isinstance(event, Outputs) for event in events)
    apply(directory, exit_code=0, destroy=True)
