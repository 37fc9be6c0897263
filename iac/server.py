"""python -m iac.server: settings, then the parts nested in the order in which they must die.

    data directory's lock ⊃ embedded PostgreSQL ⊃ asyncio loop and pool ⊃ recovery ⊃ actors ⊃ HTTP

The first SIGTERM or SIGINT drains: nothing new starts, running tasks have IAC_DRAIN_SECONDS (applies are left to their shims
with IAC_SHUTDOWN_MODE=detach), then they are stopped, and only then the HTTP server, the actors, the pool and the database
end, in this order. A second one that is no echo of the first, or SIGQUIT, stops them at once; a third ends the program.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import trio

from iac import __version__, telemetry
from iac.actors.audit_keeper import audit_keeper
from iac.actors.bell import Bell
from iac.actors.cancel_watch import cancel_watch
from iac.actors.departure import detach, stop_slowly
from iac.actors.dispatcher import Dispatcher, Wakes
from iac.actors.executing import executor_of, tasks_in
from iac.actors.fleet import Fleet
from iac.actors.lease_keeper import lease_keeper
from iac.actors.live_logs import LiveLogs
from iac.actors.live_streamer import LiveStreamer, Unbounded
from iac.actors.local_runner import LocalRunner
from iac.actors.log_cleaner import Keeping, log_cleaner
from iac.actors.log_persister import log_persister
from iac.actors.news import News
from iac.actors.recovery import Salvage
from iac.actors.supervision import leave_now, obey_signals
from iac.domain.agent_session import Times
from iac.domain.records import LOCAL
from iac.errors import StartFailed, Unavailable
from iac.executor.accessor_local import Changes, LocalDataAccessor
from iac.executor.log_spool import Pace
from iac.executor.run import ExecutorPolicy
from iac.settings import LogSettings, ServerSettings
from iac.store import keys, tokens
from iac.store.database import EX_UNAVAILABLE, Database, open_database
from iac.store.embedded import open_embedded
from iac.store.identity import new_token
from iac.store.log_cache import LogCache
from iac.store.log_reading import LogIndexes
from iac.store.migrating import migrate
from iac.store.sealing import open_keyring
from iac.web.app import create_app
from iac.web.platform import Platform
from iac.web.serving import serve_http

log = logging.getLogger("iac.server")

LOG_CHUNK, LOG_INTERVAL = 5 * 1024 * 1024, 1.0
DESCRIPTORS = 65536
"""Open files and connections at most, where the system allows as many; its usual soft limit is 1024."""
GRACEFUL = 5.0
"""Seconds that requests in flight have when the server stops."""


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """The data directory, ours alone. Raises StartFailed (78) when it cannot be used, (75) when another server has it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = (data_dir / "server.lock").open("w")
    except OSError as error:
        raise StartFailed(
            f"IAC_DATA_DIR: cannot use {data_dir} ({error.strerror}); point it at a directory that this user may write.",
            exit_code=78,
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartFailed(
                f"IAC_DATA_DIR: another server uses {data_dir.absolute()}; "
                "stop it, or give this one a directory of its own.",
                exit_code=75,
            ) from None
        yield


@asynccontextmanager
async def database_of(settings: ServerSettings) -> AsyncIterator[Database]:
    """The database that the settings name, or the embedded one; its schema brought up to date."""
    async with AsyncExitStack() as stack:
        url = settings.database_url
        if url is None:
            url = await stack.enter_async_context(open_embedded(settings.data_dir / "postgres"))
        database = await stack.enter_async_context(open_database(url))
        for name in await migrate(database):
            log.info("migrated", extra={"migration": name})
        yield database


async def bootstrap_token(database: Database, settings: ServerSettings) -> str | None:
    """Makes sure that an admin can get in; returns a token that was made here, to be shown once."""
    if settings.admin_token is not None:
        await database.tx(tokens.bootstrap, settings.admin_token)
        return None
    if await database.tx(tokens.any_admin):
        return None
    token = new_token()
    await database.tx(tokens.create, token, name="admin", role="admin", by="first start")
    return token


def keeping_of(logs: LogSettings) -> Keeping:
    days = logs.retention_days
    return Keeping(files=timedelta(hours=logs.cache_hours), logs=timedelta(days=days) if days else None)


async def run_server(
    settings: ServerSettings,
    env: Mapping[str, str],
    *,
    stop: trio.Event,
    hurry: trio.Event,
    policy: ExecutorPolicy | None = None,
    times: Times | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The whole server; reports the URLs it serves. Returns some time after `stop` is set, sooner when `hurry` is.

    No globals, no signal handlers, no exit: it may run inside a test. Raises StartFailed.
    """
    with locked(settings.data_dir):
        async with database_of(settings) as database:
            program = _Program(settings, env, database, stop, hurry, policy or local_policy(), times or Times())
            await _serve(program, task_status=task_status)
    log.info("stopped")


def local_policy() -> ExecutorPolicy:
    """Who watches a local task is told its log through memory, so what is stored may gather for a second."""
    return ExecutorPolicy(log_pace=Pace(chunk=LOG_CHUNK, interval=LOG_INTERVAL))


@dataclass(frozen=True, slots=True)
class _Program:
    settings: ServerSettings
    env: Mapping[str, str]
    database: Database
    stop: trio.Event
    hurry: trio.Event
    policy: ExecutorPolicy
    times: Times


def _runner_of(program: _Program) -> LocalRunner:
    settings, policy = program.settings, program.policy
    return LocalRunner(
        plan_limit=settings.local_plan_concurrency,
        enabled=settings.local_executor,
        ladders={"plan": policy.plan_ladder, "apply": policy.apply_ladder},
        tick=program.times.tick,
    )


async def _serve(program: _Program, *, task_status: trio.TaskStatus[list[str]]) -> None:
    settings, database = program.settings, program.database
    keyring = open_keyring(settings.secret_key, settings.data_dir)
    await database.tx(keys.check, keyring)
    shown = await bootstrap_token(database, settings)
    local, news = _runner_of(program), News()
    task_changed, log_grew, wakes = Bell(news.task), Bell[int](), Wakes()
    fleet = Fleet(database, program.times, changed=task_changed.ring, wake=wakes.wake, noticed=news.agents)
    dispatcher = Dispatcher(
        database, local, task_changed.ring, fleet=fleet, wakes=wakes, limits=settings.limits, noticed=news.waits
    )
    log_cache = LogCache(database, (settings.data_dir / "logs").absolute())
    live = LiveLogs(fleet.tell)
    fleet.live = live.heard
    changes = Changes(task_changed.ring, log_grew.ring, dispatcher.wake, live.appended)
    accessor = LocalDataAccessor(database, keyring, changes, log_cache, log_max_bytes=settings.logs.max_bytes)
    platform = Platform(
        database,
        keyring,
        dispatcher,
        local,
        fleet,
        accessor,
        log_cache,
        LogIndexes(database, log_cache),
        task_changed,
        log_grew,
        live,
        news=news,
    )
    executor = executor_of(
        accessor, settings.terraform, program.env, settings.data_dir, policy=program.policy, hooks=local.stops.hooks
    )
    local.stops.detachable = executor.detachable
    streamer = LiveStreamer(executor.spool_of, partial(live.heard_here, LOCAL), Unbounded())
    live.reached_here(LOCAL, streamer.hear)
    work = tasks_in(settings.data_dir)
    salvage = Salvage(database, accessor, local.running, program.policy, local.stops, work, changes.moved)
    left = await salvage.begin()
    async with trio.open_nursery() as actors:
        actors.start_soon(local.run, executor.execute, wakes.sender)
        actors.start_soon(local.stops.tell, database, task_changed.ring)
        actors.start_soon(salvage.run, left)
        actors.start_soon(dispatcher.run)
        actors.start_soon(live.run)
        actors.start_soon(streamer.run)
        actors.start_soon(fleet.roll_call.run)
        _keep(actors, platform, settings)
        app, tls, http_ended = create_app(platform), _tls_of(settings), trio.Event()
        http = partial(serve_http, app, bind=settings.bind, tls=tls, draining=platform.draining)
        urls: list[str] = await actors.start(partial(_then_set, partial(http, graceful=GRACEFUL), http_ended))
        log.info("serving", extra={"url": urls[0], "version": __version__})
        _show_token(urls[0], shown)
        task_status.started(urls)
        await program.stop.wait()
        await _drain(platform, settings, program.hurry)
        await _close(platform, http_ended)
        actors.cancel_scope.cancel()


def _keep(actors: trio.Nursery, platform: Platform, settings: ServerSettings) -> None:
    """Starts those that look after rows and files, each by itself."""
    database, log_cache = platform.database, platform.log_cache
    actors.start_soon(lease_keeper, platform.fleet)
    actors.start_soon(cancel_watch, platform.fleet)
    actors.start_soon(audit_keeper, database, platform.incidents)
    actors.start_soon(log_persister, database, log_cache)
    actors.start_soon(log_cleaner, database, log_cache, keeping_of(settings.logs))


async def _then_set(
    serve: Callable[..., Awaitable[None]], ended: trio.Event, *, task_status: trio.TaskStatus[list[str]]
) -> None:
    try:
        await serve(task_status=task_status)
    finally:
        ended.set()


async def _drain(platform: Platform, settings: ServerSettings, hurry: trio.Event) -> None:
    """Ends what the server itself runs, as an agent would; returns when nothing runs any more."""
    platform.fleet.draining = True
    go = detach if settings.shutdown_mode == "detach" else stop_slowly
    async with trio.open_nursery() as nursery:
        nursery.start_soon(go, platform.local, settings.drain_seconds, hurry)
        await platform.local.ended.wait()  # bounded by the ladder and the executor's budgets
        nursery.cancel_scope.cancel()


async def _close(platform: Platform, http_ended: trio.Event) -> None:
    """Says goodbye to agents and browsers; after this nobody is connected."""
    await platform.fleet.shutdown(within=GRACEFUL)
    platform.draining.set()
    platform.log_grew.ring_all()
    with trio.move_on_after(GRACEFUL + 1):
        await http_ended.wait()


def _tls_of(settings: ServerSettings) -> tuple[str, str] | None:
    return None if settings.tls_cert is None else (str(settings.tls_cert), str(settings.tls_key))


def _show_token(url: str, token: str | None) -> None:
    if token is None:
        return
    print(  # noqa: T201 - shown once, to the one who started the server; never in the log
        f"\nThe first start made an admin token. It is shown only now:\n\n    {token}\n\n"
        f"    iac login --url {url} --token {token}\n\n"
        f"Or open {url} in a browser and sign in with it.\n",
        flush=True,
    )


async def main_async(settings: ServerSettings, env: Mapping[str, str]) -> None:
    """The program: signals on the outside, the server inside."""
    stop, hurry = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(obey_signals, stop, hurry, leave_now)
        await run_server(settings, env, stop=stop, hurry=hurry)
        nursery.cancel_scope.cancel()


def _prepare_process() -> None:
    """Garbage collections that do not stop the server for long, and descriptors for thousands of connections."""
    # What importing has made lives for ever: looking through it again and again takes a tenth of a second each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, DESCRIPTORS)
    if now != resource.RLIM_INFINITY and now < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


def main() -> None:
    """Exit codes: 78 settings, 75 data directory in use, 69 database unreachable, 70 our own fault."""
    env = dict(os.environ)
    try:
        settings = ServerSettings.from_env(env)
        telemetry.configure(settings.log_level, settings.log_format)
        _prepare_process()
        trio.run(main_async, settings, env, strict_exception_groups=True)
    except StartFailed as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    except BaseExceptionGroup as group:
        failed = group.subgroup((StartFailed, Unavailable))
        if failed is None:
            raise
        first = next(_leaves(failed))
        sys.stderr.write(f"{first}\n")
        sys.exit(first.exit_code if isinstance(first, StartFailed) else EX_UNAVAILABLE)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    main()
