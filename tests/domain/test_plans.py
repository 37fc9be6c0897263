"""Plans in numbers, and change by change."""

from __future__ import annotations

import json
import time

import msgspec
import pytest

from iac.domain.plans import Action, PlanSummary, ResourceChange, changes, drift, has_changes, summarise
from iac.errors import Invalid


def resource(*actions: str, change: dict[str, object] | None = None, **fields: object) -> dict[str, object]:
    planned = {"actions": actions, "before": None, "after": None, "after_unknown": {}, **(change or {})}
    named = {"address": "terraform_data.a", "mode": "managed", "type": "terraform_data", "name": "a"}
    return {**named, "change": planned, **fields}


def plan(*changed: dict[str, object], **sections: object) -> bytes:
    fields = {"format_version": "1.2", "terraform_version": "1.11.4", "planned_values": {"root_module": {}}}
    return json.dumps({**fields, "resource_changes": changed, **sections}).encode()


def counts(data: bytes) -> dict[str, object]:
    """The counts of a summary that are not 0, by the names they have in JSON."""
    fields: dict[str, object] = msgspec.to_builtins(summarise(data))
    return {name: count for name, count in fields.items() if type(count) is int and count}


@pytest.mark.parametrize(
    ("changed", "counted"),
    [
        ([], {}),
        ([resource("no-op")], {}),
        ([resource("create"), resource("create")], {"add": 2}),
        ([resource("update")], {"change": 1}),
        ([resource("delete")], {"destroy": 1}),
        ([resource("delete", deposed="0a1b")], {"destroy": 1}),
        ([resource("delete", mode="data")], {}),
        ([resource("delete", "create"), resource("create", "delete")], {"add": 2, "destroy": 2, "replace": 2}),
        ([resource("create", "forget")], {"add": 1, "forget": 1, "replace": 1}),
        ([resource("forget")], {"forget": 1}),
        ([resource("read", mode="data")], {"read": 1}),
        ([resource("no-op", previous_address="terraform_data.b")], {"move": 1}),
        ([resource("update", previous_address="terraform_data.b")], {"move": 1, "change": 1}),
        ([resource("no-op", change={"importing": {"id": "i"}})], {"import": 1}),
        ([resource("update", change={"importing": {}})], {"import": 1, "change": 1}),
    ],
)
def test_a_plan_is_counted_as_terraform_counts_it(changed: list[dict[str, object]], counted: dict[str, int]) -> None:
    assert counts(plan(*changed)) == counted


def test_what_is_no_resource_change_is_counted_apart() -> None:
    data = plan(
        resource_drift=[resource("update"), resource("delete"), resource("no-op", previous_address="b")],
        deferred_changes=[{"reason": "unknown", "resource_change": resource("create")}],
        output_changes={"a": {"actions": ["create"]}, "b": {"actions": ["no-op"]}},
        action_invocations=[{"address": "action.x.y"}],
    )
    assert counts(data) == {"drift": 2, "deferred": 1, "outputs_changed": 1, "invoke": 1}


def test_a_summary_carries_what_terraform_says_about_the_plan() -> None:
    said = summarise(plan(complete=False, errored=True, applyable=False))
    assert (said.format_version, said.terraform_version) == ("1.2", "1.11.4")
    assert (said.complete, said.errored, said.applyable) == (False, True, False)


def test_an_older_terraform_that_does_not_say_is_taken_for_complete() -> None:
    said = summarise(plan(format_version="0.2"))
    assert (said.complete, said.errored, said.applyable) == (True, False, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"No changes. Your infrastructure matches the configuration.",
        plan()[:-1],
        plan(format_version="2.0"),
        plan(format_version="2"),
        plan(resource_changes=None),
        plan(resource_changes={}),
        plan(resource("destroy")),
        plan(resource()),
        plan(resource("create", "update")),
        plan(resource("no-op", "create", "delete")),
        plan({"address": "x"}),
        b'{"format_version":"1.0"}',
        b'{"format_version":"1.0","values":{"root_module":{}}}',
    ],
    ids=lambda data: repr(data[-40:]),
)
def test_what_cannot_be_read_never_passes_for_a_plan_without_changes(data: bytes) -> None:
    for read in (summarise, changes):
        with pytest.raises(Invalid) as refused:
            read(data)
        assert refused.value.code == "plan_invalid"


