"""What Terraform is told, and what it must never see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from iac.domain.work import BundleVariable
from iac.executor import terraform
from iac.executor.workdir import Workdir
from tests.executor.workbench import Workbench, fake, real
from tests.fakes.memory_accessor import MemoryAccessor

SECRET = "pa55-word-of-the-task"
PLACE = Workdir(Path("/tasks/1-2"), "stacks/prod")


def variable(key: str, value: str, *, category: str = "terraform", hcl: bool = False) -> BundleVariable:
    return BundleVariable(
        key=key,
        value=value,
        category="environment" if category == "environment" else "terraform",
        hcl=hcl,
        sensitive=True,
    )


VARIABLES = (
    variable("password", SECRET),
    variable("list", f'["{SECRET}"]', hcl=True),
    variable("TOKEN", SECRET, category="environment"),
)


def test_the_environment_is_made_from_nothing() -> None:
    machine = {
        "PATH": "/bin", "HTTPS_PROXY": "http://proxy", "AWS_SECRET_ACCESS_KEY": "no", "HOME": "/root", "TF_LOG": "trace",
        "IAC_SECRET_KEY": "no", "LD_PRELOAD": "no", "TF_WORKSPACE": "no", "ALLOWED": "yes",
    }  # fmt: skip

    seen = terraform.environment(
        PLACE, terraform.machine_environment(machine, ["ALLOWED", "IAC_SECRET_KEY"]), VARIABLES
    )

    assert seen == {
        "PATH": "/bin", "HTTPS_PROXY": "http://proxy", "ALLOWED": "yes", "TOKEN": SECRET,
        "HOME": "/tasks/1-2/home", "TMPDIR": "/tasks/1-2/tmp", "TF_DATA_DIR": "/tasks/1-2/data",
        "TF_CLI_CONFIG_FILE": "/tasks/1-2/cli.tfrc", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["HOME", "TMPDIR", "TF_DATA_DIR", "TF_CLI_CONFIG_FILE", "TF_INPUT"])
def test_neither_the_machine_nor_a_variable_overrides_what_is_ours(name: str) -> None:
    own = terraform.environment(PLACE, {}, ())[name]

    assert (
        terraform.environment(PLACE, {name: "theirs"}, [variable(name, "theirs", category="environment")])[name] == own
    )


def test_a_machine_without_a_path_has_a_usual_one() -> None:
    assert "/usr/bin" in terraform.environment(PLACE, {}, ())["PATH"]


def test_the_path_of_the_state_is_relative_so_that_a_plan_can_move() -> None:
    assert terraform.relative_state(Workdir(Path("/a"))) == "../state/terraform.tfstate"
    assert terraform.relative_state(PLACE) == "../../../state/terraform.tfstate"
    assert (PLACE.cwd / terraform.relative_state(PLACE)).resolve() == PLACE.state


def record(kind: str, **config: object) -> bytes:
    return json.dumps({"version": 3, "backend": {"type": kind, "config": config, "hash": 1}}).encode()


@pytest.mark.parametrize(
    ("recorded", "problem"),
    [
        (record("local", path="../../../state/terraform.tfstate", workspace_dir=None), None),
        (record("local", path="terraform.tfstate"), "forces backend 'local'"),
        (record("local"), "forces backend 'local'"),
        (record("s3", path="../../../state/terraform.tfstate"), "forces backend 's3'"),
        (b'{"version": 3}', "no backend"),
        (b'{"backend": null}', "no backend"),
        (None, "no backend"),
        (b"{", "cannot be read"),
        (b'{"backend": {"type": 7}}', "cannot be read"),
    ],
)
def test_what_init_recorded_is_believed_only_if_it_is_ours(recorded: bytes | None, problem: str | None) -> None:
    told = terraform.backend_problem(recorded, PLACE)

    assert (told is None) if problem is None else (problem in (told or ""))


@pytest.mark.parametrize(
    ("action", "flag"), [("destroy", "-destroy"), ("refresh_only", "-refresh-only"), ("plan", None)]
)
def test_an_action_is_a_mode_of_plan(action: str, flag: str | None) -> None:
    accessor = MemoryAccessor(targets=("a.b", 'c["d e"]'), replace=("f.g",))
    bundle = accessor.bundles[accessor.create(action)]  # type: ignore[arg-type]

    arguments = terraform.plan(bundle, PLACE, [Path("/tasks/1-2/iac.tfvars")])

    modes = [argument for argument in arguments if argument in ("-destroy", "-refresh-only")]
    assert modes == ([flag] if flag else [])
    assert arguments[:1] == ["plan"]
    assert {"-input=false", "-detailed-exitcode", "-target=a.b", '-target=c["d e"]', "-replace=f.g"} < set(arguments)
    assert {"-out=/tasks/1-2/plan/tfplan", "-var-file=/tasks/1-2/iac.tfvars"} < set(arguments)


# The same, seen by Terraform and by everybody else on the machine


async def test_nothing_of_the_process_reaches_terraform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IAC_SECRET_KEY", "the-master-key")
    monkeypatch.setenv("SOME_RANDOM_THING", "of-the-process")
    provisioner = 'provisioner "local-exec" {\n    command = "env -0 > $OUT"\n  }'
    files = {"main.tf": f'resource "terraform_data" "a" {{\n  {provisioner}\n}}\n'}
    out = BundleVariable(key="OUT", value=str(tmp_path / "env"), category="environment", hcl=False, sensitive=False)
    accessor = MemoryAccessor(files, variables=(out,))
    bench = Workbench(
        tmp_path, accessor, environment={"ALLOWED": "yes", "IAC_SECRET_KEY": "k", "SOME_RANDOM_THING": "v"}
    )
    order = await bench.confirmed()

    await bench.run(order)

    seen = dict(entry.split("=", 1) for entry in (tmp_path / "env").read_text().split("\0") if "=" in entry)
    place = bench.place(order)
    assert (seen["HOME"], seen["TMPDIR"], seen["ALLOWED"]) == (str(place / "home"), str(place / "tmp"), "yes")
    assert not [name for name in seen if name.startswith("IAC_") or name == "SOME_RANDOM_THING"]
    assert set(seen) <= {
        "PATH", "LANG", "LC_ALL", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "ALLOWED", "OUT", "HOME", "TMPDIR", "TF_DATA_DIR", "TF_CLI_CONFIG_FILE",
        "TF_IN_AUTOMATION", "TF_INPUT", "CHECKPOINT_DISABLE", "PWD", "SHLVL", "OLDPWD", "_",
        "TF_PLUGIN_MAGIC_COOKIE", "TRACEPARENT",
    }  # fmt: skip


async def test_no_value_of_a_variable_ever_stands_on_a_command_line(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    accessor = MemoryAccessor(variables=VARIABLES)
    bench = fake(tmp_path, accessor, plan={"ready_file": str(ready), "sleep": "forever"})
    order = accessor.order()
    lines: list[bytes] = []

    def look() -> None:
        lines.extend(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())

    await bench.run_and_cancel(order, ready, before=look)

    assert any(str(bench.place(order)).encode() in line for line in lines), "it was looked at while it ran"
    assert not any(SECRET.encode() in line for line in lines)
    assert SECRET not in bench.ledger.read_text()


async def test_variables_arrive_as_they_are(tmp_path: Path) -> None:
    odd = 'quote " dollar ${x} percent %{ if } newline\nback\\slash'
    files = {
        "main.tf": 'variable "s" {}\nvariable "l" { type = list(number) }\n'
        'output "s" { value = var.s }\noutput "l" { value = var.l }\n'
    }
    bench = real(tmp_path, files, variables=(variable("s", odd), variable("l", "[1, 2 + 1]", hcl=True)))

    await bench.run(await bench.confirmed())

    assert bench.accessor.state is not None
    outputs = json.loads(bench.accessor.state.data)["outputs"]
    assert (outputs["s"]["value"], outputs["l"]["value"]) == (odd, [1, 3])


async def test_secrets_are_masked_in_the_log(tmp_path: Path) -> None:
    command = r"""printf %s "$TOKEN" | base64; echo "user=x&token=$TOKEN"; echo '["'$TOKEN'"]'; echo $TOKEN"""
    provisioner = f'provisioner "local-exec" {{\n    command = {json.dumps(command)}\n  }}'
    declared = 'variable "password" {}\nvariable "list" {}\n'
    files = {"main.tf": f'{declared}resource "terraform_data" "a" {{\n  {provisioner}\n}}\n'}
    bench = real(tmp_path, files, variables=VARIABLES)
    order = await bench.confirmed()

    with trio.fail_after(30):
        await bench.run(order)

    log = bench.log(order)
    said = [line.partition("(local-exec):\x1b[0m ")[2] for line in log.splitlines() if "(local-exec):\x1b[0m" in line]
    assert said[1:] == ["***", "user=x&token=***", "***", "***"]
    assert SECRET not in log
