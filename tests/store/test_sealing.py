"""Sealed values open only here, only whole, only in their place, and also with yesterday's key."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.errors import StartFailed
from iac.store.sealing import CannotUnseal, Keyring, key_id, open_keyring

NEW, OLD = "new-secret-0123456789", "old-secret-0123456789"
RING = Keyring(NEW)


@given(st.binary(max_size=300), st.text(max_size=20))
def test_what_was_sealed_opens_in_its_place_only(plain: bytes, purpose: str) -> None:
    sealed = RING.seal(plain, purpose)
    assert RING.unseal(sealed, purpose) == plain
    with pytest.raises(CannotUnseal):
        RING.unseal(sealed, purpose + "x")


@given(st.data())
def test_a_single_changed_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(RING.seal(b"the state of production", "state:sv-1"))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CannotUnseal):
        RING.unseal(bytes(sealed), "state:sv-1")


@given(st.integers(0, 200))
def test_a_value_that_was_cut_short_is_noticed(length: int) -> None:
    sealed = RING.seal(b"x" * 40, "p")
    if length < len(sealed):
        with pytest.raises(CannotUnseal):
            RING.unseal(sealed[:length], "p")


def test_the_same_value_never_looks_the_same_twice() -> None:
    assert len({RING.seal(b"", "p") for _ in range(50)}) == 50


def test_two_keys_do_not_open_each_others_values() -> None:
    with pytest.raises(CannotUnseal, match=f"needs key {Keyring(OLD).current}, which IAC_SECRET_KEY does not hold"):
        RING.unseal(Keyring(OLD).seal(b"plain", "p"), "p")


def test_an_old_key_in_second_place_still_opens_and_the_first_one_seals() -> None:
    old = Keyring(OLD).seal(b"plain", "p")
    both = Keyring(NEW, OLD)
    assert both.unseal(old, "p") == b"plain"
    assert key_id(both.seal(b"plain", "p")) == RING.current == both.current
    assert both.ids == (RING.current, Keyring(OLD).current)


def test_the_data_keys_of_two_values_cannot_be_exchanged() -> None:
    one, other = RING.seal(b"one!", "p"), RING.seal(b"two!", "p")
    head = 4 + 8 + 12 + 48
    with pytest.raises(CannotUnseal):
        RING.unseal(one[:head] + other[head:], "p")


def test_what_is_not_sealed_at_all_says_so() -> None:
    for data in (b"", b"IAC1", b"plain text that is long enough to be something", b"IAC2" + bytes(100)):
        with pytest.raises(CannotUnseal, match="not a sealed value"):
            RING.unseal(data, "p")


def test_a_keyring_shows_ids_and_no_secret() -> None:
    assert repr(Keyring(NEW, OLD)) == f"Keyring({RING.current}, {Keyring(OLD).current})"
    assert NEW not in repr(RING.__dict__)


def test_the_form_of_today_is_read_for_ever() -> None:
    """Sealed by the first release: if this fails, stored data cannot be read any more."""
    assert Keyring("frozen-secret-of-the-first-release").unseal(FROZEN, "variable:var-1") == b"still here"


FROZEN = bytes.fromhex(
    "494143312efc2c56c4d8f4e68c64d751c0f50ee689fabcfc918d2926d03830460e7243773278ec11a9bad6c489f19a23"
    "11508c21c2ed79e7357699233cc01103be4c95ac08d035b0b60d839838b882a99615f5f263b6caeacdea8049e5ce6d65"
    "6f6ef70a1723bd5cbde4deb0f697"
)


def test_the_first_start_makes_a_key_that_only_its_owner_reads_and_the_second_finds_it(tmp_path: Path) -> None:
    first = open_keyring(None, tmp_path)
    file = tmp_path / "secret.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert open_keyring(None, tmp_path).current == first.current
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"], "nothing half-written stays"


def test_the_environments_key_goes_before_the_file(tmp_path: Path) -> None:
    assert open_keyring(f"{NEW},{OLD}", tmp_path).ids == Keyring(NEW, OLD).ids
    assert list(tmp_path.iterdir()) == []


def test_the_file_may_hold_several_keys_as_well(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text(f"{NEW},{OLD}\n")
    assert open_keyring(None, tmp_path).ids == Keyring(NEW, OLD).ids


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_key_file_that_is_no_good_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret.key"
    file.write_bytes(content)
    with pytest.raises(StartFailed, match=r"^IAC_SECRET_KEY: not set, and ") as failed:
        open_keyring(None, tmp_path)
    assert failed.value.exit_code == 78
    assert file.read_bytes() == content


def test_a_start_that_was_cut_off_while_it_made_the_key_does_not_stop_the_next(tmp_path: Path) -> None:
    """In a container the next life has the same process id."""
    made = open_keyring(None, tmp_path)
    (tmp_path / "secret.key").rename(tmp_path / f".secret.key.{os.getpid()}")
    assert open_keyring(None, tmp_path).current != made.current
