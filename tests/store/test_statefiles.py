"""States: kept as the very bytes that came, never refused from an apply, never going back."""

from __future__ import annotations

import json

import pytest
import trio

from iac.domain.lifecycle import Resolve
from iac.domain.records import StateVersion, Task
from iac.domain.work import StateReceipt
from iac.errors import Conflict, Invalid, NotFound, WorkspaceLocked
from iac.store import audit, state_pushes, statefiles, tasks, workspaces
from iac.store.database import Connection, Database
from iac.store.sealing import CannotUnseal
from tests.store import given

ODD = (
    b'{\r\n "version":4 ,"terraform_version":"1.11.4", "serial" : 3,"lineage":"lin-1","outputs":{"n":{"value":1.10,'
    b'"type":"number"},"big":{"value":1e400,"type":"number"},"forty":{"value":1234567890123456789012345678901234567890,'
    b'"type":"number"},"\\u00e9":{"value":"\\ud83d\\ude00","type":"string"}},"resources":[]}\n\n'
)
"""A state whose numbers and blanks would not survive being decoded and written anew."""


async def push(database: Database, task: Task, data: bytes, *, partial: bool = False, **order: object) -> StateReceipt:
    return await database.tx(state_pushes.push, given.an_order(task, **order), given.packed(data), partial=partial)


async def upload(database: Database, data: bytes, *, force: bool = False, by: str = "ann") -> StateVersion:
    return await database.tx(statefiles.upload, given.KEYS, "w", data, force=force, by=by, token=None)


async def download(database: Database, which: str) -> bytes:
    workspace = await database.tx(workspaces.get, "w")
    return await database.tx(statefiles.download, given.KEYS, workspace.id, which, by="ann")


