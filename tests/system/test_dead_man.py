"""An agent that dies does not leave a plan running: its shim holds the lease that nobody prolongs any more."""

from __future__ import annotations

from pathlib import Path

import trio

from iac.domain.agent_session import Times
from iac.executor.shimming import read_end
from tests.fakes.fake_terraform import install, ledger_of
from tests.harness.agent_process import agent_process
from tests.harness.agents import a_pool, a_workspace
from tests.harness.killable import processes_of
from tests.harness.server import PATIENT, running_server

SHORT = Times(heartbeat=0.3, lease=2.0, lost_after=60.0)


async def test_a_plan_whose_agent_was_killed_is_stopped_by_its_shim(tmp_path: Path, database_url: str) -> None:
    ready, ledger = tmp_path / "ready", tmp_path / "ledger"
    plan = {"ready_file": str(ready), "sleep": "forever"}
    binary = install(tmp_path / "bin", {"ledger": str(ledger), "commands": {"plan": plan}})
    async with running_server(tmp_path / "data", database_url, times=SHORT, local_executor=False) as server:
        token = await a_pool(server)
        await a_workspace(server)
        async with agent_process(tmp_path / "host", server.url, token, path=f"{binary.parent}:/usr/bin:/bin") as agent:
            await server.task("w", "plan")
            with trio.fail_after(PATIENT):
                while not ready.exists():  # noqa: ASYNC110 - another process makes it
                    await trio.sleep(0.02)
            [place] = [path for path in (agent.data_dir / "tasks").iterdir() if path.is_dir()]
            await agent.kill()
            with trio.fail_after(PATIENT):
                while processes_of(agent.data_dir, shims=True):  # noqa: ASYNC110 - nobody tells of their end
                    await trio.sleep(0.05)
            end = read_end(place)
    assert end is not None
    assert (end.label, end.signals[0]) == ("plan", 15)
    assert [entry["event"] for entry in ledger_of(ledger) if entry["command"] == "plan"] == ["start", "sigterm", "stop"]
