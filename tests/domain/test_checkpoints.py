"""How often a running apply's state is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.checkpoints import (
    BYTES_PER_SECOND,
    EVERY,
    LONGEST,
    RETRY_MOST,
    SHARE,
    pause_after,
    pause_after_failure,
)

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("size", "took", "pause"),
    [(10_000, 0.01, EVERY), (0, 0.0, EVERY), (50 * MIB, 2.0, 50.0), (50 * MIB, 8.0, 72.0), (10_000, 3.0, 27.0)],
)
def test_a_small_state_is_sent_each_second_and_a_large_one_seldom(size: int, took: float, pause: float) -> None:
    assert pause_after(size, took) == pytest.approx(pause)


@given(st.integers(0, 500 * MIB), st.floats(0, LONGEST / 10))
def test_a_tenth_of_the_time_and_a_megabyte_a_second_are_never_exceeded(size: int, took: float) -> None:
    pause = pause_after(size, took)
    assert took / (took + pause) <= SHARE + 1e-9
    assert size / pause <= BYTES_PER_SECOND + 1e-6 or pause == LONGEST


def test_failures_make_the_pause_longer_up_to_half_a_minute() -> None:
    pauses = [pause_after_failure(failures, EVERY) for failures in range(1, 9)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (2.0, RETRY_MOST)
    assert pause_after_failure(1, 50.0) == 50.0
    assert pause_after_failure(10_000, EVERY) == RETRY_MOST
