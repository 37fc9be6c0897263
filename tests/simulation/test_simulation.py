"""Server, agents and a bad network in one process, under a clock of their own: seeded, so that a failure comes again.

A few hundred stories here; `make simulate` tells ten thousand.
"""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation, orders_are_not_known_again
from tests.simulation.story import Story, violation

HUNDREDS = 4
ENOUGH = 3000
"""Seeds within which a missing guard must have done harm."""
LOOK_FIRST = {
    "starts_without_a_lease": 379,
    "the_lost_stay_lost": 109,
    "abandoned_states_count": 869,
    "states_are_overwritten": 297,
}
"""Where the harm comes late: a seed that told of it once. When stories change, it is looked for from there on."""


@pytest.mark.parametrize("hundred", range(HUNDREDS))
def test_whatever_fails_no_promise_is_broken(hundred: int) -> None:
    broken = [found for seed in range(hundred * 100, hundred * 100 + 100) if (found := violation(seed)) is not None]
    assert broken == []


def test_a_seed_tells_the_same_story_again() -> None:
    stories = [Story(7), Story(7)]
    for story in stories:
        story.run()
    assert stories[0].rows.tasks == stories[1].rows.tasks
    assert stories[0].oracle.applied == stories[1].oracle.applied
    assert stories[0].rows.states == stories[1].rows.states
    assert any(task.attempt for task in stories[0].rows.tasks.values())


def test_the_stories_are_not_harmless() -> None:
    """Applies, second attempts, lost tasks and quarantined states do occur, or nothing would have been tried."""
    wanted = {"succeeded", "failed", "cancelled", "lost", "attempt 2", "agent_lost", "current"}
    seen = set[str]()
    for seed in range(200):
        story = Story(seed)
        story.run()
        for task in story.rows.tasks.values():
            seen |= {task.status, task.reason or "", f"attempt {task.attempt}"}
        seen |= {state.outcome for states in story.rows.states.values() for state in states}
        if seen >= wanted:
            break
    assert seen >= wanted


def test_a_seed_that_broke_a_promise_breaks_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times = orders_are_not_known_again(monkeypatch)
    seed = next(seed for seed in range(ENOUGH) if violation(seed, times))
    assert violation(seed, times) == violation(seed, times)


@pytest.mark.parametrize("without", MUTATIONS)
def test_a_guard_that_is_taken_away_is_missed(without: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    times = without(monkeypatch)
    first = LOOK_FIRST.get(without.__name__, 0)
    assert any(violation(seed, times) for seed in (*range(first, ENOUGH), *range(first))), "nobody noticed"
