"""A pool of agents on a server: the pool, its token, workspaces that run in it, and agents that have registered before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from bench.phases import new_workspace
from bench.server import Server
from iac import __version__
from iac.domain.agent_bodies import Register
from iac.domain.bodies import WorkspaceChange
from iac.domain.pool_bodies import PoolCreate, PoolTokenCreate, PoolTokenView, PoolView
from iac.executor import identity
from iac.store import pools, registering
from iac.store.database import open_database

API = "/api/v1/agent-pools"
HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Pool:
    """`token` registers agents in it."""

    id: str
    token: str


def new_pool(server: Server) -> Pool:
    pool = server.client.call("POST", API, into=PoolView, body=PoolCreate(name="bench"))
    made = server.client.call("POST", f"{API}/{pool.id}/tokens", into=PoolTokenView, body=PoolTokenCreate(name="t"))
    return Pool(pool.id, made.token or "")


def workspace_in(server: Server, pool: Pool, name: str, main: str) -> None:
    """A workspace whose tasks run in the pool."""
    new_workspace(server, name, main)
    server.client.call("PUT", f"{API}/{pool.id}/workspaces/{name}", into=msgspec.Raw)
    server.client.change_workspace(name, WorkspaceChange(execution_mode="agent", pool_id=pool.id))


def enrol(server: Server, pool: Pool, names: Sequence[str], place: Path) -> None:
    """Agents that have been there before: their rows, and the identities in their data directories, `place`/name.

    Through the store, for newcomers are let in at ten a minute; a fleet that comes back is not held up.
    """
    trio.run(_enrol, database_of(server), pool.token, names, place)


async def _enrol(url: str, secret: str, names: Sequence[str], place: Path) -> None:
    async with open_database(url, pool_size=1) as database:
        token = await database.tx(pools.authenticate_pool, secret, HERE)
        assert token is not None
        for name in names:
            own, boot = os.urandom(16).hex(), os.urandom(16).hex()
            body = Register(name=name, instance_id=own, boot_id=boot, version=__version__)
            made = await database.tx(registering.register, body, token, HERE)
            known = identity.Identity(instance_id=own, agent_id=made.agent_id, instance_secret=made.instance_secret)
            (place / name).mkdir(mode=0o700, parents=True)
            (place / name / identity.FILE).write_bytes(msgspec.json.encode(known))


def database_of(server: Server) -> str:
    """The URL of the server's embedded database, from what PostgreSQL writes down of itself."""
    _pid, _directory, _started, port, socket, *_ = (
        (server.data_dir / "postgres/postmaster.pid").read_text().splitlines()
    )
    return f"postgresql://postgres@:{port}/postgres?host={socket}"
