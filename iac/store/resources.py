"""Resource blocks that the platform keeps itself (the seed's `resources[]`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from iac.domain.records import Resource
from iac.errors import Conflict, NotFound
from iac.store import audit
from iac.store.database import Connection, Row, UniqueViolation
from iac.store.identity import new_id


def _from_row(row: Row) -> Resource:
    return Resource(**{**row, "body": msgspec.json.decode(row["body"])})


_COLUMNS = Resource.__struct_fields__
OF_WORKSPACE = f"""ARRAY(SELECT ROW({", ".join(f"r.{name}" for name in _COLUMNS)}) FROM resource r
                 WHERE r.workspace_id = w.id ORDER BY r.mode DESC, r.type, r.name)"""
"""All of them, in a statement that reads a workspace `w`; for `all_of`."""


def all_of(found: Iterable[Sequence[Any]]) -> tuple[Resource, ...]:
    """What `OF_WORKSPACE` has given."""
    return tuple(_from_row(dict(zip(_COLUMNS, each, strict=True))) for each in found)


async def create(
    c: Connection, workspace_id: str, *, mode: str, type: str, name: str, body: Mapping[str, Any], by: str
) -> Resource:
    """Raises Conflict (resource_exists)."""
    try:
        row = await c.first(
            """INSERT INTO resource (id, workspace_id, mode, type, name, body)
               VALUES (:id, :workspace_id, :mode, :type, :name, :body) RETURNING *""",
            id=new_id("res"),
            workspace_id=workspace_id,
            mode=mode,
            type=type,
            name=name,
            body=msgspec.json.encode(body).decode(),
        )
    except UniqueViolation:
        raise Conflict(f"The workspace has {type}.{name} already; change that one.", code="resource_exists") from None
    if row is None:
        raise NotFound("the resource was not stored")
    await audit.note(c, by, "resource.create", workspace_id, address=f"{type}.{name}")
    return _from_row(row)


async def listed(c: Connection, workspace_id: str) -> list[Resource]:
    rows = await c.all(
        "SELECT * FROM resource WHERE workspace_id = :workspace_id ORDER BY mode DESC, type, name",
        workspace_id=workspace_id,
    )
    return [_from_row(row) for row in rows]


async def change(
    c: Connection, workspace_id: str, resource_id: str, *, body: Mapping[str, Any], version: int | None, by: str
) -> Resource:
    """Raises NotFound, Conflict (version_differs)."""
    before = await _row(c, workspace_id, resource_id)
    if version is not None and version != before["version"]:
        raise Conflict(
            f"The resource is at version {before['version']}, not {version}: somebody changed it. Read it again.",
            code="version_differs",
            version=before["version"],
        )
    row = await c.first(
        """UPDATE resource SET body = :body, version = version + 1, updated_at = now() WHERE id = :id RETURNING *""",
        id=resource_id,
        body=msgspec.json.encode(body).decode(),
    )
    if row is None:
        raise NotFound(f"There is no resource {resource_id!r} in this workspace.")
    await audit.note(c, by, "resource.change", workspace_id, resource=resource_id, version=row["version"])
    return _from_row(row)


async def delete(c: Connection, workspace_id: str, resource_id: str, *, by: str) -> None:
    """Raises NotFound."""
    row = await _row(c, workspace_id, resource_id)
    await c.run("DELETE FROM resource WHERE id = :id", id=resource_id)
    await audit.note(c, by, "resource.delete", workspace_id, address=f"{row['type']}.{row['name']}")


async def _row(c: Connection, workspace_id: str, resource_id: str) -> Row:
    row = await c.first(
        "SELECT * FROM resource WHERE workspace_id = :workspace_id AND id = :id FOR UPDATE",
        workspace_id=workspace_id,
        id=resource_id,
    )
    if row is None:
        raise NotFound(f"There is no resource {resource_id!r} in this workspace.")
    return row
