"""Variables: sealed at rest, shown only when they may be, changed by who has seen the present version."""

from __future__ import annotations

from typing import Any

import pytest

from iac.domain.records import Variable
from iac.errors import Conflict, Invalid, NotFound
from iac.store import audit, variables
from iac.store.database import Connection, Database
from iac.store.sealing import CannotUnseal
from tests.store import given

CANARY = "canary-0451-in-the-coal-mine"


async def create(database: Database, workspace: str, **facts: object) -> Variable:
    usual: dict[str, Any] = {
        "key": "size",
        "value": "3",
        "category": "terraform",
        "hcl": False,
        "sensitive": False,
        "description": "",
        "by": "ann",
    }
    chosen: dict[str, Any] = {**usual, **facts}
    return await database.tx(variables.create, given.KEYS, workspace, **chosen)


async def change(database: Database, made: Variable, **facts: object) -> Variable:
    usual: dict[str, Any] = dict.fromkeys(("value", "hcl", "sensitive", "description", "version"))
    call: dict[str, Any] = {**usual, **facts, "by": "bob"}
    return await database.tx(variables.change, given.KEYS, made.workspace_id, made.id, **call)


async def test_a_value_comes_back_as_it_went_and_a_sensitive_one_does_not(database: Database) -> None:
    workspace = await given.a_workspace(database)
    plain = await create(database, workspace.id, value="ü\n\\ ${x}")
    secret = await create(database, workspace.id, key="pass", value=CANARY, sensitive=True)
    assert (plain.value, secret.value) == ("ü\n\\ ${x}", None)
    shown = await database.tx(variables.listed, given.KEYS, workspace.id)
    assert {variable.key: variable.value for variable in shown} == {"size": "ü\n\\ ${x}", "pass": None}
    assert (await database.tx(variables.get, given.KEYS, workspace.id, secret.id)).value is None
    frozen = await database.tx(variables.for_bundle, given.KEYS, workspace.id)
    assert {variable.key: variable.value for variable in frozen} == {"size": "ü\n\\ ${x}", "pass": CANARY}


async def dump(c: Connection) -> bytes:
    """Every row of every table, as text and with byte columns as bytes."""
    tables = await c.all("SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public'")
    rows = [row for table in tables for row in await c.all(f"SELECT * FROM {table['name']}")]  # noqa: S608
    values = [value for row in rows for value in row.values()]
    return b"\n".join(bytes(value) if isinstance(value, bytes) else str(value).encode() for value in values)


async def test_no_table_has_a_value_in_clear_wherever_it_went(database: Database) -> None:
    workspace = await given.a_workspace(database)
    made = await create(database, workspace.id, value=CANARY)
    await change(database, made, value=f"{CANARY}-again", sensitive=True)
    task = await given.planned(database, workspace.id)
    frozen = given.scalar(database, "SELECT length(bundle) FROM task WHERE id = :id", id=task.id)
    assert await frozen > 0
    everything = await database.tx(dump)
    assert b"size" in everything, "the dump sees what is in clear"
    assert CANARY.encode() not in everything


async def test_a_sealed_value_cannot_be_moved_to_another_variable(database: Database) -> None:
    workspace = await given.a_workspace(database)
    secret = await create(database, workspace.id, key="pass", value=CANARY, sensitive=True)
    open_one = await create(database, workspace.id, key="open")

    async def swap(c: Connection) -> None:
        await c.run(
            "UPDATE variable SET value = (SELECT value FROM variable WHERE id = :one) WHERE id = :other",
            one=secret.id,
            other=open_one.id,
        )

    await database.tx(swap)
    with pytest.raises(CannotUnseal):
        await database.tx(variables.listed, given.KEYS, workspace.id)


async def test_a_sensitive_value_becomes_readable_only_when_it_is_replaced(database: Database) -> None:
    workspace = await given.a_workspace(database)
    made = await create(database, workspace.id, value=CANARY, sensitive=True)
    with pytest.raises(Invalid) as refused:
        await change(database, made, sensitive=False)
    assert refused.value.extras["path"] == "$.sensitive"
    changed = await change(database, made, sensitive=False, value="harmless")
    assert (changed.value, changed.version) == ("harmless", 2)


async def test_only_what_is_given_changes_and_only_for_who_saw_the_present_version(database: Database) -> None:
    workspace = await given.a_workspace(database)
    made = await create(database, workspace.id, value="1", hcl=True, description="d")
    second = await change(database, made, value="2", version=1)
    assert (second.value, second.hcl, second.description, second.version) == ("2", True, "d", 2)
    with pytest.raises(Conflict) as refused:
        await change(database, made, value="3", version=1)
    assert (refused.value.code, refused.value.extras["version"]) == ("version_differs", 2)
    kept = await change(database, made, description="e")
    assert (kept.value, kept.description) == ("2", "e")


async def test_a_key_is_there_once_in_each_category(database: Database) -> None:
    workspace = await given.a_workspace(database)
    await create(database, workspace.id)
    await create(database, workspace.id, category="environment")
    with pytest.raises(Conflict) as refused:
        await create(database, workspace.id)
    assert refused.value.code == "variable_exists"
    other = await given.a_workspace(database, "other")
    await create(database, other.id)


async def test_a_variable_of_another_workspace_is_not_found(database: Database) -> None:
    workspace = await given.a_workspace(database)
    other = await given.a_workspace(database, "other")
    made = await create(database, workspace.id)
    with pytest.raises(NotFound):
        await database.tx(variables.get, given.KEYS, other.id, made.id)
    with pytest.raises(NotFound):
        await database.tx(variables.delete, other.id, made.id, by="bob")
    await database.tx(variables.delete, workspace.id, made.id, by="bob")
    assert await database.tx(variables.listed, given.KEYS, workspace.id) == []


async def test_the_audit_tells_who_changed_which_key_and_never_the_value(database: Database) -> None:
    workspace = await given.a_workspace(database)
    made = await create(database, workspace.id, value=CANARY)
    await change(database, made, value=f"{CANARY}2")
    await database.tx(variables.delete, workspace.id, made.id, by="eve")
    entries = await database.tx(audit.page, limit=10, before=None, subject=workspace.id)
    told = [(entry.actor, entry.verb) for entry in entries if entry.verb.startswith("variable.")]
    assert told == [("eve", "variable.delete"), ("bob", "variable.change"), ("ann", "variable.create")]
    assert CANARY not in str(entries)
