"""What a task's page and the list of tasks are made of, as PostgreSQL puts them together."""

from __future__ import annotations

import asyncio

import pytest

from iac.domain.steps import periods
from iac.errors import NotFound
from iac.store import task_pages
from iac.store.database import Connection, Database
from iac.store.tasks import Filter
from tests.browser.scenery import Scenery, furnish


@pytest.fixture
def scenery(database_url: str) -> Scenery:
    return asyncio.run(furnish(database_url))


async def test_each_change_of_status_or_stage_is_noted_with_the_change_and_nothing_else_is(
    database: Database, scenery: Scenery
) -> None:
    task = scenery.tasks["applying"]
    before = await database.read(task_pages.steps, task)
    for change in (
        "status = 'cancelling'",
        "detail = 'nobody notes this'",
        "status = 'cancelling'",
        "status = 'cancelled', stage = NULL, finished_at = now()",
    ):
        await database.tx(_change, task, change)
    noted = (await database.read(task_pages.steps, task))[len(before) :]
    assert [(step.status, step.stage) for step in noted] == [("cancelling", before[-1].stage), ("cancelled", None)]
    assert before[-1].at <= noted[0].at <= noted[1].at
    assert periods(noted)[0].stopping


async def _change(c: Connection, task: int, change: str) -> None:
    await c.run(f"UPDATE task SET {change} WHERE id = :id", id=task)  # noqa: S608 - ours


async def test_a_change_that_is_rolled_back_was_none(database: Database, scenery: Scenery) -> None:
    task = scenery.tasks["planned"]
    before = await database.read(task_pages.steps, task)

    async def give_up(c: Connection) -> None:
        await _change(c, task, "status = 'cancelled'")
        raise NotFound("no")

    with pytest.raises(NotFound):
        await database.tx(give_up)
    assert await database.read(task_pages.steps, task) == before


async def test_a_page_of_tasks_is_the_newest_first_and_counted_under_its_filter(
    database: Database, scenery: Scenery
) -> None:
    every = await database.read(task_pages.listed, Filter(), limit=500, offset=0)
    ids = [task.id for task in every.tasks]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == sum(every.counts.values())
    second = await database.read(task_pages.listed, Filter(), limit=10, offset=10)
    assert [task.id for task in second.tasks] == ids[10:20]
    failed = await database.read(task_pages.listed, Filter(statuses=("failed",)), limit=500, offset=0)
    assert {task.status for task in failed.tasks} == {"failed"}
    assert len(failed.tasks) == every.counts["failed"]
    assert failed.counts == every.counts, "counters are those of the list without its statuses"


async def test_a_task_comes_with_the_names_of_who_runs_it(database: Database, scenery: Scenery) -> None:
    for task in scenery.tasks.values():
        found = await database.read(task_pages.situation, task)
        assert all(each in found.names for each in (found.task.pool_id,) if each is not None)
    with pytest.raises(NotFound):
        await database.read(task_pages.situation, 10**9)
