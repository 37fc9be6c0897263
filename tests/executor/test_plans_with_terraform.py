"""What the real Terraform says about its plans, against what we read out of them.

The oracle for the counts is Terraform's own `change_summary`; for the exit code rule, its -detailed-exitcode.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from iac.domain.plan_masking import SENSITIVE, masked
from iac.domain.plans import PlanSummary, ResourceChange, changes, has_changes, summarise
from iac.domain.state_verdicts import Current, Push, judge, rollback
from iac.domain.states import inspect, is_empty, outputs, resources, with_serial
from iac.errors import Invalid


class Workspace:
    """A directory with one configuration after the other, planned and applied by the real Terraform."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
        }
        self._terraform = shutil.which("terraform") or "terraform"
        self._initialised = False
        self.plan_json = b""
        self.exit_code = -1
        self.told: dict[str, int] = {}

    @property
    def state(self) -> bytes:
        return (self._directory / "terraform.tfstate").read_bytes()

    @state.setter
    def state(self, data: bytes) -> None:
        (self._directory / "terraform.tfstate").write_bytes(data)

    def run(self, *argv: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._terraform, *argv], cwd=self._directory, env=self._env, capture_output=True, check=False
        )

    def plan(self, configuration: str, *options: str) -> PlanSummary:
        (self._directory / "plan").unlink(missing_ok=True)
        (self._directory / "main.tf").write_text(configuration)
        if not self._initialised:
            assert self.run("init", "-input=false").returncode == 0
            self._initialised = True
        ran = self.run("plan", "-input=false", "-json", "-detailed-exitcode", "-out=plan", *options)
        self.exit_code = ran.returncode
        messages = [json.loads(line) for line in ran.stdout.splitlines()]
        self.told = next((each["changes"] for each in messages if each["type"] == "change_summary"), {})
        self.plan_json = self.run("show", "-json", "plan").stdout
        return summarise(self.plan_json)

    def apply(self, configuration: str, *options: str) -> None:
        self.plan(configuration, *options)
        ran = self.run("apply", "-input=false", "plan")
        assert ran.returncode == 0, ran.stderr

    def check(self, summary: PlanSummary, *, changed: bool) -> None:
        """That the counts are Terraform's own, and that the rule about changes agrees with its exit code."""
        counted = {"add": summary.add, "change": summary.change, "import": summary.import_, "remove": summary.destroy}
        assert counted == {name: self.told[name] for name in counted}
        assert self.exit_code == (2 if changed else 0)
        assert has_changes(summary, self.exit_code) is changed
        assert summary.acts is changed, "the JSON alone should tell as well"

    def change(self, address: str) -> ResourceChange:
        (found,) = [change for change in changes(self.plan_json) if change.address == address]
        return found


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


ONE = 'resource "terraform_data" "a" { input = "one" }'
TWO = 'resource "terraform_data" "a" { input = "two" }'


def test_create_update_no_change_and_destroy(workspace: Workspace) -> None:
    created = workspace.plan(ONE)
    workspace.check(created, changed=True)
    assert created.add == 1
    assert (created.format_version, created.complete, created.errored, created.applyable) == ("1.2", True, False, True)
    assert created.terraform_version
    change = workspace.change("terraform_data.a")
    assert (change.action, change.before, change.after) == (
        "create",
        msgspec.Raw(b"null"),
        msgspec.Raw(b'{"input":"one","triggers_replace":null}'),
    )
    assert change.provider == "terraform.io/builtin/terraform"
    workspace.apply(ONE)

    unchanged = workspace.plan(ONE)
    workspace.check(unchanged, changed=False)
    assert workspace.change("terraform_data.a").action == "no-op"

    updated = workspace.plan(TWO)
    workspace.check(updated, changed=True)
    assert updated.change == 1
    assert workspace.change("terraform_data.a").action == "update"

    destroyed = workspace.plan(ONE, "-destroy")
    workspace.check(destroyed, changed=True)
    assert destroyed.destroy == 1
    assert workspace.change("terraform_data.a").action == "delete"


def test_a_replacement_is_one_to_add_and_one_to_destroy(workspace: Workspace) -> None:
    trigger = 'resource "terraform_data" "a" {{ triggers_replace = "{}" }}'
    workspace.apply(trigger.format("one"))
    replaced = workspace.plan(trigger.format("two"))
    workspace.check(replaced, changed=True)
    assert (replaced.add, replaced.destroy, replaced.replace) == (1, 1, 1)
    change = workspace.change("terraform_data.a")
    assert (change.action, change.reason) == ("replace", "replace_because_cannot_update")


