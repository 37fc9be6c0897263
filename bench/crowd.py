"""python -m bench.crowd: many agents in one process, the real `run_agent` each, with a stub for Terraform.

The first line on stdin says who they are (`Members`); `release` lets go what the stubs hold, the end of stdin ends all.
On stdout, one JSON object a line: what happened, to which task, when (CLOCK_MONOTONIC, which all processes share).
"""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
import sys
import time
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import trio

from iac.actors.agent_tree import Orders, run_agent
from iac.actors.worker import Execute
from iac.agent_settings import AgentSettings
from iac.domain.work import LogDigest, PlanFacts, Result, RunTask, SavedPlan
from iac.executor.accessor import DataAccessor

What = Literal["connected", "ordered", "claimed", "reported"]
AT_ONCE = 20
_FILE = b"no plan at all"
_LOG = LogDigest(length=0, sha256=hashlib.sha256().hexdigest())


class Members(msgspec.Struct, frozen=True):
    """Agents that share a pool; `place`/name is the data directory of each. `hold`: tasks run until `release`."""

    endpoint: str
    token: str
    place: str
    names: list[str]
    hold: bool


class Told(msgspec.Struct, frozen=True):
    """Something that happened in a crowd; `task` is 0 where it is about no task."""

    what: What
    at: float
    task: int = 0


class _Settings(AgentSettings):
    def tls(self) -> ssl.SSLContext:
        return _TLS


_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""One for all: reading the system's authorities takes 20 ms and half a megabyte, and nobody here speaks TLS."""


class _Arrivals(logging.Handler):
    """So many agents at a time are on their way: all at once would time out, and come again.

    An agent says in its log alone that its control channel is open.
    """

    def __init__(self) -> None:
        super().__init__()
        self._on_the_way = trio.Semaphore(AT_ONCE)
        self._there: set[str] = set()

    async def admit(self) -> None:
        await self._on_the_way.acquire()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "connected":
            tell("connected")
            agent = str(record.__dict__["agent"])
            if agent not in self._there:
                self._there.add(agent)
                self._on_the_way.release()


def tell(what: What, task: int = 0) -> None:
    os.write(1, msgspec.json.encode(Told(what, time.monotonic(), task)) + b"\n")


def stub(accessor: DataAccessor, released: trio.Event) -> Execute:
    """Claims, says what it is at, stores a plan without changes, reports. A no-op takes the place of Terraform."""

    async def execute(order: RunTask, hurry: trio.Event) -> None:
        tell("ordered", order.task_id)
        data = await accessor.get_task_data(order)
        tell("claimed", order.task_id)
        await accessor.note_stage(order, "planning")
        await released.wait()
        facts = PlanFacts(
            digest=hashlib.sha256(_FILE).hexdigest(),
            bundle_digest=data.bundle_digest,
            serial=None,
            lineage=None,
            terraform_version="1.0.0",
            has_changes=False,
            summary={},
        )
        await accessor.save_plan(order, SavedPlan(facts=facts, file=_FILE, json=b"{}", lock_hcl=None), [])
        await accessor.update_task(order, Result(result_id=f"{order.fence}", status="planned", exit_code=0, log=_LOG))
        tell("reported", order.task_id)

    return execute


async def live(members: Members, commands: trio.abc.ReceiveStream, arrivals: _Arrivals) -> None:
    released = trio.Event()
    if not members.hold:
        released.set()
    orders = Orders()

    async def arrive(nursery: trio.Nursery) -> None:
        for name in members.names:
            await arrivals.admit()
            settings = _Settings(
                endpoint=members.endpoint, token=members.token, name=name, data_dir=Path(members.place, name)
            )
            run = partial(run_agent, settings, {}, orders=orders, execute_with=lambda to: stub(to, released))
            nursery.start_soon(run)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrive, nursery)
        while await commands.receive_some(64):
            released.set()
        nursery.cancel_scope.cancel()


async def main() -> None:
    commands = trio.lowlevel.FdStream(os.dup(0))
    line = b""
    while not line.endswith(b"\n"):
        line += await commands.receive_some(1)
    logger = logging.getLogger("iac.actors.linking")
    logger.setLevel(logging.INFO)
    logger.addHandler(arrivals := _Arrivals())
    logger.propagate = False
    await live(msgspec.json.decode(line, type=Members), commands, arrivals)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    trio.run(main)
