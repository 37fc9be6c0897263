"""Assignments in PostgreSQL: what a task token is good for, and how often the data is given out."""

from __future__ import annotations

import pytest
import trio

from iac.domain.agent_tokens import Scope, looks_like
from iac.domain.lifecycle import Claim, Resolve, Unassign
from iac.domain.records import AssignmentRecord, PoolToken, Task
from iac.errors import Gone, NotFound
from iac.store import agents, assignments, tasks
from iac.store.database import Connection, Database
from tests.store import given, pooled


@pytest.fixture
async def agent_id(database: Database) -> str:
    """An agent of the pool `p`, which serves the workspace `w`."""
    await pooled.a_pool(database)
    token: PoolToken = await pooled.a_token(database)
    await pooled.a_served_workspace(database)
    return (await pooled.an_agent(database, token)).agent_id


async def found(database: Database, token: str) -> AssignmentRecord:
    record = await database.tx(assignments.by_token, token)
    assert record is not None
    return record


async def scope(database: Database, token: str) -> Scope:
    return (await found(database, token)).scope


async def claimed(database: Database, agent_id: str, action: str = "plan") -> tuple[Task, str]:
    """A task that the agent has fetched."""
    held, token = await pooled.handed_out(database, await given.a_task(database, "w", action), agent_id)  # type: ignore[arg-type]

    async def claim(c: Connection) -> Task:
        await assignments.note_read(c, held.fence, boot_id="boot-of-1", ip="10.0.0.1")
        return (await tasks.move(c, held.id, Claim(fence=held.fence))).task

    return await database.tx(claim), token


async def test_a_token_leads_to_its_assignment_and_is_kept_only_as_a_hash(database: Database, agent_id: str) -> None:
    held, token = await pooled.handed_out(database, await given.a_task(database, "w", "plan"), agent_id)
    assert looks_like("task", token)
    record = await found(database, token)
    assert (record.task_id, record.workspace_id, record.fence) == (held.id, held.workspace_id, held.fence)
    assert (record.agent_id, record.assignment_id, record.pool_id) == (agent_id, held.assignment_id, held.pool_id)
    assert (record.phase, record.attempt, record.scope, record.task_status) == ("plan", 1, "full", "assigned")
    assert (record.reads, record.first_read_at, record.boot_id, record.current) == (0, None, None, True)
    assert token not in repr(record)
    kept = "SELECT string_agg(t::text, '') || (SELECT string_agg(facts::text, '') FROM audit) FROM task_token t"
    everything = str(await given.scalar(database, kept))
    assert token not in everything
    assert (await pooled.verbs(database, f"task-{held.id}"))[0] == "task.assign"


async def test_what_nobody_gave_out_leads_nowhere(database: Database, agent_id: str) -> None:
    _, token = await pooled.handed_out(database, await given.a_task(database, "w", "plan"), agent_id)
    for text in ("", "é", token[:-1], token.replace("iact_", "iacs_")):
        assert await database.tx(assignments.by_token, text) is None
    with pytest.raises(NotFound):
        await database.tx(assignments.get, 4711)


async def test_an_order_that_is_sent_again_has_a_new_token_and_the_old_one_stays_good(
    database: Database, agent_id: str
) -> None:
    held, token = await pooled.handed_out(database, await given.a_task(database, "w", "plan"), agent_id)
    again = await database.tx(assignments.reissue, held.fence)
    assert again != token
    assert await found(database, again) == await found(database, token)
    with pytest.raises(NotFound):
        await database.tx(assignments.reissue, 4711)


async def test_the_data_is_given_out_five_times_and_every_time_is_audited(database: Database, agent_id: str) -> None:
    held, token = await claimed(database, agent_id)
    for reads in range(2, 6):
        record = await database.tx(assignments.note_read, held.fence, boot_id=f"boot-{reads}", ip="10.0.0.2")
        assert (record.reads, record.boot_id) == (reads, f"boot-{reads}")
    with pytest.raises(Gone) as refused:
        await database.tx(assignments.note_read, held.fence, boot_id="boot-6", ip="10.0.0.2")
    assert (refused.value.status, refused.value.code) == (410, "data_expired")
    record = await found(database, token)
    assert (record.reads, record.boot_id) == (5, "boot-5")
    audited = [e for e in await pooled.trail(database, f"task-{held.id}") if e.verb == "task.data"]
    assert [entry.facts["reads"] for entry in audited] == [5, 4, 3, 2, 1]
    assert audited[0].facts["ip"] == "10.0.0.2"


async def test_of_many_fetches_at_once_five_are_answered(database: Database, agent_id: str) -> None:
    held, token = await pooled.handed_out(database, await given.a_task(database, "w", "plan"), agent_id)
    answers: list[bool] = []

    async def fetch() -> None:
        try:
            await database.tx(assignments.note_read, held.fence, boot_id=None, ip=None)
        except Gone:
            answers.append(False)
        else:
            answers.append(True)

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(fetch)
    assert (answers.count(True), (await found(database, token)).reads) == (5, 5)


