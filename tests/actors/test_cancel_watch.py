"""Stops that take too long are found, told once, and only where somebody could have ended them."""

from __future__ import annotations

import logging

import msgspec
import pytest
import trio

from iac.actors.cancel_watch import cancel_watch
from iac.actors.fleet import Fleet
from iac.domain.agent_session import Times
from iac.domain.lifecycle import Assign, Claim
from iac.domain.limits import Limits
from iac.domain.records import Task
from iac.store import tasks
from iac.store.database import Database
from tests.harness.server import PATIENT
from tests.store import given

TIMES = msgspec.structs.replace(Times(), look=0.02, overdue=0.1)


async def stopping(database: Database, workspace: str, agent_id: str) -> Task:
    """A task that is being cancelled by a runner that does nothing about it."""
    await given.a_workspace(database, workspace)
    task = await given.a_task(database, workspace, "plan")
    fence = await database.tx(tasks.next_fence)
    limits = Limits(timeout_s=100, grace_s=0.1)
    for event in (
        Assign(agent_id=agent_id, assignment_id=f"asg-{fence}", fence=fence, limits=limits),
        Claim(fence=fence),
        given.a_cancel(),
    ):
        task = await given.moved(database, task, event)
    return task


async def test_a_stop_that_its_runner_does_not_bring_to_an_end_is_told_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    changed: list[int] = []
    fleet = Fleet(database, TIMES, changed=changed.append, wake=lambda: None)
    here = await stopping(database, "w", "local")
    away = await stopping(database, "v", "agent-that-is-away")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_watch, fleet)
        with trio.fail_after(PATIENT):
            while not changed:  # noqa: ASYNC110 - nobody tells of it
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert changed == [here.id]
    assert (await database.tx(tasks.get, here.id)).cancel_overdue_at is not None
    assert (await database.tx(tasks.get, away.id)).cancel_overdue_at is None, "it may have heard nothing"
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
