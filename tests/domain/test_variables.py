"""Names and values: what is refused, and why."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iac.domain.records import Category
from iac.domain.variables import (
    RESERVED,
    VALUE_BYTES,
    check_expression,
    check_name,
    check_value,
    is_identifier,
    tfvars_hcl,
    tfvars_json,
)
from iac.errors import Invalid, TooLarge
from tests.harness.thoroughness import examples


@pytest.mark.parametrize("key", ["region", "_x", "a-b", "x2", "größe", "名前", "var", "connection", "terraform"])
def test_a_terraform_identifier_is_a_name(key: str) -> None:
    check_name("terraform", key)


@pytest.mark.parametrize("key", ["", "-x", "1x", "a b", "a.b", "a\n", "a=1", "x$", "\u0560"])
def test_what_hcl_would_not_read_as_an_identifier_is_no_name(key: str) -> None:
    with pytest.raises(Invalid, match="not a Terraform identifier"):
        check_name("terraform", key)


@pytest.mark.parametrize("key", sorted(RESERVED))
def test_a_reserved_name_is_refused(key: str) -> None:
    with pytest.raises(Invalid, match="reserved by Terraform"):
        check_name("terraform", key)


def test_a_decomposed_name_is_refused() -> None:
    with pytest.raises(Invalid, match="normal form C"):
        check_name("terraform", "e\u0301")


@pytest.mark.parametrize("category", ["terraform", "environment"])
def test_an_endless_name_is_refused(category: Category) -> None:
    with pytest.raises(Invalid, match="longer than 256"):
        check_name(category, "a" * 257)


@pytest.mark.parametrize("key", ["AWS_REGION", "_x", "x1", "TF_LOG", "iac_x", "PATHS", "MY_IAC_TOKEN"])
def test_an_ordinary_environment_name_is_accepted(key: str) -> None:
    check_name("environment", key)


@pytest.mark.parametrize("key", ["", "1A", "A-B", "A B", "A=B", "A\n", "A\0", "É"])
def test_what_a_shell_could_not_name_is_refused(key: str) -> None:
    with pytest.raises(Invalid, match="letters, digits and _"):
        check_name("environment", key)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("IAC_SECRET_KEY", "belong to the platform"),
        ("TF_CLI_ARGS", "change the commands"),
        ("TF_CLI_ARGS_plan", "change the commands"),
        ("TF_VAR_region", "category terraform"),
        ("TF_DATA_DIR", "sets it for each task"),
        ("TF_CLI_CONFIG_FILE", "sets it for each task"),
        ("TF_INPUT", "sets it for each task"),
        ("TF_IN_AUTOMATION", "sets it for each task"),
        ("TF_WORKSPACE", "exactly one state"),
        ("TF_LOG_PATH", "task's log"),
        ("PATH", "sets it for each task"),
        ("HOME", "sets it for each task"),
        ("TMPDIR", "sets it for each task"),
        ("LD_PRELOAD", "is loaded"),
        ("LD_LIBRARY_PATH", "is loaded"),
    ],
)
def test_an_environment_name_that_would_bend_the_platform_is_refused_with_the_reason(key: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        check_name("environment", key)


def test_an_environment_value_has_no_nul_but_a_terraform_value_may() -> None:
    check_value("terraform", "a\0b", hcl=False)
    with pytest.raises(Invalid, match="NUL"):
        check_value("environment", "a\0b", hcl=False)


def test_half_a_surrogate_pair_is_refused_everywhere() -> None:
    for category in ("terraform", "environment"):
        with pytest.raises(Invalid, match="surrogate"):
            check_value(category, "\ud800", hcl=False)
    with pytest.raises(Invalid, match="surrogate"):
        tfvars_json({"a": "\ud800"})
    with pytest.raises(Invalid, match="surrogate"):
        tfvars_hcl({"a": '"\ud800"'})


def test_a_value_is_measured_in_bytes() -> None:
    check_value("terraform", "é" * (VALUE_BYTES // 2), hcl=False)
    with pytest.raises(TooLarge, match="65538 bytes"):
        check_value("terraform", "é" * (VALUE_BYTES // 2 + 1), hcl=False)


def test_the_environment_has_no_hcl() -> None:
    with pytest.raises(Invalid, match="plain text"):
        check_value("environment", "1", hcl=True)


EXPRESSIONS = [
    "1",
    "null",
    '"a"',
    '"a \\" b"',
    '"${"x"}"',
    '"$${x} %%{y} $$ $ %"',
    '"$$${1"',
    '"\\\\"',
    "[1, 2]",
    '{ a = 1, "b" : [{}] }',
    "{\n  a = 1\n  b = 2\n}",
    "[for x in [1] : x]",
    "{for k, v in {a = 1} : k => v}",
    "1 == 1 ? true : false",
    "1 # one )",
    "1 // one ]",
    "/* ( */ 1",
    "<<EOT\na ) ${1 + 1} $${\nEOT",
    "<<-EOT\n  a\n  EOT\n",
    "[<<A\n]\nA\n, 2]",
    '"${<<A\n"}\nA\n}"',
    "<<A\r\nx\r\nA\r\n",
    "<<A\n%{ if true ~}\nA \n%{ endif }\nA",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_one_expression_is_accepted(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" # nothing\n", "empty"),
        ("1)\nother = (2", r"\) closes nothing"),
        ("}", "} closes nothing"),
        ("[1", r"\[ is not closed"),
        ("(1]", r"\] closes nothing"),
        ('"a', "is not closed"),
        ('"a\nb"', "ends on its own line"),
        ('"a\\\nb"', "ends on its own line"),
        ('"${"', "is not closed"),
        ('"${ 1 # }"', "is not closed"),
        ("/* 1", "comment is not closed"),
        ("<<EOT\nfoo", "<<EOT is not closed"),
        ("<<EOT\nfoo EOT", "<<EOT is not closed"),
        ("<<EOT\n${1}EOT", "<<EOT is not closed"),
        ("<<EOT \nfoo\nEOT", "a here document starts"),
        ("1 << 2", "a here document starts"),
        ("a = 1", "without a name"),
        ("1, 2", "one value"),
        ("'a'", "double quotes"),
        ("1;2", "not part of the language"),
    ],
)
def test_what_is_not_one_expression_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        check_expression(text)


@pytest.mark.parametrize("text", ["1\r2", '"\0"', "<<A\n\x0b\nA", '"\x1b"'])
def test_control_characters_are_refused_in_an_expression(text: str) -> None:
    with pytest.raises(Invalid, match="control characters"):
        check_expression(text)


def test_a_refusal_names_the_line_and_the_variable() -> None:
    with pytest.raises(Invalid, match="line 3") as refusal:
        tfvars_hcl({"zone": "[\n1,\n'a']"})
    assert refusal.value.extras["path"] == "zone"


def test_the_files_refuse_a_name_that_would_be_something_else() -> None:
    for make in (tfvars_json, tfvars_hcl):
        with pytest.raises(Invalid, match="not a Terraform identifier"):
            make({"a = 1\nb": "1"})


def test_the_files_do_not_depend_on_the_order_of_the_variables() -> None:
    for make in (tfvars_json, tfvars_hcl):
        assert make({"b": "2", "a": "1"}) == make({"a": "1", "b": "2"})


@given(st.dictionaries(st.text().filter(is_identifier), st.text(st.characters(exclude_categories=["Cs"]))))
def test_the_json_file_says_exactly_the_strings(values: dict[str, str]) -> None:
    values = {key: value for key, value in values.items() if accepts_name(key)}
    assert json.loads(tfvars_json(values)) == values


@settings(max_examples=examples(300))
@given(st.text(alphabet='"\\${}%()[]\n#/*<-EO=,1 '))
def test_any_text_is_either_refused_or_accepted(text: str) -> None:
    try:
        check_expression(text)
    except Invalid as refusal:
        assert refusal.message.endswith(".")  # noqa: PT017  (most are refused, for many reasons)


def accepts_name(key: str) -> bool:
    try:
        check_name("terraform", key)
    except Invalid:
        return False
    return True
