"""A plan's secrets, hidden; everything else, untouched."""

from __future__ import annotations

import itertools
import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.plan_masking import SENSITIVE, masked
from iac.errors import Invalid

HIDDEN = json.dumps(SENSITIVE)
CANARY = "canary-secret"


def plan(**sections: object) -> bytes:
    return json.dumps({"format_version": "1.2", **sections}).encode()


def after_masking(*sensitive_variables: str, **sections: object) -> dict[str, object]:
    shown = masked(plan(**sections), sensitive_variables=sensitive_variables)
    assert CANARY.encode() not in shown
    fields: dict[str, object] = json.loads(shown)
    return {name: value for name, value in fields.items() if name != "format_version"}


def change(
    before: object, after: object, *, was: object = False, will: object = False, **rest: object
) -> dict[str, object]:
    sides = {"before": before, "after": after, "before_sensitive": was, "after_sensitive": will}
    return {"actions": ["update"], **sides, **rest}


class Marked(NamedTuple):
    """A JSON value as text, what Terraform says is sensitive in it, and what must be left of it."""

    text: str
    marks: object
    left: str


OPEN = st.sampled_from(
    ["1.10", "1e400", "-0", "123456789012345678901234567890.5", '"plain"', '"\\u003c"', "null", "true", "[]"]
)
_numbers = itertools.count()
CANARIES = st.builds(lambda: f'"canary-{next(_numbers)}"') | st.builds(
    lambda: f'["canary-{next(_numbers)}",{{"k":1.5}}]'
)


def _in_list(items: list[Marked]) -> Marked:
    return Marked(
        text=f"[{','.join(item.text for item in items)}]",
        marks=[item.marks for item in items],
        left=f"[{','.join(item.left for item in items)}]",
    )


def _in_object(items: list[Marked], told: list[bool]) -> Marked:
    named = {f"key{at}": item for at, item in enumerate(items)}
    # Terraform leaves out what is not marked, but not always.
    marks = {name: item.marks for (name, item), tell in zip(named.items(), told, strict=False) if item.marks or tell}
    text = ",".join(f'"{name}":{item.text}' for name, item in named.items())
    left = ",".join(f'"{name}":{item.left}' for name, item in named.items())
    return Marked(f"{{{text}}}", marks, f"{{{left}}}")


MARKED = st.recursive(
    OPEN.map(lambda text: Marked(text, False, text)) | CANARIES.map(lambda text: Marked(text, True, HIDDEN)),
    lambda inner: (
        st.lists(inner, max_size=4).map(_in_list)
        | st.builds(_in_object, st.lists(inner, max_size=4), st.lists(st.booleans(), min_size=4, max_size=4))
    ),
    max_leaves=12,
)
PLACES = """{"format_version":"1.2","variables":{},
"planned_values":{"root_module":{"child_modules":[{"resources":[{"address":"a","values":%s,"sensitive_values":%s}]}]}},
"prior_state":{"values":{"root_module":{"resources":[{"address":"b","values":%s,"sensitive_values":%s}]}}},
"resource_changes":[{"address":"c","change":{"before":%s,"before_sensitive":%s,"after":null,"after_sensitive":false}},
{"address":"d","change":{"before":null,"before_sensitive":false,"after":%s,"after_sensitive":%s}}],
"resource_drift":[{"address":"e","change":{"before":null,"after":%s,"after_sensitive":%s}}],
"deferred_changes":[{"reason":"r","resource_change":{"address":"f","change":{"after":%s,"after_sensitive":%s}}}],
"output_changes":{"o":{"after":%s,"after_sensitive":%s}},
"action_invocations":[{"address":"g","config_values":%s,"config_sensitive":%s}],
"deferred_action_invocations":[{"reason":"r","action_invocation":{"config_values":%s,"config_sensitive":%s}}],
"applyable":true}""".replace("\n", "")


@given(st.lists(MARKED, min_size=9, max_size=9))
def test_no_marked_value_is_left_and_every_other_byte_is(values: list[Marked]) -> None:
    marks = [json.dumps(value.marks, separators=(",", ":")) for value in values]
    source = PLACES % tuple(itertools.chain(*zip((value.text for value in values), marks, strict=True)))
    expected = PLACES % tuple(itertools.chain(*zip((value.left for value in values), marks, strict=True)))
    shown = masked(source.encode()).decode()
    assert "canary" not in shown
    assert shown == expected