def test_a_move_alone_is_a_change_though_nothing_is_added(workspace: Workspace) -> None:
    workspace.apply(ONE)
    configuration = """
        resource "terraform_data" "b" { input = "one" }
        moved {
          from = terraform_data.a
          to   = terraform_data.b
        }
    """
    moved = workspace.plan(configuration)
    workspace.check(moved, changed=True)
    assert (moved.move, moved.add, moved.change, moved.destroy) == (1, 0, 0, 0)
    change = workspace.change("terraform_data.b")
    assert (change.action, change.previous_address) == ("no-op", "terraform_data.a")

    workspace.check(workspace.plan(configuration, "-refresh-only"), changed=False)


def test_an_import_and_a_removal_without_destruction_are_changes(workspace: Workspace) -> None:
    workspace.apply(ONE)
    summary = workspace.plan(
        """
        resource "terraform_data" "x" {}
        import {
          to = terraform_data.x
          id = "some-id"
        }
        removed {
          from = terraform_data.a
          lifecycle { destroy = false }
        }
        """
    )
    workspace.check(summary, changed=True)
    assert (summary.import_, summary.forget, summary.destroy) == (1, 1, 0)
    imported, forgotten = workspace.change("terraform_data.x"), workspace.change("terraform_data.a")
    assert (imported.action, imported.importing_id) == ("import", "some-id")
    assert forgotten.action == "forget"


def test_outputs_alone_are_a_change_also_for_a_refresh(workspace: Workspace) -> None:
    workspace.apply(ONE)
    configuration = ONE + '\noutput "o" { value = "x" }'
    for options in ([], ["-refresh-only"]):
        summary = workspace.plan(configuration, *options)
        workspace.check(summary, changed=True)
        assert (summary.outputs_changed, summary.add, summary.change) == (1, 0, 0)
    workspace.apply(configuration)
    workspace.check(workspace.plan(configuration, "-refresh-only"), changed=False)


def test_a_data_source_that_is_read_during_the_apply_is_counted_apart(workspace: Workspace) -> None:
    summary = workspace.plan(
        """
        resource "terraform_data" "a" { input = "other.tfstate" }
        data "terraform_remote_state" "d" {
          backend = "local"
          config  = { path = terraform_data.a.output }
        }
        """
    )
    workspace.check(summary, changed=True)
    assert (summary.add, summary.read) == (1, 1)
    assert workspace.change("data.terraform_remote_state.d").action == "read"


def test_a_plan_that_fails_has_no_answer(workspace: Workspace) -> None:
    # The trap: Terraform writes a plan file all the same, and its JSON lists what it had come to so far.
    failed = workspace.plan(
        """
        variable "v" { default = 1 }
        resource "terraform_data" "a" {
          lifecycle {
            precondition {
              condition     = var.v == 2
              error_message = "never"
            }
          }
        }
        """
    )
    assert workspace.exit_code == 1
    assert (failed.errored, failed.applyable, failed.complete) == (True, False, False)
    for exit_code in (0, 1, 2):
        with pytest.raises(Invalid, match=f"exit code {exit_code}"):
            has_changes(failed, exit_code)


def test_a_configuration_that_cannot_be_read_leaves_no_plan(workspace: Workspace) -> None:
    workspace.apply(ONE)
    with pytest.raises(Invalid, match="not plan JSON"):
        workspace.plan(ONE + "}")
    assert workspace.exit_code == 1


def test_the_json_of_a_state_is_not_taken_for_a_plan(workspace: Workspace) -> None:
    workspace.apply(ONE)
    with pytest.raises(Invalid, match="planned_values"):
        summarise(workspace.run("show", "-json").stdout)


