"""Sessions of people in browsers: how they begin, and each of the ways in which they end."""

from __future__ import annotations

import pytest

from iac.domain.records import ApiToken
from iac.errors import NotFound
from iac.store import browser_sessions, tokens
from iac.store.database import Connection, Database


async def begun(database: Database, cookie: str = "cookie-1", **more: str) -> ApiToken:
    token = await database.tx(tokens.create, f"token of {cookie}", name="anna", role="operator", by="test")
    await database.tx(browser_sessions.begin, cookie, "csrf-1", token, **more)
    return token


async def good(database: Database, cookie: str = "cookie-1") -> bool:
    return await database.read(browser_sessions.of_cookie, cookie) is not None


async def sql(c: Connection, statement: str) -> None:
    await c.run(statement)


async def test_a_session_is_found_by_its_cookie_and_knows_its_token(database: Database) -> None:
    token = await begun(database)
    session = await database.read(browser_sessions.of_cookie, "cookie-1")
    assert session is not None
    assert (session.token.id, session.token.role, session.csrf) == (token.id, "operator", "csrf-1")
    assert await database.read(browser_sessions.of_cookie, "cookie-2") is None


async def test_the_cookie_itself_is_nowhere_in_the_database(database: Database) -> None:
    await begun(database, "very-secret-cookie")
    row = await database.read(lambda c: c.value("SELECT s::text FROM browser_session s"))
    assert "very-secret-cookie" not in row


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE browser_session SET expires_at = now()",
        "UPDATE browser_session SET seen_at = now() - interval '12 hours'",
        "UPDATE api_token SET revoked_at = now()",
        "UPDATE api_token SET expires_at = now()",
        "DELETE FROM api_token",
    ],
)
async def test_it_ends_in_time_unused_and_with_its_token(database: Database, end: str) -> None:
    await begun(database)
    session = await database.read(browser_sessions.of_cookie, "cookie-1")
    assert session is not None
    assert await database.read(browser_sessions.is_good, session.id)
    await database.tx(sql, end)
    assert not await good(database)
    assert not await database.read(browser_sessions.is_good, session.id)


async def test_who_signs_in_anew_has_one_session_and_not_two(database: Database) -> None:
    await begun(database, "old")
    await begun(database, "new", instead_of="old")
    assert (await good(database, "old"), await good(database, "new")) == (False, True)


async def test_sessions_that_are_long_over_are_cleared_away_by_the_next_one(database: Database) -> None:
    await begun(database, "old")
    await database.tx(sql, "UPDATE browser_session SET expires_at = now() - interval '1 day'")
    await begun(database, "new")
    assert await database.read(lambda c: c.value("SELECT count(*) FROM browser_session")) == 1


async def test_a_replaced_cookie_is_good_for_a_moment_only(database: Database) -> None:
    await begun(database)
    assert await database.tx(browser_sessions.rotate, "cookie-1", "cookie-2")
    assert not await database.tx(browser_sessions.rotate, "cookie-1", "cookie-3"), "another request was faster"
    assert (await good(database, "cookie-1"), await good(database, "cookie-2")) == (True, True)
    await database.tx(sql, "UPDATE browser_session SET rotated_at = now() - interval '61 seconds'")
    assert (await good(database, "cookie-1"), await good(database, "cookie-2")) == (False, True)


async def test_using_it_keeps_it_and_is_noted_on_the_token_too(database: Database) -> None:
    await begun(database)
    await database.tx(sql, "UPDATE browser_session SET seen_at = now() - interval '11 hours'")
    session = await database.read(browser_sessions.of_cookie, "cookie-1")
    assert session is not None
    await database.tx(browser_sessions.note_use, session.id)
    after = await database.read(browser_sessions.of_cookie, "cookie-1")
    assert after is not None
    assert after.seen_at > session.seen_at
    assert after.token.last_used_at is not None


async def test_signing_out_is_for_good_and_both_are_in_the_audit(database: Database) -> None:
    await begun(database)
    session = await database.read(browser_sessions.of_cookie, "cookie-1")
    assert session is not None
    await database.tx(browser_sessions.end, session.id, by="anna")
    assert not await good(database)
    with pytest.raises(NotFound):
        await database.tx(browser_sessions.end, session.id, by="anna")
    verbs = await database.read(lambda c: c.all("SELECT verb FROM audit WHERE verb LIKE 'browser.%' ORDER BY id"))
    assert [row["verb"] for row in verbs] == ["browser.sign_in", "browser.sign_out"]
