"""Why no agent is there: each reason has a word and says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from iac.domain.pool_waits import PoolOutlook, asks_why, explained
from iac.domain.scheduling import NO_RUNNER, Wait
from tests.domain.builders import a_task

TASK = a_task(status="queued", execution_mode="agent", pool_id="pool-1", workspace_id="ws-1", workspace_name="shop")
LONELY = Wait(NO_RUNNER, "nobody", 7)


def outlook(**facts: Any) -> PoolOutlook:
    usual = {"allows": frozenset({"ws-1"}), "used_by": frozenset({"ws-1"}), "agents": 2, "unapproved": 1}
    return PoolOutlook(name="hosts", **{**usual, **facts})


@pytest.mark.parametrize(
    ("facts", "code", "told"),
    [
        ({}, "no_agent_online", "No agent of pool hosts is online; 2 agents registered there."),
        ({"agents": 0, "unapproved": 0}, "no_agent_online", "has no agents yet"),
        ({"agents": 1, "unapproved": 1}, "agents_not_approved", "1 agent of pool hosts"),
        ({"allows": frozenset({"ws-2"})}, "pool_not_allowed", "Pool hosts may not serve workspace shop"),
        ({"used_by": frozenset(), "allows": frozenset()}, "pool_changed", "does not use pool hosts any more"),
    ],
)
def test_a_lonely_task_says_what_its_pool_lacks(facts: Mapping[str, Any], code: str, told: str) -> None:
    wait = explained(TASK, LONELY, outlook(**facts))
    assert (wait.code, wait.position) == (code, 7)
    assert told in wait.message


def test_only_lonely_tasks_of_a_pool_ask_why() -> None:
    assert asks_why(TASK, LONELY)
    assert not asks_why(TASK, None)
    assert not asks_why(TASK, Wait("no_free_slot", "All 3 plan slots are in use."))
    assert not asks_why(a_task(status="queued", execution_mode="agent", pool_id=None), LONELY)
    assert not asks_why(a_task(status="queued"), LONELY)