@pytest.mark.parametrize(
    ("value", "marks"),
    [
        (CANARY, {"a": True}),
        ([CANARY], {"a": True}),
        ({"a": CANARY}, [True]),
        ({"a": CANARY}, "?"),
        ([[CANARY]], [{"a": True}]),
    ],
)
def test_a_value_that_its_marks_do_not_fit_is_hidden_as_a_whole(value: object, marks: object) -> None:
    changed = {"address": "a", "change": change(None, value, will=marks)}
    assert SENSITIVE in json.dumps(after_masking(resource_changes=[changed]))


def test_a_value_marked_only_now_is_hidden_where_it_was_not_yet_marked() -> None:
    left = after_masking(
        prior_state={"values": {"root_module": {"resources": [{"address": "a", "values": {"x": CANARY, "y": 1}}]}}},
        resource_changes=[
            {"address": "a", "change": change({"x": CANARY, "y": 1}, {"x": 2, "y": 1}, will={"x": True})}
        ],
    )
    state = {"values": {"root_module": {"resources": [{"address": "a", "values": {"x": SENSITIVE, "y": 1}}]}}}
    assert left["prior_state"] == state
    assert left["resource_changes"] == [
        {"address": "a", "change": change({"x": SENSITIVE, "y": 1}, {"x": SENSITIVE, "y": 1}, will={"x": True})}
    ]


def test_a_moved_resource_keeps_its_marks_under_both_names() -> None:
    number = 4711  # no text: a copy of it would not be found by what it says
    left = after_masking(
        prior_state={"values": {"root_module": {"resources": [{"address": "old", "values": {"pin": number}}]}}},
        resource_changes=[
            {"address": "new", "previous_address": "old", "change": change(None, {"pin": number}, will={"pin": True})}
        ],
    )
    assert str(number) not in json.dumps(left)


def test_an_output_that_is_sensitive_anywhere_is_hidden_everywhere() -> None:
    left = after_masking(
        planned_values={"outputs": {"o": {"sensitive": True, "value": 42}, "p": {"sensitive": False, "value": 43}}},
        prior_state={"values": {"outputs": {"o": {"sensitive": False, "value": 41}}}},
        output_changes={"o": change(41, 42), "p": change(None, 43)},
    )
    assert left == {
        "planned_values": {
            "outputs": {"o": {"sensitive": True, "value": SENSITIVE}, "p": {"sensitive": False, "value": 43}}
        },
        "prior_state": {"values": {"outputs": {"o": {"sensitive": False, "value": SENSITIVE}}}},
        "output_changes": {"o": change(SENSITIVE, SENSITIVE), "p": change(None, 43)},
    }


def test_a_text_that_repeats_a_sensitive_one_unmarked_is_hidden_too() -> None:
    # Terraform's own terraform_data does this: `output` repeats a sensitive `input`.
    value = {"input": CANARY, "output": [CANARY, "other"], CANARY[:6]: "canary-second"}
    left = after_masking(
        prior_state={"values": {"root_module": {"resources": [{"address": "z", "values": {"copy": CANARY}}]}}},
        resource_changes=[{"address": "a", "change": change(value, None, was={"input": True})}],
    )
    assert left["resource_changes"] == [
        {
            "address": "a",
            "change": change(
                {"input": SENSITIVE, "output": [SENSITIVE, "other"], "canary": "canary-second"},
                None,
                was={"input": True},
            ),
        }
    ]


def test_a_copy_is_hidden_also_where_it_stands_before_all_that_betrays_it() -> None:
    # The last section says what is sensitive, only the middle one has the text, the first one repeats it.
    after_masking(
        planned_values={"root_module": {"resources": [{"address": "z", "values": {"copy": CANARY}}]}},
        prior_state={"values": {"root_module": {"resources": [{"address": "a", "values": {"x": CANARY}}]}}},
        resource_changes=[{"address": "a", "change": change(None, {"x": 5}, will={"x": True})}],
    )


