"""The one place where asyncio exists: `databases` over asyncpg on a trio-asyncio loop.

A store function is an asyncio-side coroutine `async def f(c: Connection, …)` that is handed to `Database.tx`: one call,
one transaction, all its statements on one connection. It is shielded, because a bridge call that is cancelled half-way
breaks the pooled connection; it is bounded, because PostgreSQL ends long statements and waits for locks, and a connection
that does not answer is ended here. A caller that was cancelled meanwhile learns it right after; the write may have been
committed, so writes are idempotent.

`databases.Database.transaction()` is not used: it loses a connection at each failed COMMIT and does not span bridge calls.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import lru_cache
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote, unquote, urlsplit

import asyncpg
import databases
import trio
import trio_asyncio

from iac.errors import Invalid, StartFailed, StorageFull, Unavailable

log = logging.getLogger(__name__)

EX_UNAVAILABLE = 69
MIN_VERSION = 14
ANSWER_WITHIN, LOOK_EVERY = 25.0, 1.0
"""Seconds. PostgreSQL ends a statement by itself at 20; where even that is not heard of, nobody is there any more.

One look at all connections each second, and not asyncpg's own timer for each statement: these stay in the loop's heap until
they are due, and cost a third of what the loop does.
"""
ADMIT_WITHIN = 20.0
"""Seconds that a caller waits for a connection at most, if all are in use or none comes about; it cannot be cancelled."""
AT_ONCE = 64
"""Callbacks that the loop runs before anybody else has a turn."""
PREPARED = 300
"""Statements that each connection keeps prepared: more than there are in use, or they would be parsed again and again."""
P = ParamSpec("P")
R = TypeVar("R")
Row = Mapping[str, Any]
UniqueViolation = asyncpg.UniqueViolationError
"""What a statement raises when a row with that key is there already; a store module makes a Conflict of it."""

_GONE = (
    OSError,
    TimeoutError,
    asyncio.CancelledError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.InterfaceError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,  # too many connections, out of memory
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,  # this program stood still in the middle of one
    asyncpg.InternalClientError,  # the protocol is out of step after the server went away in the middle of it
)


_PARAMETER = re.compile(r"(?<![:\w]):([a-zA-Z_]\w*)")  # not the second colon of a cast, not a time in a format


@lru_cache(maxsize=1024)
def numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """A statement with `:name` parameters as PostgreSQL wants it ($1 …), and the names in the order of the numbers.

    Remembered, because `databases` does this anew each time, by way of SQLAlchemy's compiler and the repr of every value:
    that takes longer than what the database does.
    """
    numbers: dict[str, int] = {}
    text = _PARAMETER.sub(lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}", sql)
    return text, tuple(numbers)


def _bound(sql: str, values: Mapping[str, object]) -> tuple[str, list[object]]:
    text, names = numbered(sql)
    if len(names) != len(values):
        raise TypeError(f"The statement's parameters are {names}, not {tuple(values)}.")
    return text, [values[name] for name in names]


class Connection:
    """What a store function sees of the database: named parameters in, mappings out."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg has no types
        self._connection = connection
        self._asked_at = time.monotonic()

    async def all(self, sql: str, **values: object) -> list[Row]:
        text, arguments = _bound(sql, values)
        return [dict(row) for row in await self._asked().fetch(text, *arguments)]

    async def first(self, sql: str, **values: object) -> Row | None:
        text, arguments = _bound(sql, values)
        row = await self._asked().fetchrow(text, *arguments)
        return None if row is None else dict(row)

    async def value(self, sql: str, **values: object) -> Any:  # noqa: ANN401 - the caller knows its column
        text, arguments = _bound(sql, values)
        return await self._asked().fetchval(text, *arguments)

    async def run(self, sql: str, **values: object) -> None:
        await self.value(sql, **values)

    async def script(self, sql: str) -> None:
        """Several statements at once, without parameters."""
        await self._asked().execute(sql)

    async def many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """One statement with positional parameters ($1 …) for many rows, in one round trip."""
        await self._asked().executemany(sql, rows)

    def end_if_silent(self, within: float) -> None:
        """Ends the connection when its last statement was asked longer ago, in seconds; who waits for it gets an error."""
        if time.monotonic() - self._asked_at > within:
            log.error("the database does not answer; a connection is ended")
            self._connection.terminate()

    def _asked(self) -> Any:  # noqa: ANN401 - asyncpg has no types
        self._asked_at = time.monotonic()
        return self._connection


