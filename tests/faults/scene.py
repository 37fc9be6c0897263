"""Where faults happen: a server, agents behind a network that misbehaves, a stand-in for Terraform, and the oracle.

Times are those of tests.harness.scaled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import trio

from iac.domain.records import FINAL
from iac.store.database import open_database
from tests.faults.oracle import Oracle
from tests.harness.agent_process import AgentProcess, agent_process
from tests.harness.agents import MAIN, a_pool, a_workspace
from tests.harness.chaos_proxy import ChaosProxy, chaos_proxy
from tests.harness.killable import Killable, killable_server
from tests.harness.pauses import pauses
from tests.harness.scaled import POLICY, SERVER, as_environment
from tests.harness.server import PATIENT, RunningServer, running_server
from tests.system.scenes import Stage, becomes

CANARY = "correct-horse-battery-staple"
"""The value of a sensitive variable; the stand-in prints it into every log."""


Message = dict[str, Any]
"""A message of the control channel, as it is on the wire."""
STRAIGHT = [("queued", "assigned"), ("assigned", "running"), ("running", "succeeded")]
"""The moves of a plan to which nothing happened; it was queued when it was made."""


def stages_of(cancel: Mapping[str, Any]) -> list[str]:
    return [step["stage"] for step in cancel["steps"]]


def noting(heard: list[Message], *types: str) -> Callable[[Message], list[Message]]:
    """Everything passes; messages of these types are noted, as soon as they were sent."""

    def note(message: Message) -> list[Message]:
        heard.extend([message] if message["type"] in types else [])
        return [message]

    return note


@dataclass
class Scene:
    """A server with a pool whose agents may serve the workspace `w`."""

    root: Path
    server: RunningServer
    proxy: ChaosProxy
    oracle: Oracle
    stage: Stage
    token: str

    def agent(
        self, name: str = "first", *, direct: bool = False, **more: Any
    ) -> AbstractAsyncContextManager[AgentProcess]:
        """An agent's process, behind the proxy unless `direct`; drained when the body has ended, if it still runs."""
        endpoint = self.server.url if direct else self.proxy.url
        data_dir = more.setdefault("data_dir", self.root / "agents" / name)
        self.oracle.work.append(data_dir)
        self.oracle.ledgers = [self.stage.root / "ledger"]
        return self._watched(
            agent_process(self.root / "agents", endpoint, self.token, path=self.stage.env["PATH"], name=name, **more)
        )

    @asynccontextmanager
    async def _watched(self, started: AbstractAsyncContextManager[AgentProcess]) -> AsyncIterator[AgentProcess]:
        async with started as agent:
            self.oracle.logs.append(agent.log_file)
            yield agent
            if agent.process.returncode is None:
                assert await agent.stop() == 0

    async def locally(self, workspace: str = "here") -> str:
        """A workspace whose tasks the server itself runs."""
        await self.server.workspace(workspace, MAIN)
        await _canary(self.server, workspace)
        self.oracle.work.append(self.server.settings.data_dir)
        self.oracle.ledgers = [self.stage.root / "ledger"]
        return workspace

    def acts(self, **commands: Mapping[str, Any]) -> None:
        """How the stand-in behaves from now on; what is not named is done at once. It always prints the canary."""
        manners = {name: {"print_env": ["CANARY"], **commands.get(name, {})} for name in ("init", "plan", "apply")}
        self.stage.set(**manners)

    async def call(self, method: str, path: str, **request: Any) -> Any:
        return await self.server.call(method, f"/api/v1{path}", **request)

    async def shown(self, task: int) -> dict[str, Any]:
        found: dict[str, Any] = await self.call("GET", f"/tasks/{task}")
        return found

    async def finished(self, task: int) -> dict[str, Any]:
        """The task, as soon as it has a final status."""
        waits = pauses()
        with trio.fail_after(PATIENT):
            while True:
                shown = await self.shown(task)
                if shown["status"] in FINAL:
                    return shown
                await trio.sleep(next(waits))

    async def runs(self, command: str, times: int = 1) -> None:
        """Until the stand-in was started so often with this command."""
        await becomes(lambda: len(self.oracle.events(command)) >= times)

    async def cancel(self, task: int, *, expect: int = 200, **body: Any) -> Any:
        return await self.call("POST", f"/tasks/{task}/cancel", json=body, expect=expect)

    async def reaches(self, task: int, stage: str) -> dict[str, Any]:
        """The task's cancellation, as soon as its stop has come to this stage."""
        waits = pauses()
        with trio.fail_after(PATIENT):
            while True:
                cancel: dict[str, Any] = (await self.shown(task))["cancel"] or {"steps": []}
                if stage in stages_of(cancel):
                    return cancel
                await trio.sleep(next(waits))

    async def confirmed_apply(self) -> int:
        """A task of `w` whose apply begins by itself after its plan."""
        return await self.server.task("w", "plan_and_apply", auto_apply=True)

    @property
    def waiting(self) -> dict[str, Any]:
        """The manners of one that works until `go` was called."""
        return {"until": str(self.root / "go")}

    def go(self) -> None:
        (self.root / "go").touch()


