"""Everything that a soak runs: PostgreSQL, the server, four agents of which two are behind bad wires, and workspaces.

All below one directory, by which every process that belongs to it is found again.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from iac.executor.binaries import Binaries, BinarySettings
from iac.store.database import open_database
from iac.store.migrating import migrate
from tests.faults.oracle import watch
from tests.harness.chaos_proxy import ChaosProxy, chaos_proxy
from tests.harness.killable import PROJECT
from tests.harness.scaled import as_environment
from tests.harness.server import TOKEN
from tests.soak import witness
from tests.soak.configurations import CANARY, SECRET_INPUT, Wish, files
from tests.soak.programs import Postgres, Program, living
from tests.soak.record import Record
from tests.soak.traces import kill_all_below
from tests.soak.troubles import named
from tests.soak.user import User

SERVER_TIMES: Mapping[str, float] = {
    "heartbeat": 1.0,
    "lease": 8.0,
    "lost_after": 22.0,
    "suspect": 4.0,
    "offline": 8.0,
    "claim_within": 40.0,
    "resend_order": 2.0,
    "resend_cancel": 1.0,
    "settle": 4.0,
    "tick": 0.25,
    "look": 0.5,
}
"""A lease ends within seconds, and long before its agent is given up: there is room for a busy machine."""
AGENT_TIMES: Mapping[str, float] = {"ack_within": 4.0, "welcome_within": 4.0, "connect_within": 4.0, "retry_most": 2.0}
SERVES_WITHIN = 60.0


@dataclass
class Stage:
    """`programs` are the server and the agents, by name; `wires` are in front of those agents that have one."""

    root: Path
    record: Record
    postgres: Postgres
    programs: dict[str, Program]
    wires: Mapping[str, ChaosProxy]
    behind: Mapping[str, str]
    user: User
    workspaces: Sequence[str]
    things: Path
    ledger: Path
    local: frozenset[str] = field(default_factory=frozenset)

    @property
    def data_dirs(self) -> list[Path]:
        return [program.data_dir for program in self.programs.values()]


@asynccontextmanager
async def a_stage(root: Path, record: Record, *, workspaces: int, direct: int, wired: int) -> AsyncIterator[Stage]:
    """All of it, furnished and at rest; whatever happens, nothing of it runs any more after the body."""
    agents = [f"agent {number}" for number in range(1, direct + wired + 1)]
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(living(Postgres(root / "pg")))
        stack.callback(kill_all_below, root)
        await _prepared(postgres.url)
        url = f"http://127.0.0.1:{_free_port()}"
        terraform = await _witnessed(root)
        server = _server(root, url, postgres.url, terraform, record)
        user = User(url, record)
        stack.push_async_callback(user.client.aclose)
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        nursery.start_soon(server.run)
        await user.insist("GET", "/workspaces", within=SERVES_WITHIN)
        token = await _pool(user)
        wires = {}
        for name in agents[direct:]:
            wires[name.replace("agent", "wire")] = await stack.enter_async_context(chaos_proxy(url))
        behind = {wire: wire.replace("wire", "agent") for wire in wires}
        fronts = {behind[wire]: proxy.url for wire, proxy in wires.items()}
        programs = {"server": server}
        for name in agents:
            programs[name] = _agent(root, name, fronts.get(name, url), token=token, terraform=terraform, record=record)
            nursery.start_soon(programs[name].run)
        names = [f"ws-{number:02}" for number in range(workspaces)]
        local = frozenset(names[::4])
        stage = Stage(
            root, record, postgres, programs, wires, behind, user, names, root / "things", root / "ledger", local
        )
        for name in names:
            await _furnish(stage, name)
        record.calls.clear()  # the server was not there yet
        yield stage


async def _prepared(url: str) -> None:
    """The tables, and triggers that see every move."""
    async with open_database(url, pool_size=1) as database:
        await migrate(database)
        await watch(database)


async def _witnessed(root: Path) -> Path:
    """The directory of a `terraform` that tells what it does, and is the real one."""
    settings = BinarySettings(
        terraform_dir=None,
        download_dir=root / "nowhere",
        mirror_url=None,
        key_file=None,
        allow_download=False,
        search_path=os.environ.get("PATH", os.defpath),
    )
    real = await Binaries(settings).resolve("latest")
    for name in ("bin", "ledger", "things"):
        (root / name).mkdir()
    command = [sys.executable, "-I", "-S", witness.__file__, str(root / "ledger"), *real.argv, "--"]
    program = root / "bin" / "terraform"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    program.chmod(0o755)
    return program.parent


def _environment(terraform: Path, times: Mapping[str, float], **settings: str) -> dict[str, str]:
    path = f"{terraform}:{os.environ.get('PATH', os.defpath)}"
    return {"PATH": path, "PYTHONPATH": str(PROJECT), "IAC_LOG_FORMAT": "json", **as_environment(times), **settings}


def _server(root: Path, url: str, database: str, terraform: Path, record: Record) -> Program:
    env = _environment(
        terraform,
        SERVER_TIMES,
        IAC_BIND=url.removeprefix("http://"),
        IAC_DATA_DIR=str(root / "server"),
        IAC_DATABASE_URL=database,
        IAC_ADMIN_TOKEN=TOKEN,
        IAC_DRAIN_SECONDS="10",
    )
    # 69: the database was away when it started.
    may_end_with = frozenset({69})
    program = "tests.harness.scaled_server"
    return Program("server", program, env, root, complain=record.complain, may_end_with=may_end_with)


def _agent(root: Path, name: str, endpoint: str, *, token: str, terraform: Path, record: Record) -> Program:
    env = _environment(
        terraform,
        AGENT_TIMES,
        IAC_API_ENDPOINT=endpoint,
        IAC_AGENT_TOKEN=token,
        IAC_AGENT_NAME=named(name),
        IAC_DATA_DIR=str(root / named(name)),
        IAC_DRAIN_SECONDS="10",
    )
    return Program(name, "tests.harness.scaled_agent", env, root, complain=record.complain)


async def _pool(user: User) -> str:
    await user.insist("POST", "/agent-pools", json={"name": "soak"})
    made = await user.insist("POST", "/agent-pools/soak/tokens", json={"name": "t"})
    return str(made["token"])


async def _furnish(stage: Stage, name: str) -> None:
    user = stage.user
    (stage.things / name).mkdir()
    await user.insist("POST", "/workspaces", json={"name": name})
    configuration = files(Wish(count=2, generation=0, seconds=0), stage.things / name)
    await user.insist("PUT", f"/workspaces/{name}/configuration", json={"files": configuration})
    for key, value, category in (("CANARY", CANARY, "environment"), ("secret", SECRET_INPUT, "terraform")):
        variable = {"key": key, "value": value, "category": category, "sensitive": True}
        await user.insist("POST", f"/workspaces/{name}/variables", json=variable)
    if name not in stage.local:
        await user.insist("PUT", f"/agent-pools/soak/workspaces/{name}")
        pool = {"execution_mode": "agent", "pool_id": "soak"}
        await user.insist("PATCH", f"/workspaces/{name}", json=pool)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
