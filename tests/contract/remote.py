"""The platform behind the agent API: a remote accessor over real HTTP, and the store on the other side of it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from iac.actors.bell import Bell
from iac.actors.dispatcher import Dispatcher, order_of
from iac.actors.fleet import Fleet
from iac.actors.live_logs import LiveLogs
from iac.actors.local_runner import LocalRunner
from iac.domain.agent_bodies import Register
from iac.domain.agent_session import Times
from iac.domain.work import RunTask
from iac.executor.accessor_local import Changes, LocalDataAccessor
from iac.executor.accessor_remote import RemoteDataAccessor
from iac.executor.remote_client import open_client
from iac.store import assignments, pools, registering, workspaces
from iac.store.database import Database, open_database
from iac.store.identity import new_id
from iac.store.log_cache import LogCache
from iac.store.log_reading import LogIndexes
from iac.store.sealing import Keyring
from iac.web.app import create_app
from iac.web.platform import Platform
from iac.web.serving import serve_http
from tests.contract.platforms import LOG_LIMIT, PlatformUnderTest, StorePlatform


@dataclass
class RemotePlatform(StorePlatform):
    """Tasks are handed out to an agent, each with a token of its own."""

    agent: str = ""
    task_tokens: dict[int, str] = field(default_factory=dict)

    async def prepare(self) -> None:
        await super().prepare()
        pool = await self.database.tx(pools.create, {"name": new_id("pool"), "kind": "static"}, by="test")
        token, _ = await self.database.tx(pools.create_token, pool.id, "token", "test")
        known = Register(name="agent", instance_id="instance", boot_id="boot")
        self.agent = (await self.database.tx(registering.register, known, token, "127.0.0.1")).agent_id
        await self.database.tx(pools.allow, pool.id, self.workspace, by="test")
        served = {"execution_mode": "agent", "pool_id": pool.id}
        await self.database.tx(workspaces.change, self.workspace, served, by="test")

    async def assign(self, task_id: int) -> RunTask:
        assigned, token = await self.database.tx(assignments.hand_out, task_id, self.agent, new_id("asg"))
        self.task_tokens[assigned.fence] = token
        return order_of(assigned)


@asynccontextmanager
async def _served(database: Database, keyring: Keyring, log_cache: LogCache) -> AsyncIterator[str]:
    """The URL of the platform's web application; nothing but the test hands out tasks."""
    changed, grew = Bell[int](), Bell[int]()
    local, fleet = LocalRunner(plan_limit=1), Fleet(database, Times(), changed=changed.ring, wake=lambda: None)
    dispatcher = Dispatcher(database, local, changed.ring, fleet=fleet)
    heard = Changes(changed.ring, grew.ring)
    accessor = LocalDataAccessor(database, keyring, heard, log_cache, log_max_bytes=LOG_LIMIT)
    draining = trio.Event()
    live = LiveLogs(fleet.tell)
    indexes = LogIndexes(database, log_cache)
    platform = Platform(
        database, keyring, dispatcher, local, fleet, accessor, log_cache, indexes, changed, grew, live, draining
    )
    app = create_app(platform)
    async with trio.open_nursery() as nursery:
        serve = partial(serve_http, app, bind="127.0.0.1:0", draining=draining, graceful=1.0)
        urls: list[str] = await nursery.start(serve)
        try:
            yield urls[0]
        finally:
            draining.set()


@asynccontextmanager
async def remote(database_url: str) -> AsyncIterator[PlatformUnderTest]:
    keyring = Keyring("a-key-for-the-contract-tests")
    tls = ssl.create_default_context()
    tokens: dict[int, str] = {}
    with TemporaryDirectory(prefix="iac-logs-") as directory:
        async with open_database(database_url) as database:
            log_cache = LogCache(database, Path(directory))
            async with _served(database, keyring, log_cache) as url, open_client(url, tls=tls, proxy=None) as client:
                accessor = RemoteDataAccessor(client, lambda order: tokens.get(order.fence), boot_id="boot")
                platform = RemotePlatform(database, keyring, accessor, log_cache, task_tokens=tokens)
                await platform.prepare()
                yield platform
