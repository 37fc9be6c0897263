"""Names of things: their form, and that they carry their entropy."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.ids import ALPHABET, LENGTH, Prefix, is_id, is_name, make_id

ENTROPY = st.binary(min_size=16, max_size=16)
PREFIXES: tuple[Prefix, ...] = get_args(Prefix)


@given(st.sampled_from(PREFIXES), ENTROPY)
def test_an_id_says_what_it_is_of_and_can_never_be_a_name(prefix: Prefix, entropy: bytes) -> None:
    made = make_id(prefix, entropy)
    head, _, tail = made.partition("-")
    assert (head, len(tail)) == (prefix, LENGTH)
    assert set(tail) <= set(ALPHABET)
    assert is_id(made)
    assert not is_name(made)


@given(ENTROPY, ENTROPY)
def test_other_entropy_is_another_id(one: bytes, other: bytes) -> None:
    def kept(entropy: bytes) -> int:
        possible: int = len(ALPHABET) ** LENGTH
        return int.from_bytes(entropy, "big") % possible

    assert (make_id("ws", one) == make_id("ws", other)) == (kept(one) == kept(other))


@pytest.mark.parametrize("name", ["a", "A-1", "my space", "prod.eu_west-1", "x" * 90, "ws-short", "0"])
def test_names_for_people_are_accepted(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "-a", "a.", "x" * 91, "a/b", "a\nb", "a\n", "ä", "ws-0123456789abcdef", "a\tb", "../x"]
)
def test_what_would_confuse_a_path_a_shell_or_an_id_is_no_name(name: str) -> None:
    assert not is_name(name)


@pytest.mark.parametrize(
    "text", ["ws-0123456789abcde", "ws-0123456789abcdefg", "WS-0123456789abcdef", "ws_0123456789abcdef", ""]
)
def test_what_only_looks_a_bit_like_an_id_is_none(text: str) -> None:
    assert not is_id(text)
