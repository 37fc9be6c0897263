"""API tokens: kept as hashes, good until they expire or are revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from iac.errors import Conflict, NotFound
from iac.store import audit, tokens
from iac.store.database import Database
from iac.store.identity import TOKEN_PREFIX, new_token
from tests.store import given
from tests.store.test_variables import dump

TOKEN = "a-token-that-somebody-chose"


async def test_a_token_opens_until_it_is_revoked(database: Database) -> None:
    made = await database.tx(tokens.create, TOKEN, name="ci", role="operator", by="ann")
    found = await database.tx(tokens.authenticate, TOKEN)
    assert found is not None
    assert (found.id, found.name, found.role) == (made.id, "ci", "operator")
    await database.tx(tokens.revoke, made.id, by="ann")
    assert await database.tx(tokens.authenticate, TOKEN) is None
    await database.tx(tokens.revoke, made.id, by="ann")
    with pytest.raises(NotFound):
        await database.tx(tokens.revoke, "tok-unknown", by="ann")


@pytest.mark.parametrize("wrong", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), f" {TOKEN}"])
async def test_nothing_but_the_token_itself_opens(database: Database, wrong: str) -> None:
    await database.tx(tokens.create, TOKEN, name="ci", role="operator", by="ann")
    assert await database.tx(tokens.authenticate, wrong) is None


async def test_an_expired_token_opens_nothing(database: Database) -> None:
    now = datetime.now(UTC)
    await database.tx(tokens.create, TOKEN, name="old", role="admin", by="ann", expires_at=now - timedelta(seconds=1))
    assert await database.tx(tokens.authenticate, TOKEN) is None
    assert not await database.tx(tokens.any_admin)
    later = new_token()
    await database.tx(tokens.create, later, name="new", role="admin", by="ann", expires_at=now + timedelta(hours=1))
    assert await database.tx(tokens.authenticate, later) is not None
    assert await database.tx(tokens.any_admin)


async def test_no_table_has_a_token_in_clear(database: Database) -> None:
    token = new_token()
    await database.tx(tokens.create, token, name="ci", role="admin", by="ann")
    await database.tx(tokens.authenticate, token)
    everything = await database.tx(dump)
    assert token.encode() not in everything
    assert token.removeprefix(TOKEN_PREFIX).encode() not in everything
    assert await given.scalar(database, "SELECT length(hash) FROM api_token") == 32


async def test_the_use_of_a_token_is_noted_when_it_is_told(database: Database) -> None:
    made = await database.tx(tokens.create, TOKEN, name="ci", role="viewer", by="ann")
    await database.tx(tokens.authenticate, TOKEN)
    assert (await database.tx(tokens.listed))[0].last_used_at is None
    await database.tx(tokens.note_use, made.id)
    used = (await database.tx(tokens.listed))[0].last_used_at
    assert used is not None
    assert abs(datetime.now(UTC) - used) < timedelta(minutes=1)


async def test_the_environments_token_replaces_the_one_it_gave_before_and_no_other(database: Database) -> None:
    await database.tx(tokens.create, "somebody-elses-token", name="x", role="admin", by="ann")
    await database.tx(tokens.bootstrap, "the-first-admin-token")
    await database.tx(tokens.bootstrap, "the-first-admin-token")
    assert await database.tx(tokens.authenticate, "the-first-admin-token") is not None
    await database.tx(tokens.bootstrap, "the-second-admin-token")
    assert await database.tx(tokens.authenticate, "the-first-admin-token") is None
    found = await database.tx(tokens.authenticate, "the-second-admin-token")
    assert found is not None
    assert found.role == "admin"
    assert await database.tx(tokens.authenticate, "somebody-elses-token") is not None
    await database.tx(tokens.bootstrap, "the-first-admin-token")
    assert await database.tx(tokens.authenticate, "the-first-admin-token") is not None, "and back again"
    assert len(await database.tx(tokens.listed)) == 3


async def test_only_a_live_admin_counts_as_one(database: Database) -> None:
    assert not await database.tx(tokens.any_admin)
    await database.tx(tokens.create, "an-operators-token", name="op", role="operator", by="ann")
    assert not await database.tx(tokens.any_admin)
    made = await database.tx(tokens.create, "an-admins-token", name="ad", role="admin", by="ann")
    assert await database.tx(tokens.any_admin)
    await given.scalar(database, "UPDATE api_token SET expires_at = now() WHERE id = :id", id=made.id)
    assert not await database.tx(tokens.any_admin)


async def an_admin(database: Database, name: str) -> str:
    return (await database.tx(tokens.create, new_token(), name=name, role="admin", by="ann")).id


async def live_admins(database: Database) -> list[str]:
    return [each.name for each in await database.tx(tokens.listed) if each.role == "admin" and each.revoked_at is None]


async def test_the_last_admin_cannot_be_revoked(database: Database) -> None:
    first, operator = (
        await an_admin(database, "first"),
        await database.tx(tokens.create, TOKEN, name="op", role="operator", by="ann"),
    )
    with pytest.raises(Conflict, match="first is the last token of an admin") as refused:
        await database.tx(tokens.revoke, first, by="ann")
    assert refused.value.code == "last_admin"
    assert [entry.verb for entry in await database.tx(audit.page, limit=10, before=None, subject=first)] == [
        "token.create"
    ]
    await database.tx(tokens.revoke, operator.id, by="ann")
    second = await an_admin(database, "second")
    await database.tx(tokens.revoke, first, by="ann")
    await database.tx(tokens.revoke, first, by="ann")
    with pytest.raises(Conflict, match="second"):
        await database.tx(tokens.revoke, second, by="ann")


async def test_an_admin_whose_time_is_over_is_no_other_admin(database: Database) -> None:
    lasting, short = await an_admin(database, "lasting"), await an_admin(database, "short")
    await given.scalar(database, "UPDATE api_token SET expires_at = now() WHERE id = :id", id=short)
    with pytest.raises(Conflict, match="lasting"):
        await database.tx(tokens.revoke, lasting, by="ann")
    await database.tx(tokens.revoke, short, by="ann")


async def test_admins_who_revoke_each_other_leave_one(database: Database) -> None:
    for _ in range(10):
        pair = [await an_admin(database, name) for name in ("ann", "bob", "eve")]
        refused = list[str]()

        async def revoke(token_id: str, refused: list[str] = refused) -> None:
            try:
                await database.tx(tokens.revoke, token_id, by="x")
            except Conflict as error:
                refused.append(error.code)

        async with trio.open_nursery() as nursery:
            for token_id in pair:
                nursery.start_soon(revoke, token_id)
        assert len(await live_admins(database)) == 1
        assert refused == ["last_admin"]
        await given.scalar(database, "UPDATE api_token SET expires_at = now(), revoked_at = now()")


async def test_tokens_come_and_go_in_the_audit(database: Database) -> None:
    made = await database.tx(tokens.create, TOKEN, name="ci", role="viewer", by="ann")
    await database.tx(tokens.revoke, made.id, by="bob")
    entries = await database.tx(audit.page, limit=10, before=None, subject=made.id)
    assert [(entry.actor, entry.verb) for entry in entries] == [("bob", "token.revoke"), ("ann", "token.create")]
    assert TOKEN not in str(entries)


def test_a_new_token_is_long_and_recognisable() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(token.startswith(TOKEN_PREFIX) and len(token) >= 43 + len(TOKEN_PREFIX) for token in made)
