"""What is written together: all of it or nothing, in one statement; and the loop that carries statements."""

from __future__ import annotations

import pytest
import trio
import trio_asyncio

from iac.store import audit, together
from iac.store.database import Connection, Database
from iac.store.together import Along
from tests.store import given, pooled

RENAME = "UPDATE workspace SET name = :name WHERE id = :id RETURNING id, name"


async def rename(c: Connection, workspace_id: str, along: list[Along]) -> str | None:
    row = await together.write(c, RENAME, {"id": workspace_id, "name": "new"}, along)
    return None if row is None else str(row["name"])


async def test_what_goes_along_is_done_with_what_it_belongs_to(database: Database) -> None:
    made = await given.a_workspace(database)
    noted = audit.along("ann", "workspace.rename", made.id, why="a 'quoted' reason")
    assert await database.single(rename, made.id, [noted]) == "new"
    newest = (await pooled.trail(database, made.id))[0]
    assert (newest.actor, newest.verb, newest.facts) == ("ann", "workspace.rename", {"why": "a 'quoted' reason"})


async def test_nothing_goes_along_with_what_was_not_done(database: Database) -> None:
    assert await database.single(rename, "ws-none", [audit.along("ann", "workspace.rename", "ws-none")]) is None
    assert await pooled.trail(database, "ws-none") == []


async def test_two_parameters_of_one_name_are_a_mistake(database: Database) -> None:
    with pytest.raises(ValueError, match="name that is taken"):
        await database.single(rename, "ws-none", [Along("other", "SELECT :name FROM done", {"name": "x"})])


async def test_callbacks_without_an_end_leave_turns_to_others(database: Database) -> None:
    loop, ran, enough = trio_asyncio.current_loop.get(), 0, 20_000

    def again() -> None:
        nonlocal ran
        ran += 1
        if ran < enough:
            loop.call_soon(again)

    loop.call_soon(again)
    for _ in range(10):
        await trio.lowlevel.checkpoint()
    assert 0 < ran < enough
    while ran < enough:
        await trio.lowlevel.checkpoint()
