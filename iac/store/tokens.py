"""API tokens: only hashes are kept."""

from __future__ import annotations

from datetime import datetime

from iac.domain.records import ApiToken
from iac.errors import Conflict, IacError, NotFound
from iac.store import audit, together
from iac.store.database import Connection
from iac.store.identity import new_id, token_hash

FROM_ENVIRONMENT = "IAC_ADMIN_TOKEN"
_ADMIN = "role = 'admin' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
_COLUMNS = "id, name, role, created_by, created_at, expires_at, revoked_at, last_used_at"


async def create(
    c: Connection, token: str, *, name: str, role: str, by: str, expires_at: datetime | None = None
) -> ApiToken:
    """Keeps the token's hash. The same token again is the same row, valid again."""
    row = await c.first(
        f"""INSERT INTO api_token (id, name, role, hash, created_by, expires_at)
            VALUES (:id, :name, :role, :hash, :by, :expires_at)
            ON CONFLICT (hash) DO UPDATE SET revoked_at = NULL RETURNING {_COLUMNS}""",
        id=new_id("tok"),
        name=name,
        role=role,
        hash=token_hash(token),
        by=by,
        expires_at=expires_at,
    )
    if row is None:
        raise NotFound("the token was not stored")
    await audit.note(c, by, "token.create", row["id"], name=name, role=role)
    return ApiToken(**row)


async def now(c: Connection) -> datetime:
    """The time by the clock that every token's end is judged by: the database's, whatever this host's clock says."""
    at: datetime = await c.value("SELECT now()")
    return at


async def bootstrap(c: Connection, token: str) -> None:
    """Makes this the admin token that the environment gives; one that it gave before is good for nothing any more."""
    hash_ = token_hash(token)
    known = await c.value(
        "SELECT 1 FROM api_token WHERE hash = :hash AND role = 'admin' AND revoked_at IS NULL", hash=hash_
    )
    if not known:
        await create(c, token, name="admin", role="admin", by=FROM_ENVIRONMENT)
    await c.run(
        """UPDATE api_token SET revoked_at = now()
           WHERE created_by = :by AND hash <> :hash AND revoked_at IS NULL""",
        by=FROM_ENVIRONMENT,
        hash=hash_,
    )


async def authenticate(c: Connection, token: str) -> ApiToken | None:
    """The live token, or None; equal work for unknown, expired and revoked ones."""
    row = await c.first(
        f"""SELECT {_COLUMNS} FROM api_token WHERE hash = :hash AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at > now())""",
        hash=token_hash(token),
    )
    return None if row is None else ApiToken(**row)


async def note_use(c: Connection, token_id: str) -> None:
    """That the token is used now."""
    await c.run("UPDATE api_token SET last_used_at = now() WHERE id = :id", id=token_id)


async def listed(c: Connection) -> list[ApiToken]:
    rows = await c.all(f"SELECT {_COLUMNS} FROM api_token ORDER BY created_at, id")
    return [ApiToken(**row) for row in rows]


async def revoke(c: Connection, token_id: str, *, by: str) -> None:
    """Raises NotFound, Conflict (last_admin) for the only token with which an admin gets in. Revoking twice is no error."""
    # The admins' rows are locked, in one order: of two who revoke each other's token the second one finds no other any more.
    revoked = await together.write(
        c,
        f"""WITH admins AS (SELECT id FROM api_token WHERE {_ADMIN} ORDER BY id FOR UPDATE)
            UPDATE api_token SET revoked_at = COALESCE(revoked_at, now()) WHERE id = :id
            AND ((SELECT count(*) FROM admins WHERE id <> :id) > 0 OR NOT EXISTS (SELECT FROM admins WHERE id = :id))
            RETURNING id""",
        {"id": token_id},
        [audit.along(by, "token.revoke", token_id)],
    )
    if revoked is None:
        raise await _not_revoked(c, token_id)


async def _not_revoked(c: Connection, token_id: str) -> IacError:
    name: str | None = await c.value("SELECT name FROM api_token WHERE id = :id", id=token_id)
    if name is None:
        return NotFound(f"There is no token {token_id!r}.")
    return Conflict(
        f"{name} is the last token of an admin: without it nobody could make another one. Create a new token with the role "
        "`admin` first (POST /api/v1/tokens, or the page API tokens), and revoke this one with it.",
        code="last_admin",
    )


async def any_admin(c: Connection) -> bool:
    return bool(await c.value(f"SELECT EXISTS (SELECT 1 FROM api_token WHERE {_ADMIN})"))
