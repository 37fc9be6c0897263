"""People who signed in with an API token in a browser: only hashes of their cookies are kept.

A session ends with its token, after a while without use, and after a while whatever happens.
"""

from __future__ import annotations

from datetime import timedelta

from iac.domain.browser_session import BrowserSession
from iac.domain.records import ApiToken
from iac.errors import NotFound
from iac.store import audit
from iac.store.database import Connection, Row
from iac.store.identity import new_id, token_hash

IDLE, WHOLE = timedelta(hours=12), timedelta(days=7)
OVERLAP = timedelta(minutes=1)
"""How long the cookie before is good after it was replaced."""
_TOKEN = ("id", "name", "role", "created_by", "created_at", "expires_at", "revoked_at", "last_used_at")
_OWN = ("id", "csrf", "created_at", "seen_at", "rotated_at", "expires_at")
_COLUMNS = ", ".join([f"s.{name}" for name in _OWN] + [f"t.{name} AS token_{name}" for name in _TOKEN])
_GOOD = """s.expires_at > now() AND s.seen_at > now() - CAST(:idle AS interval) AND t.revoked_at IS NULL
    AND (t.expires_at IS NULL OR t.expires_at > now())"""


def _from_row(row: Row) -> BrowserSession:
    token = ApiToken(**{name: row[f"token_{name}"] for name in _TOKEN})
    return BrowserSession(token=token, **{name: row[name] for name in _OWN})


async def begin(c: Connection, cookie: str, csrf: str, token: ApiToken, *, instead_of: str | None = None) -> None:
    """A session for the owner of the token; the one that the browser had before ends. Those long over are cleared away."""
    await c.run(
        "DELETE FROM browser_session WHERE expires_at < now() OR seen_at < now() - CAST(:idle AS interval)", idle=IDLE
    )
    if instead_of is not None:
        await c.run("DELETE FROM browser_session WHERE hash = :hash", hash=token_hash(instead_of))
    session_id = new_id("bs")
    await c.run(
        """INSERT INTO browser_session (id, token_id, hash, csrf, expires_at)
           VALUES (:id, :token_id, :hash, :csrf, now() + CAST(:whole AS interval))""",
        id=session_id,
        token_id=token.id,
        hash=token_hash(cookie),
        csrf=csrf,
        whole=WHOLE,
    )
    await audit.note(c, token.name, "browser.sign_in", session_id, token=token.id)


async def of_cookie(c: Connection, cookie: str) -> BrowserSession | None:
    """The session that the cookie stands for, if it and its token are good now."""
    row = await c.first(
        f"""SELECT {_COLUMNS} FROM browser_session s JOIN api_token t ON t.id = s.token_id
            WHERE (s.hash = :hash OR (s.earlier_hash = :hash AND s.rotated_at > now() - CAST(:overlap AS interval)))
              AND {_GOOD}""",
        hash=token_hash(cookie),
        overlap=OVERLAP,
        idle=IDLE,
    )
    return None if row is None else _from_row(row)


async def is_good(c: Connection, session_id: str) -> bool:
    """Whether the session goes on; for what stays open for long."""
    return bool(
        await c.value(
            f"""SELECT EXISTS (SELECT 1 FROM browser_session s JOIN api_token t ON t.id = s.token_id
                WHERE s.id = :id AND {_GOOD})""",
            id=session_id,
            idle=IDLE,
        )
    )


async def note_use(c: Connection, session_id: str) -> None:
    """That the session, and the token behind it, are used now."""
    await c.run(
        """WITH used AS (UPDATE browser_session SET seen_at = now() WHERE id = :id RETURNING token_id)
           UPDATE api_token SET last_used_at = now() WHERE id = (SELECT token_id FROM used)""",
        id=session_id,
    )


async def rotate(c: Connection, old: str, new: str) -> bool:
    """Replaces the cookie. False when another request was faster: then that one's answer brings the new cookie."""
    found = await c.value(
        """UPDATE browser_session SET hash = :new, earlier_hash = hash, rotated_at = now()
           WHERE hash = :old RETURNING id""",
        old=token_hash(old),
        new=token_hash(new),
    )
    return found is not None


async def end(c: Connection, session_id: str, *, by: str) -> None:
    """Signs out. Raises NotFound when that has been done."""
    found = await c.value("DELETE FROM browser_session WHERE id = :id RETURNING id", id=session_id)
    if found is None:
        raise NotFound("You are signed out already.", kind="browser_session")
    await audit.note(c, by, "browser.sign_out", session_id)
