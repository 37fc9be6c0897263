"""An agent, whole, beside the test: real sockets, a real HTTP server, a real process for Terraform."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.testing

from iac.actors.agent_tree import Orders, run_agent
from iac.actors.patience import AgentTimes
from iac.agent_settings import AgentSettings
from iac.domain.ladder import Ladder
from iac.errors import StartFailed
from iac.executor.run import ExecutorPolicy
from tests.fakes.agent_platform import PATIENT, AgentApi
from tests.fakes.fake_terraform import install

QUICK = ExecutorPolicy(
    plan_ladder=Ladder(grace=5.0, second=1.0),
    apply_ladder=Ladder(grace=5.0, second=1.0),
    store_within=20.0,
    report_within=20.0,
    log_drain_within=10.0,
)
TIMES = AgentTimes(
    ack_within=5.0,
    welcome_within=3.0,
    connect_within=3.0,
    retry_most=0.2,
    conflict_for=0.5,
    poll_after=0.2,
    poll_least=0.05,
    poll_most=0.1,
    tick=0.05,
    last_words=3.0,
)


@dataclass
class Running:
    """An agent that runs beside the test."""

    agent_id: str
    orders: Orders
    scope: trio.CancelScope
    ended: trio.Event
    settings: AgentSettings
    terraform: Path


@asynccontextmanager
async def an_agent(
    api: AgentApi,
    tmp_path: Path,
    *,
    scenario: Mapping[str, object] | None = None,
    times: AgentTimes = TIMES,
    expect: int | None = None,
    env: dict[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """Stopped in a hurry when the body ends; `expect` is the exit code with which it has to fail."""
    terraform = install(tmp_path / "bin", scenario)
    chosen = AgentSettings(
        **{
            "endpoint": api.url,
            "token": api.pool_token,
            "name": "agent-01",
            "data_dir": tmp_path / "agent",
            "drain_seconds": 60,
            **settings,
        }
    )
    orders, ended = Orders(), trio.Event()
    path = f"{terraform.parent}{os.pathsep}{os.environ['PATH']}"
    run = partial(run_agent, chosen, {"PATH": path, **(env or {})}, orders=orders, times=times, policy=QUICK)

    async def live(*, task_status: trio.TaskStatus[str]) -> None:
        code = None
        try:
            await run(task_status=task_status)
        except StartFailed as error:
            code = error.exit_code
        finally:
            ended.set()
        assert code == expect

    async with trio.open_nursery() as nursery:
        agent_id: str = await nursery.start(live)
        try:
            yield Running(agent_id, orders, nursery.cancel_scope, ended, chosen, terraform)
        finally:
            orders.stop.set()
            orders.hurry.set()


def settings_of(api: AgentApi, tmp_path: Path) -> AgentSettings:
    return AgentSettings(endpoint=api.url, token=api.pool_token, name="agent-01", data_dir=tmp_path / "agent")


async def exists(path: Path) -> None:
    with trio.fail_after(PATIENT):
        while not path.exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(0.01)
