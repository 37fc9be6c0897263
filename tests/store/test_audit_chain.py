"""The sealed audit: whatever is changed, taken out or put in shows; and the database refuses the usual ways of doing it."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from iac.store import audit, audit_chain
from iac.store.database import Connection, Database


async def write(database: Database, *verbs: str) -> None:
    for verb in verbs:
        await database.tx(partial(audit.note, zahl=1.5, nested={"b": [1, None], "a": "ü"}), "somebody", verb, "ws-1")


async def run(c: Connection, statement: str) -> None:
    await c.run(statement)


async def broken(database: Database) -> int | None:
    return await database.read(audit_chain.broken_at, page=2)


async def unguarded(database: Database, statement: str) -> None:
    """As somebody with the database's own rights would do it."""
    for each in ("ALTER TABLE audit DISABLE TRIGGER USER", statement, "ALTER TABLE audit ENABLE TRIGGER USER"):
        await database.tx(run, each)


async def test_rows_are_sealed_in_batches_and_the_chain_is_whole(database: Database) -> None:
    await write(database, "a", "b", "c", "d", "e")
    assert [await database.tx(audit_chain.seal, most=2) for _ in range(4)] == [2, 2, 1, 0]
    assert await broken(database) is None
    await write(database, "f")
    assert await broken(database) is None  # what is not sealed yet breaks nothing
    assert await database.tx(audit_chain.seal) == 1
    assert await broken(database) is None


@pytest.mark.parametrize(
    ("statement", "at"),
    [
        ("UPDATE audit SET actor = 'somebody else' WHERE position = 2", 2),
        ("UPDATE audit SET facts = '{}' WHERE position = 4", 4),
        ("UPDATE audit SET at = at + interval '1 second' WHERE position = 1", 1),
        ("DELETE FROM audit WHERE position = 3", 3),
        ("UPDATE audit SET position = position + 10 WHERE position >= 3", 3),
        ("UPDATE audit SET hash = decode('00', 'hex') WHERE position = 4", 4),
    ],
)
async def test_what_was_done_to_the_rows_shows(database: Database, statement: str, at: int) -> None:
    await write(database, "a", "b", "c", "d")
    await database.tx(audit_chain.seal)
    await unguarded(database, statement)
    assert await broken(database) == at


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit", "UPDATE audit SET position = 9, hash = ''"],
)
async def test_the_database_refuses_to_change_the_audit(database: Database, statement: str) -> None:
    await write(database, "a")
    await database.tx(audit_chain.seal)
    with pytest.raises(Exception, match="append-only"):
        await database.tx(run, statement)
    assert await broken(database) is None


async def test_several_that_seal_at_once_make_one_chain(database: Database) -> None:
    await write(database, *"abcdefgh")

    async def seal_all() -> None:
        while await database.tx(audit_chain.seal, most=2):
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(seal_all)
    assert await broken(database) is None


async def test_a_row_that_was_committed_late_is_sealed_where_it_was_found(database: Database) -> None:
    noted, go_on = trio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def slowly(c: Connection) -> None:
        await audit.note(c, "somebody", "first, but late", "ws-1")
        token.run_sync_soon(noted.set)
        while not go_on.is_set():  # in asyncio, so a database call is the way to let others run
            await c.run("SELECT pg_sleep(0.01)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.tx, slowly)
        await noted.wait()
        await write(database, "second")
        assert await database.tx(audit_chain.seal) == 1
        go_on.set()
    assert await database.tx(audit_chain.seal) == 1
    assert await broken(database) is None
