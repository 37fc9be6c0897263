"""The facade over asyncio: transactions, cancellation, and a database that goes away and comes back."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from iac.errors import Invalid, StartFailed, Unavailable
from iac.store.database import Connection, Database, _check_version, numbered, open_database
from tests.harness.postgres import OwnCluster, execute, fresh_database, own_cluster
from tests.store import given

PATIENCE = 30.0


async def a_table(c: Connection) -> None:
    await c.run("CREATE TABLE word (text text PRIMARY KEY)")


async def words(database: Database) -> list[str]:
    async def ask(c: Connection) -> list[str]:
        return [row["text"] for row in await c.all("SELECT text FROM word ORDER BY text")]

    return await database.tx(ask)


async def add(c: Connection, text: str) -> str:
    await c.run("INSERT INTO word VALUES (:text)", text=text)
    return text


async def test_a_store_function_is_one_transaction(database: Database) -> None:
    await database.tx(a_table)

    async def half(c: Connection) -> None:
        await add(c, "lost")
        raise RuntimeError("in the middle")

    assert await database.tx(add, "kept") == "kept"
    with pytest.raises(RuntimeError, match="in the middle"):
        await database.tx(half)
    assert await words(database) == ["kept"]


@pytest.mark.parametrize(
    ("named", "with_numbers", "names"),
    [
        ("SELECT 1", "SELECT 1", ()),
        ("a = :one AND b = :two AND (c = :one)", "a = $1 AND b = $2 AND (c = $1)", ("one", "two")),
        ("a::text = :one::text", "a::text = $1::text", ("one",)),
        ("to_char(at, 'HH24:MI') = :one", "to_char(at, 'HH24:MI') = $1", ("one",)),
    ],
)
def test_named_parameters_become_numbers(named: str, with_numbers: str, names: tuple[str, ...]) -> None:
    assert numbered(named) == (with_numbers, names)


@pytest.mark.parametrize("values", [{}, {"a": 1, "b": 2}, {"b": 1}])
async def test_a_statement_gets_exactly_its_parameters(database: Database, values: dict[str, int]) -> None:
    with pytest.raises((TypeError, KeyError)):
        await database.read(lambda c: c.value("SELECT CAST(:a AS int)", **values))


async def test_reading_takes_no_transaction_but_sees_what_is_committed(database: Database) -> None:
    await database.tx(a_table)
    await database.tx(add, "seen")

    async def look(c: Connection) -> list[str]:
        return [row["text"] for row in await c.all("SELECT text FROM word")]

    assert await database.read(look) == ["seen"]
    with pytest.raises(Exception, match="does not exist"):
        await database.read(lambda c: c.value("SELECT * FROM nothing"))
    assert await database.read(look) == ["seen"]


async def test_a_setting_of_one_transaction_is_gone_in_the_next(database_url: str) -> None:
    """The pool undoes nothing between two callers, so a transaction must not leave anything behind."""
    async with open_database(database_url, pool_size=1) as database:

        async def with_setting(c: Connection) -> str:
            await c.run("SET LOCAL lock_timeout = '77ms'")
            return str(await c.value("SHOW lock_timeout"))

        assert await database.tx(with_setting) == "77ms"
        assert await given.scalar(database, "SHOW lock_timeout") == "10s"
        assert await given.scalar(database, "SHOW timezone") == "UTC"


async def test_a_failed_commit_loses_no_connection(database_url: str) -> None:
    """What `databases`' own transaction would lose a connection by, more often than the pool is wide."""
    async with open_database(database_url, pool_size=2) as database:
        await database.tx(a_table)
        await given.scalar(database, "SELECT 1")

        async def late_failure(c: Connection) -> None:
            await c.script(
                "CREATE TABLE IF NOT EXISTS child (text text REFERENCES word DEFERRABLE INITIALLY DEFERRED);"
                "INSERT INTO child VALUES ('nobody')"
            )

        with trio.fail_after(PATIENCE):
            for _ in range(6):
                with pytest.raises(Exception, match="violates foreign key"):
                    await database.tx(late_failure)
            assert await given.scalar(database, "SELECT 1") == 1


