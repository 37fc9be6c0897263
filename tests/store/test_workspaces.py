"""Workspaces: found by id or name, locked by one at a time, not deleted while anything depends on them."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from iac.domain.records import Workspace
from iac.errors import Conflict, NotFound, WorkspaceLocked
from iac.store import audit, state_pushes, statefiles, workspaces
from iac.store.database import Connection, Database
from tests.store import given


async def unlock(database: Database, *, user: str, token: str | None = None, force: bool = False) -> Workspace:
    return await database.tx(workspaces.unlock_for_user, "w", user=user, token=token, force=force)


async def names(database: Database, **wanted: object) -> list[str]:
    usual: dict[str, Any] = {"limit": 10, "after": None, "search": None, "locked": None, "tag": None}
    chosen: dict[str, Any] = {**usual, **wanted}
    return [found.name for found in await database.tx(workspaces.page, **chosen)]


async def test_a_workspace_is_found_by_its_id_and_by_its_name(database: Database) -> None:
    facts = {"description": "ü", "tags": {"env": "prod"}, "provider_config": {"null": {"n": 1.5}}, "auto_apply": True}
    made = await given.a_workspace(database, "my space", empty=True, **facts)
    assert await database.tx(workspaces.get, made.id) == made == await database.tx(workspaces.get, "my space")
    assert (made.description, made.tags, made.auto_apply) == ("ü", {"env": "prod"}, True)
    assert made.provider_config == {"null": {"n": 1.5}}
    with pytest.raises(NotFound, match="There is no workspace 'other'"):
        await database.tx(workspaces.get, "other")


async def test_a_name_is_there_once(database: Database) -> None:
    await given.a_workspace(database, "one", empty=True)
    other = await given.a_workspace(database, "other", empty=True)
    with pytest.raises(Conflict) as refused:
        await given.a_workspace(database, "one", empty=True)
    assert refused.value.code == "name_in_use"
    with pytest.raises(Conflict) as refused:
        await database.tx(workspaces.change, other.id, {"name": "one"}, by="ann")
    assert refused.value.code == "name_in_use"
    same = await database.tx(workspaces.change, other.id, {"name": "other"}, by="ann")
    assert same.name == "other"


async def test_only_what_is_named_changes(database: Database) -> None:
    made = await given.a_workspace(database, empty=True, description="d", tags={"a": "b"})
    changed = await database.tx(workspaces.change, "w", {"tags": {"a": "c"}, "provider_config": None}, by="bob")
    assert (changed.tags, changed.description, changed.provider_config) == ({"a": "c"}, "d", None)
    assert changed.updated_at > made.updated_at
    assert await database.tx(workspaces.change, "w", {}, by="bob") == changed
    for column in ("lock_kind", "id", "current_serial", "name = 'x'; --"):
        with pytest.raises(ValueError, match="not a column that changes"):
            await database.tx(workspaces.change, "w", {column: "x"}, by="bob")


async def test_lists_page_by_name_and_filter(database: Database) -> None:
    for name in ("b", "a", "50%", "under_score", "d"):
        await given.a_workspace(database, name, empty=True, tags={"env": name, "team": "x"} if name != "d" else {})
    await database.tx(workspaces.lock_for_user, "b", user="ann", reason="freeze")
    assert await names(database) == ["50%", "a", "b", "d", "under_score"]
    assert await names(database, limit=2) == ["50%", "a"]
    assert await names(database, after="a", limit=2) == ["b", "d"]
    assert await names(database, locked=True) == ["b"]
    assert await names(database, locked=False, search="A") == ["a"]
    assert await names(database, search="%") == ["50%"]
    assert await names(database, search="_") == ["under_score"]
    assert await names(database, tag="env=a") == ["a"]
    assert await names(database, tag="team") == ["50%", "a", "b", "under_score"]
    assert await names(database, tag="env=nothing") == []


async def test_of_many_who_lock_at_once_one_gets_it(database: Database) -> None:
    await given.a_workspace(database, empty=True)
    got: list[str] = []
    told: list[str] = []

    async def one(user: str) -> None:
        try:
            await database.tx(workspaces.lock_for_user, "w", user=user, reason="mine")
        except WorkspaceLocked as error:
            told.append(str(error.extras["owner"]))
        else:
            got.append(user)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, f"u{number}")
    held = await database.tx(workspaces.get, "w")
    assert held.lock is not None
    assert got == [held.lock.owner]
    assert told == got * 7


async def test_a_refusal_names_who_has_it_since_when_and_why(database: Database) -> None:
    await given.a_workspace(database, empty=True)
    locked = await database.tx(workspaces.lock_for_user, "w", user="ann", reason="freeze")
    assert locked.lock is not None
    with pytest.raises(WorkspaceLocked, match=r"locked by ann since .* UTC: freeze") as refused:
        await database.tx(workspaces.lock_for_user, "w", user="bob", reason="me too")
    assert refused.value.extras["since"] == locked.lock.since.isoformat()
    assert locked.lock.token not in str(refused.value.extras), "what releases it is not told to others"


async def test_ones_own_lock_is_released_by_name_or_by_token(database: Database) -> None:
    await given.a_workspace(database, empty=True)
    await database.tx(workspaces.lock_for_user, "w", user="ann", reason="r")
    assert (await unlock(database, user="ann")).lock is None
    locked = await database.tx(workspaces.lock_for_user, "w", user="ann", reason="r")
    assert locked.lock is not None
    with pytest.raises(WorkspaceLocked):
        await unlock(database, user="bob")
    with pytest.raises(WorkspaceLocked):
        await unlock(database, user="bob", token="lock-of-something-else")
    assert (await unlock(database, user="bob", token=locked.lock.token)).lock is None
    with pytest.raises(Conflict) as refused:
        await unlock(database, user="ann")
    assert refused.value.code == "not_locked"


async def test_an_old_token_does_not_release_the_lock_that_came_after(database: Database) -> None:
    await given.a_workspace(database, empty=True)
    first = await database.tx(workspaces.lock_for_user, "w", user="ann", reason="r")
    assert first.lock is not None
    await unlock(database, user="ann")
    second = await database.tx(workspaces.lock_for_user, "w", user="ann", reason="r")
    assert second.lock is not None
    assert second.lock.token != first.lock.token
    with pytest.raises(WorkspaceLocked):
        await unlock(database, user="ann", token=first.lock.token)
    assert (await database.tx(workspaces.get, "w")).lock == second.lock


async def test_a_forced_unlock_is_audited_with_what_it_broke(database: Database) -> None:
    workspace = await given.a_workspace(database)
    await database.tx(workspaces.lock_for_user, "w", user="ann", reason="freeze")
    await unlock(database, user="bob", force=True)
    task = await given.a_task(database, "w")
    with pytest.raises(WorkspaceLocked):
        await unlock(database, user="bob")
    await unlock(database, user="eve", force=True)
    entries = await database.tx(audit.page, limit=50, before=None, subject=workspace.id)
    forced = [(entry.actor, entry.facts) for entry in entries if entry.verb == "workspace.force_unlock"]
    assert [(actor, facts["kind"], facts["owner"]) for actor, facts in forced] == [
        ("eve", "task", str(task.id)),
        ("bob", "user", "ann"),
    ]


async def test_ones_own_unlock_is_no_forced_one_even_with_force(database: Database) -> None:
    workspace = await given.a_workspace(database, empty=True)
    await database.tx(workspaces.lock_for_user, "w", user="ann", reason="r")
    await unlock(database, user="ann", force=True)
    entries = await database.tx(audit.page, limit=1, before=None, subject=workspace.id)
    assert entries[0].verb == "workspace.unlock"


async def test_a_task_releases_only_the_lock_that_it_holds(database: Database) -> None:
    workspace = await given.a_workspace(database)
    task = await given.a_task(database, "w")
    await unlock(database, user="eve", force=True)
    taken = await database.tx(workspaces.lock_for_user, "w", user="ann", reason="mine now")
    assert not await database.tx(workspaces.release_lock_of_task, workspace.id, task.id)
    await database.tx(workspaces.explain_lock_of_task, workspace.id, task.id, "lies")
    await given.moved(database, task, given.a_cancel())
    assert (await database.tx(workspaces.get, "w")).lock == taken.lock
    await unlock(database, user="ann")
    other = await given.a_task(database, "w")
    assert not await database.tx(workspaces.release_lock_of_task, workspace.id, task.id)
    assert await database.tx(workspaces.release_lock_of_task, workspace.id, other.id)


async def test_a_workspace_that_is_in_use_is_not_deleted(database: Database) -> None:
    await given.a_workspace(database)
    plan = await given.a_task(database, "w", "plan")

    async def refusal(*, force: bool = False) -> str:
        with pytest.raises(Conflict) as refused:
            await database.tx(workspaces.delete, "w", force=force, by="ann")
        return refused.value.code

    assert await refusal(force=True) == "workspace_busy"
    await given.moved(database, plan, given.a_cancel())
    await database.tx(workspaces.lock_for_user, "w", user="ann", reason="r")
    assert await refusal(force=True) == "workspace_locked"
    await unlock(database, user="ann")
    instance = {"schema_version": 0, "attributes": {}}
    resource = {"mode": "managed", "type": "t", "name": "n", "provider": "p", "instances": [instance]}
    state = given.a_state(1, resources=[resource])
    await database.tx(statefiles.upload, given.KEYS, "w", state, force=False, by="ann", token=None)
    assert await refusal() == "workspace_not_empty"
    await database.tx(workspaces.delete, "w", force=True, by="ann")
    with pytest.raises(NotFound):
        await database.tx(workspaces.get, "w")


async def test_a_deleted_workspace_leaves_nothing_but_its_audit(database: Database) -> None:
    workspace = await given.a_workspace(database)
    task = await given.ended(database, await given.applying(database, "w"))
    await database.tx(state_pushes.push, given.an_order(task), given.packed(given.a_state(1)))
    await database.tx(workspaces.delete, "w", force=True, by="ann")

    async def left(c: Connection) -> dict[str, int]:
        rows = await c.all("SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public'")
        return {row["name"]: await c.value(f"SELECT count(*) FROM {row['name']}") for row in rows}  # noqa: S608

    counts = await database.tx(left)
    assert {name for name, count in counts.items() if count} <= {"audit", "schema_migration"}
    [newest] = await database.tx(audit.page, limit=1, before=None, subject=workspace.id)
    assert (newest.actor, newest.verb, newest.facts["name"]) == ("ann", "workspace.delete", "w")


async def test_a_workspace_is_not_deleted_under_a_task_that_is_just_being_made(database: Database) -> None:
    for number in range(6):
        name = f"w{number}"
        await given.a_workspace(database, name)
        made: list[int] = []
        outcome: list[str] = []

        async def create(name: str = name, made: list[int] = made) -> None:
            try:
                made.append((await given.a_task(database, name)).id)
            except NotFound:
                return

        async def delete(name: str = name, outcome: list[str] = outcome) -> None:
            try:
                await database.tx(workspaces.delete, name, force=True, by="ann")
            except Conflict as error:
                outcome.append(error.code)
            else:
                outcome.append("deleted")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(create)
            nursery.start_soon(delete)
        assert (bool(made), outcome[0] == "deleted") in [(True, False), (False, True)]


async def test_the_audit_pages_backwards(database: Database) -> None:
    workspace = await given.a_workspace(database, empty=True)
    for number in range(5):
        await database.tx(workspaces.change, "w", {"description": str(number)}, by=f"u{number}")
    first = await database.tx(audit.page, limit=3, before=None, subject=workspace.id)
    rest = await database.tx(audit.page, limit=10, before=first[-1].id, subject=workspace.id)
    assert [entry.actor for entry in first + rest] == ["u4", "u3", "u2", "u1", "u0", "ann"]