class Database:
    """A pool of connections, used from Trio. Made by `open_database`."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        answer_within: float = ANSWER_WITHIN,
        admit_within: float = ADMIT_WITHIN,
    ) -> None:
        self._busy: set[Connection] = set()
        self._waiting: dict[asyncio.Task[Any] | None, float] = {}
        self._answer_within, self._admit_within = answer_within, admit_within
        self._next_look: asyncio.TimerHandle | None = None
        base, ssl = _split(url)
        self._pool = databases.Database(
            base,
            min_size=1,
            max_size=pool_size,
            ssl=ssl,
            timeout=10,
            statement_cache_size=PREPARED,
            reset=_leave,
            server_settings={
                "application_name": "iac-server",
                "timezone": "UTC",
                "lock_timeout": "10s",
                "statement_timeout": "20s",
                "idle_in_transaction_session_timeout": "30s",
            },
        )

    async def tx(
        self, function: Callable[Concatenate[Connection, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Runs one store function as one transaction. Raises Unavailable when the database cannot be used now."""

        async def body() -> R:
            async with self._admitted() as raw_connection:
                with self._watched(raw_connection) as c:
                    async with raw_connection.transaction():
                        return await function(c, *args, **kwargs)

        return await self._bridge(body)

    async def read(
        self, function: Callable[Concatenate[Connection, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """As `tx`, for a store function that changes nothing: the two round trips that a transaction costs are saved.

        Each statement sees what is committed when it begins, which is what it would see in a transaction as well.
        """

        async def body() -> R:
            async with self._admitted() as raw_connection:
                with self._watched(raw_connection) as c:
                    return await function(c, *args, **kwargs)

        return await self._bridge(body)

    async def single(
        self, function: Callable[Concatenate[Connection, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """As `tx`, for a store function that is one statement: that is a transaction by itself, in one round trip."""
        return await self.read(function, *args, **kwargs)

    async def _bridge(self, body: Callable[[], Awaitable[R]]) -> R:
        try:
            with trio.CancelScope(shield=True):  # bounded by what bounds each statement
                result: R = await trio_asyncio.aio_as_trio(body)()
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if isinstance(error, asyncpg.DataError | ValueError):
                # A NUL in a text, a number beyond 64 bits: the database's types are narrower than JSON's.
                raise Invalid(f"A value cannot be stored: {error}.", path="$") from error
            if isinstance(error, asyncpg.DiskFullError):
                raise StorageFull("The database's disk is full; nothing was stored. Free some space.") from error
            if not isinstance(error, _GONE):
                raise
            raise _unavailable(error) from error
        except _GONE as error:
            raise _unavailable(error) from error
        await trio.lowlevel.checkpoint_if_cancelled()
        return result

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[Any]:
        """A connection of the pool, if there is one in time."""
        connection, caller = self._pool.connection(), asyncio.current_task()
        self._waiting[caller] = time.monotonic()
        try:
            await connection.__aenter__()
        finally:
            del self._waiting[caller]
        try:
            yield connection.raw_connection
        finally:
            await connection.__aexit__()

    @contextmanager
    def _watched(self, raw_connection: Any) -> Iterator[Connection]:  # noqa: ANN401 - asyncpg has no types
        """A connection in use. One whose protocol is out of step is ended, so that nobody gets it from the pool again."""
        c = Connection(raw_connection)
        self._busy.add(c)
        try:
            yield c
        except asyncpg.InternalClientError:
            raw_connection.terminate()
            raise
        finally:
            self._busy.discard(c)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends connections that do not answer, and waits that are too long; calls itself again and again, until `close`."""
        self._next_look = loop.call_later(LOOK_EVERY, self.watch, loop)  # first, so that nothing here is its end
        for c in list(self._busy):
            c.end_if_silent(self._answer_within)
        for caller, since in list(self._waiting.items()):
            if caller is not None and time.monotonic() - since > self._admit_within:
                caller.cancel()

    async def connect(self) -> None:
        await self._bridge(self._pool.connect)

    async def close(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        with trio.move_on_after(3, shield=True) as scope:
            await trio_asyncio.aio_as_trio(self._pool.disconnect)()
        if scope.cancelled_caught:
            self._pool._backend._pool.terminate()


@asynccontextmanager
async def open_database(
    url: str, *, pool_size: int = 8, answer_within: float = ANSWER_WITHIN, admit_within: float = ADMIT_WITHIN
) -> AsyncIterator[Database]:
    """A connected database, with the asyncio loop it lives on; everything that uses it belongs inside the body.

    Raises StartFailed (69) when it cannot be reached, (78) when it is older than PostgreSQL 14; this, and whatever the body
    raises, comes in an exception group, for the loop lives in nurseries.
    """
    async with trio_asyncio.open_loop() as loop:
        # Without this handler, one forgotten future makes the loop end in a way that nothing can cancel.
        loop.set_exception_handler(_complain)
        _run_what_is_ready(loop)
        database = Database(url, pool_size=pool_size, answer_within=answer_within, admit_within=admit_within)
        try:
            await database.connect()
        except (Unavailable, asyncpg.PostgresError) as error:
            cause = error.__cause__ or error
            raise StartFailed(
                f"IAC_DATABASE_URL: cannot use the database at {_shown(url)}: {str(cause) or type(cause).__name__}. "
                "Check that it runs, that the address is right and that the user may connect.",
                exit_code=EX_UNAVAILABLE,
            ) from None
        database.watch(loop)
        try:
            await database.tx(_check_version)
            yield database
        finally:
            with trio.CancelScope(shield=True):  # close() has its own budget of 3 s
                await database.close()


def _run_what_is_ready(loop: Any) -> None:  # noqa: ANN401 - it is about a private part
    """Has the loop run all callbacks that are ready, up to some, in one turn of Trio's.

    It takes a turn for each otherwise, with a cancel scope and a look at all sockets, and a statement is several callbacks:
    that took longer than the statement.
    """
    one = loop._main_loop_one

    async def several(no_wait: bool = False) -> None:
        await one(no_wait)
        with suppress(trio.WouldBlock):
            for _ in range(AT_ONCE):
                await one(no_wait=True)

    loop._main_loop_one = several


def _unavailable(error: BaseException) -> Unavailable:
    log.warning("database call failed", extra={"error": repr(error)})
    return Unavailable("The database cannot be used right now; try again.", code="db_unavailable")


async def _check_version(c: Connection) -> None:
    version = int(await c.value("SHOW server_version_num"))
    if version < MIN_VERSION * 10_000:
        shown = await c.value("SHOW server_version")
        raise StartFailed(
            f"IAC_DATABASE_URL: the server is PostgreSQL {shown}; IAC needs {MIN_VERSION} or newer. Upgrade it, or leave "
            "the variable unset to use the embedded one.",
            exit_code=78,
        )


async def _leave(_connection: object) -> None:
    """Instead of asyncpg's RESET at each return to the pool, a round trip that undoes nothing: nobody here sets anything
    for longer than a transaction. A transaction left open is rolled back by asyncpg before this.
    """


def _complain(_loop: object, context: Mapping[str, Any]) -> None:
    log.warning("asyncio", extra={"error": repr(context.get("exception") or context.get("message"))})


def _split(url: str) -> tuple[str, bool]:
    """asyncpg must be told about TLS explicitly: its default of trying first leaks futures when a connect is cancelled."""
    base, _, query = url.partition("?")
    wanted = [part for part in query.split("&") if part.startswith("sslmode=")]
    rest = "&".join(part for part in query.split("&") if part and not part.startswith("sslmode="))
    return (f"{base}?{rest}" if rest else base), bool(wanted) and not wanted[0].endswith(("=disable", "=allow"))


def _shown(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or "a local socket"
    return f"{quote(unquote(parts.username or ''))}@{host}:{parts.port or 5432}{parts.path}"