async def test_a_cancelled_caller_leaves_the_pool_usable_and_no_half_work(database_url: str) -> None:
    chance = random.Random(4)  # noqa: S311
    async with open_database(database_url, pool_size=3) as database:
        await database.tx(a_table)

        async def pair(c: Connection, number: int) -> None:
            await add(c, f"a{number}")
            await c.value("SELECT pg_sleep(:s)", s=chance.uniform(0, 0.003))
            await add(c, f"b{number}")

        returned: set[int] = set()

        async def impatient(number: int) -> None:
            with trio.move_on_after(chance.uniform(0, 0.012)):
                await database.tx(pair, number)
                returned.add(number)

        with trio.fail_after(PATIENCE):
            for batch in range(30):
                async with trio.open_nursery() as nursery:
                    for place in range(10):
                        nursery.start_soon(impatient, batch * 10 + place)
            found = await words(database)
        firsts, seconds = ({text[1:] for text in found if text[0] == letter} for letter in "ab")
        assert firsts == seconds, "a transaction is whole or not there"
        assert {str(number) for number in returned} <= firsts
        assert len(returned) < 300, "some callers were in time, others were not"
        busy = await given.scalar(
            database,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'",
        )
        assert busy == 0


async def test_a_cancelled_write_is_finished_and_the_caller_learns_of_the_cancel(database: Database) -> None:
    await database.tx(a_table)
    started = trio.Event()

    async def slow(c: Connection) -> None:
        started.set()
        await c.value("SELECT pg_sleep(0.1)")
        await add(c, "done")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.tx, slow)
        await started.wait()
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    assert await words(database) == ["done"]


async def test_more_callers_than_connections_wait_for_their_turn(database_url: str) -> None:
    async with open_database(database_url, pool_size=2) as database:
        await database.tx(a_table)
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(database.tx, add, f"w{number}")
        assert len(await words(database)) == 40


async def test_connections_that_the_database_ends_are_replaced(database: Database, postgres: str) -> None:
    name = await given.scalar(database, "SELECT current_database()")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(given.scalar, database, "SELECT pg_sleep(0.02)")
    ending = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608
    await trio.to_thread.run_sync(execute, postgres, ending)
    assert await until_it_answers(database) == 1


async def until_it_answers(database: Database) -> int:
    """As a caller does it who may try again: nothing but Unavailable comes meanwhile."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                return int(await given.scalar(database, "SELECT 1"))
            except Unavailable:
                await trio.sleep(0.05)


@pytest.fixture
def cluster() -> Iterator[OwnCluster]:
    with own_cluster() as own:
        yield own


async def test_a_database_that_goes_away_is_said_to_and_is_used_again_when_it_is_back(
    cluster: OwnCluster,
) -> None:
    async with open_database(cluster.url, pool_size=3) as database:
        await database.tx(a_table)
        stopped = trio.Event()
        refused: list[Unavailable] = []

        async def caller() -> None:
            while not refused or not stopped.is_set():
                try:
                    await given.scalar(database, "SELECT pg_sleep(0.01)")
                except Unavailable as error:
                    refused.append(error)
                    await trio.sleep(0.02)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(caller)
                await trio.to_thread.run_sync(cluster.crash)
                stopped.set()
            assert all((error.code, error.retryable) == ("db_unavailable", True) for error in refused)
            with pytest.raises(Unavailable):
                await database.tx(add, "nowhere")
            await trio.to_thread.run_sync(cluster.start)
            assert await until_it_answers(database) == 1
            await database.tx(add, "back")
            assert await words(database) == ["back"]


async def test_a_database_that_does_not_answer_is_given_up_and_the_next_caller_gets_another_connection(
    database_url: str,
) -> None:
    async with open_database(database_url, pool_size=1, answer_within=0.1) as database:
        with trio.fail_after(PATIENCE):
            with pytest.raises(Unavailable):
                await given.scalar(database, "SELECT pg_sleep(3600)")
            assert await given.scalar(database, "SELECT 1") == 1


async def test_a_caller_who_gets_no_connection_is_told_so_and_the_pool_stays_as_it_was(database_url: str) -> None:
    async with open_database(database_url, pool_size=1, admit_within=0.1) as database:
        begun, released, refused = trio.Event(), asyncio.Event(), []

        async def holds(c: Connection) -> None:
            begun.set()
            await released.wait()
            await c.value("SELECT 1")

        async def calls() -> None:
            with pytest.raises(Unavailable):
                await given.scalar(database, "SELECT 1")
            refused.append(True)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(database.tx, holds)
                await begun.wait()
                async with trio.open_nursery() as callers:
                    for _ in range(5):
                        callers.start_soon(calls)
                released.set()
            assert len(refused) == 5
            assert await given.scalar(database, "SELECT 1") == 1


async def test_a_transaction_in_whose_middle_the_program_stood_still_is_unavailable_and_the_next_one_is_not(
    database_url: str,
) -> None:
    """As after a SIGSTOP: PostgreSQL does not keep a transaction open for ever."""
    async with open_database(database_url, pool_size=1) as database:

        async def stood_still(c: Connection) -> None:
            await c.run("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 1.0)
            await c.value("SELECT 1")

        with trio.fail_after(PATIENCE):
            with pytest.raises(Unavailable):
                await database.tx(stood_still)
            assert await given.scalar(database, "SELECT 1") == 1


async def failure_of(url: str) -> StartFailed:
    """Why it cannot be opened: one StartFailed, in the groups of the loop's nurseries."""
    with pytest.RaisesGroup(StartFailed, flatten_subgroups=True) as failed:
        async with open_database(url):
            raise AssertionError("connected")
    found: BaseException = failed.value
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, StartFailed)
    return found