@pytest.mark.parametrize(
    ("data", "exit_code", "answer"),
    [
        (plan(), 0, False),
        (plan(applyable=False), 0, False),
        (plan(resource("no-op")), 0, False),
        (plan(resource_drift=[resource("update")]), 0, False),
        (plan(deferred_changes=[{"reason": "unknown", "resource_change": resource("create")}]), 0, False),
        (plan(resource("create"), applyable=True), 2, True),
        (plan(resource("no-op", previous_address="b")), 2, True),
        (plan(resource_drift=[resource("update")], applyable=True), 2, True),
        # Contradictions:
        (plan(), 2, True),
        (plan(applyable=False), 2, True),
        (plan(applyable=True), 0, True),
        (plan(resource("create")), 0, True),
        (plan(resource("update")), 0, True),
        (plan(resource("delete")), 0, True),
        (plan(resource("forget")), 0, True),
        (plan(resource("read", mode="data")), 0, True),
        (plan(resource("no-op", previous_address="b")), 0, True),
        (plan(resource("no-op", change={"importing": {"id": "i"}})), 0, True),
        (plan(output_changes={"o": {"actions": ["update"]}}), 0, True),
        (plan(action_invocations=[{}]), 0, True),
    ],
)
def test_exit_code_and_json_together_say_whether_there_are_changes(data: bytes, exit_code: int, answer: bool) -> None:
    assert has_changes(summarise(data), exit_code) is answer


@pytest.mark.parametrize(("exit_code", "errored"), [(1, False), (-9, False), (137, False), (0, True), (2, True)])
def test_a_failed_plan_is_neither_changed_nor_unchanged(exit_code: int, errored: bool) -> None:
    with pytest.raises(Invalid, match=f"exit code {exit_code}") as refused:
        has_changes(summarise(plan(errored=errored)), exit_code)
    assert refused.value.code == "plan_failed"


def test_a_change_is_shown_whole_and_without_its_secrets() -> None:
    changed = {
        "importing": {"id": "i-1"},
        "before": {"pw": "old-secret", "n": 1},
        "after": {"pw": "new-secret", "n": 2},
        "after_unknown": {"id": True},
        "before_sensitive": {"pw": True},
        "after_sensitive": {"pw": True},
    }
    data = plan(
        resource(
            "delete",
            "create",
            address='module.m["k"].terraform_data.a',
            module_address='module.m["k"]',
            provider_name="terraform.io/builtin/terraform",
            previous_address="terraform_data.b",
            action_reason="replace_because_tainted",
            deposed="0a1b",
            change=changed,
        )
    )
    assert changes(data) == [
        ResourceChange(
            address='module.m["k"].terraform_data.a',
            module='module.m["k"]',
            mode="managed",
            type="terraform_data",
            name="a",
            provider="terraform.io/builtin/terraform",
            action="replace",
            previous_address="terraform_data.b",
            importing_id="i-1",
            deposed="0a1b",
            reason="replace_because_tainted",
            before=msgspec.Raw(b'{"pw":"(sensitive value)","n":1}'),
            after=msgspec.Raw(b'{"pw":"(sensitive value)","n":2}'),
            after_unknown=msgspec.Raw(b'{"id":true}'),
            deferred=False,
        )
    ]


@pytest.mark.parametrize(
    ("changed", "action"),
    [
        (resource("create"), "create"),
        (resource("update"), "update"),
        (resource("delete"), "delete"),
        (resource("create", "delete"), "replace"),
        (resource("create", "forget"), "replace"),
        (resource("read", mode="data"), "read"),
        (resource("forget"), "forget"),
        (resource("no-op"), "no-op"),
        (resource("no-op", previous_address="b"), "no-op"),
        (resource("no-op", change={"importing": {"id": "i"}}), "import"),
        (resource("update", change={"importing": {"id": "i"}}), "update"),
    ],
)
def test_every_change_has_one_action(changed: dict[str, object], action: Action) -> None:
    assert [change.action for change in changes(plan(changed))] == [action]


def test_deferred_changes_come_last_with_the_reason() -> None:
    put_off = {"reason": "provider_config_unknown", "resource_change": resource("create", address="late")}
    listed = changes(plan(resource("create", address="now"), deferred_changes=[put_off]))
    assert [(change.address, change.deferred, change.reason) for change in listed] == [
        ("now", False, None),
        ("late", True, "provider_config_unknown"),
    ]


def test_drift_is_listed_by_itself() -> None:
    data = plan(resource("no-op"), resource_drift=[resource("update", address="drifted")])
    assert [change.address for change in drift(data)] == ["drifted"]


def test_a_listed_change_can_be_sent_as_json() -> None:
    (change,) = changes(plan(resource("create", change={"after": {"n": 1.5}})))
    assert b'"after":{"n": 1.5}' in msgspec.json.encode(change)


def test_a_summary_goes_through_json_and_back() -> None:
    said = summarise(plan(resource("no-op", change={"importing": {"id": "i"}})))
    encoded = msgspec.json.encode(said)
    assert b'"import":1' in encoded
    assert msgspec.json.decode(encoded, type=PlanSummary) == said


def test_a_thousand_resources_are_counted_within_a_tenth_of_a_second() -> None:
    values = {"tags": {f"tag-{at}": "value " * 5 for at in range(40)}}
    data = plan(*[resource("update", change={"before": values, "after": values})] * 1000)
    began = time.perf_counter()
    assert summarise(data).change == 1000
    assert time.perf_counter() - began < 0.1