@asynccontextmanager
async def a_scene(
    tmp_path: Path,
    database_url: str,
    *,
    times: Mapping[str, float] | None = None,
    checked: bool = True,
    through: str | None = None,
    **settings: Any,
) -> AsyncIterator[Scene]:
    """Checked by the oracle when the body has ended. `times` go over those of the server, `settings` are the pool's;
    `through` is the database's URL as the server knows it, where that is another one.
    """
    chosen = msgspec.structs.replace(SERVER, **(times or {}))
    at, stage = through or database_url, Stage(tmp_path)
    async with (
        running_server(tmp_path / "server", at, times=chosen, policy=POLICY, env=stage.env) as server,
        chaos_proxy(server.url) as proxy,
        open_database(database_url, pool_size=2) as database,
    ):
        oracle = Oracle(database, server.client, [CANARY])
        scene = Scene(tmp_path, server, proxy, oracle, stage, await _furnish(server, oracle, **settings))
        scene.acts()
        yield scene
        if checked:
            await oracle.check()


async def _furnish(server: RunningServer, oracle: Oracle, **pool: Any) -> str:
    """What every scene has; the token of its pool."""
    await oracle.watch()
    token = await a_pool(server, **pool)
    await a_workspace(server)
    await _canary(server, "w")
    return token


async def _canary(server: RunningServer, workspace: str) -> None:
    variable = {"key": "CANARY", "value": CANARY, "category": "environment", "sensitive": True}
    await server.call("POST", f"/api/v1/workspaces/{workspace}/variables", json=variable)


@dataclass
class KillableScene(Scene):
    """A scene whose server is a process of its own, and may be started again after its end."""

    program: Killable
    start: Callable[[], Awaitable[Killable]]

    async def restart(self) -> None:
        """Another process on the same data; agents reach it through the proxy."""
        self.program = await self.start()
        self.server = self.program.server
        self.oracle.client = self.server.client
        self.proxy.leads_to(self.server.url)


@asynccontextmanager
async def a_killable_scene(
    tmp_path: Path,
    database_url: str,
    *,
    times: Mapping[str, float] | None = None,
    clock_off: float = 0.0,
    more_env: Mapping[str, str] | None = None,
) -> AsyncIterator[KillableScene]:
    """Checked by the oracle, through the last server, when the body has ended. The server's wall clock is ahead by
    `clock_off` seconds; `more_env` are more settings of the server.
    """
    stage = Stage(tmp_path)
    env = {**as_environment(times or {}), **stage.env, **(more_env or {})}
    async with AsyncExitStack() as servers:

        async def start() -> Killable:
            place = tmp_path / "server"
            program = "tests.harness.scaled_server"
            started = killable_server(place, database_url, env=env, program=program, clock_off=clock_off)
            return await servers.enter_async_context(started)

        program = await start()
        server = program.server
        async with chaos_proxy(server.url) as proxy, open_database(database_url, pool_size=2) as database:
            oracle = Oracle(database, server.client, [CANARY])
            token = await _furnish(server, oracle)
            scene = KillableScene(tmp_path, server, proxy, oracle, stage, token, program, start)
            scene.acts()
            yield scene
            oracle.logs += (tmp_path / "server").glob("server-*.log")
            await oracle.check()
