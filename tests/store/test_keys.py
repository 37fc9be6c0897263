"""A server does not start without the keys that its data needs, and the message names the one that is missing."""

from __future__ import annotations

import pytest

from iac.errors import StartFailed
from iac.store import keys, state_pushes, variables
from iac.store.database import Connection, Database
from iac.store.sealing import Keyring
from tests.store import given

OLD, NEW = Keyring("the-old-secret-key-1"), Keyring("the-new-secret-key-2")
BOTH = Keyring("the-new-secret-key-2", "the-old-secret-key-1")


async def a_variable(database: Database, keyring: Keyring, workspace_id: str, key: str) -> str:
    facts = {"category": "terraform", "hcl": False, "sensitive": True, "description": "", "by": "ann"}
    made = await database.tx(variables.create, keyring, workspace_id, key=key, value="v", **facts)  # type: ignore[arg-type]
    return made.id


async def seal_again(c: Connection, table: str, column: str, keyring: Keyring) -> None:
    await c.run(f"UPDATE {table} SET {column} = :data", data=keyring.seal(b"x", "p"))  # noqa: S608


async def test_a_fresh_database_takes_any_key_and_remembers_it(database: Database) -> None:
    await database.tx(keys.check, OLD)
    await database.tx(keys.check, OLD)
    assert await given.scalar(database, "SELECT array_agg(key_id) FROM sealing_key") == [OLD.current]


async def test_a_key_under_which_nothing_is_sealed_may_go(database: Database) -> None:
    await database.tx(keys.check, OLD)
    await database.tx(keys.check, NEW)


async def test_a_missing_key_stops_the_start_and_is_named(database: Database) -> None:
    workspace = await given.a_workspace(database)
    await database.tx(keys.check, OLD)
    await a_variable(database, OLD, workspace.id, "a")
    with pytest.raises(StartFailed) as failed:
        await database.tx(keys.check, NEW)
    assert failed.value.exit_code == 78
    assert failed.value.message == (
        f"IAC_SECRET_KEY: stored data (variable) is sealed with key {OLD.current}, which is not among the given "
        f"({NEW.current}). Give the old key too, after the new one, separated by a comma."
    )
    await database.tx(keys.check, BOTH)


@pytest.mark.parametrize(
    ("table", "column"), [("variable", "value"), ("task", "bundle"), ("plan", "file"), ("state_version", "data")]
)
async def test_no_kind_of_sealed_data_is_overlooked(database: Database, table: str, column: str) -> None:
    await database.tx(keys.check, OLD)
    workspace = await given.a_workspace(database)
    await a_variable(database, given.KEYS, workspace.id, "a")
    task = await given.planned(database, "w")
    await database.tx(state_pushes.push, given.an_order(task), given.packed(given.a_state(1)))
    await database.tx(keys.check, given.KEYS)
    await database.tx(seal_again, table, column, OLD)
    with pytest.raises(StartFailed, match=rf"\({table}\) is sealed with key {OLD.current}"):
        await database.tx(keys.check, given.KEYS)


def test_every_sealed_column_of_the_schema_is_checked() -> None:
    assert {table for table, _ in keys._SEALED} == {"variable", "task", "plan", "state_version"}


async def test_after_a_rotation_old_values_are_read_and_new_ones_use_the_new_key(database: Database) -> None:
    workspace = await given.a_workspace(database)
    await database.tx(keys.check, OLD)
    await a_variable(database, OLD, workspace.id, "old")
    await database.tx(keys.check, BOTH)
    await a_variable(database, BOTH, workspace.id, "new")
    values = await database.tx(variables.for_bundle, BOTH, workspace.id)
    assert {variable.key: variable.value for variable in values} == {"old": "v", "new": "v"}
    sealed_with = "SELECT encode(substring(value FROM 5 FOR 8), 'hex') FROM variable WHERE key = :key"
    assert await given.scalar(database, sealed_with, key="old") == OLD.current
    assert await given.scalar(database, sealed_with, key="new") == NEW.current
