"""The database goes away, the server stands still: no agent loses anything by what the server could not hear."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from iac.domain.agent_session import Times
from iac.domain.messages import HeartbeatAck, RunTaskOrder
from tests.fakes.scripted_agent import held
from tests.harness.agents import an_agent
from tests.harness.postgres import OwnCluster, own_cluster
from tests.harness.server import PATIENT, running_server

TIMES = Times(lost_after=2.0, heartbeat=0.2, tick=0.1, look=0.1, settle=0)


@pytest.fixture
def own() -> Iterator[OwnCluster]:
    with own_cluster() as cluster:
        yield cluster


async def test_while_the_database_is_away_leases_go_on_and_nobody_is_lost(tmp_path: Path, own: OwnCluster) -> None:
    async with running_server(tmp_path / "data", own.url, times=TIMES) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await agent.claim(order)
            await trio.to_thread.run_sync(own.stop)
            await link.say(agent.heartbeat(held(order)))
            ack = await link.get(HeartbeatAck, degraded=True)
            assert [lease.fence for lease in ack.leases] == [order.fence]
            await trio.sleep(1.5 * TIMES.lost_after)  # nothing is heard, and nothing could be
            await trio.to_thread.run_sync(own.start)
            with trio.fail_after(PATIENT):
                while (await server.client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - no event tells
                    await trio.sleep(0.05)
            await trio.sleep(0.3 * TIMES.lost_after)
            shown = await server.call("GET", f"/api/v1/tasks/{task}")
            assert (shown["status"], shown["attempt"]) == ("running", 1)
            assert not (await link.beat(held(order))).degraded


async def test_a_server_that_stood_still_blames_nobody_for_its_own_deafness(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, times=TIMES) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await agent.claim(order)
            await link.beat(held(order))
            time.sleep(1.5 * TIMES.lost_after)  # noqa: ASYNC251, TID251 - the whole process is stopped
            await trio.sleep(0.3 * TIMES.lost_after)
            shown = await server.call("GET", f"/api/v1/tasks/{task}")
            assert (shown["status"], shown["attempt"]) == ("running", 1)
            await server.until(task, "queued", "assigned")  # and then it is the agent that is silent