async def test_bytes_leave_as_they_came(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.applying(database, "w")
    assert await push(database, task, ODD) == StateReceipt(verdict="current", serial=3)
    assert await download(database, "current") == ODD
    assert await download(database, "3") == ODD
    found = await database.tx(statefiles.current, given.KEYS, task.workspace_id)
    assert found is not None
    assert (found.data, found.serial, found.lineage) == (ODD, 3, "lin-1")
    workspace = await database.tx(workspaces.get, "w")
    assert (workspace.current_serial, workspace.lineage, workspace.state_fence) == (3, "lin-1", task.fence)


async def test_no_table_has_a_state_in_clear(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.applying(database, "w")
    await push(database, task, given.a_state(1, outputs={"p": {"value": "canary-0451", "type": "string"}}))
    data = await given.scalar(database, "SELECT data FROM state_version")
    assert b"canary" not in bytes(data)

    async def swap(c: Connection) -> None:
        await c.run("UPDATE state_version SET id = 'sv-0000000000000000'")

    await database.tx(swap)
    with pytest.raises(CannotUnseal):
        await download(database, "current")


async def test_the_same_push_again_is_the_same_push(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.applying(database, "w")
    await push(database, task, given.a_state(1))
    assert await push(database, task, given.a_state(1)) == StateReceipt(verdict="duplicate", serial=1)
    assert await given.scalar(database, "SELECT count(*) FROM state_version") == 1


async def test_many_pushes_of_the_same_state_at_once_are_one(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.applying(database, "w")
    verdicts: list[str] = []

    async def one() -> None:
        verdicts.append((await push(database, task, given.a_state(1))).verdict)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(one)
    assert sorted(verdicts) == ["current", *["duplicate"] * 7]


async def test_a_checkpoint_is_kept_apart_and_becomes_the_state_when_it_is_the_last(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.applying(database, "w")
    assert (await push(database, task, given.a_state(1), partial=True)).verdict == "checkpoint"
    with pytest.raises(NotFound):
        await download(database, "current")
    assert (await push(database, task, given.a_state(2), partial=True)).verdict == "checkpoint"
    assert (await push(database, task, given.a_state(2))).verdict == "current"
    workspace = await database.tx(workspaces.get, "w")
    shown = await database.tx(statefiles.page, workspace.id, limit=10, before=None)
    assert [(version.serial, version.verdict) for version in shown] == [(2, "current")]


async def test_an_apply_that_was_given_up_cannot_overwrite_but_nothing_is_lost(database: Database) -> None:
    await given.a_workspace(database)
    old = await given.applying(database, "w")
    await given.moved(database, old, given.a_loss(old))
    fence = await database.tx(tasks.next_fence)
    await given.moved(database, old, Resolve(by="bob", comment="", fence=fence, unlock=True))
    new = await given.applying(database, "w")
    await push(database, new, given.a_state(5))
    late = await push(database, old, given.a_state(9))
    assert late.verdict == "quarantined"
    assert "abandoned apply" in str(late.reason)
    assert await download(database, "current") == given.a_state(5)
    workspace = await database.tx(workspaces.get, "w")
    shown = await database.tx(statefiles.page, workspace.id, limit=10, before=None)
    kept = next(version for version in shown if version.verdict == "quarantined")
    assert await download(database, kept.id) == given.a_state(9)
    assert (await push(database, old, given.a_state(9))).verdict == "duplicate"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (given.a_state(6, lineage="another"), "lineage"),
        (given.a_state(4), "serial is 4, the current one 5"),
        (given.a_state(5, outputs={"x": {"value": 1, "type": "number"}}), "already taken"),
        (b"{ this was cut o", "not a usable Terraform state"),
        (b"", "not a usable Terraform state"),
    ],
)
async def test_a_state_that_does_not_continue_the_current_one_is_kept_for_a_person(
    database: Database, data: bytes, reason: str
) -> None:
    await given.a_workspace(database)
    await upload(database, given.a_state(5))
    task = await given.applying(database, "w")
    receipt = await push(database, task, data)
    assert receipt.verdict == "quarantined"
    assert reason in str(receipt.reason)
    assert await download(database, "current") == given.a_state(5)
    kept = await given.scalar(database, "SELECT id FROM state_version WHERE verdict = 'quarantined'")
    assert await download(database, kept) == data
    assert await download(database, "5") == given.a_state(5), "a serial names the one that counted"


async def test_a_stored_state_ends_the_doubt(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.applying(database, "w")
    await given.moved(database, task, given.a_loss(task))
    assert (await database.tx(workspaces.get, "w")).state_uncertain
    assert (await push(database, task, given.a_state(1))).verdict == "current"
    assert not (await database.tx(workspaces.get, "w")).state_uncertain


async def test_a_push_for_a_task_that_does_not_exist_is_not_found(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.applying(database, "w")
    with pytest.raises(NotFound):
        await push(database, task, given.a_state(1), task_id=404)


async def test_a_users_upload_goes_forward_only_unless_forced(database: Database) -> None:
    await given.a_workspace(database)
    await upload(database, given.a_state(5))
    same = await upload(database, given.a_state(5))
    assert same.serial == 5
    for data, code in [
        (given.a_state(5, resources=None), "state_serial_too_low"),
        (given.a_state(4), "state_serial_too_low"),
        (given.a_state(6, lineage="another"), "state_lineage_differs"),
    ]:
        with pytest.raises(Conflict) as refused:
            await upload(database, data)
        assert refused.value.code == code
    forced = await upload(database, given.a_state(2, lineage="another"), force=True)
    assert (forced.serial, forced.lineage) == (6, "another"), "renumbered: a serial never goes back"
    assert json.loads(await download(database, "current"))["serial"] == 6
    with pytest.raises(Invalid) as unusable:
        await upload(database, b"{}", force=True)
    assert unusable.value.code == "state_invalid"


async def test_a_rollback_is_a_new_version_with_the_old_bytes_but_for_the_serial(database: Database) -> None:
    await given.a_workspace(database)
    await upload(database, ODD)
    await upload(database, given.a_state(8))
    back = await database.tx(statefiles.roll_back, given.KEYS, "w", 3, by="bob", token=None)
    assert (back.serial, back.rollback_of, back.created_by, back.verdict) == (9, 3, "bob", "current")
    assert await download(database, "current") == ODD.replace(b'"serial" : 3', b'"serial" : 9')
    assert await download(database, "3") == ODD
    assert await download(database, "8") == given.a_state(8)
    workspace = await database.tx(workspaces.get, "w")
    assert workspace.current_serial == 9
    for serial in (7, 404):
        with pytest.raises(NotFound):
            await database.tx(statefiles.roll_back, given.KEYS, "w", serial, by="bob", token=None)


async def test_a_locked_workspace_takes_states_only_from_who_locked_it(database: Database) -> None:
    await given.a_workspace(database)
    locked = await database.tx(workspaces.lock_for_user, "w", user="ann", reason="migration")
    await upload(database, given.a_state(1), by="ann")
    with pytest.raises(WorkspaceLocked):
        await upload(database, given.a_state(2), by="bob")
    assert locked.lock is not None
    token = locked.lock.token
    made = await database.tx(statefiles.upload, given.KEYS, "w", given.a_state(2), force=False, by="bob", token=token)
    assert made.serial == 2


async def test_nobody_uploads_under_a_running_apply(database: Database) -> None:
    await given.a_workspace(database)
    task = await given.applying(database, "w")
    with pytest.raises(WorkspaceLocked, match=f"locked by task {task.id}"):
        await upload(database, given.a_state(1), force=True)


async def test_of_many_uploads_at_once_each_has_a_serial_of_its_own(database: Database) -> None:
    await given.a_workspace(database)
    await upload(database, given.a_state(1))
    made: list[int] = []

    async def one(number: int) -> None:
        found = await upload(database, given.a_state(1, lineage=f"l{number}"), force=True)
        made.append(found.serial)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(one, number)
    assert sorted(made) == [2, 3, 4, 5, 6, 7]
    assert await given.scalar(database, "SELECT count(*) FROM state_version WHERE verdict = 'current'") == 1


async def test_versions_page_newest_first_and_are_found_by_serial_id_or_as_current(database: Database) -> None:
    workspace = await given.a_workspace(database)
    made = [await upload(database, given.a_state(serial)) for serial in (1, 2, 3)]
    newest = await database.tx(statefiles.page, workspace.id, limit=2, before=None)
    assert [version.serial for version in newest] == [3, 2]
    older = await database.tx(statefiles.page, workspace.id, limit=2, before=newest[-1].id)
    assert [version.serial for version in older] == [1]
    assert (await database.tx(statefiles.version, workspace.id, "2")).id == made[1].id
    assert (await database.tx(statefiles.version, workspace.id, made[0].id)).verdict == "superseded"
    for which in ("9", "9" * 30, "sv-unknown", "-1", ""):
        with pytest.raises(NotFound):
            await database.tx(statefiles.version, workspace.id, which)


async def test_a_state_of_another_workspace_is_not_found(database: Database) -> None:
    await given.a_workspace(database)
    other = await given.a_workspace(database, "other")
    made = await upload(database, given.a_state(1))
    with pytest.raises(NotFound):
        await database.tx(statefiles.download, given.KEYS, other.id, made.id, by="ann")


async def test_whoever_reads_or_replaces_a_state_is_in_the_audit(database: Database) -> None:
    workspace = await given.a_workspace(database)
    await upload(database, given.a_state(1))
    await download(database, "current")
    await database.tx(statefiles.roll_back, given.KEYS, "w", 1, by="bob", token=None)
    entries = await database.tx(audit.page, limit=10, before=None, subject=workspace.id)
    verbs = [(entry.actor, entry.verb) for entry in entries if entry.verb.startswith("state.")]
    assert verbs == [("bob", "state.rollback"), ("ann", "state.download"), ("ann", "state.upload")]
