"""States as pages read them: every object is found, no secret is shown or found, and two states are compared whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.errors import Invalid, NotFound
from iac.web.ui.models.state_difference import StateDifference, changed_object, state_difference
from iac.web.ui.models.state_document import Secrets, StateDocument, read_state
from iac.web.ui.models.state_tree import (
    MOST_FOUND,
    SHOWN,
    StateTree,
    TreeQuery,
    attribute_lines,
    one_object,
    state_tree,
)
from tests.executor.test_plans_with_terraform import Workspace
from tests.ui.test_differences import drawn

NONE = Secrets(())


def instance(attributes: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"schema_version": 0, "attributes": attributes or {}, **fields}


def block(address: str, *instances: dict[str, Any], module: str = "", mode: str = "managed") -> dict[str, Any]:
    kind, name = address.split(".")
    where = {"module": module} if module else {}
    provider = 'provider["registry.terraform.io/hashicorp/aws"]'
    return {**where, "mode": mode, "type": kind, "name": name, "provider": provider, "instances": list(instances)}


def state(*resources: dict[str, Any], serial: int = 3, lineage: str = "l-1", outputs: Any = None) -> StateDocument:
    made = {"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": lineage}
    return read_state(json.dumps({**made, "outputs": outputs or {}, "resources": resources}).encode())


def tree(document: StateDocument, secrets: Secrets = NONE, **query: str) -> StateTree:
    return state_tree(document, secrets, msgspec.convert(query, TreeQuery), base="/s", parts="/s/objects")


def addresses(shown: StateTree) -> list[str]:
    return [leaf.address for module in shown.modules for branch in module.branches for leaf in branch.leaves]


def compared(before: StateDocument, after: StateDocument, secrets: Secrets = NONE) -> StateDifference:
    return state_difference(before, after, secrets, parts="/d")


WHOLE = state(
    block("aws_vpc.main", instance({"id": "vpc-1", "tags": {"team": "net"}})),
    block("aws_subnet.s", instance({"cidr": "10.0.1.0/24"}, index_key=0), instance({}, index_key=1, status="tainted")),
    block("aws_key.k", instance({}, index_key='a"b', deposed="0a1b"), module='module.m["x"]'),
    block("aws_ami.newest", instance({"id": "ami-1"}), mode="data"),
    outputs={"url": {"value": "http://x", "type": "string"}},
)


def test_a_tree_has_modules_resources_and_instances() -> None:
    shown = tree(WHOLE)
    assert [(module.name, module.total) for module in shown.modules] == [("", 4), ('module.m["x"]', 1)]
    vpc, subnets, ami = shown.modules[0].branches
    assert (vpc.single, vpc.name, vpc.provider, vpc.leaves[0].label) == (
        True,
        "aws_vpc.main",
        "hashicorp/aws",
        "aws_vpc.main",
    )
    assert [(leaf.label, leaf.notes) for leaf in subnets.leaves] == [("[0]", ()), ("[1]", ("tainted",))]
    assert (ami.data, ami.name) == (True, "data.aws_ami.newest")
    (deposed,) = shown.modules[1].branches[0].leaves
    assert (deposed.address, deposed.notes) == ('module.m["x"].aws_key.k["a\\"b"]', ("deposed 0a1b",))
    assert drawn(vpc.leaves[0].lines or ()) == ['  id = "vpc-1"', "  tags = {", '    team = "net"', "  }"]
    assert drawn(shown.outputs) == ['  url = "http://x"']


def test_words_are_found_in_addresses_and_in_attributes() -> None:
    assert addresses(tree(WHOLE, q="SUBNET [1]")) == ["aws_subnet.s[1]"]
    by_value = tree(WHOLE, q="10.0.1")
    assert addresses(by_value) == ["aws_subnet.s[0]"]
    assert drawn(by_value.modules[0].branches[0].leaves[0].hits) == ['  cidr = "10.0.1.0/24"']
    assert addresses(tree(WHOLE, q="vpc team")) == ["aws_vpc.main"]
    assert addresses(tree(WHOLE, q="nowhere")) == []


SECRETIVE = state(
    block(
        "db.a",
        instance(
            {"pw": "canary-marked", "copy": "canary-marked", "user": "bob", "master_password": "canary-named", "n": 1234567,
             "url": "x://canary-variable@h", "list": ["canary-item", "shown"]},
            sensitive_attributes=[
                [{"type": "get_attr", "value": "pw"}],
                [{"type": "get_attr", "value": "list"}, {"type": "index", "value": {"value": 0, "type": "number"}}],
            ],
        ),
    ),
    outputs={
        "s": {"value": "canary-output", "sensitive": True}, "o": {"value": "canary-output"}, "t": {"value": "canary-item"},
    },
)  # fmt: skip
OWN = Secrets(["canary-variable", "1234567"])


def test_no_secret_is_shown_wherever_it_stands() -> None:
    shown = tree(SECRETIVE, OWN)
    assert b"canary" not in msgspec.json.encode(shown)
    (leaf,) = shown.modules[0].branches[0].leaves
    assert drawn(leaf.lines or ()) == [
        "  copy = (sensitive value)",
        "  list = [",
        "    (sensitive value)",
        '    "shown"',
        "  ]",
        "  master_password = (sensitive value)",
        "  n = (sensitive value)",
        "  pw = (sensitive value)",
        '  url = "x://***@h"',
        '  user = "bob"',
    ]
    assert drawn(shown.outputs) == [f"  {name} = (sensitive value)" for name in "ost"]


@pytest.mark.parametrize("guess", ["canary", "canary-marked", "canary-named", "1234567", "canary-variable", "("])
def test_a_search_cannot_be_used_to_guess_a_secret(guess: str) -> None:
    assert addresses(tree(SECRETIVE, OWN, q=guess)) == []


def test_marks_that_nobody_understands_hide_everything() -> None:
    odd = state(block("a.b", instance({"x": "canary"}, sensitive_attributes=["AAAA"])))
    assert drawn(attribute_lines(odd, NONE, odd.instances[0])) == ["  (sensitive value)"]


def test_a_state_of_thousands_is_shown_in_part_and_found_in_whole() -> None:
    large = state(*(block(f"a.b{n}", instance({"n": n, "text": "x" * 50})) for n in range(5000)))
    shown = tree(large)
    assert (shown.objects, shown.found, len(addresses(shown)), shown.more) == (5000, 5000, SHOWN, 5000 - SHOWN)
    assert len(addresses(tree(large, all="yes"))) == 5000
    assert addresses(tree(large, q="b4999")) == ["a.b4999"]
    assert drawn(one_object(large, NONE, "i4999").lines or ())[0] == "  n = 4999"
    with pytest.raises(NotFound):
        one_object(large, NONE, "i5000")


def test_a_search_that_finds_too_much_stops_and_says_so() -> None:
    large = state(*(block(f"a.b{n}", instance({"text": "everywhere"})) for n in range(MOST_FOUND + 50)))
    shown = tree(large, q="everywhere")
    assert (shown.found, shown.found_more, len(addresses(shown))) == (MOST_FOUND, True, SHOWN)
    assert len(addresses(tree(large, q="everywhere", all="yes"))) == MOST_FOUND + 50


@pytest.mark.parametrize("word", ["k<&>", '"v', "ümlaut", "\\u202e", "1.10", "true", "{x}", "=", "line2"])
def test_odd_words_are_found_too(word: str) -> None:
    attributes = {"k<&>": '"v"', "u": "Ümlaut \u202e", "t": "tab\t", "n": [1.5, True], "j": "{x}", "m": "line1\nline2"}
    raw = json.dumps({"version": 4, "serial": 1, "lineage": "l", "resources": [block("a.b", instance(attributes))]})
    assert addresses(tree(read_state(raw.replace("1.5", "1.10").encode()), q=word)) == ["a.b"]


def test_two_states_differ_by_objects_attributes_and_facts() -> None:
    before = state(
        block("a.same", instance({"x": 1})),
        block("a.gone", instance({"x": 1})),
        block("a.changed", instance({"x": 1, "y": 2})),
        block("a.worse", instance({"x": 1})),
    )
    after = state(
        block("a.same", instance({"x": 1})),
        block("a.changed", instance({"x": 2, "y": 2})),
        block("a.worse", instance({"x": 1}, status="tainted")),
        block("a.new", instance({"x": 1})),
        serial=4, lineage="l-2", outputs={"o": {"value": "v"}},
    )  # fmt: skip
    told = compared(before, after)
    assert [(group.kind, [change.address for change in group.changes]) for group in told.groups] == [
        ("removed", ["a.gone"]),
        ("changed", ["a.changed", "a.worse"]),
        ("added", ["a.new"]),
    ]
    changed, worse = told.groups[1].changes
    assert drawn(changed.lines or ()) == ["~ x = 1 → 2", "  # 1 unchanged attribute hidden"]
    assert worse.notes == ("tainted now",)
    assert drawn(told.outputs) == ['+ o = "v"']
    assert [(fact.name, fact.same) for fact in told.facts] == [
        ("Serial", False), ("Lineage", False), ("Terraform", True), ("Resources", True),
    ]  # fmt: skip
    assert "two different histories" in told.facts[1].alarm
    assert (told.unchanged, told.same) == (1, False)


def test_a_state_does_not_differ_from_itself() -> None:
    for document in (WHOLE, SECRETIVE):
        told = compared(document, document, OWN)
        assert (told.groups, told.same) == ((), True)


def test_that_a_secret_changed_is_told_without_it() -> None:
    def with_password(text: str) -> StateDocument:
        marks = [[{"type": "get_attr", "value": "pw"}]]
        output = {"s": {"value": f"{text}-output", "sensitive": True}}
        return state(block("db.a", instance({"pw": text}, sensitive_attributes=marks)), outputs=output)

    told = compared(with_password("canary-1"), with_password("canary-2"))
    assert b"canary" not in msgspec.json.encode(told)
    (change,) = told.groups[0].changes
    assert drawn(change.lines or ()) == ["~ pw = (sensitive value, changes)"]
    assert drawn(told.outputs) == ["~ s = (sensitive value, changes)"]


def test_lines_of_one_object_are_found_by_its_key() -> None:
    before = state(*(block(f"a.b{n}", instance({"n": n, "more": [1, 2, 3]})) for n in range(600)))
    told = compared(before, state())
    (group,) = told.groups
    assert (group.total, group.more) == (600, 600 - len(group.changes))
    assert group.changes[-1].lines is None
    found = changed_object(before, state(), NONE, group.changes[-1].key)
    assert drawn(found.lines or ())[-1] == f"- n = {len(group.changes) - 1}"
    whole = state_difference(before, state(), NONE, parts="/d", whole=True)
    assert len(whole.groups[0].changes) == 600
    with pytest.raises(NotFound):
        changed_object(before, state(), NONE, "a-i0")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"version": 4}', b'{"version":4,"lineage":"l","serial":1,"resources":[7]}']
)
def test_what_is_no_state_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        read_state(data)


KEYS = st.none() | st.integers(0, 3) | st.sampled_from(["a", "b"])
OBJECTS = st.dictionaries(
    st.tuples(st.sampled_from(["a.x", "a.y", "b.z"]), KEYS),
    st.dictionaries(st.sampled_from(["p", "q"]), st.integers(0, 2) | st.text(max_size=3), max_size=2),
    max_size=6,
)


def _state_of(objects: dict[tuple[str, Any], dict[str, Any]]) -> StateDocument:
    return state(*(block(name, instance(attributes, index_key=key)) for (name, key), attributes in objects.items()))


@given(OBJECTS, OBJECTS)
def test_comparing_tells_each_object_once_in_its_right_group(before: dict[Any, Any], after: dict[Any, Any]) -> None:
    told = compared(_state_of(before), _state_of(after))
    numbers = {group.kind: group.total for group in told.groups}
    both = before.keys() & after.keys()
    assert numbers.get("removed", 0) == len(before.keys() - after.keys())
    assert numbers.get("added", 0) == len(after.keys() - before.keys())
    assert numbers.get("changed", 0) == sum(before[each] != after[each] for each in both)
    assert told.unchanged == sum(before[each] == after[each] for each in both)


def test_real_states_of_terraform_are_read_and_compared(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.apply('resource "terraform_data" "a" { input = sensitive("canary-1") }\noutput "o" { value = 1 }')
    first = read_state(workspace.state)
    workspace.apply('resource "terraform_data" "a" { input = sensitive("canary-2") }\nresource "terraform_data" "b" {}')
    told = compared(first, read_state(workspace.state))
    assert b"canary" not in msgspec.json.encode((told, tree(first)))
    assert [(group.kind, [change.address for change in group.changes]) for group in told.groups] == [
        ("changed", ["terraform_data.a"]),
        ("added", ["terraform_data.b"]),
    ]
    assert "(sensitive value, changes)" in str(drawn(told.groups[0].changes[0].lines or ()))
    assert drawn(told.outputs) == ["- o = 1"]