async def test_a_database_that_is_not_there_fails_the_start_without_its_password(tmp_path: Path) -> None:
    secret = "hunter2-is-the-password"
    for url in (f"postgresql://u:{secret}@127.0.0.1:1/iac", f"postgresql://u:{secret}@/iac?host={tmp_path}"):
        failed = await failure_of(url)
        assert failed.exit_code == 69
        assert "cannot use the database at" in failed.message
        assert secret not in failed.message


async def test_a_database_of_another_name_or_user_fails_the_start(postgres: str) -> None:
    for url in (postgres.replace("/postgres?", "/missing?"), postgres.replace("postgres:@", "stranger:@")):
        failed = await failure_of(url)
        assert failed.exit_code == 69
        assert "does not exist" in failed.message


class OldServer:
    """What the check asks a connection, answered as an old PostgreSQL does."""

    def __init__(self, number: str, shown: str) -> None:
        self._answers = {"SHOW server_version_num": number, "SHOW server_version": shown}

    async def fetchval(self, sql: str) -> str:
        return self._answers[sql]


@pytest.mark.parametrize(("number", "shown", "accepted"), [("130011", "13.11", False), ("140000", "14.0", True)])
async def test_only_postgresql_14_or_newer_is_used(number: str, shown: str, accepted: bool) -> None:
    c = Connection(OldServer(number, shown))
    if accepted:
        await _check_version(c)
        return
    with pytest.raises(StartFailed, match=r"is PostgreSQL 13\.11; IAC needs 14 or newer") as failed:
        await _check_version(c)
    assert failed.value.exit_code == 78


@pytest.mark.parametrize("value", ["a\x00b", "\ud800"])
async def test_text_that_postgresql_cannot_hold_is_the_senders_mistake(database: Database, value: str) -> None:
    await database.tx(a_table)
    with pytest.raises(Invalid):
        await database.tx(add, value)


async def test_a_number_beyond_64_bits_is_the_senders_mistake(database: Database) -> None:
    with pytest.raises(Invalid):
        await given.scalar(database, "SELECT CAST(:n AS bigint)", n=2**63)


async def test_a_forgotten_asyncio_failure_is_logged_and_harms_nobody(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the handler on the loop, this ends the loop in a way that nothing can cancel."""

    async def forgetful(c: Connection) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(_fail)
        await c.value("SELECT pg_sleep(0.02)")

    with caplog.at_level(logging.WARNING, logger="iac.store.database"):
        await database.tx(forgetful)
    assert any("nobody looked" in str(record.__dict__.get("error")) for record in caplog.records)
    assert await given.scalar(database, "SELECT 1") == 1


def _fail() -> None:
    raise RuntimeError("nobody looked")


async def test_a_lock_that_is_not_given_is_unavailable_and_not_a_hang(database_url: str) -> None:
    async with open_database(database_url) as database:
        await database.tx(a_table)
        taken = trio.Event()

        async def holder(c: Connection) -> None:
            await c.run("LOCK TABLE word IN ACCESS EXCLUSIVE MODE")
            taken.set()
            await c.value("SELECT pg_sleep(0.6)")

        async def hurried(c: Connection) -> None:
            await c.run("SET LOCAL lock_timeout = '100ms'")
            await add(c, "x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.tx, holder)
            await taken.wait()
            with pytest.raises(Unavailable):
                await database.tx(hurried)
        assert await words(database) == []


async def test_an_empty_database_can_be_opened(postgres: str) -> None:
    url = await trio.to_thread.run_sync(lambda: fresh_database(postgres, empty=True))
    async with open_database(url) as database:
        assert await given.scalar(database, "SELECT 1") == 1
