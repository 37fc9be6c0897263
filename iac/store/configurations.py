"""Versions of a workspace's configuration: immutable rows, the newest of which is the workspace's current one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from iac.domain.records import Configuration, ConfigurationKind
from iac.errors import Conflict, Invalid, NotFound
from iac.store import audit, workspaces
from iac.store.database import Connection, Row
from iac.store.identity import new_id

_COLUMNS = "id, workspace_id, kind, digest, size, files, message, created_by, created_at"

ANOTHER_VERSION = (
    "Another version of the configuration has come meanwhile. Nothing of yours was saved: look at it, and make your "
    "change there."
)


def _from_row(row: Row) -> Configuration:
    return Configuration(**{**row, "files": tuple(row["files"])})


async def put(
    c: Connection,
    workspace: str,
    *,
    kind: ConfigurationKind,
    digest: str,
    archive: bytes | None,
    source: Mapping[str, Any] | None,
    files: Sequence[str],
    message: str,
    by: str,
    base: str | None = None,
) -> Configuration:
    """Makes this the workspace's configuration. The same content as the current one gives the current one back.

    `base` is the version that it was made from, "" for none: raises Conflict (version_differs) if that is not the current
    one any more.
    """
    held = await workspaces.hold(c, workspace)
    if base is not None and base != (held.configuration_id or ""):
        raise Conflict(ANOTHER_VERSION, code="version_differs")
    current = await _current(c, held.configuration_id)
    if current is not None and current.digest == digest and current.kind == kind:
        return current
    row = await c.first(
        f"""INSERT INTO configuration (id, workspace_id, kind, digest, size, archive, source, files, message, created_by)
            VALUES (:id, :workspace_id, :kind, :digest, :size, :archive, :source, :files, :message, :by)
            RETURNING {_COLUMNS}""",
        id=new_id("cv"),
        workspace_id=held.id,
        kind=kind,
        digest=digest,
        size=len(archive or b""),
        archive=archive,
        source=None if source is None else msgspec.json.encode(source).decode(),
        files=list(files),
        message=message,
        by=by,
    )
    if row is None:
        raise NotFound("the configuration was not stored")
    await c.run(
        "UPDATE workspace SET configuration_id = :configuration, updated_at = now() WHERE id = :id",
        configuration=row["id"],
        id=held.id,
    )
    await audit.note(c, by, "configuration.put", held.id, configuration=row["id"], kind=kind, digest=digest)
    return _from_row(row)


async def _current(c: Connection, configuration_id: str | None) -> Configuration | None:
    if configuration_id is None:
        return None
    row = await c.first(f"SELECT {_COLUMNS} FROM configuration WHERE id = :id", id=configuration_id)
    return None if row is None else _from_row(row)


async def page(c: Connection, workspace_id: str, *, limit: int, before: str | None) -> list[Configuration]:
    """Newest first; those older than the configuration `before`. Raises Invalid if there is no such one."""
    if before is not None and not await c.value(
        "SELECT true FROM configuration WHERE id = :id AND workspace_id = :workspace_id",
        id=before,
        workspace_id=workspace_id,
    ):
        raise Invalid("This cursor is not from a page of this list; begin without one.", path="$.cursor")
    rows = await c.all(
        f"""SELECT {_COLUMNS} FROM configuration WHERE workspace_id = :workspace_id
            AND (CAST(:before AS text) IS NULL OR (created_at, id) <
                 (SELECT created_at, id FROM configuration WHERE id = :before))
            ORDER BY created_at DESC, id DESC LIMIT :limit""",
        workspace_id=workspace_id,
        before=before,
        limit=limit,
    )
    return [_from_row(row) for row in rows]


async def get(c: Connection, workspace_id: str, configuration_id: str) -> Configuration:
    """Raises NotFound when the workspace has no such version."""
    row = await c.first(
        f"SELECT {_COLUMNS} FROM configuration WHERE id = :id AND workspace_id = :workspace_id",
        id=configuration_id,
        workspace_id=workspace_id,
    )
    if row is None:
        raise NotFound(f"The workspace has no configuration {configuration_id!r}.")
    return _from_row(row)


class Source(msgspec.Struct, frozen=True):
    """What a bundle is made from: an archive, or the seed's `tf_code`; neither when there is no configuration."""

    digest: str | None = None
    packed: bool = False
    """Whether it is an archive, which the bundle names by its digest."""
    tf_code: Mapping[str, Any] | None = None


OF_WORKSPACE = """(SELECT ROW(v.digest, v.archive IS NOT NULL, v.source) FROM configuration v
                 WHERE v.id = w.configuration_id)"""
"""The columns of `source_of`, in a statement that reads a workspace `w`."""


async def source(c: Connection, configuration_id: str | None) -> Source:
    """Likewise of one version, whichever is current."""
    if configuration_id is None:
        return Source()
    return source_of(
        await c.value(
            "SELECT ROW(digest, archive IS NOT NULL, source) FROM configuration WHERE id = :id", id=configuration_id
        )
    )


def source_of(found: Sequence[Any] | None) -> Source:
    """What `OF_WORKSPACE` has given."""
    if found is None:
        return Source()
    digest, packed, tf_code = found
    return Source(digest=digest, packed=packed, tf_code=None if tf_code is None else json.loads(tf_code))


async def archive_by_digest(c: Connection, workspace_id: str, digest: str) -> bytes | None:
    """The archive that a bundle names. Configurations are never deleted while their workspace lives."""
    found = await c.value(
        "SELECT archive FROM configuration WHERE workspace_id = :workspace_id AND digest = :digest LIMIT 1",
        workspace_id=workspace_id,
        digest=digest,
    )
    return None if found is None else bytes(found)
