"""The faults of a soak come from its seed."""

from __future__ import annotations

from itertools import pairwise

from tests.soak.schedule import BREATH, KINDS, kind_of, schedule

TARGETS = ["server", "postgres", "agent 1", "agent 2", "wire 3", "wire 4"]


def test_a_seed_gives_the_same_faults_again_and_another_one_others() -> None:
    first, again, other = (schedule(seed, seconds=300, targets=TARGETS, every=4, longest=30) for seed in "aab")
    assert first == again != other


def test_faults_are_over_in_time_and_a_target_has_one_at_a_time() -> None:
    for seed in range(50):
        faults = schedule(str(seed), seconds=300, targets=TARGETS, every=2, longest=30)
        assert all(fault.at >= 0 and fault.at + fault.lasts <= 300 for fault in faults)
        assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
        for target in TARGETS:
            own = [fault for fault in faults if fault.target == target]
            assert all(one.at + one.lasts + BREATH <= two.at + 0.02 for one, two in pairwise(own))


def test_every_kind_of_fault_comes_and_only_where_it_makes_sense() -> None:
    faults = schedule("any", seconds=20_000, targets=TARGETS, every=4, longest=10)
    seen = {(kind_of(fault.target), fault.kind) for fault in faults}
    assert seen == {(target, kind) for target, kinds in KINDS.items() for kind, _ in kinds}
