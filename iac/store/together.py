"""Several writes in one statement: one round trip, and all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from iac.store.database import Connection, Row


class Along(msgspec.Struct, frozen=True):
    """A write that goes along with another one: it selects `FROM done`, the rows which that one made or changed, and so does
    nothing where that one did nothing. `name` is its own, and that of its rows for those that follow it.
    """

    name: str
    sql: str
    values: Mapping[str, object] = {}


async def write(
    c: Connection,
    done: str,
    values: Mapping[str, object],
    along: Sequence[Along],
    *,
    answer: str = "SELECT * FROM done",
) -> Row | None:
    """Carries out `done`, a statement with RETURNING, and what goes along. The first row of `answer`, or None."""
    parts = [f"done AS ({done})", *(f"{each.name} AS ({each.sql})" for each in along)]
    every = dict(values)
    for each in along:
        if every.keys() & each.values.keys():
            raise ValueError(f"{each.name} has a parameter of a name that is taken: {sorted(each.values)}")
        every.update(each.values)
    return await c.first(f"WITH {', '.join(parts)} {answer}", **every)
