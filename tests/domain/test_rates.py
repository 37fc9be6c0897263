"""Token buckets: a burst after a rest, and never more than the rate for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iac.domain.rates import Bucket, Rate, Rates

MINUTE = Rate(per_second=1 / 60, burst=2)


def test_a_burst_may_come_at_once_and_then_one_waits() -> None:
    bucket = Bucket(MINUTE, now=0)
    assert [bucket.take(1, 0), bucket.take(1, 0)] == [0.0, 0.0]
    assert bucket.take(1, 0) == 60
    assert bucket.take(1, 30) == 30
    assert bucket.take(1, 60) == 0.0


def test_a_rest_gives_the_burst_back_and_no_more() -> None:
    bucket = Bucket(MINUTE, now=0)
    bucket.take(2, 0)
    assert [bucket.take(1, 10_000) for _ in range(3)] == [0.0, 0.0, 60.0]


def test_senders_do_not_share_a_bucket() -> None:
    rates = Rates(MINUTE)
    assert [rates.take(sender, 0) for sender in ("a", "a", "b")] == [0.0, 0.0, 0.0]
    assert rates.take("a", 0) == 60


def test_of_too_many_senders_the_quietest_is_forgotten() -> None:
    rates = Rates(MINUTE, most=2)
    for sender in ("a", "a", "b", "a", "c"):
        rates.take(sender, 0)
    assert rates.take("a", 0) > 0  # it was heard after b
    assert rates.take("b", 0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 3)), max_size=60))
def test_in_any_time_nobody_gets_more_than_the_burst_and_the_rate(asked: list[tuple[float, float]]) -> None:
    rate = Rate(per_second=0.5, burst=3)
    bucket, now, got = Bucket(rate, 0), 0.0, 0.0
    for pause, amount in asked:
        now += pause
        if not bucket.take(amount, now):
            got += amount
        assert got <= rate.burst + now * rate.per_second + 1e-6
