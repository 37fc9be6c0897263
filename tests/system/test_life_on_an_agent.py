"""The main story with everything real: server, agent, Terraform."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from iac.actors.agent_tree import Orders, run_agent
from iac.agent_settings import AgentSettings
from tests.harness.agents import a_pool, a_workspace
from tests.harness.server import environment, running_server


async def test_an_agent_plans_and_applies_for_the_server(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, local_executor=False) as server:
        token = await a_pool(server)
        await a_workspace(server)
        orders = Orders()
        settings = AgentSettings(endpoint=server.url, token=token, name="agent-01", data_dir=tmp_path / "agent")
        async with trio.open_nursery() as nursery:
            agent = await nursery.start(partial(run_agent, settings, environment(), orders=orders))
            try:
                task = await server.task("w", "plan_and_apply", auto_apply=True)
                done = await server.until(task, "succeeded")
                assert (done["outcome"], done["agent_id"]) == ("applied", agent)
                assert b"Apply complete!" in await server.log(task)
                again = await server.until(await server.task("w", "plan_and_apply", auto_apply=True), "succeeded")
                assert again["outcome"] == "planned_and_finished"
            finally:
                orders.stop.set()
        assert not any((tmp_path / "agent" / "tasks").iterdir())
