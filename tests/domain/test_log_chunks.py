"""What agents send packed: exactly what was meant, or refused before it costs anything."""

from __future__ import annotations

import base64
import gzip
import hashlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.log_chunks import check, unpacked
from iac.errors import BadRequest, TooLarge

MIB = 1024 * 1024


def text(packed: bytes) -> str:
    return base64.b64encode(packed).decode()


def opened(packed: str, *, limit: int = MIB, packed_limit: int = MIB) -> bytes:
    return unpacked(packed, packed_limit=packed_limit, limit=limit, too_large="chunk_too_large")


@given(st.binary(max_size=5000))
def test_what_was_packed_comes_out(data: bytes) -> None:
    assert opened(text(gzip.compress(data))) == data


def test_an_empty_text_is_no_bytes() -> None:
    assert opened("") == b""


GOOD = gzip.compress(b"some text that is long enough to be cut")


@pytest.mark.parametrize(
    "packed",
    [
        "no base64!",
        "YWJj\n",
        "é",
        text(b"not gzip"),
        text(GOOD[:-5]),
        text(GOOD + b"x"),
        text(GOOD + GOOD),
        text(GOOD[:12] + b"\xff" * 10 + GOOD[22:]),
        text(GOOD[:-8] + b"\0" * 8),
    ],
    ids=lambda _: "case",
)
def test_anything_but_one_whole_gzip_member_is_refused(packed: str) -> None:
    with pytest.raises(BadRequest) as caught:
        opened(packed)
    assert caught.value.code == "bad_encoding"


def test_the_limit_itself_is_allowed_and_a_byte_more_is_not() -> None:
    assert len(opened(text(gzip.compress(b"x" * 1000)), limit=1000)) == 1000
    with pytest.raises(TooLarge) as caught:
        opened(text(gzip.compress(b"x" * 1001)), limit=1000)
    assert caught.value.code == "chunk_too_large"


def test_a_text_that_is_too_long_is_not_even_decoded() -> None:
    with pytest.raises(TooLarge):
        opened("A" * 2000, packed_limit=1000)


def test_a_bomb_stops_at_the_limit() -> None:
    bomb = text(gzip.compress(b"\0" * (256 * MIB), 9))
    tracemalloc.start()
    with pytest.raises(TooLarge):
        opened(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MIB


def test_bytes_are_checked_against_their_sum_and_their_number() -> None:
    digest = hashlib.sha256(b"abc").hexdigest()
    check(b"abc", digest)
    check(b"abc", digest, 3)
    for data, length in ((b"abd", 3), (b"abc", 4), (b"", None)):
        with pytest.raises(BadRequest) as caught:
            check(data, digest, length)
        assert caught.value.code == "checksum_mismatch"
