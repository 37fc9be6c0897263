"""Heartbeats, many at a time: those that come within a moment are noted, and compared with the rows, in one transaction.

Three thousand agents send three hundred heartbeats a second; with a transaction for each, these would be most of what the
server does. What follows for each agent is still decided for it alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import trio

from iac.domain.messages import Heartbeat
from iac.domain.standings import Standing
from iac.errors import Unavailable
from iac.store import agents, standings
from iac.store.database import Connection, Database
from iac.store.standings import Stance

log = logging.getLogger(__name__)

MOMENT = 0.1
"""Seconds for which an idle agent's heartbeat may wait for others."""
ANSWER_WITHIN = 30.0


class Called(msgspec.Struct, frozen=True):
    """What the rows say of an agent that was heard. `stance` is None when there is no such agent any more."""

    stance: Stance | None
    found: dict[int, Standing]


def _nobody() -> None: ...


@dataclass(slots=True)
class _Entry:
    agent_id: str
    beat: Heartbeat
    answered: trio.Event = field(default_factory=trio.Event)
    called: Called | None = None
    error: Exception | None = None

    def settle(self, called: Called | None, error: Exception | None) -> None:
        self.called, self.error = called, error
        self.answered.set()


class RollCall:
    """`answer` is for anybody, `run` is the actor."""

    def __init__(self, database: Database, noticed: Callable[[], None] = _nobody) -> None:
        """`noticed` is called after each transaction that noted some."""
        self._database = database
        self._noticed = noticed
        self._entries: list[_Entry] = []
        self._came, self._hurry = trio.Event(), trio.Event()

    async def answer(self, agent_id: str, beat: Heartbeat, *, soon: bool) -> Called:
        """Notes the heartbeat. `soon`: not after a moment, because there is something that others wait for.

        Raises Unavailable.
        """
        entry = _Entry(agent_id, beat)
        self._entries.append(entry)
        self._came.set()
        if soon:
            self._hurry.set()
        with trio.move_on_after(ANSWER_WITHIN):
            await entry.answered.wait()
        if entry.called is not None:
            return entry.called
        if entry.error is not None and not isinstance(entry.error, Unavailable):
            raise entry.error
        raise Unavailable("The heartbeat could not be compared with the rows.", code="db_unavailable")

    async def run(self) -> None:
        """Never returns; ends with its scope."""
        while True:
            await self._came.wait()
            with trio.move_on_after(MOMENT):
                await self._hurry.wait()
            entries, self._entries = self._entries, []
            self._came, self._hurry = trio.Event(), trio.Event()
            await self._settle(entries)

    async def _settle(self, entries: Sequence[_Entry]) -> None:
        beats = {entry.agent_id: entry.beat for entry in entries}
        fences = {held.fence for entry in entries for held in entry.beat.tasks}
        try:
            called = await self._database.tx(_call, beats, fences)
        except Exception as error:
            if len(entries) == 1 or isinstance(error, Unavailable):
                for entry in entries:
                    entry.settle(None, error)
                return
            # Something in one of them cannot be asked for: that must not hurt the others.
            log.warning("heartbeats are looked at one by one", extra={"error": repr(error)})
            for entry in entries:
                await self._settle([entry])
        else:
            self._noticed()
            for entry in entries:
                entry.settle(called[entry.agent_id], None)


async def _call(c: Connection, beats: Mapping[str, Heartbeat], fences: set[int]) -> dict[str, Called]:
    await agents.seen(c, beats)
    stances = await standings.stances(c, list(beats))
    found = await standings.of_agents(c, list(beats), fences)
    return {agent_id: Called(stances.get(agent_id), found[agent_id]) for agent_id in beats}
