"""Agents that were killed and come back over the same data directory: what they had accepted gets its fate at once, and
what lies on their disks comes home.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from iac.domain.agent_bodies import Registered
from iac.domain.agent_session import Times
from iac.domain.messages import RunTaskOrder
from iac.domain.work import RunTask
from iac.executor.identity import Identity, save
from iac.executor.journal import Journal
from tests.fakes.fake_terraform import install, ledger_of
from tests.fakes.scripted_agent import ScriptedAgent
from tests.harness.agent_process import AgentProcess, agent_process
from tests.harness.agents import a_pool, a_workspace
from tests.harness.killable import processes_of
from tests.harness.server import PATIENT, RunningServer, running_server


@dataclass(frozen=True)
class Host:
    """A server, and the disk of an agent that may live on it again and again."""

    root: Path
    server: RunningServer
    token: str

    def agent(self) -> Any:
        return agent_process(self.root / "host", self.server.url, self.token, path=self.path)

    @property
    def path(self) -> str:
        return f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}"

    @property
    def data_dir(self) -> Path:
        return self.root / "host" / "first"

    @property
    def tasks(self) -> Path:
        return self.data_dir / "tasks"

    @property
    def ledger(self) -> list[dict[str, Any]]:
        return ledger_of(self.root / "ledger")

    async def clean(self) -> None:
        """Until nothing of any assignment is left on the disk."""
        with trio.fail_after(PATIENT):
            while list(self.tasks.iterdir()):  # noqa: ASYNC110 - another process removes it
                await trio.sleep(0.02)


@asynccontextmanager
async def a_host(tmp_path: Path, database_url: str, commands: Mapping[str, object]) -> AsyncIterator[Host]:
    install(tmp_path / "bin", {"ledger": str(tmp_path / "ledger"), "commands": commands})
    async with running_server(tmp_path / "server", database_url, times=Times(settle=0), local_executor=False) as server:
        token = await a_pool(server)
        await a_workspace(server)
        yield Host(tmp_path, server, token)


async def exists(path: Path) -> None:
    with trio.fail_after(PATIENT):
        while not path.exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(0.02)


async def gone(agent: AgentProcess) -> None:
    """The host lost power: the agent, and all that it had started."""
    await agent.kill()
    for pid in processes_of(agent.data_dir, shims=True):
        os.kill(pid, 9)


async def test_a_plan_that_its_agent_ran_when_it_was_killed_is_tried_again_at_once(
    tmp_path: Path, database_url: str
) -> None:
    ready = tmp_path / "ready"
    once = {"ready_file": str(ready), "lines": ["the first try"], "until": str(tmp_path / "go")}
    async with a_host(tmp_path, database_url, {"plan": once}) as host:
        async with host.agent() as agent:
            task = await host.server.task("w", "plan")
            await exists(ready)
            await agent.kill()
        ready.unlink()
        async with host.agent():
            await exists(ready)  # the second try
            assert [entry["run"] for entry in host.ledger if entry["event"] == "overlap"] == []
            (tmp_path / "go").touch()
            done = await host.server.until(task, "succeeded")
            assert done["attempt"] == 2
            await host.clean()


async def test_an_apply_that_goes_on_without_its_agent_is_brought_home(tmp_path: Path, database_url: str) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    commands = {"apply": {"ready_file": str(ready), "until": str(go)}}
    async with a_host(tmp_path, database_url, commands) as host:
        async with host.agent() as agent:
            task = await host.server.task("w", "plan_and_apply", auto_apply=True)
            await exists(ready)
            await agent.kill()
        async with host.agent() as agent:
            await agent.says("connected")
            assert (await host.server.call("GET", f"/api/v1/tasks/{task}"))["status"] == "running"
            go.touch()
            done = await host.server.until(task, "succeeded")
            assert (done["outcome"], done["exit_code"]) == ("applied", 0)
            [stop] = [entry for entry in host.ledger if (entry["event"], entry["command"]) == ("stop", "apply")]
            state = await host.server.call("GET", "/api/v1/workspaces/w/state-versions/current")
            assert state["sha256"] == stop["state"]
            log = await host.server.log(task)
            assert b"The agent ended while it ran the task." in log
            await host.clean()
        starts = [entry for entry in host.ledger if (entry["event"], entry["command"]) == ("start", "apply")]
        assert len(starts) == 1
        assert (await host.server.call("GET", "/api/v1/workspaces/w"))["lock"] is None


async def test_the_state_of_an_apply_that_died_with_its_host_is_brought_home_before_new_work(
    tmp_path: Path, database_url: str
) -> None:
    ready = tmp_path / "ready"
    async with a_host(tmp_path, database_url, {"apply": {"ready_file": str(ready), "sleep": "forever"}}) as host:
        await a_workspace(host.server, "other")
        async with host.agent() as agent:
            task = await host.server.task("w", "plan_and_apply", auto_apply=True)
            await exists(ready)
            await gone(agent)
        [place] = [path for path in host.tasks.iterdir() if path.is_dir()]
        written = a_state(7)
        (place / "state" / "terraform.tfstate").write_bytes(written)
        waiting = await host.server.task("other", "plan")
        async with host.agent():
            lost = await host.server.until(task, "lost")
            assert lost["reason"] == "agent_crashed"
            current = await host.server.client.get("/api/v1/workspaces/w/state-versions/current/download")
            assert current.content == written
            await host.server.until(waiting, "succeeded")
            await host.clean()


def a_state(serial: int) -> bytes:
    body = {"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": "lin-1"}
    return json.dumps({**body, "outputs": {}, "resources": []}).encode()


async def registered(host: Host) -> ScriptedAgent:
    """The agent of this host, driven by hand; the program that starts there later is the same one."""
    host.data_dir.mkdir(parents=True)
    agent = ScriptedAgent(host.server.client, host.token, name="first", instance="i" * 32)
    made: Registered = await agent.register()
    known = Identity(instance_id="i" * 32, agent_id=made.agent_id, instance_secret=made.instance_secret)
    save(host.data_dir, known)
    return agent


def written_down(host: Host, order: RunTaskOrder) -> RunTask:
    taken = msgspec.convert(msgspec.to_builtins(order), RunTask)
    Journal(host.tasks).accept(taken, order.task_token)
    return taken


async def test_an_order_that_was_accepted_and_never_claimed_is_run_under_the_same_fence(
    tmp_path: Path, database_url: str
) -> None:
    async with a_host(tmp_path, database_url, {}) as host:
        agent = await registered(host)
        async with agent.connected() as link:
            await link.hello()
            task = await host.server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            written_down(host, order)
            await link.accept(order)
        async with host.agent():
            done = await host.server.until(task, "succeeded")
            assert (done["attempt"], {entry["run"] for entry in host.ledger} - {""}) == (1, {f"{task}-{order.fence}"})
            await host.clean()


async def test_an_apply_that_was_claimed_and_never_begun_has_failed_and_frees_its_workspace(
    tmp_path: Path, database_url: str
) -> None:
    async with a_host(tmp_path, database_url, {}) as host:
        agent = await registered(host)
        async with agent.connected() as link:
            await link.hello()
            task = await host.server.task("w", "plan_and_apply", auto_apply=True)
            order = await link.get(RunTaskOrder, task_id=task)
            await agent.plan(order, await agent.claim(order))
            await agent.status(order, "planned")
            order = await link.get(RunTaskOrder, task_id=task, action="apply")
            written_down(host, order)
            await agent.claim(order)
        async with host.agent():
            failed = await host.server.until(task, "failed")
            assert failed["reason"] == "never_started"
            assert (await host.server.call("GET", "/api/v1/workspaces/w"))["lock"] is None
            await host.clean()


async def test_a_journal_is_written_before_the_server_hears_of_it(tmp_path: Path, database_url: str) -> None:
    async with a_host(
        tmp_path, database_url, {"plan": {"ready_file": str(tmp_path / "ready"), "sleep": "forever"}}
    ) as host:
        async with host.agent() as agent:
            task = await host.server.task("w", "plan")
            await exists(tmp_path / "ready")
            [entry] = Journal(host.tasks).entries()
            assert entry.order.task_id == task
            assert [path.stat().st_mode & 0o777 for path in host.tasks.glob("*.json")] == [0o600]
            assert entry.token not in repr(entry)
            async with httpx.AsyncClient(base_url=host.server.url) as http:
                answer = await http.get(
                    f"/api/v1/agents/tasks/{task}/logs/chunk", headers={"Authorization": f"Bearer {entry.token}"}
                )
            assert answer.status_code == 200
            await gone(agent)


async def test_a_hard_revoked_agent_stops_its_apply_keeps_its_files_and_ends_with_3(
    tmp_path: Path, database_url: str
) -> None:
    ready = tmp_path / "ready"
    async with a_host(tmp_path, database_url, {"apply": {"ready_file": str(ready), "sleep": "forever"}}) as host:
        async with host.agent() as agent:
            task = await host.server.task("w", "plan_and_apply", auto_apply=True)
            await exists(ready)
            [token] = (await host.server.call("GET", "/api/v1/agent-pools/pool/tokens"))["items"]
            path = f"/api/v1/agent-pools/pool/tokens/{token['id']}"
            await host.server.call("DELETE", path, params={"mode": "hard"})
            assert await agent.ended() == 3
        assert [entry["event"] for entry in host.ledger if entry["command"] == "apply"] == ["start", "sigterm", "stop"]
        versions = (await host.server.call("GET", "/api/v1/workspaces/w/state-versions"))["items"]
        assert [version["verdict"] for version in versions] == ["quarantined"]
        [place] = [each for each in host.tasks.iterdir() if each.is_dir()]
        assert (place / "state" / "terraform.tfstate").exists()
        assert (place / "raw.log").exists()
        assert (await host.server.call("GET", f"/api/v1/tasks/{task}"))["status"] == "cancelling"
        assert (await host.server.call("GET", "/api/v1/workspaces/w"))["lock"] is not None
