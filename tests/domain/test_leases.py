"""Leases: silence means loss, but only the agent's, and only while we could hear."""

from __future__ import annotations

from iac.domain.leases import Leases, Metronome

A, B = ("agent-a", 1), ("agent-b", 2)


def test_what_is_heard_goes_on_and_what_is_not_is_over_after_its_time() -> None:
    leases = Leases(120)
    assert leases.overdue([A, B], 0) == []
    leases.heard("agent-a", [1], 100)
    assert leases.overdue([A, B], 119) == []
    assert leases.overdue([A, B], 120) == [B]
    assert leases.overdue([A], 219) == []
    assert leases.overdue([A], 220) == [A]


def test_a_lease_begins_when_it_is_first_seen_so_a_server_that_starts_loses_nobody() -> None:
    leases = Leases(120)
    assert leases.overdue([A], 1_000_000) == []
    assert leases.overdue([A], 1_000_119) == []


def test_another_agent_cannot_prolong_it() -> None:
    leases = Leases(120)
    leases.overdue([A], 0)
    leases.heard("agent-b", [1], 119)
    assert leases.overdue([A], 120) == [A]


def test_after_deafness_every_lease_begins_anew() -> None:
    leases = Leases(120)
    leases.overdue([A, B], 0)
    leases.restart(119)
    assert leases.overdue([A, B], 238) == []
    assert leases.overdue([A, B], 239) == [A, B]


def test_what_is_not_out_there_any_more_is_forgotten() -> None:
    leases = Leases(120)
    leases.heard("agent-a", [1], 0)
    assert leases.overdue([], 1) == []
    assert leases.overdue([A], 500) == []


def test_a_gap_of_more_than_three_ticks_is_a_stall() -> None:
    metronome = Metronome(every=1, now=0)
    assert [metronome.stalled(now) for now in (1, 2, 5, 8.1, 9, 309)] == [False, False, False, True, False, True]
