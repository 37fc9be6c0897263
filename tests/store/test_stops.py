"""How long phases may take, how far their stops are, and which are overdue: what the rows keep of it."""

from __future__ import annotations

from iac.domain.ladder import StopReport, StopStage
from iac.domain.lifecycle import Claim, Stopping
from iac.domain.limits import Defaults, Limits
from iac.domain.records import Task
from iac.store import standings, tasks, workspaces
from iac.store.database import Database
from tests.store import given

DEFAULTS = Defaults(plan=Limits(timeout_s=100, grace_s=1.5), apply=Limits(timeout_s=1000, grace_s=30))


async def assigned(database: Database, **settings: object) -> Task:
    await given.a_workspace(database)
    await database.tx(workspaces.change, "w", settings, by="ann")
    task = await given.a_task(database, "w", "plan")
    return await database.tx(tasks.assign, task.id, agent_id="local", assignment_id="asg-1", defaults=DEFAULTS)


def told(task: Task, stage: StopStage, **more: object) -> Stopping:
    known = {"cancel_id": "can-1", "stage": stage, "next_s": 30.0, "kill_s": 40.0, "deadline_s": 45.0, **more}
    return Stopping(fence=task.fence, report=StopReport(**known))  # type: ignore[arg-type]


async def test_a_phase_gets_the_limits_of_the_moment_in_which_it_is_handed_out(database: Database) -> None:
    task = await assigned(database, plan_timeout_s=60, apply_grace_s=5)
    assert (task.timeout_s, task.grace_s) == (60, 1.5)
    assert task == await database.tx(tasks.get, task.id)


async def test_the_steps_of_a_stop_are_kept_in_their_order(database: Database) -> None:
    task = await assigned(database)
    await given.moved(database, task, Claim(fence=task.fence))
    await given.moved(database, task, given.a_cancel())
    for stage in ("received", "sigterm"):
        await database.tx(standings.move, task.id, told(task, stage))
    found = await database.tx(tasks.get, task.id)
    assert [step.stage for step in found.cancel_steps] == ["received", "sigterm"]
    assert found.cancel_kill_at is not None
    assert found.cancel_next_at is not None
    assert (found.cancel_kill_at - found.cancel_next_at).total_seconds() == 10
    audited = "SELECT count(*) FROM audit WHERE verb = 'task.stopping' AND facts ->> 'stage' = 'sigterm'"
    assert await given.scalar(database, audited) == 1


async def test_an_overdue_stop_is_noted_and_audited_once(database: Database) -> None:
    task = await assigned(database)
    await given.moved(database, task, Claim(fence=task.fence))
    assert not await database.tx(tasks.note_overdue, task.id, task.fence), "nobody cancelled it"
    await given.moved(database, task, given.a_cancel())
    assert [each.id for each in await database.tx(tasks.stopping)] == [task.id]
    assert await database.tx(tasks.note_overdue, task.id, task.fence)
    assert not await database.tx(tasks.note_overdue, task.id, task.fence)
    assert await database.tx(tasks.stopping) == []
    assert (await database.tx(tasks.get, task.id)).cancel_overdue_at is not None
    assert await given.scalar(database, "SELECT count(*) FROM audit WHERE verb = 'task.cancel_overdue'") == 1