CANARIES = (
    "canary-given",
    "canary-default",
    "canary-literal",
    "canary-list",
    "canary-remote",
    "canary-module",
    "canary-constant",
)
SECRETS = """
variable "given" { sensitive = true }
variable "default" {
  sensitive = true
  default   = { a = "canary-default", n = 1.10, l = ["canary-list"] }
}
variable "open" { default = 123456789012345678901234567890.5 }
resource "terraform_data" "a" {
  input            = { s = var.given, open = "shown", n = var.open, l = [1.10, var.given], "k<" = "a<b" }
  triggers_replace = [var.default.a, "trigger"]
}
resource "terraform_data" "b" { input = sensitive({ k = "canary-literal" }) }
data "terraform_remote_state" "r" {
  backend = "local"
  config  = { path = "${path.module}/other.tfstate" }
}
module "m" {
  source = "./m"
  pw     = var.given
  fixed  = "canary-module"
}
output "s" {
  value     = terraform_data.a.output
  sensitive = true
}
output "c" {
  value     = "canary-constant"
  sensitive = true
}
output "r" {
  value     = data.terraform_remote_state.r.outputs
  sensitive = true
}
output "shown" { value = "shown" }
"""
MODULE = """
variable "pw" { sensitive = true }
variable "fixed" { sensitive = true }
resource "terraform_data" "in" { input = { pw = var.pw, fixed = var.fixed, k = "shown" } }
"""
OTHER_STATE = {
    "version": 4,
    "serial": 1,
    "lineage": "other",
    "outputs": {"pw": {"value": "canary-remote", "type": "string", "sensitive": True}},
    "resources": [],
}


@pytest.fixture
def secretive(tmp_path: Path) -> Workspace:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "main.tf").write_text(MODULE)
    (tmp_path / "other.tfstate").write_text(json.dumps(OTHER_STATE))
    return Workspace(tmp_path)


def test_no_secret_is_left_in_any_masked_plan(secretive: Workspace) -> None:
    given = "-var=given=canary-given"
    plans = []
    secretive.plan(SECRETS, given)
    plans.append(secretive.plan_json)
    secretive.apply(SECRETS, given)
    for options in ([given], ["-var=given=canary-changed"], [given, "-destroy"], [given, "-refresh-only"]):
        secretive.plan(SECRETS, *options)
        plans.append(secretive.plan_json)
    for plan in plans:
        assert b"canary" in plan
        shown = masked(plan)
        assert [canary for canary in CANARIES if canary.encode() in shown] == []
        assert b"canary" not in shown
        assert all(text in shown for text in (b'"shown"', b"1.1", b"123456789012345678901234567890.5", b"\\u003c"))
        assert summarise(shown) == summarise(plan)
        assert b"canary" not in msgspec.json.encode(changes(plan))


def test_a_value_that_becomes_sensitive_is_hidden_in_what_it_was(workspace: Workspace) -> None:
    configuration = """
        variable "v" {{ sensitive = {} }}
        resource "terraform_data" "a" {{ input = var.v }}
    """
    workspace.apply(configuration.format("false"), "-var=v=canary-old")
    summary = workspace.plan(configuration.format("true"), "-var=v=canary-old")
    workspace.check(summary, changed=True)
    assert summary.change == 1
    assert b"canary" not in masked(workspace.plan_json)
    before = json.loads(bytes(workspace.change("terraform_data.a").before))
    assert (before["input"], before["output"]) == (SENSITIVE, SENSITIVE)


def test_a_real_state_is_read_and_renumbered(secretive: Workspace) -> None:
    secretive.apply(SECRETS, "-var=given=canary-given")
    header = inspect(secretive.state)
    assert header.resource_count == 3
    assert set(header.output_names) == {"s", "c", "r", "shown"}
    assert {resource.address for resource in resources(secretive.state)} == {
        "terraform_data.a",
        "terraform_data.b",
        "data.terraform_remote_state.r",
        "module.m.terraform_data.in",
    }
    shown = {output.name: (bytes(output.value), output.sensitive) for output in outputs(secretive.state)}
    assert shown["shown"] == (b'"shown"', False)
    assert shown["c"] == (b'"canary-constant"', True)
    assert with_serial(secretive.state, header.serial) == secretive.state
    assert not is_empty(secretive.state)


def test_terraform_goes_on_from_a_rolled_back_state(workspace: Workspace) -> None:
    workspace.apply(ONE)
    old = workspace.state
    workspace.apply(TWO)
    now = inspect(workspace.state)
    current = Current(now.serial, now.lineage, sha256(workspace.state).hexdigest())
    workspace.state = rollback(current, old)
    assert inspect(workspace.state).serial == now.serial + 1

    workspace.check(workspace.plan(TWO), changed=True)
    workspace.apply(TWO)
    push = Push(
        task_fence=1, assignment_fence=1, sha256=sha256(workspace.state).hexdigest(), header=inspect(workspace.state)
    )
    rolled_back = Current(now.serial + 1, now.lineage, sha256(rollback(current, old)).hexdigest())
    assert judge(rolled_back, push).outcome == "current"

    workspace.apply(TWO, "-destroy")
    assert is_empty(workspace.state)
