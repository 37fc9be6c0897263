"""A bundle is all that a task runs from: complete, canonical, and told apart by its digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from iac.domain.bundles import Inputs, decode_bundle, encode_bundle, freeze
from iac.domain.work import BundleVariable
from iac.errors import Conflict, Invalid
from tests.domain.builders import NOW, a_resource, a_workspace


def inputs(**facts: object) -> Inputs:
    usual: dict[str, Any] = {
        "workspace": a_workspace(),
        "action": "plan",
        "targets": (),
        "replace": (),
        "archive_digest": None,
        "tf_code": None,
        "resources": (a_resource(),),
        "variables": (),
        "lock_hcl": None,
        "now": NOW,
    }
    chosen: dict[str, Any] = {**usual, **facts}
    return Inputs(**chosen)


def a_variable(**facts: object) -> BundleVariable:
    usual: dict[str, Any] = {
        "key": "size",
        "value": "3",
        "category": "terraform",
        "hcl": False,
        "sensitive": False,
    }
    chosen: dict[str, Any] = {**usual, **facts}
    return BundleVariable(**chosen)


def test_a_bundle_repeats_what_the_workspace_says_now() -> None:
    workspace = a_workspace(engine="tofu", terraform_version="~> 1.9", working_directory="net", name="prod")
    bundle = freeze(inputs(workspace=workspace, targets=("a.b",), replace=("c.d",), lock_hcl=b"lock"))
    assert (bundle.engine, bundle.terraform_version, bundle.working_directory) == ("tofu", "~> 1.9", "net")
    assert (bundle.workspace_name, bundle.targets, bundle.replace, bundle.lock_hcl) == (
        "prod",
        ("a.b",),
        ("c.d",),
        b"lock",
    )
    assert bundle.created_at == NOW.isoformat()


def test_without_an_archive_the_variables_are_declared_and_sensitive_ones_stay_so() -> None:
    secret = a_variable(key="pass", sensitive=True)
    bundle = freeze(inputs(variables=(a_variable(), secret, a_variable(key="AWS_X", category="environment"))))
    declared: dict[str, Any] = {}
    for data in bundle.generated.values():
        declared |= json.loads(data).get("variable", {})
    assert set(declared) == {"size", "pass"}
    assert "sensitive" not in declared["size"] or declared["size"]["sensitive"] is False
    assert declared["pass"]["sensitive"] is True


def test_beside_an_archive_generated_files_take_no_place_of_its_own_and_declare_nothing() -> None:
    bundle = freeze(inputs(archive_digest="d" * 64, variables=(a_variable(),)))
    assert bundle.configuration_digest == "d" * 64
    assert bundle.generated
    assert all(name.startswith("iac_") for name in bundle.generated)
    assert not any(b'"variable"' in data for data in bundle.generated.values())


def test_a_bundle_survives_its_encoding_whatever_bytes_are_in_it() -> None:
    bundle = freeze(inputs(variables=(a_variable(value="ü\u2028\x00\\"),), lock_hcl=bytes(range(256))))
    data, digest = encode_bundle(bundle)
    assert decode_bundle(data) == bundle
    assert digest == hashlib.sha256(data).hexdigest()


def test_equal_bundles_have_equal_bytes_in_whatever_order_their_files_were_made() -> None:
    bundle = freeze(inputs(tf_code={"output": {"x": {"value": "1"}}}, variables=(a_variable(),)))
    assert len(bundle.generated) > 1
    shuffled = msgspec.structs.replace(bundle, generated=dict(reversed(list(bundle.generated.items()))))
    assert encode_bundle(shuffled) == encode_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"action": "destroy"},
        {"targets": ("a.b",)},
        {"variables": (a_variable(),)},
        {"variables": (a_variable(hcl=True),)},
        {"archive_digest": "e" * 64},
        {"resources": (a_resource(body={"input": "2"}),)},
        {"lock_hcl": b"x"},
        {"workspace": a_workspace(terraform_version="1.9.0")},
    ],
)
def test_any_other_input_is_another_digest(change: dict[str, Any]) -> None:
    assert encode_bundle(freeze(inputs(**change)))[1] != encode_bundle(freeze(inputs()))[1]


def test_a_form_of_the_future_is_refused_and_not_half_understood() -> None:
    data, _ = encode_bundle(freeze(inputs()))
    newer = json.dumps({**json.loads(data), "schema": 2, "surprise": 1}).encode()
    with pytest.raises(Conflict) as refused:
        decode_bundle(newer)
    assert refused.value.code == "bundle_schema"


def test_inputs_that_cannot_be_assembled_say_where() -> None:
    with pytest.raises(Invalid):
        freeze(inputs(resources=(a_resource(), a_resource(id="res-b"))))
    with pytest.raises(Invalid):
        freeze(inputs(tf_code={"resource": {"terraform_data": {"x": {}}}}))
