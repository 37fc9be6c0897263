"""What the routes work with: the store, and the actors that must hear of a change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

import trio

from iac.actors.audit_keeper import Incidents
from iac.actors.bell import Bell
from iac.actors.dispatcher import Dispatcher
from iac.actors.fleet import Fleet
from iac.actors.live_logs import LiveLogs
from iac.actors.local_runner import LocalRunner
from iac.actors.news import News
from iac.executor.accessor_local import LocalDataAccessor
from iac.store.database import Connection, Database
from iac.store.log_cache import LogCache
from iac.store.log_reading import LogIndexes
from iac.store.sealing import Keyring

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Platform:
    """Made once by the server program."""

    database: Database
    keyring: Keyring
    dispatcher: Dispatcher
    local: LocalRunner
    fleet: Fleet
    accessor: LocalDataAccessor
    log_cache: LogCache
    log_indexes: LogIndexes
    task_changed: Bell[int]
    log_grew: Bell[int]
    live: LiveLogs
    draining: trio.Event = field(default_factory=trio.Event)
    incidents: Incidents = field(default_factory=Incidents)
    news: News = field(default_factory=News)

    async def read(
        self, function: Callable[Concatenate[Connection, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """One store call that changes nothing."""
        return await self.database.read(function, *args, **kwargs)

    async def write(
        self, function: Callable[Concatenate[Connection, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """One store call that may give the dispatcher something to do; it hears of it even if the caller is gone."""
        try:
            return await self.database.tx(function, *args, **kwargs)
        finally:
            self.dispatcher.wake()
            self.news.anything()
