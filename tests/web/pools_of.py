"""Pools and agents as they are before a test asks for them."""

from __future__ import annotations

from typing import Any

from tests.web.clients import PLAIN, Served
from tests.web.requests_of import fresh

FILES = {"main.tf": ""}


def a_pool(api: Served, **settings: Any) -> str:
    """The name of a new pool."""
    name = fresh("pool")
    api.admin.post("/agent-pools", 201, json={"name": name, **settings})
    return name


def a_token(api: Served, pool: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = api.admin.post(f"/agent-pools/{pool}/tokens", 201, json={"name": "t", **more})
    return made


def an_agent(api: Served, pool: str, name: str = "web", *, heard_s: float = 0, approved: bool = True) -> str:
    """The id of an agent as it is after it registered and was heard."""
    agent_id = f"agent-{fresh('x').removeprefix('x-').zfill(16)}"
    pool_id = api.admin.get(f"/agent-pools/{pool}")["id"]
    api.sql(
        """INSERT INTO agent (id, pool_id, name, instance_id, secret_hash, approved, boot_id, plan_limit, last_seen_at)
           VALUES ($1, $2, $3, $1, decode('00', 'hex'), $4, 'boot', 3, now() - make_interval(secs => $5))""",
        agent_id,
        pool_id,
        name,
        approved,
        heard_s,
    )
    return agent_id


def a_served_workspace(api: Served, pool: str) -> str:
    name = api.admin.workspace(FILES, terraform_version=PLAIN)
    api.admin.put(f"/agent-pools/{pool}/workspaces/{name}")
    api.operator.patch(f"/workspaces/{name}", json={"execution_mode": "agent", "pool_id": pool})
    return name


def verbs(api: Served, subject: str) -> list[str]:
    return [entry["verb"] for entry in api.admin.get("/audit", params={"subject": subject})["items"]]
