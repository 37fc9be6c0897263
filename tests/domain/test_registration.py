"""Who a registering agent is: the same one, a newcomer, or one that has to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.agent_tokens import make_token, token_hash
from iac.domain.registration import ENTROPY, HEARD_WITHIN, Enrolment, Known, enrol, suffixed
from iac.errors import Conflict, Forbidden, Unavailable

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SECRET = make_token("instance", b"s" * 32)
OTHER = make_token("instance", b"t" * 32)
FREE = ("web-bbbbb", "web-ccccc")


def known(
    agent_id: str = "agent-a", name: str = "web", *, silent_s: float = 5, used: bool = True, gone: bool = False
) -> Known:
    heard_at = NOW - timedelta(seconds=silent_s)
    return Known(agent_id=agent_id, name=name, secret_hash=token_hash(SECRET), heard_at=heard_at, used=used, gone=gone)


def register(name: str = "web", secret: str | None = None, **facts: Any) -> Enrolment:
    usual: dict[str, Any] = {"policy": "unique", "require_approval": False, "same": None, "holder": None, "free": FREE}
    return enrol(name, secret, **{**usual, **facts}, now=NOW)


def test_a_first_register_is_a_new_agent_with_a_secret() -> None:
    assert register() == Enrolment(agent_id=None, name="web", new_secret=True)


def test_the_same_instance_with_its_secret_is_the_same_agent_however_long_it_was_away() -> None:
    for silent in (0, 59, 61, 1e7):
        same = known(silent_s=silent)
        assert register(secret=SECRET, same=same, holder=same) == Enrolment(
            agent_id="agent-a", name="web", new_secret=False
        )


@pytest.mark.parametrize("secret", [None, OTHER, "", "é", SECRET[:-1]])
def test_an_instance_without_its_secret_is_refused_and_told_what_to_do(secret: str | None) -> None:
    same = known()
    with pytest.raises(Forbidden, match="data directory") as refused:
        register(secret=secret, same=same, holder=same)
    assert refused.value.code == "instance_mismatch"
    assert SECRET not in refused.value.message


def test_an_answer_that_was_lost_may_be_asked_for_again_with_a_new_secret() -> None:
    same = known(used=False)
    assert register(same=same, holder=same) == Enrolment(agent_id="agent-a", name="web", new_secret=True)


def test_a_wrong_secret_is_refused_even_from_an_instance_that_was_never_used() -> None:
    same = known(used=False)
    with pytest.raises(Forbidden):
        register(secret=OTHER, same=same, holder=same)


def test_a_name_whose_holder_was_heard_a_moment_ago_is_in_use() -> None:
    with pytest.raises(Conflict) as refused:
        register(holder=known(silent_s=20))
    assert refused.value.code == "name_in_use"
    assert refused.value.extras["retry_after_s"] == 41


def test_the_name_of_an_agent_that_was_silent_for_a_minute_goes_to_a_new_one_and_the_old_one_retires() -> None:
    holder = known(silent_s=HEARD_WITHIN.total_seconds())
    assert register(holder=holder) == Enrolment(agent_id=None, name="web", new_secret=True, retire="agent-a")


def test_the_name_of_an_agent_that_said_goodbye_is_free_at_once_unless_an_admin_has_to_approve() -> None:
    holder = known(silent_s=1, gone=True)
    assert register(holder=holder).retire == "agent-a"
    with pytest.raises(Conflict, match="approves its agents"):
        register(holder=holder, require_approval=True)


def test_a_clock_that_went_back_does_not_give_a_name_away() -> None:
    with pytest.raises(Conflict):
        register(holder=known(silent_s=-3600))


def test_a_newcomer_that_nobody_approved_cannot_push_an_agent_out() -> None:
    with pytest.raises(Conflict, match="retire") as refused:
        register(holder=known(silent_s=1e6), require_approval=True)
    assert refused.value.code == "name_in_use"


def test_an_agent_with_another_name_than_before_is_renamed_if_the_name_is_free() -> None:
    same = known(name="old")
    assert register(secret=SECRET, same=same).name == "web"
    with pytest.raises(Conflict):
        register(secret=SECRET, same=same, holder=known("agent-b"))
    taken_over = register(secret=SECRET, same=same, holder=known("agent-b", silent_s=100))
    assert (taken_over.agent_id, taken_over.retire) == ("agent-a", "agent-b")


def test_in_a_pool_with_suffixes_everybody_gets_one_and_nobody_waits() -> None:
    made = register(policy="suffix", holder=known(silent_s=0))
    assert made == Enrolment(agent_id=None, name="web-bbbbb", new_secret=True)


def test_a_suffix_stays_with_its_agent() -> None:
    same = known(name="web-zzzzz")
    assert register(secret=SECRET, policy="suffix", same=same).name == "web-zzzzz"


@pytest.mark.parametrize("old", ["web", "api-zzzzz", "web-zzzz", "web-zzzzzz", "webzzzzzz", "web-2-zzzzz", "b"])
def test_a_name_that_is_not_this_one_with_a_suffix_is_replaced(old: str) -> None:
    assert register(secret=SECRET, policy="suffix", same=known(name=old)).name == "web-bbbbb"


def test_when_no_candidate_is_free_it_is_to_be_tried_again() -> None:
    with pytest.raises(Unavailable):
        register(policy="suffix", free=())


def test_an_agent_of_a_pool_that_gave_up_suffixes_gets_its_plain_name() -> None:
    assert register(secret=SECRET, same=known(name="web-zzzzz")).name == "web"


@given(st.text(min_size=1, max_size=90), st.binary(min_size=ENTROPY, max_size=ENTROPY))
def test_suffixed_names_are_the_name_and_five_letters_that_are_kept_the_next_time(name: str, entropy: bytes) -> None:
    names = suffixed(name, entropy)
    assert len(names) == 6
    for each in names:
        assert each.startswith(f"{name}-")
        assert len(each) == len(name) + 6
        assert register(name, SECRET, policy="suffix", same=known(name=each)).name == each
