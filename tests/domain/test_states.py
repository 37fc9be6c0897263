"""State files, read and renumbered."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.states import (
    MAX_SERIAL,
    Output,
    StateHeader,
    StateResource,
    inspect,
    is_empty,
    outputs,
    resources,
    with_serial,
)
from iac.errors import Invalid

LINEAGE = "9b1b1493-081b-4915-022d-a9b7983bdf37"

# As Terraform writes it, with numbers that do not survive a float.
STATE = b"""{
  "version": 4,
  "terraform_version": "1.11.4",
  "serial": 7,
  "lineage": "9b1b1493-081b-4915-022d-a9b7983bdf37",
  "outputs": {
    "port": {
      "value": 1.10,
      "type": "number"
    },
    "secret": {
      "value": ["a\\u003cb"],
      "type": ["tuple", ["string"]],
      "sensitive": true
    }
  },
  "resources": [
    {
      "mode": "managed",
      "type": "terraform_data",
      "name": "a",
      "provider": "provider[\\"terraform.io/builtin/terraform\\"]",
      "instances": [
        {"index_key": 0, "attributes": {"serial": 7, "n": 1e400, "m": 123456789012345678901234567890.5}},
        {"index_key": 1, "status": "tainted", "attributes": {}},
        {"index_key": 1, "deposed": "0a1b2c3d", "attributes": {}}
      ]
    },
    {
      "module": "module.m[\\"k\\"]",
      "mode": "data",
      "type": "terraform_remote_state",
      "name": "x",
      "provider": "provider[\\"terraform.io/builtin/terraform\\"]",
      "instances": [{"attributes": {}}]
    }
  ],
  "check_results": null
}
"""


def state(**changed: object) -> bytes:
    fields: dict[str, object] = {
        "version": 4,
        "terraform_version": "1.11.4",
        "serial": 1,
        "lineage": LINEAGE,
        **changed,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def test_the_header_says_what_the_state_is() -> None:
    assert inspect(STATE) == StateHeader(
        version=4,
        terraform_version="1.11.4",
        serial=7,
        lineage=LINEAGE,
        resource_count=2,
        output_names=("port", "secret"),
    )


def test_outputs_keep_their_json_as_it_stands() -> None:
    raw = msgspec.Raw
    assert outputs(STATE) == [
        Output(name="port", value=raw(b"1.10"), type=raw(b'"number"'), sensitive=False),
        Output(name="secret", value=raw(b'["a\\u003cb"]'), type=raw(b'["tuple", ["string"]]'), sensitive=True),
    ]


def test_resources_have_the_addresses_that_terraform_prints() -> None:
    provider = 'provider["terraform.io/builtin/terraform"]'
    assert resources(STATE) == [
        StateResource("terraform_data.a", "managed", "terraform_data", "a", "", provider, 3, True),
        StateResource(
            'module.m["k"].data.terraform_remote_state.x',
            "data",
            "terraform_remote_state",
            "x",
            'module.m["k"]',
            provider,
            1,
            False,
        ),
    ]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (STATE[: len(STATE) // 2], "ends in mid-document"),
        (STATE[:-2], "ends in mid-document"),
        (STATE + b"x", "not JSON"),
        (b"Error: no space left on device", "not JSON"),
        (b"\x00" * 100, "not JSON"),
        (b"\xef\xbb\xbf" + STATE, "not JSON"),
        (b'{"version": 4, "lineage": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not"),
        (b'{"version":4,"x":' + b"[" * 100_000, "not JSON"),
        (b"[]", "not of a state's shape"),
        (b'"state"', "not of a state's shape"),
        (b"{}", "format version is missing"),
        (state(version=3), "format version is 3"),
        (state(version=5), "format version is 5"),
        (state(version="4"), 'format version is "4"'),
        (state(version=...), "format version is missing"),
        (state(serial=...), "serial is missing"),
        (state(serial=-1), "serial is -1"),
        (state(serial=1.0), "serial is 1.0"),
        (state(serial="1"), 'serial is "1"'),
        (state(serial=None), "serial is null"),
        (state(serial=True), "serial is true"),
        (state(serial=MAX_SERIAL + 1), "serial is 4611686018427387905"),
        (state(serial=10**4000), "serial is 1000"),
        (state(lineage=""), "lineage is missing or empty"),
        (state(lineage=...), "lineage is missing or empty"),
        (state(lineage=7), "not of a state's shape"),
        (state(resources=[{"mode": "managed"}]), "not of a state's shape"),
        (state(outputs=[]), "not of a state's shape"),
    ],
)
def test_what_is_no_usable_state_is_refused_with_the_reason(data: bytes, says: str) -> None:
    with pytest.raises(Invalid, match="not a usable Terraform state") as refused:
        inspect(data)
    assert refused.value.code == "state_invalid"
    assert says in refused.value.message


def test_no_reader_takes_a_document_without_a_format_for_an_empty_state() -> None:
    for read in (is_empty, outputs, resources):
        with pytest.raises(Invalid):
            read(b"{}")


@pytest.mark.parametrize(
    ("fields", "empty"),
    [
        ({}, True),
        ({"outputs": {}, "resources": []}, True),
        ({"outputs": None, "resources": None}, True),
        ({"resources": [{"mode": "managed", "type": "t", "name": "n", "instances": []}]}, True),
        ({"outputs": {"o": {"value": 1, "type": "number"}}}, False),
        ({"resources": [{"mode": "managed", "type": "t", "name": "n", "instances": [{"deposed": "x"}]}]}, False),
        ({"resources": [{"mode": "data", "type": "t", "name": "n", "instances": [{}]}]}, False),
    ],
)
def test_a_state_is_empty_when_nothing_would_be_lost_with_it(fields: dict[str, Any], empty: bool) -> None:
    assert is_empty(state(**fields)) is empty


def test_a_new_serial_changes_its_own_digits_and_no_other_byte() -> None:
    assert with_serial(STATE, 1234) == STATE.replace(b'"serial": 7,\n  "lin', b'"serial": 1234,\n  "lin')
    assert with_serial(STATE, 7) == STATE


def test_a_state_with_a_key_twice_is_not_renumbered() -> None:
    for twice in (
        b'{"serial":1,"x":5,"serial":2}',
        b'{"serial":1,"serial":1}',
        b'{"x":1,"serial":1,"x":22}',
        b'{"serial":1,"x":{"serial":9},"x":5}',
    ):
        with pytest.raises(Invalid, match="a key twice"):
            with_serial(twice, 9)


@pytest.mark.parametrize("serial", [-1, MAX_SERIAL + 1])
def test_a_serial_out_of_range_is_not_written(serial: int) -> None:
    with pytest.raises(Invalid, match="between 0 and") as refused:
        with_serial(STATE, serial)
    assert refused.value.code == "serial_out_of_range"


def test_what_has_no_serial_is_not_renumbered() -> None:
    for data in (b"{}", b"[]", b"", STATE[:-3], b'{"serial": 1.0}'):
        with pytest.raises(Invalid, match="not a usable Terraform state"):
            with_serial(data, 2)


SPACE = st.sampled_from(["", " ", "\n\t", "\r\n  "])
SCALARS = st.sampled_from(
    ["1.10", "1e400", "-0", "12345678901234567890123456789", '"serial"', '"\\"serial\\":1"', '"\\u003c\\\\"', "null"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[ " + " ,".join(items) + "]")
        | st.lists(inner, max_size=3).map(
            lambda items: "{" + ",".join(f'"serial{i}":{v}' for i, v in enumerate(items)) + "}"
        )
    ),
    max_leaves=8,
)
NAMES = st.text(st.sampled_from('ab":,{}[]\\serial \n\u00e9'), max_size=8).filter(lambda name: name != "serial")


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A JSON object, spaced at random, in which SERIAL stands for the serial's digits."""
    fields = draw(st.dictionaries(NAMES, VALUES, max_size=6))
    names = draw(st.permutations([*fields, "serial"]))
    fields["serial"] = "SERIAL"
    spaced = [
        [draw(SPACE), json.dumps(name), draw(SPACE), ":", draw(SPACE), fields[name], draw(SPACE)] for name in names
    ]
    return draw(SPACE) + "{" + ",".join("".join(parts) for parts in spaced) + "}" + draw(SPACE)


@given(document=documents(), old=st.integers(0, MAX_SERIAL), new=st.integers(0, MAX_SERIAL))
def test_renumbering_keeps_whatever_stands_around_the_serial(document: str, old: int, new: int) -> None:
    renumbered = with_serial(document.replace("SERIAL", str(old)).encode(), new)
    assert renumbered.decode() == document.replace("SERIAL", str(new))
