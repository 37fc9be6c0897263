"""Tasks in PostgreSQL: one winner of every race, the lock handed on, nothing left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio

from iac.domain.decision import Effect
from iac.domain.lifecycle import Claim, Confirm, Discard, Event, Resolve, Unassign, decide
from iac.domain.records import Task
from iac.domain.work import SavedPlan
from iac.errors import AlreadyFinal, Conflict, Fenced, IllegalTransition, NotFound, PlanStale
from iac.store import audit, plans, tasks, workspaces
from iac.store.database import Connection, Database
from iac.store.tasks import Filter
from tests.store import given

CROWD = 12


async def outcomes(calls: list[Callable[[], Awaitable[object]]]) -> Counter[str]:
    """How each of many calls at once ended: by the name of its error, or as `ok`."""
    found: Counter[str] = Counter()

    async def one(call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except Conflict as error:
            found[type(error).__name__] += 1
        else:
            found["ok"] += 1

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(one, call)
    return found


async def test_of_many_confirmations_at_once_one_counts(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.planned(database, "w")
    digest = str(task.plan_digest)

    def confirm(number: int) -> Callable[[], Awaitable[object]]:
        event = Confirm(by=f"user-{number}", comment="", plan_digest=digest)
        return lambda: database.tx(tasks.noted_move, task.id, event, by=f"user-{number}", verb="task.confirm")

    assert await outcomes([confirm(n) for n in range(CROWD)]) == {"ok": 1, "IllegalTransition": CROWD - 1}
    entries = await database.tx(audit.page, limit=50, before=None, subject=f"task-{task.id}")
    winners = [entry.actor for entry in entries if entry.verb == "task.confirm"]
    stored = await database.tx(tasks.get, task.id)
    assert stored.confirmation is not None
    assert winners == [stored.confirmation.by], "the audit names the one who won"


async def test_of_many_dispatchers_at_once_one_gets_the_task(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.a_task(database, "w", "plan")
    calls = [lambda: given.assigned(database, task) for _ in range(CROWD)]
    assert await outcomes(list(calls)) == {"ok": 1, "IllegalTransition": CROWD - 1}
    stored = await database.tx(tasks.get, task.id)
    assert (stored.status, stored.attempt) == ("assigned", 1)
    assert await given.scalar(database, "SELECT count(*) FROM log_stream WHERE task_id = :id", id=task.id) == 1


async def test_a_claim_and_a_cancel_at_once_leave_one_story(database: Database) -> None:
    """Either it never ran, or it runs and is asked to stop: whoever is first, both know."""
    await given.a_workspace(database)
    for _ in range(10):
        task = await given.assigned(database, await given.a_task(database, "w", "plan"))
        claim, cancel = Claim(fence=task.fence), given.a_cancel()
        found = await outcomes(
            [lambda t=task, e=claim: given.moved(database, t, e), lambda t=task, e=cancel: given.moved(database, t, e)]  # type: ignore[misc]
        )
        stored = await database.tx(tasks.get, task.id)
        if stored.status == "cancelled":
            assert found == {"ok": 1, "AlreadyFinal": 1}
            assert stored.claimed_at is None
        else:
            assert (stored.status, found) == ("cancelling", {"ok": 2})


async def test_saving_a_plan_and_a_cancel_at_once_do_not_lock_each_other_out(database: Database) -> None:
    await given.a_workspace(database)
    for number in range(8):
        task = await given.running(database, await given.a_task(database, "w", "plan"))
        plan = given.a_plan(task)

        async def save(c: Connection, task: Task = task, plan: SavedPlan = plan) -> None:
            with_lock = SavedPlan(facts=plan.facts, file=plan.file, json=plan.json, lock_hcl=b"lock")
            await plans.save(c, given.KEYS, task.id, task.fence, with_lock, planned=[])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.tx, save)
            nursery.start_soon(database.tx, tasks.move, task.id, given.a_cancel(number))
        stored = await database.tx(tasks.get, task.id)
        assert (stored.status, stored.plan_digest) == ("cancelling", plan.facts.digest)


async def test_who_waits_for_the_workspace_holds_no_task_meanwhile(database: Database) -> None:
    """The lock order, although a move takes both rows in one statement."""
    await given.a_workspace(database)
    task = await given.a_task(database, "w", "plan")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    held = trio.Event()

    async def hold_the_workspace(c: Connection) -> None:
        await workspaces.hold(c, "w")
        held.set()
        while not await c.value(waiting):
            pass
        await c.run("SELECT 1 FROM task WHERE id = :id FOR UPDATE NOWAIT", id=task.id)
        await c.run("UPDATE task SET priority = 7 WHERE id = :id", id=task.id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.tx, hold_the_workspace)
        await held.wait()
        moved = await database.tx(tasks.move, task.id, given.a_cancel())
    assert (moved.before.priority, moved.task.status) == (7, "cancelled"), "it saw what it had waited for"


async def test_a_row_that_somebody_else_changed_is_not_overwritten(database: Database) -> None:
    """The last line of defence, below the row locks: the UPDATE itself compares."""
    await given.a_workspace(database)
    task = await given.a_task(database, "w", "plan")

    async def with_a_stale_copy(c: Connection) -> None:
        stale = await tasks.get(c, task.id)
        await tasks.assign(c, task.id, agent_id="local", assignment_id="asg")
        await tasks._write(c, stale, decide(stale, given.an_assignment(99), stale.created_at).task)

    with pytest.raises(Conflict) as refused:
        await database.tx(with_a_stale_copy)
    assert refused.value.code == "changed_meanwhile"
    assert (await database.tx(tasks.get, task.id)).status == "queued", "the whole transaction is undone"


async def test_a_move_writes_what_was_decided_and_nothing_else(database: Database) -> None:
    await given.a_workspace(database)
    before = await given.a_task(database, "w", "plan", message="why", targets=("a.b",))
    found = await database.tx(tasks.assign, before.id, agent_id="local", assignment_id="asg-1")
    changed = tasks.changed_columns(before, found)
    limits = {"timeout_s", "grace_s"}
    assert set(changed) == {"status", "agent_id", "assignment_id", "fence", "attempt", "assigned_at", *limits}
    assert found == await database.tx(tasks.get, before.id)


async def test_fences_only_grow_over_all_tasks(database: Database) -> None:
    await given.a_workspace(database)
    fences = []
    for _ in range(3):
        task = await given.assigned(database, await given.a_task(database, "w", "plan"))
        fences.append(task.fence)
        task = await given.assigned(database, await given.moved(database, task, Unassign(fence=task.fence)))
        fences.append(task.fence)
    assert fences == sorted(set(fences))


async def test_a_new_assignment_closes_the_log_of_the_one_before(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.running(database, await given.a_task(database, "w", "plan"))
    again = await given.assigned(database, await given.moved(database, task, given.a_loss(task)))
    assert again.attempt == 2
    with pytest.raises(Fenced):
        await given.moved(database, again, Claim(fence=task.fence))
    states = await given.scalar(
        database, "SELECT array_agg(state ORDER BY fence) FROM log_stream WHERE task_id = :id", id=task.id
    )
    assert states == ["incomplete", "open"]


async def test_plans_start_at_once_and_applies_one_after_the_other(database: Database) -> None:
    held = await given.a_workspace(database)
    first = await given.a_task(database, "w")
    second = await given.a_task(database, "w", "destroy")
    plain = await given.a_task(database, "w", "plan")
    assert [task.status for task in (first, second, plain)] == ["queued", "pending", "queued"]
    lock = (await database.tx(workspaces.get, held.id)).lock
    assert lock is not None
    assert (lock.kind, lock.owner) == ("task", str(first.id))
    await given.moved(database, first, given.a_cancel())
    lock = (await database.tx(workspaces.get, held.id)).lock
    assert lock is not None
    assert lock.owner == str(second.id), "the lock goes to the next in the same transaction"
    assert (await database.tx(tasks.get, second.id)).status == "queued"


@pytest.mark.parametrize("how", ["cancel", "discard", "no changes", "failed", "succeeded"])
async def test_however_a_task_ends_the_workspace_is_free_again(database: Database, how: str) -> None:
    await given.a_workspace(database)
    if how == "no changes":
        await given.planned(database, "w", has_changes=False)
    elif how in ("failed", "succeeded"):
        await given.ended(database, await given.applying(database, "w"), how)
    else:
        end: Event = given.a_cancel() if how == "cancel" else Discard(by="bob")
        await given.moved(database, await given.planned(database, "w"), end)
    assert (await database.tx(workspaces.get, "w")).lock is None


@pytest.mark.parametrize("unlock", [True, False])
async def test_a_lost_apply_holds_the_workspace_until_somebody_decides(database: Database, unlock: bool) -> None:
    await given.a_workspace(database)
    task = await given.applying(database, "w")
    waiting = await given.a_task(database, "w")
    moved = await database.tx(tasks.move, task.id, given.a_loss(task))
    assert Effect.HOLD_LOCK in moved.effects
    held = await database.tx(workspaces.get, "w")
    assert held.lock is not None
    assert (held.lock.owner, held.state_uncertain) == (str(task.id), True)
    assert "is not known: gone" in held.lock.reason
    assert (await database.tx(tasks.get, waiting.id)).status == "pending"
    fence = await database.tx(tasks.next_fence)
    await database.tx(tasks.move, task.id, Resolve(by="bob", comment="", fence=fence, unlock=unlock))
    held = await database.tx(workspaces.get, "w")
    assert held.lock is not None
    assert held.lock.owner == str(waiting.id if unlock else task.id)


async def test_a_task_locks_only_a_workspace_that_nobody_has(database: Database) -> None:
    await given.a_workspace(database)
    await database.tx(workspaces.lock_for_user, "w", user="ann", reason="freeze")
    waiting = await given.a_task(database, "w")
    plain = await given.a_task(database, "w", "plan")
    assert (waiting.status, plain.status) == ("pending", "queued")
    released = await database.tx(workspaces.unlock_for_user, "w", user="ann", token=None, force=False)
    assert list(await database.tx(tasks.advance, released.id)) == [waiting.id]


async def test_who_creates_many_at_once_gets_one_that_runs(database: Database) -> None:
    await given.a_workspace(database)
    made: list[Task] = []

    async def create() -> None:
        made.append(await given.a_task(database, "w"))

    async with trio.open_nursery() as nursery:
        for _ in range(CROWD):
            nursery.start_soon(create)
    assert Counter(task.status for task in made) == {"queued": 1, "pending": CROWD - 1}
    queued = next(task for task in made if task.status == "queued")
    assert queued.id == min(task.id for task in made)


async def test_an_error_in_a_move_leaves_the_task_as_it_was(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.planned(database, "w")
    with pytest.raises(PlanStale):
        await given.moved(database, task, Confirm(by="bob", comment="", plan_digest="another"))
    with pytest.raises(IllegalTransition):
        await given.moved(database, task, Claim(fence=task.fence))
    assert await database.tx(tasks.get, task.id) == task
    over = await given.moved(database, task, Discard(by="bob"))
    with pytest.raises(AlreadyFinal):
        await given.moved(database, over, given.a_cancel())


async def test_a_task_that_does_not_exist_is_not_found(database: Database) -> None:
    for call in (lambda: database.tx(tasks.get, 404), lambda: database.tx(tasks.move, 404, given.a_cancel())):
        with pytest.raises(NotFound):
            await call()


async def test_lists_page_filter_and_count(database: Database) -> None:
    await given.a_workspace(database, "one")
    await given.a_workspace(database, "other")
    made = [await given.a_task(database, "one", "plan", message=f"no {n}") for n in range(3)]
    await given.moved(database, made[0], given.a_cancel())
    elsewhere = await given.a_task(database, "other", "destroy", message="50% off_")

    async def ids(chosen: Filter, **page: int | None) -> list[int]:
        found = await database.tx(tasks.page, chosen, limit=page.get("limit") or 10, before=page.get("before"))
        return [task.id for task in found]

    everything = [elsewhere.id, *(task.id for task in reversed(made))]
    assert await ids(Filter()) == everything
    assert await ids(Filter(), limit=2) == everything[:2]
    assert await ids(Filter(), limit=2, before=everything[1]) == everything[2:]
    assert await ids(Filter(statuses=("cancelled",))) == [made[0].id]
    assert await ids(Filter(actions=("destroy",))) == [elsewhere.id]
    assert await ids(Filter(workspace_id=made[0].workspace_id), limit=1) == [made[2].id]
    assert await ids(Filter(search="OTHER")) == [elsewhere.id]
    assert await ids(Filter(search="50% OFF_")) == [elsewhere.id]
    assert await ids(Filter(search="%")) == [elsewhere.id], "a percent sign means itself"
    assert await database.tx(tasks.counts, Filter(statuses=("cancelled",))) == {"queued": 3, "cancelled": 1}
    open_ones, now = await database.tx(tasks.waiting_and_running)
    assert now >= open_ones[-1].created_at
    assert [task.id for task in open_ones] == [made[1].id, made[2].id, elsewhere.id]


async def test_only_the_present_assignment_says_what_it_is_at(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.running(database, await given.a_task(database, "w", "plan"))
    await database.tx(tasks.set_stage, task.id, task.fence + 1, "lying")
    assert (await database.tx(tasks.get, task.id)).stage is None
    await database.tx(tasks.set_stage, task.id, task.fence, "planning")
    assert (await database.tx(tasks.get, task.id)).stage == "planning"
    await database.tx(tasks.annotate, task.id, task.fence, "only of what is lost or failed")
    assert (await database.tx(tasks.get, task.id)).detail is None


async def test_what_a_runner_held_is_found_again(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.running(database, await given.a_task(database, "w", "plan"))
    await given.a_task(database, "w", "plan")
    assert [found.id for found in await database.tx(tasks.unfinished_of, given.RUNNER)] == [task.id]
    assert await database.tx(tasks.unfinished_of, "another") == []
