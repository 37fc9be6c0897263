"""What goes when raw logs have taken their share of an agent's disk."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iac.domain.log_transform import Gap
from iac.domain.spool_quota import KEPT, READ_AHEAD, GiveUp, RawLog, refuses, to_give_up

MIB = 1024 * 1024


def raw(fence: int = 1, *, size: int, read_to: int = 0, sent_to: int = 0, **more: tuple[Gap, ...]) -> RawLog:
    return RawLog(fence=fence, allocated=size, size=size, read_to=read_to, sent_to=sent_to, **more)


def test_new_tasks_are_refused_well_before_the_end() -> None:
    assert not refuses(79, 100)
    assert refuses(80, 100)


def test_nothing_goes_while_there_is_room() -> None:
    assert to_give_up([raw(size=99 * MIB)], 99 * MIB, 100 * MIB) is None


def test_what_the_server_has_goes_first() -> None:
    log = raw(size=100 * MIB, read_to=60 * MIB, sent_to=50 * MIB)
    assert to_give_up([log], 100 * MIB, 100 * MIB) == GiveUp(1, "stored", Gap(KEPT, 50 * MIB))


def test_then_the_middle_of_what_was_not_read() -> None:
    log = raw(size=100 * MIB, read_to=60 * MIB, sent_to=50 * MIB, stored=(Gap(KEPT, 50 * MIB),))
    gap = Gap(60 * MIB + READ_AHEAD, 99 * MIB)
    assert to_give_up([log], 100 * MIB, 100 * MIB) == GiveUp(1, "dropped", gap)


def test_a_gap_that_was_not_reached_grows_and_one_that_was_stays() -> None:
    first = Gap(4 * MIB, 50 * MIB)
    unread = raw(size=80 * MIB, read_to=3 * MIB, dropped=(first,))
    assert to_give_up([unread], 80 * MIB, 80 * MIB) == GiveUp(1, "dropped", Gap(4 * MIB, 79 * MIB), extends=True)
    reached = raw(size=80 * MIB, read_to=4 * MIB, dropped=(first,))
    taken = to_give_up([reached], 80 * MIB, 80 * MIB)
    assert taken is not None
    assert not taken.extends


def test_the_largest_log_goes_first_and_one_without_a_middle_not_at_all() -> None:
    small, large = raw(1, size=10 * MIB), raw(2, size=20 * MIB)
    taken = to_give_up([small, large], 30 * MIB, 30 * MIB)
    assert taken is not None
    assert taken.fence == 2
    assert to_give_up([raw(size=2 * MIB)], 30 * MIB, 30 * MIB) is None


@given(size=st.integers(0, 50 * MIB), share=st.floats(0, 1), sent=st.floats(0, 1))
def test_neither_head_nor_tail_nor_what_is_being_read_ever_goes(size: int, share: float, sent: float) -> None:
    read_to = int(size * share)
    log = raw(size=size, read_to=read_to, sent_to=int(read_to * sent))
    taken = to_give_up([log], size, 0)
    if taken is None:
        return
    gap = taken.gap
    assert KEPT <= gap.start < gap.end <= size - KEPT
    if taken.kind == "dropped":
        assert gap.start >= read_to + READ_AHEAD
    else:
        assert gap.end <= log.sent_to
