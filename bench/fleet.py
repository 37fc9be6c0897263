"""How a server does with many agents: how fast a task gets to one, how fast all run, what a connected agent costs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from bench import usage
from bench.agents import Crowd, crowd
from bench.bare import configuration
from bench.connection import Answer, Connection
from bench.pool import Pool, enrol, new_pool, workspace_in
from bench.rows import Row, at_most, noted, percentile
from bench.server import Server
from iac.domain.bodies import TaskCreate, TaskView

CONNECTIONS = 16
BREATH = 0.05
"""Seconds between two tasks of the dispatch row, for what follows the end of one."""
PER_PROCESS = 500
"""Agents in one process of load."""
WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Scene:
    """A server, and agents that are not connected yet; `place` has their data directories."""

    server: Server
    pool: Pool
    names: list[str]
    place: Path


def dispatch(server: Server, directory: Path, *, agents: int, tasks: int) -> list[Row]:
    """From the request that creates a task to its order at an agent, while all agents are idle."""
    scene = _scene(server, directory, agents, workspaces=10)
    return trio.run(_dispatch, scene, agents, tasks)


async def _dispatch(scene: Scene, agents: int, tasks: int) -> list[Row]:
    server = scene.server
    async with crowd(server, scene.pool, scene.names, scene.place, processes=2) as gathered:
        await gathered.until("connected", agents)
        await trio.sleep(2.0)  # the first heartbeats are over
        user, found = Connection(server.url, server.token), []
        for number in range(WARM_UP + tasks):
            task, sent_at = await _post(user, f"w{number % 10}")
            found.append((await gathered.at("ordered", task) - sent_at) * 1000)
            await gathered.at("reported", task)
            await trio.sleep(BREATH)
        await user.close()
        burst = await _burst(server, gathered, agents)
    found = found[WARM_UP:]
    name = f"dispatch, {agents} idle agents"
    return [
        at_most(10, f"{name}: from POST to the order at the agent, median", percentile(found, 50), "ms"),
        at_most(50, f"{name}: 99th percentile of {tasks} tasks one after the other", percentile(found, 99), "ms"),
        noted(f"{name}: median of {agents} tasks at once", percentile(burst, 50), "ms"),
        noted(f"{name}: the last of {agents} tasks at once", max(burst), "ms"),
    ]


async def _burst(server: Server, gathered: Crowd, tasks: int) -> list[float]:
    before = gathered.count("ordered")
    created = await _create(server, tasks, workspaces=10)
    await gathered.until("ordered", before + tasks)
    return [(await gathered.at("ordered", task) - sent_at) * 1000 for task, sent_at in created.items()]


def all_at_once(server: Server, directory: Path, *, agents: int) -> list[Row]:
    """As many tasks as agents, created at once: until all run at the same time, and until all are done."""
    return trio.run(_all_at_once, _scene(server, directory, agents, workspaces=agents), agents)


async def _all_at_once(scene: Scene, agents: int) -> list[Row]:
    server = scene.server
    async with crowd(server, scene.pool, scene.names, scene.place, processes=2, hold=True) as gathered:
        await gathered.until("connected", agents)
        await trio.sleep(2.0)
        began = time.monotonic()
        await _create(server, agents, workspaces=agents)
        created = time.monotonic()
        running = await gathered.until("claimed", agents)
        at_ease = time.monotonic()
        await gathered.release()
        done = await gathered.until("reported", agents)
    name = f"{agents} agents, {agents} tasks at once"
    return [
        noted(f"{name}: all created after", created - began, "s"),
        at_most(30, f"{name}: all run at the same time after", running - began, "s"),
        noted(f"{name}: all done, without their waiting for each other, after", running - began + done - at_ease, "s"),
    ]


def connected(server: Server, directory: Path, *, agents: int, seconds: float) -> list[Row]:
    """What idle agents with heartbeats each 10 s cost the server."""
    return trio.run(_connected, _scene(server, directory, agents, workspaces=1), agents, seconds)


async def _connected(scene: Scene, agents: int, seconds: float) -> list[Row]:
    server, processes = scene.server, -(-agents // PER_PROCESS)
    alone = usage.memory(server.pid)
    began = time.monotonic()
    async with crowd(server, scene.pool, scene.names, scene.place, processes=processes) as gathered:
        there = await gathered.until("connected", agents)
        await trio.sleep(seconds / 2)  # the crowd of the start is over
        share, database = await _cpu(server, seconds)
        grown = usage.memory(server.pid) - alone
        lost = gathered.count("connected") - agents
    name, most = f"{agents:,} idle agents", agents == 3000
    return [
        at_most(35, f"{name}: CPU of the server", share, "% of a core")
        if most
        else noted(f"{name}: CPU of the server", share, "% of a core"),
        noted(f"{name}: CPU of its PostgreSQL", database, "% of a core"),
        at_most(80, f"{name}: memory for each in the server", grown / agents / 1000, "KB"),
        noted(f"{name}: all connected after", there - began, "s"),
        at_most(0, f"{name}: connections lost", lost, ""),
    ]


async def _cpu(server: Server, seconds: float) -> tuple[float, float]:
    """Of the server and of its database, in percent of one core."""
    database = usage.postgres_of(server.data_dir)
    before = usage.cpu_seconds(server.pid), sum(map(usage.cpu_seconds, database))
    began = time.monotonic()
    await trio.sleep(seconds)
    took = time.monotonic() - began
    after = usage.cpu_seconds(server.pid), sum(map(usage.cpu_seconds, database))
    return 100 * (after[0] - before[0]) / took, 100 * (after[1] - before[1]) / took


def _scene(server: Server, directory: Path, agents: int, *, workspaces: int) -> Scene:
    pool, names = new_pool(server), [f"agent-{number:04}" for number in range(agents)]
    for number in range(workspaces):
        workspace_in(server, pool, f"w{number}", configuration(1))
    enrol(server, pool, names, directory / "agents")
    return Scene(server, pool, names, directory / "agents")


async def _post(user: Connection, workspace: str) -> tuple[int, float]:
    """The id of a new task, and when it was asked for."""
    request = user.request("POST", f"/api/v1/workspaces/{workspace}/tasks", TaskCreate(action="plan"))
    answer: Answer = await user.ask(request)
    return msgspec.json.decode(answer.body, type=TaskView).id, answer.sent_at


async def _create(server: Server, tasks: int, *, workspaces: int) -> dict[int, float]:
    """New tasks, asked for over several connections at once, and when each was asked for."""
    created: dict[int, float] = {}
    numbers = iter(range(tasks))

    async def one(user: Connection) -> None:
        for number in numbers:
            task, sent_at = await _post(user, f"w{number % workspaces}")
            created[task] = sent_at
        await user.close()

    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            user = Connection(server.url, server.token)
            await user.open()
            nursery.start_soon(one, user)
    return created
