"""Pushes, uploads and rollbacks of states, judged."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.state_verdicts import (
    Current,
    Push,
    Reason,
    Upload,
    Verdict,
    adoption,
    check_upload,
    judge,
    promotion,
    rollback,
)
from iac.domain.states import StateHeader, inspect
from iac.errors import Conflict, Invalid

CURRENT = Current(serial=5, lineage="mine", sha256="sha-current", state_fence=10)


def header(serial: int = 6, lineage: str = "mine") -> StateHeader:
    return StateHeader(4, "1.11.4", serial, lineage, 0, ())


PUSH = Push(task_fence=12, assignment_fence=12, sha256="sha-new", header=header())


def but(push: Push = PUSH, **changed: object) -> Push:
    return msgspec.structs.replace(push, **changed)


@pytest.mark.parametrize(
    ("current", "push"),
    [
        (CURRENT, PUSH),
        (CURRENT, but(header=header(serial=900))),
        (CURRENT, but(task_fence=10, assignment_fence=10)),
        (None, PUSH),
        (None, but(header=header(serial=0, lineage="any"))),
        (CURRENT, but(checkpoint_hashes=frozenset({"sha-new"}))),
    ],
    ids=["next serial", "later serial", "same apply again", "first", "first of any lineage", "was a checkpoint"],
)
def test_a_state_that_continues_the_current_one_becomes_current(current: Current | None, push: Push) -> None:
    assert judge(current, push) == Verdict("current")


@pytest.mark.parametrize(
    "push",
    [
        but(known_hashes=frozenset({"sha-new"})),
        but(sha256="sha-current", header=header(serial=5)),
        but(known_hashes=frozenset({"sha-new"}), assignment_fence=11),
        but(known_hashes=frozenset({"sha-new"}), header=None),
        but(partial=True, checkpoint_hashes=frozenset({"sha-new"})),
        but(partial=True, known_hashes=frozenset({"sha-new"})),
        but(partial=True, sha256="sha-current"),
    ],
    ids=[
        "sent before",
        "current bytes",
        "fenced",
        "invalid",
        "checkpoint",
        "checkpoint of whole",
        "checkpoint of current",
    ],
)
def test_bytes_that_are_stored_already_are_a_duplicate(push: Push) -> None:
    assert judge(CURRENT, push) == Verdict("duplicate")


@pytest.mark.parametrize(
    ("push", "reason"),
    [
        (but(header=header(serial=5)), "serial_taken"),
        (but(header=header(serial=4)), "serial_too_low"),
        (but(header=header(lineage="other")), "lineage_differs"),
        (but(assignment_fence=11), "fenced"),
        (but(task_fence=9, assignment_fence=9), "newer_apply_wrote"),
        (but(header=None), "state_invalid"),
        (but(revoked=True), "revoked"),
        (but(partial=True, assignment_fence=11), "fenced"),
        (but(partial=True, task_fence=9, assignment_fence=9), "newer_apply_wrote"),
        (but(partial=True, revoked=True), "revoked"),
        (but(partial=True, header=None), "state_invalid"),
        (but(header=None, assignment_fence=11), "fenced"),
    ],
)
def test_a_state_that_does_not_fit_is_quarantined_and_somebody_is_told(push: Push, reason: Reason) -> None:
    verdict = judge(CURRENT, push)
    assert (verdict.outcome, verdict.reason) == ("quarantined", reason)
    assert verdict.message
    assert verdict.alerts
    assert verdict.stores


@pytest.mark.parametrize("current", [CURRENT, None])
@pytest.mark.parametrize("serial", [3, 5, 6])
def test_a_checkpoint_is_kept_apart_whatever_its_serial(current: Current | None, serial: int) -> None:
    verdict = judge(current, but(partial=True, header=header(serial=serial)))
    assert verdict == Verdict("checkpoint")
    assert verdict.stores
    assert not verdict.alerts


def test_the_quarantine_message_shows_both_values() -> None:
    verdict = judge(CURRENT, but(header=header(serial=4)))
    assert verdict.message == "Its serial is 4, the current one 5."


PUSHES = st.lists(
    st.builds(
        Push,
        task_fence=st.integers(1, 4),
        assignment_fence=st.integers(1, 4),
        sha256=st.sampled_from("abcdefgh"),
        header=st.none() | st.builds(header, serial=st.integers(0, 6), lineage=st.sampled_from(["mine", "other"])),
        partial=st.booleans(),
        revoked=st.booleans(),
    ),
    max_size=30,
)


@given(PUSHES)
def test_under_any_pushes_the_serial_never_falls_and_no_state_is_thrown_away(pushes: list[Push]) -> None:
    current: Current | None = None
    whole: set[str] = set()
    checkpoints: set[str] = set()
    for sent in pushes:
        push = but(sent, known_hashes=frozenset(whole), checkpoint_hashes=frozenset(checkpoints))
        verdict = judge(current, push)
        if verdict.stores:
            (checkpoints if verdict.outcome == "checkpoint" else whole).add(push.sha256)
        assert push.sha256 in whole | checkpoints
        if verdict.outcome == "current":
            assert push.header is not None
            assert not push.partial
            assert current is None or (push.header.serial > current.serial and push.header.lineage == current.lineage)
            assert current is None or push.assignment_fence >= current.state_fence
            current = Current(push.header.serial, push.header.lineage, push.sha256, push.assignment_fence)


def test_a_user_may_upload_the_next_state() -> None:
    assert check_upload(CURRENT, header(serial=9), "sha-new", force=False) == Upload(duplicate=False, serial=9)
    assert check_upload(None, header(serial=0), "sha-new", force=False) == Upload(duplicate=False, serial=0)


@pytest.mark.parametrize("force", [False, True])
def test_uploading_the_current_state_again_changes_nothing(force: bool) -> None:
    assert check_upload(CURRENT, header(serial=5), "sha-current", force=force) == Upload(duplicate=True, serial=5)


@pytest.mark.parametrize("serial", [4, 5])
def test_an_upload_that_does_not_go_forward_is_refused_with_both_serials(serial: int) -> None:
    with pytest.raises(Conflict, match=rf"serial {serial}, the workspace is at 5.*force") as refused:
        check_upload(CURRENT, header(serial=serial), "sha-new", force=False)
    assert refused.value.code == "state_serial_too_low"
    assert refused.value.extras == {"serial": serial, "current_serial": 5}


def test_an_upload_of_another_lineage_is_refused_with_both_lineages() -> None:
    with pytest.raises(Conflict, match=r"lineage other, .* has mine.*force") as refused:
        check_upload(CURRENT, header(lineage="other"), "sha-new", force=False)
    assert refused.value.code == "state_lineage_differs"


@pytest.mark.parametrize(("sent", "stored"), [(2, 6), (5, 6), (6, 6), (40, 40)])
def test_a_forced_upload_never_takes_the_serial_back(sent: int, stored: int) -> None:
    forced = check_upload(CURRENT, header(serial=sent, lineage="other"), "sha-new", force=True)
    assert forced == Upload(duplicate=False, serial=stored)


def old_state(lineage: str) -> bytes:
    return json.dumps({"version": 4, "serial": 2, "lineage": lineage, "outputs": {}, "resources": []}).encode()


def test_a_rollback_is_the_old_state_under_the_next_serial() -> None:
    rolled_back = rollback(CURRENT, old_state("mine"))
    assert inspect(rolled_back).serial == 6
    assert rolled_back == old_state("mine").replace(b'"serial": 2', b'"serial": 6')


def test_a_rollback_across_lineages_is_refused() -> None:
    with pytest.raises(Conflict) as refused:
        rollback(CURRENT, old_state("other"))
    assert refused.value.code == "state_lineage_differs"


def test_a_rollback_to_bytes_that_are_no_state_is_refused() -> None:
    with pytest.raises(Invalid):
        rollback(CURRENT, b"{}")


# Checkpoints that came too late, and what humans decide


@pytest.mark.parametrize(("serial", "expected"), [(6, "duplicate"), (7, "checkpoint"), (8, "checkpoint")])
def test_a_checkpoint_that_was_overtaken_is_known_already(serial: int, expected: str) -> None:
    assert judge(CURRENT, but(partial=True, header=header(serial), newest_serial=7)).outcome == expected


def test_a_final_state_is_judged_whatever_came_before_it() -> None:
    assert judge(CURRENT, but(header=header(6), newest_serial=9)).outcome == "current"


@pytest.mark.parametrize(
    ("current", "fence", "found", "expected"),
    [
        (None, 12, header(1), None),
        (CURRENT, 12, header(6), None),
        (CURRENT, 12, header(5), "already taken"),
        (CURRENT, 12, header(4), "serial is 4"),
        (CURRENT, 12, header(6, "other"), "lineage"),
        (CURRENT, 9, header(6), "abandoned"),
    ],
)
def test_a_checkpoint_is_adopted_only_if_it_continues_the_current_state(
    current: Current | None, fence: int, found: StateHeader, expected: str | None
) -> None:
    verdict = adoption(current, fence, "sha-new", found)
    assert (verdict.outcome == "current") is (expected is None)
    assert expected is None or expected in str(verdict.message)


def test_a_checkpoint_that_is_the_current_state_already_says_so() -> None:
    assert adoption(CURRENT, 12, "sha-current", header(5)).message == "It is the current state already."


@pytest.mark.parametrize(("serial", "expected"), [(3, 6), (5, 6), (6, 6), (9, 9)])
def test_a_promoted_state_never_takes_the_serial_back(serial: int, expected: int) -> None:
    assert promotion(CURRENT, header(serial), "sha-new", force=False) == Upload(duplicate=False, serial=expected)


def test_the_first_state_is_promoted_as_it_is() -> None:
    assert promotion(None, header(3, "any"), "sha-new", force=False) == Upload(duplicate=False, serial=3)


def test_another_lineage_is_promoted_by_force_only() -> None:
    with pytest.raises(Conflict) as refused:
        promotion(CURRENT, header(9, "other"), "sha-new", force=False)
    assert refused.value.code == "state_lineage_differs"
    assert promotion(CURRENT, header(3, "other"), "sha-new", force=True) == Upload(duplicate=False, serial=6)


def test_the_current_bytes_are_promoted_already() -> None:
    assert promotion(CURRENT, header(9, "other"), "sha-current", force=False) == Upload(duplicate=True, serial=5)
