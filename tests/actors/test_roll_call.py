"""Heartbeats that are noted together: each gets its own answer, and none suffers from another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from msgspec.structs import replace

from iac.actors.roll_call import Called, RollCall
from iac.domain.messages import Heartbeat, Held
from iac.domain.records import PoolToken
from iac.store import agents
from iac.store.database import Database
from tests.store import given, pooled

BEAT = Heartbeat(
    agent_id="x", status="idle", plan_running=0, plan_limit=5, apply_running=False, current_tasks=(), cpu_usage=0.25,
    mem_usage=0.5, disk_free=10**12,
)  # fmt: skip
BEYOND = 2**70
"""A fence that no column can hold."""


@pytest.fixture
async def token(database: Database) -> PoolToken:
    await pooled.a_pool(database)
    return await pooled.a_token(database)


@asynccontextmanager
async def calling(database: Database) -> AsyncIterator[RollCall]:
    roll_call = RollCall(database)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roll_call.run)
        yield roll_call
        nursery.cancel_scope.cancel()


async def all_at_once(roll_call: RollCall, beats: dict[str, Heartbeat]) -> dict[str, Called | Exception]:
    answers: dict[str, Called | Exception] = {}

    async def ask(agent_id: str, beat: Heartbeat) -> None:
        try:
            answers[agent_id] = await roll_call.answer(agent_id, beat, soon=False)
        except Exception as error:
            answers[agent_id] = error

    async with trio.open_nursery() as nursery:
        for agent_id, beat in beats.items():
            nursery.start_soon(ask, agent_id, beat)
    return answers


def with_task(fence: int) -> Heartbeat:
    return replace(BEAT, tasks=(Held(task_id=1, fence=fence, action="plan", stage="running"),))


async def test_those_that_come_together_are_noted_in_one_transaction(database: Database, token: PoolToken) -> None:
    made = [(await pooled.an_agent(database, token, f"web-{number}", number)).agent_id for number in (1, 2, 3)]
    await database.tx(agents.set_draining, made[1], True, by="ann")
    async with calling(database) as roll_call:
        answers = await all_at_once(roll_call, dict.fromkeys([*made, "agent-of-nobody"], BEAT))
    transactions = "SELECT count(DISTINCT xmin::text) FROM agent WHERE last_seen_at IS NOT NULL"
    assert await given.scalar(database, transactions) == 1
    stances = {agent: answer.stance for agent, answer in answers.items() if isinstance(answer, Called)}
    assert stances.pop("agent-of-nobody") is None
    assert [stance and (stance.out, stance.drains) for _, stance in sorted(stances.items())] == [
        (False, agent == made[1]) for agent in sorted(made)
    ]


async def test_each_hears_of_its_own_assignments_alone(database: Database, token: PoolToken) -> None:
    first, second = [(await pooled.an_agent(database, token, f"web-{number}", number)).agent_id for number in (1, 2)]
    await pooled.a_served_workspace(database)
    task, _ = await pooled.handed_out(database, await given.a_task(database, "w", "plan"), first)
    async with calling(database) as roll_call:
        answers = await all_at_once(roll_call, {first: BEAT, second: with_task(task.fence)})
    found = {agent: list(answer.found) for agent, answer in answers.items() if isinstance(answer, Called)}
    assert found == {first: [task.fence], second: []}


async def test_what_cannot_be_looked_up_hurts_its_sender_alone(database: Database, token: PoolToken) -> None:
    good, bad = [(await pooled.an_agent(database, token, f"web-{number}", number)).agent_id for number in (1, 2)]
    async with calling(database) as roll_call:
        answers = await all_at_once(roll_call, {good: BEAT, bad: with_task(BEYOND)})
        assert isinstance(answers[good], Called)
        assert isinstance(answers[bad], Exception)
        assert isinstance((await all_at_once(roll_call, {bad: BEAT}))[bad], Called)
    assert (await database.tx(agents.get, good)).online
