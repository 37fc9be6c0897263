"""What the pages of pools and agents are made of, as PostgreSQL puts it together."""

from __future__ import annotations

import asyncio

import pytest

from iac.errors import Invalid, NotFound
from iac.store import assignments, pool_pages
from iac.store.database import Database
from tests.browser.scenery import Scenery, furnish
from tests.store import given
from tests.store.pooled import a_pool, a_served_workspace, a_token, an_agent, handed_out


@pytest.fixture
def scenery(database_url: str) -> Scenery:
    return asyncio.run(furnish(database_url))


async def test_the_list_has_every_pool_with_its_glance_and_whom_it_serves(database: Database, scenery: Scenery) -> None:
    found = await database.read(pool_pages.pools_situation, None)
    assert [pool.name for pool in found.pools] == ["cluster", "edge", "eu-west"]
    assert set(found.glances) == {pool.id for pool in found.pools}
    assert found.allowed["pool-edge"] == 3
    assert [each.name for each in found.newcomers] == ["pod-new"]
    after = await database.read(pool_pages.pools_situation, "pool-cluster")
    assert [pool.name for pool in after.pools] == ["edge", "eu-west"]
    with pytest.raises(Invalid):
        await database.read(pool_pages.pools_situation, "pool-none")


async def test_a_pool_has_its_own_agents_and_tasks_and_its_tokens_for_those_who_may(
    database: Database, scenery: Scenery
) -> None:
    found = await database.read(pool_pages.pool_situation, "edge", after=None, with_tokens=False)
    assert {task.id for task in found.open} == {scenery.tasks[f"queued-{n}"] for n in range(3)}
    assert (found.agents, found.tokens, len(found.allowed)) == ([], [], 3)
    west = await database.read(pool_pages.pool_situation, "eu-west", after="agent-dub-01", with_tokens=True)
    assert [agent.name for agent in west.agents] == ["dub-02", "dub-03"]
    with pytest.raises(NotFound):
        await database.read(pool_pages.pool_situation, "nowhere", after=None, with_tokens=False)


async def test_tokens_know_how_many_agents_came_with_them(database: Database) -> None:
    await a_pool(database)
    token, other = await a_token(database), await a_token(database)
    for number in range(2):
        await an_agent(database, token, f"web-{number}", number)
    found = await database.read(pool_pages.pool_situation, "p", after=None, with_tokens=True)
    assert found.holders == {token.id: 2}
    assert {each.id for each in found.tokens} == {token.id, other.id}
    _, known = await database.read(pool_pages.token, "p", other.id)
    assert known is not None
    assert (await database.read(pool_pages.token, "p", "ptok-none"))[1] is None


async def test_a_pool_can_be_allowed_what_it_is_not_allowed_yet(database: Database) -> None:
    pool = await a_pool(database)
    await given.a_workspace(database, "b")
    await given.a_workspace(database, "a")
    await a_served_workspace(database, "c")
    assert await database.read(pool_pages.not_allowed, pool.id) == ["a", "b"]


async def test_an_agents_history_is_newest_first_and_says_which_hand_out_counts(database: Database) -> None:
    await a_pool(database)
    token = await a_token(database)
    agent = await an_agent(database, token)
    ws = await a_served_workspace(database)
    task = await given.a_task(database, ws.id, "plan")
    held, _ = await handed_out(database, task, agent.agent_id)
    record, running, stints, came_with = await database.read(pool_pages.agent_situation, agent.agent_id)
    assert (record.name, running) == ("web", {task.id: "plan"})
    assert came_with is not None
    assert came_with.id == token.id
    [stint] = stints
    assert (stint.task.id, stint.phase, stint.attempt, stint.ended_at, stint.current) == (
        task.id,
        "plan",
        1,
        None,
        True,
    )
    await database.tx(assignments.ended, held.fence)
    [stint] = (await database.read(pool_pages.agent_situation, agent.agent_id))[2]
    assert stint.ended_at is not None