async def test_the_data_is_not_given_out_ten_minutes_after_the_first_time(database: Database, agent_id: str) -> None:
    held, token = await claimed(database, agent_id)
    first = (await found(database, token)).first_read_at
    for seconds, answered in ((590, True), (601, False)):
        age = "UPDATE assignment SET first_read_at = now() - make_interval(secs => :seconds) WHERE fence = :fence"
        await pooled.execute(database, age, seconds=seconds, fence=held.fence)
        if answered:
            again = await database.tx(assignments.note_read, held.fence, boot_id=None, ip=None)
            assert again.first_read_at != first, "the time of the first one stays what it is"
        else:
            with pytest.raises(Gone):
                await database.tx(assignments.note_read, held.fence, boot_id=None, ip=None)


async def test_the_scope_follows_the_task_without_anybody_telling(database: Database, agent_id: str) -> None:
    held, token = await claimed(database, agent_id)
    assert await scope(database, token) == "full"
    held = await given.moved(database, held, given.a_cancel())
    assert (held.status, await scope(database, token)) == ("cancelling", "full")
    await given.ended(database, held, "cancelled")
    assert await scope(database, token) == "report"
    week = "UPDATE task SET finished_at = now() - interval '7 days 1 minute' WHERE id = :id"
    await pooled.execute(database, week, id=held.id)
    assert await scope(database, token) == "dead"


async def test_a_lost_apply_may_still_report_and_a_resolved_one_only_has_its_states_kept_apart(
    database: Database, agent_id: str
) -> None:
    held, token = await claimed(database, agent_id, "refresh_only")
    await pooled.execute(database, "UPDATE task SET phase = 'apply' WHERE id = :id", id=held.id)
    lost = await given.moved(database, held, given.a_loss(held))
    assert (lost.status, await scope(database, token)) == ("lost", "report")
    fence = await database.tx(tasks.next_fence)
    await given.moved(database, lost, Resolve(by="bob", comment="", fence=fence, unlock=True))
    record = await found(database, token)
    assert (record.scope, record.current) == ("quarantine", False)


async def test_a_plan_that_is_tried_again_leaves_the_first_try_fenced(database: Database, agent_id: str) -> None:
    held, first = await claimed(database, agent_id)
    again = await given.moved(database, held, given.a_loss(held))
    assert (again.status, await scope(database, first)) == ("queued", "report")
    _, second = await pooled.handed_out(database, again, agent_id)
    assert (await scope(database, first), await scope(database, second)) == ("quarantine", "full")


async def test_an_assignment_that_was_given_back_unclaimed_is_good_for_nothing(
    database: Database, agent_id: str
) -> None:
    held, token = await pooled.handed_out(database, await given.a_task(database, "w", "plan"), agent_id)
    await given.moved(database, held, Unassign(fence=held.fence))
    assert await scope(database, token) == "dead"


async def test_a_narrowed_scope_holds_while_the_task_goes_on(database: Database, agent_id: str) -> None:
    held, token = await claimed(database, agent_id)
    for chosen in ("report", "quarantine", "dead"):
        await database.tx(assignments.set_scope, held.fence, chosen)
        assert await scope(database, token) == chosen
    await database.tx(assignments.set_scope, held.fence, "full")
    assert await scope(database, token) == "full"


async def test_accepting_and_ending_are_noted_once(database: Database, agent_id: str) -> None:
    held, token = await claimed(database, agent_id)
    await database.tx(assignments.accepted, held.fence)
    await database.tx(assignments.ended, held.fence)
    before = await found(database, token)
    assert before.accepted_at is not None
    assert before.ended_at is not None
    await database.tx(assignments.accepted, held.fence)
    await database.tx(assignments.ended, held.fence)
    assert await found(database, token) == before


async def test_what_an_agent_has_to_do_follows_from_the_tasks(database: Database, agent_id: str) -> None:
    running, _ = await claimed(database, agent_id)
    waiting, _ = await pooled.handed_out(database, await given.a_task(database, "w", "plan"), agent_id)
    over, _ = await claimed(database, agent_id)
    await given.ended(database, over, "failed")
    live = await database.tx(assignments.live_of, agent_id)
    assert [(each.task_id, each.task_status) for each in live] == [(running.id, "running"), (waiting.id, "assigned")]
    assert await database.tx(assignments.tasks_of, [agent_id, "other"]) == {
        agent_id: {running.id: "plan", waiting.id: "plan"}
    }
    assert await database.tx(assignments.live_of, "other") == []


async def test_the_history_of_a_task_outlives_its_agent(database: Database, agent_id: str) -> None:
    held, token = await claimed(database, agent_id)
    await given.ended(database, held, "failed")
    await database.tx(agents.retire, agent_id, force=False, by="ann")
    assert (await found(database, token)).agent_id == agent_id
    await pooled.execute(database, "DELETE FROM agent WHERE id = :id", id=agent_id)
    assert (await found(database, token)).pool_id is None
