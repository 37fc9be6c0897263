"""Checkpoints: of each assignment the newest, kept apart, until a newer state of it comes or a human decides."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from iac.domain.lifecycle import Resolve
from iac.domain.records import StateVersion, Task
from iac.domain.work import StateReceipt
from iac.errors import Conflict, Invalid
from iac.store import audit, state_pushes, statefiles, tasks, workspaces
from iac.store.database import Connection, Database
from tests.store import given


async def push(database: Database, task: Task, data: bytes, *, partial: bool = True, **more: bool) -> StateReceipt:
    packed = given.packed(data)
    return await database.tx(state_pushes.push, given.an_order(task), packed, partial=partial, **more)


async def kept(database: Database, *verdicts: str) -> Sequence[tuple[str, int]]:
    """Verdict and serial of all that is stored, the oldest first."""

    async def rows(c: Connection) -> list[tuple[str, int]]:
        found = await c.all("SELECT verdict, serial FROM state_version ORDER BY created_at, id")
        return [(row["verdict"], row["serial"]) for row in found if not verdicts or row["verdict"] in verdicts]

    return await database.tx(rows)


async def lost(database: Database) -> Task:
    await given.a_workspace(database)
    return await given.applying(database, "w")


async def resolved(database: Database, task: Task, fate: state_pushes.Fate) -> str | None:
    await given.moved(database, task, given.a_loss(task))
    fence = await database.tx(tasks.next_fence)
    await given.moved(database, task, Resolve(by="bob", comment="", fence=fence, unlock=True))

    async def settle(c: Connection) -> str | None:
        await workspaces.hold(c, task.workspace_id)
        return await state_pushes.settle(c, await tasks.get(c, task.id), fate, by="bob")

    return await database.tx(settle)


async def checkpoint(database: Database, task: Task) -> StateVersion | None:
    return await database.tx(state_pushes.checkpoint_of, task.id)


async def test_only_the_newest_checkpoint_of_an_assignment_is_kept(database: Database) -> None:
    task = await lost(database)
    for serial in (1, 2, 5):
        assert (await push(database, task, given.a_state(serial))).verdict == "checkpoint"
    assert await kept(database) == [("checkpoint", 5)]
    found = await checkpoint(database, task)
    assert found is not None
    assert (found.serial, found.partial, found.fence) == (5, True, task.fence)


async def test_a_checkpoint_that_was_overtaken_on_its_way_replaces_nothing(database: Database) -> None:
    task = await lost(database)
    await push(database, task, given.a_state(5))
    late = await push(database, task, given.a_state(4))
    assert (late.verdict, late.serial) == ("duplicate", 4)
    await push(database, task, given.a_state(6), partial=False)
    assert (await push(database, task, given.a_state(5))).verdict == "duplicate"
    assert await kept(database) == [("current", 6)]


async def test_a_final_state_that_nobody_can_read_leaves_the_checkpoint_where_it_is(database: Database) -> None:
    task = await lost(database)
    await push(database, task, given.a_state(3))
    assert (await push(database, task, b"{ cut o", partial=False)).verdict == "quarantined"
    assert await kept(database) == [("checkpoint", 3), ("quarantined", -1)]


async def test_checkpoints_of_one_that_has_no_say_any_more_are_quarantined_and_bounded_too(database: Database) -> None:
    task = await lost(database)
    for serial in (2, 3, 4):
        assert (await push(database, task, given.a_state(serial), revoked=True)).verdict == "quarantined"
    assert await kept(database) == [("quarantined", 4)]
    assert (await push(database, task, given.a_state(5), partial=False, revoked=True)).verdict == "quarantined"
    assert await kept(database) == [("quarantined", 5)]


async def test_a_checkpoint_is_not_in_the_list_of_states_unless_it_is_asked_for(database: Database) -> None:
    task = await lost(database)
    await push(database, task, given.a_state(3))
    assert await database.tx(statefiles.page, task.workspace_id, limit=9, before=None) == []
    [found] = await database.tx(
        statefiles.page, task.workspace_id, limit=9, before=None, verdicts=("checkpoint", "quarantined")
    )
    assert found == await checkpoint(database, task)


async def test_an_adopted_checkpoint_is_the_current_state_and_later_writers_are_fenced(database: Database) -> None:
    task = await lost(database)
    await push(database, task, given.a_state(3))
    assert "became the current state" in str(await resolved(database, task, "adopt"))
    workspace = await database.tx(workspaces.get, "w")
    assert (workspace.current_serial, workspace.state_uncertain, workspace.state_fence) == (3, True, task.fence)
    assert (await push(database, task, given.a_state(3), partial=False)).verdict == "duplicate"
    late = await push(database, task, given.a_state(9), partial=False)
    assert (late.verdict, "abandoned apply" in str(late.reason)) == ("quarantined", True)
    assert await kept(database) == [("current", 3), ("quarantined", 9)]
    assert (await database.tx(workspaces.get, "w")).states_apart == 1


async def test_what_a_human_put_aside_stays_even_if_a_newer_state_comes(database: Database) -> None:
    task = await lost(database)
    await push(database, task, given.a_state(3))
    assert "kept apart" in str(await resolved(database, task, "quarantine"))
    await push(database, task, given.a_state(4))
    await push(database, task, given.a_state(9), partial=False)
    assert await kept(database) == [("quarantined", 3), ("quarantined", 9)]
    assert await checkpoint(database, task) is None


async def test_without_a_checkpoint_there_is_nothing_to_adopt(database: Database) -> None:
    task = await lost(database)
    with pytest.raises(Conflict, match="no checkpoint") as refused:
        await resolved(database, task, "adopt")
    assert refused.value.code == "no_checkpoint"


async def test_a_checkpoint_that_does_not_continue_the_current_state_is_not_adopted(database: Database) -> None:
    task = await lost(database)
    await push(database, task, given.a_state(3))
    await push(database, task, given.a_state(2, "lin-2"), partial=False)  # becomes current: there was none
    with pytest.raises(Conflict, match="lineage") as refused:
        await resolved(database, task, "adopt")
    assert refused.value.code == "checkpoint_not_adoptable"


async def test_every_decision_is_audited_with_serial_and_sha(database: Database) -> None:
    task = await lost(database)
    await push(database, task, given.a_state(3))
    await resolved(database, task, "quarantine")
    entries = await database.tx(audit.page, limit=9, before=None, subject=task.workspace_id)
    entry = next(entry for entry in entries if entry.verb == "state.quarantine")
    assert entry.actor == "bob"
    assert (entry.facts["serial"], entry.facts["task"], len(entry.facts["sha256"])) == (3, task.id, 64)


async def test_bytes_that_are_no_state_are_not_promoted(database: Database) -> None:
    task = await lost(database)
    await push(database, task, b"{ cut o", partial=False)
    [found] = await database.tx(statefiles.page, task.workspace_id, limit=9, before=None)
    await given.ended(database, task, "failed")
    with pytest.raises(Invalid) as refused:
        await database.tx(
            statefiles.promote, given.KEYS, "w", found.id, force=True, expected=None, by="ann", token=None
        )
    assert refused.value.code == "state_invalid"