def test_a_short_secret_does_not_take_ordinary_words_with_it() -> None:
    value = {"secret": "small", "size": "small", "small": 1}
    left = after_masking(resource_changes=[{"address": "a", "change": change(value, None, was={"secret": True})}])
    assert left["resource_changes"] == [
        {"address": "a", "change": change({**value, "secret": SENSITIVE}, None, was={"secret": True})}
    ]


def test_a_key_that_reads_like_a_secret_stays_a_key() -> None:
    value = {"a": "secret-word", "b": {"secret-word": "secret-word"}}
    left = after_masking(resource_changes=[{"address": "a", "change": change(value, None, was={"a": True})}])
    shown = {"a": SENSITIVE, "b": {"secret-word": SENSITIVE}}
    assert left["resource_changes"] == [{"address": "a", "change": change(shown, None, was={"a": True})}]


def test_the_keys_of_a_sensitive_map_do_not_show_in_what_is_unknown() -> None:
    unknown = {"tags": {CANARY: True}, "none": {CANARY: False}, "list": [{"x": True}], "id": True}
    marks = {"tags": True, "none": True, "list": [False]}
    changed = change(None, {"tags": {CANARY: 1}}, will=marks, after_unknown=unknown)
    left = after_masking(resource_changes=[{"address": "a", "change": changed}])
    shown = {"tags": True, "none": False, "list": [{"x": True}], "id": True}
    expected = change(None, {"tags": SENSITIVE}, will=marks, after_unknown=shown)
    assert left["resource_changes"] == [{"address": "a", "change": expected}]


def test_sensitive_variables_are_hidden_with_their_defaults() -> None:
    left = after_masking(
        "named",
        variables={"declared": {"value": {"a": CANARY}}, "named": {"value": 17}, "open": {"value": 18}},
        configuration={
            "root_module": {
                "variables": {
                    "declared": {"default": {"a": CANARY}, "sensitive": True},
                    "named": {"default": 16},
                    "open": {"default": 15},
                }
            }
        },
    )
    assert left["variables"] == {"declared": {"value": SENSITIVE}, "named": {"value": SENSITIVE}, "open": {"value": 18}}
    assert left["configuration"] == {
        "root_module": {
            "variables": {
                "declared": {"default": SENSITIVE, "sensitive": True},
                "named": {"default": SENSITIVE},
                "open": {"default": 15},
            }
        }
    }


def test_constants_in_the_configuration_stay_unless_they_are_given_to_something_sensitive() -> None:
    def constant(value: object) -> dict[str, object]:
        return {"constant_value": value}

    def module(secret: object, given: object, output: object) -> dict[str, object]:
        return {
            "outputs": {"o": {"sensitive": True, "expression": constant(output)}, "p": {"expression": constant(1)}},
            "resources": [{"address": "t.r", "expressions": {"input": constant("plain")}}],
            "module_calls": {
                "m": {
                    "expressions": {"pw": constant(given), "open": constant("plain")},
                    "module": {"variables": {"pw": {"sensitive": True, "default": secret}, "open": {"default": 1}}},
                }
            },
        }

    left = after_masking(configuration={"root_module": module(CANARY, [CANARY], 99)})
    assert left == {"configuration": {"root_module": module(SENSITIVE, SENSITIVE, SENSITIVE)}}


def test_a_section_that_nobody_knows_is_left_out() -> None:
    assert after_masking(news={"values": CANARY}, errored=False) == {"errored": False}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"no changes",
        b'{"resource_changes":{}}',
        b'{"resource_changes":[1]}',
        b'{"variables":[]}',
        b'{"output_changes":{"o":{"after_sensitive":' + b"[" * 100_000,
        b'{"output_changes":{"o":{"after_sensitive":' + b"[" * 100_000 + b"]" * 100_000 + b"}}}",
        b'{"resource_changes":[{"address":"\xff"}]}',
    ],
)
def test_what_is_no_plan_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid, match="not plan JSON") as refused:
        masked(data)
    assert refused.value.code == "plan_invalid"


@pytest.mark.parametrize("section", ["variables", "planned_values", "resource_changes", "configuration"])
def test_an_absent_section_may_also_be_null(section: str) -> None:
    masked(plan(**{section: None}))
