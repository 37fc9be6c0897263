"""An agent inside another program, with an executor of that program's own."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import trio

from iac.actors.agent_tree import Orders, run_agent
from iac.actors.worker import Execute
from iac.agent_settings import AgentSettings
from iac.domain.messages import TaskFinished
from iac.domain.work import LogDigest, Result, RunTask
from iac.executor.accessor import DataAccessor
from tests.fakes.agent_api import serving


async def test_an_executor_of_ones_own_claims_and_reports_like_the_one_for_terraform(tmp_path: Path) -> None:
    claimed: list[str] = []

    def execute_with(accessor: DataAccessor) -> Execute:
        async def execute(order: RunTask, hurry: trio.Event) -> None:
            data = await accessor.get_task_data(order)
            claimed.append(data.bundle.workspace_name)
            log = LogDigest(length=0, sha256=hashlib.sha256().hexdigest())
            await accessor.update_task(order, Result(result_id=f"{order.fence}", status="failed", log=log))

        return execute

    async with serving() as api, trio.open_nursery() as nursery:
        settings = AgentSettings(endpoint=api.url, token=api.pool_token, name="embedded", data_dir=tmp_path / "agent")
        orders = Orders()
        await nursery.start(partial(run_agent, settings, {}, orders=orders, execute_with=execute_with))
        await api.until(lambda: api.connected)
        made = api.offer()
        finished = await api.until_heard(TaskFinished, fence=made.order.fence)
        assert finished.result_id == str(made.order.fence)
        assert made.result is not None
        assert (made.claims, made.result.status, len(claimed)) == (1, "failed", 1)
        assert not list((tmp_path / "agent" / "tasks").iterdir()), "no work directory, and nothing left in the journal"
        orders.stop.set()
