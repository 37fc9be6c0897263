"""Variables of a workspace. Every value is sealed; a sensitive one never leaves through here in clear but for a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from iac.domain.records import Category, Variable
from iac.domain.work import BundleVariable
from iac.errors import Conflict, Invalid, NotFound
from iac.store import audit
from iac.store.database import Connection, Row, UniqueViolation
from iac.store.identity import new_id
from iac.store.sealing import Keyring


def _purpose(variable_id: str) -> str:
    return f"variable:{variable_id}"


def _from_row(row: Row, keyring: Keyring) -> Variable:
    value = None if row["sensitive"] else keyring.unseal(row["value"], _purpose(row["id"])).decode()
    return Variable(**{**row, "value": value})


async def create(
    c: Connection,
    keyring: Keyring,
    workspace_id: str,
    *,
    key: str,
    value: str,
    category: Category,
    hcl: bool,
    sensitive: bool,
    description: str,
    by: str,
) -> Variable:
    """Raises Conflict (variable_exists)."""
    variable_id = new_id("var")
    try:
        row = await c.first(
            """INSERT INTO variable (id, workspace_id, key, category, hcl, sensitive, value, description)
               VALUES (:id, :workspace_id, :key, :category, :hcl, :sensitive, :value, :description) RETURNING *""",
            id=variable_id,
            workspace_id=workspace_id,
            key=key,
            category=category,
            hcl=hcl,
            sensitive=sensitive,
            value=keyring.seal(value.encode(), _purpose(variable_id)),
            description=description,
        )
    except UniqueViolation:
        raise Conflict(
            f"The workspace has a {category} variable {key!r} already; change that one.", code="variable_exists"
        ) from None
    if row is None:
        raise NotFound("the variable was not stored")
    await audit.note(c, by, "variable.create", workspace_id, key=key, category=category, sensitive=sensitive)
    return _from_row(row, keyring)


async def listed(c: Connection, keyring: Keyring, workspace_id: str) -> list[Variable]:
    rows = await c.all(
        "SELECT * FROM variable WHERE workspace_id = :workspace_id ORDER BY category DESC, key",
        workspace_id=workspace_id,
    )
    return [_from_row(row, keyring) for row in rows]


async def get(c: Connection, keyring: Keyring, workspace_id: str, variable_id: str) -> Variable:
    """Raises NotFound."""
    return _from_row(await _row(c, workspace_id, variable_id, ""), keyring)


async def change(
    c: Connection,
    keyring: Keyring,
    workspace_id: str,
    variable_id: str,
    *,
    value: str | None,
    hcl: bool | None,
    sensitive: bool | None,
    description: str | None,
    version: int | None,
    by: str,
) -> Variable:
    """Changes what is not None. Raises NotFound, Conflict (version_differs), Invalid where a sensitive value would show."""
    before = await _row(c, workspace_id, variable_id, "FOR UPDATE")
    if version is not None and version != before["version"]:
        raise Conflict(
            f"The variable is at version {before['version']}, not {version}: somebody changed it. Read it again.",
            code="version_differs",
            version=before["version"],
        )
    if before["sensitive"] and sensitive is False and value is None:
        raise Invalid(
            "A sensitive variable becomes readable only together with a new value.",
            path="$.sensitive",
            code="sensitive",
        )
    row = await c.first(
        """UPDATE variable SET value = :value, hcl = :hcl, sensitive = :sensitive, description = :description,
           version = version + 1, updated_at = now() WHERE id = :id RETURNING *""",
        id=variable_id,
        value=before["value"] if value is None else keyring.seal(value.encode(), _purpose(variable_id)),
        hcl=before["hcl"] if hcl is None else hcl,
        sensitive=before["sensitive"] if sensitive is None else sensitive,
        description=before["description"] if description is None else description,
    )
    if row is None:
        raise NotFound(f"There is no variable {variable_id!r} in this workspace.")
    await audit.note(c, by, "variable.change", workspace_id, key=row["key"], version=row["version"])
    return _from_row(row, keyring)


async def delete(c: Connection, workspace_id: str, variable_id: str, *, by: str) -> None:
    """Raises NotFound."""
    row = await _row(c, workspace_id, variable_id, "FOR UPDATE")
    await c.run("DELETE FROM variable WHERE id = :id", id=variable_id)
    await audit.note(c, by, "variable.delete", workspace_id, key=row["key"])


OF_WORKSPACE = """ARRAY(SELECT ROW(v.id, v.key, v.value, v.category, v.hcl, v.sensitive) FROM variable v
                 WHERE v.workspace_id = w.id ORDER BY v.category, v.key)"""
"""All of them, in a statement that reads a workspace `w`; for `in_clear`."""


async def for_bundle(c: Connection, keyring: Keyring, workspace_id: str) -> tuple[BundleVariable, ...]:
    """All of them in clear, as a bundle of this moment would have them: not to be shown."""
    found = await c.value(f"SELECT {OF_WORKSPACE} FROM workspace w WHERE w.id = :id", id=workspace_id)
    return in_clear(found or (), keyring)


def in_clear(found: Iterable[Sequence[Any]], keyring: Keyring) -> tuple[BundleVariable, ...]:
    """What `OF_WORKSPACE` has given, in clear: only to be frozen into a sealed bundle."""
    return tuple(
        BundleVariable(
            key=key,
            value=keyring.unseal(value, _purpose(variable_id)).decode(),
            category=category,
            hcl=hcl,
            sensitive=sensitive,
        )
        for variable_id, key, value, category, hcl, sensitive in found
    )


async def _row(c: Connection, workspace_id: str, variable_id: str, lock: str) -> Row:
    row = await c.first(
        f"SELECT * FROM variable WHERE workspace_id = :workspace_id AND id = :id {lock}",
        workspace_id=workspace_id,
        id=variable_id,
    )
    if row is None:
        raise NotFound(f"There is no variable {variable_id!r} in this workspace.")
    return row
