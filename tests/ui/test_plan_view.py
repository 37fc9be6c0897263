"""Plans as their page shows them: crafted ones for each case and for size, real ones of Terraform for the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from iac.domain.plan_masking import SENSITIVE, masked
from iac.errors import NotFound
from iac.web.ui.models.differences import FORCES
from iac.web.ui.models.plan_document import PlanDocument, read_plan
from iac.web.ui.models.plan_view import (
    OPEN_LINES,
    SHOWN,
    Change,
    PlanQuery,
    PlanView,
    Section,
    lines_of,
    one_change,
    plan_view,
)
from tests.domain.test_plans import plan, resource
from tests.executor.test_plans_with_terraform import Workspace
from tests.ui.test_differences import drawn

BASE, PARTS = "/tasks/7", "/tasks/7/plan"


def document(plan_json: bytes) -> PlanDocument:
    return read_plan(plan_json, masked(plan_json))


def view(plan_json: bytes, **query: str) -> PlanView:
    return plan_view(document(plan_json), msgspec.convert(query, PlanQuery), base=BASE, parts=PARTS)


def section(shown: PlanView, name: str) -> Section:
    (found,) = [each for each in shown.sections if each.name == name]
    return found


def only(shown: PlanView, name: str) -> Change:
    (found,) = section(shown, name).changes
    return found


def at(address: str, *actions: str, **fields: Any) -> dict[str, object]:
    return resource(*actions, address=address, **fields)


def notes(change: Change) -> list[str]:
    return [f"{note.word} {note.text}".strip() for note in change.notes]


MIXED = plan(
    at("a.created", "create"),
    at("a.kept", "no-op"),
    at("a.changed", "update"),
    at("a.replaced", "create", "delete", action_reason="replace_because_tainted"),
    at("a.gone", "delete", action_reason="delete_because_no_resource_config"),
    at("a.new_name", "no-op", previous_address="a.old_name"),
    at("a.moved_and_changed", "update", previous_address="a.before"),
    at("a.taken", "no-op", change={"importing": {"id": "i-1"}}),
    at("a.left", "forget"),
    at("data.a.later", "read", mode="data", action_reason="read_because_config_unknown"),
    at("data.a.dropped", "delete", mode="data"),
    at("a.deposed", "delete", deposed="0a1b2c3d"),
)


def test_sections_come_by_danger_and_what_stays_is_left_out() -> None:
    shown = view(MIXED)
    assert [(each.name, [change.address for change in each.changes]) for each in shown.sections] == [
        ("delete", ["a.gone", "a.deposed"]),
        ("replace", ["a.replaced"]),
        ("update", ["a.changed", "a.moved_and_changed"]),
        ("create", ["a.created"]),
        ("import", ["a.taken"]),
        ("move", ["a.new_name"]),
        ("forget", ["a.left"]),
        ("read", ["data.a.later"]),
    ]
    assert shown.headline == "1 to import, 2 to add, 2 to change, 3 to destroy, 2 to move, 1 to forget"
    assert shown.danger == "3 resources would be destroyed, 1 of them to be created anew."


def test_a_change_says_why_and_what_else_happens_to_it() -> None:
    shown = view(MIXED)
    assert notes(only(shown, "replace")) == ["created before destroyed", "because it is tainted"]
    assert notes(section(shown, "update").changes[1]) == ["moved from a.before"]
    assert notes(only(shown, "import")) == ["imported i-1"]
    assert notes(section(shown, "delete").changes[1]) == ["deposed object 0a1b2c3d"]
    assert notes(only(shown, "read")) == ["because its arguments are known only then"]


def test_a_reason_of_a_later_terraform_is_shown_as_it_is() -> None:
    shown = view(plan(at("a.b", "delete", action_reason="delete_because_of_the_moon")))
    assert notes(only(shown, "delete")) == ["because delete because of the moon"]


def test_counts_are_filters_that_switch_off_again() -> None:
    chips = {chip.word: chip for chip in view(MIXED).chips}
    assert {word: chip.number for word, chip in chips.items()} == {
        "destroy": 2, "replace": 1, "change": 2, "add": 1, "import": 1, "move": 2, "forget": 1, "read": 1,
    }  # fmt: skip
    assert chips["move"].href == "/tasks/7?action=move"
    narrowed = view(MIXED, action="move")
    addresses = [change.address for each in narrowed.sections for change in each.changes]
    assert addresses == ["a.moved_and_changed", "a.new_name"]
    (on,) = [chip for chip in narrowed.chips if chip.on]
    assert (on.word, on.href) == ("move", "/tasks/7")


def test_words_are_looked_for_in_addresses_old_and_new() -> None:
    def found(text: str) -> list[str]:
        return [change.address for each in view(MIXED, q=text).sections for change in each.changes]

    assert found("OLD_name") == ["a.new_name"]
    assert found("changed moved") == ["a.moved_and_changed"]
    assert found("nothing like it") == []
    assert view(MIXED, q="nothing like it").empty == "No change of this plan fits the filter."


def test_an_address_that_has_a_query_keeps_it() -> None:
    assert PlanQuery(q="a b", action="create").href("/tasks/7?tab=plan") == "/tasks/7?tab=plan&q=a+b&action=create"
    assert PlanQuery(q="x", all="yes").href("/tasks/7", q="", all="") == "/tasks/7"


def test_drift_outputs_deferred_and_actions_have_their_own_places() -> None:
    drifted = at("a.d", "update", change={"before": {"n": 1}, "after": {"n": 2}})
    shown = view(
        plan(
            resource_drift=[drifted],
            deferred_changes=[{"reason": "deferred_prereq", "resource_change": at("a.later", "create")}],
            output_changes={
                "o": {"actions": ["create"], "before": None, "after": None, "after_unknown": True},
                "same": {"actions": ["no-op"], "before": 1, "after": 1},
                "was": {"actions": ["delete"], "before": "x", "after": None},
            },
            action_invocations=[{"address": "action.run.it"}],
            complete=False,
        )
    )
    assert drawn(only(shown, "drift").lines or ()) == ["~ n = 1 → 2"]
    assert notes(only(shown, "deferred")) == ["because it depends on something that is put off"]
    assert drawn(shown.outputs) == ["+ o = (known after apply)", '- was = "x"']
    assert shown.invocations == ("action.run.it",)
    assert "another one is needed" in shown.warnings[0]


def test_a_plan_that_does_nothing_says_so_and_one_that_failed_warns() -> None:
    nothing = view(plan(at("a.b", "no-op")))
    assert (nothing.headline, nothing.sections, nothing.empty) == (
        "No changes", (), "Nothing to do: what is configured is what exists.",
    )  # fmt: skip
    assert "cannot be applied" in view(plan(errored=True)).warnings[0]


def test_a_secret_that_changes_is_told_from_one_that_stays_and_neither_is_shown() -> None:
    marks = {"before_sensitive": {"pw": True, "kept": True}, "after_sensitive": {"pw": True, "kept": True}}
    values = {"before": {"pw": "canary-1", "kept": "canary-2"}, "after": {"pw": "canary-3", "kept": "canary-2"}}
    output = {"actions": ["update"], "before": "canary-4", "after": "canary-5", "before_sensitive": True}
    made = plan(at("a.b", "update", change={**values, **marks}), output_changes={"s": output})
    shown = view(made)
    assert drawn(only(shown, "update").lines or ()) == [
        "~ pw = (sensitive value, changes)",
        "  # 1 unchanged attribute hidden",
    ]
    assert drawn(shown.outputs) == ["~ s = (sensitive value, changes)"]
    assert b"canary" not in msgspec.json.encode(shown)
    assert SENSITIVE.encode() in masked(made)


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", "\u202egnp.exe", "\x1b[31mred"])
def test_an_address_cannot_disturb_the_page(evil: str) -> None:
    made = plan(at(f'a.b["{evil}"]', "create", change={"after": {evil: evil}}))
    shown = only(view(made), "create")
    assert all(sign.isprintable() for sign in shown.address)
    assert all(sign.isprintable() for line in shown.lines or () for sign in line.text + line.name)


def test_of_thousands_of_changes_a_page_has_the_first_and_fetches_the_rest() -> None:
    change = {"after": {f"k{n}": n for n in range(20)}}
    made = document(plan(*(at(f"a.b[{n}]", "create", change=change) for n in range(5000))))
    shown = plan_view(made, PlanQuery(), base=BASE, parts=PARTS)
    created = section(shown, "create")
    assert (created.total, len(created.changes), created.more) == (5000, SHOWN, 5000 - SHOWN)
    assert created.href == "/tasks/7?all=yes"
    opened = [change for change in created.changes if change.lines is not None]
    assert len(opened) == OPEN_LINES // 20
    assert len(lines_of(made, created.changes[-1].key)) == 20
    assert len(section(plan_view(made, PlanQuery(all="yes"), base=BASE, parts=PARTS), "create").changes) == 5000


def test_a_key_that_no_change_has_is_told() -> None:
    with pytest.raises(NotFound, match="no such change"):
        one_change(document(MIXED), "r999")


BEFORE = """
resource "terraform_data" "changed" { input = { text = "one\\ntwo\\nthree\\n", list = ["a", "b"] } }
resource "terraform_data" "replaced" { triggers_replace = { version = "1" } }
resource "terraform_data" "gone" {}
resource "terraform_data" "old" { input = "stays" }
resource "terraform_data" "policy" { input = jsonencode({ Allow = ["read"], Version = 1 }) }
output "o" { value = "one" }
"""
AFTER = """
variable "secret" {
  sensitive = true
  default   = "canary-secret"
}
resource "terraform_data" "changed" { input = { text = "one\\nTWO\\nthree\\n", list = ["b", "c"] } }
resource "terraform_data" "replaced" { triggers_replace = { version = "2" } }
resource "terraform_data" "new" {
  for_each = { "a/b" = 1 }
  input    = { s = var.secret, n = each.value }
}
resource "terraform_data" "renamed" { input = "stays" }
resource "terraform_data" "policy" { input = jsonencode({ Allow = ["read", "write"], Version = 1 }) }
resource "terraform_data" "taken" {}
moved {
  from = terraform_data.old
  to   = terraform_data.renamed
}
import {
  to = terraform_data.taken
  id = "some-id"
}
output "o" { value = terraform_data.new["a/b"].id }
"""


def test_a_real_plan_of_everything_reads_as_terraform_means_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.apply(BEFORE)
    workspace.plan(AFTER)
    shown = view(workspace.plan_json)
    assert shown.headline == "1 to import, 2 to add, 2 to change, 2 to destroy, 1 to move"
    names = [(each.name, [change.address for change in each.changes]) for each in shown.sections]
    assert names == [
        ("delete", ["terraform_data.gone"]),
        ("replace", ["terraform_data.replaced"]),
        ("update", ["terraform_data.changed", "terraform_data.policy"]),
        ("create", ['terraform_data.new["a/b"]']),
        ("import", ["terraform_data.taken"]),
        ("move", ["terraform_data.renamed"]),
    ]
    replaced = drawn(only(shown, "replace").lines or ())
    assert any(FORCES in line for line in replaced)
    assert any("(known after apply)" in line for line in replaced)
    changed = drawn(section(shown, "update").changes[0].lines or ())
    for line in (
        "-     two",
        "+     TWO",
        '-     "a"',
        '+     "c"',
        "~ output = { 2 attributes } → (known after apply)",
    ):
        assert line in changed, "\n".join(changed)
    policy = drawn(section(shown, "update").changes[1].lines or ())
    assert '+     "write"' in policy, "\n".join(policy)
    created = drawn(only(shown, "create").lines or ())
    assert "+   s = (sensitive value)" in created, "\n".join(created)
    assert drawn(shown.outputs) == ['~ o = "one" → (known after apply)']
    assert b"canary" not in msgspec.json.encode(shown)
    assert shown.terraform_version == json.loads(workspace.plan_json)["terraform_version"]


def test_a_real_drift_is_shown_apart(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.apply('resource "terraform_data" "a" { input = "one" }')
    state = json.loads(workspace.state)
    state["resources"][0]["instances"][0]["attributes"]["input"]["value"] = "touched"
    workspace.state = json.dumps(state | {"serial": state["serial"] + 1}).encode()
    workspace.plan('resource "terraform_data" "a" { input = "one" }')
    assert '~ input = "touched" → "one"' in drawn(only(view(workspace.plan_json), "update").lines or ())
