"""A platform with much going on, put into the database at once: workspaces, tasks of every status, pools, agents.

What is pending or queued is for agents that are not there, so that nothing moves by itself while it is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

PLACES = ("payments", "checkout", "search", "identity", "media", "ledger", "edge", "reports", "mail", "maps")
STAGES = ("dev", "staging", "prod")
WAITING = ("edge-staging", "reports-staging", "maps-staging")
"""Workspaces of a pool that has no agents."""
ONLINE = -3600
"""Seconds since such an agent was heard: it stays there however long a test takes."""
_TASK = """INSERT INTO task (workspace_id, action, phase, status, outcome, execution_mode, auto_apply, message, created_by,
    bundle_digest, bundle, terraform_version, agent_id, pool_id, stage, reason, detail, exit_code, has_changes, created_at,
    queued_at, started_at, planned_at, finished_at, fence)
    VALUES ($1, $2, $3, $4, $5, $6, false, $7, $8, 'd', '', '1.11.4', $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
    $20, nextval('fence')) RETURNING id"""


@dataclass(frozen=True)
class Scenery:
    """Ids of what a test wants to find again, by what they are."""

    workspaces: dict[str, str]
    tasks: dict[str, int]


async def furnish(url: str, *, workspaces: int = 30, finished: int = 160) -> Scenery:
    """`workspaces` at least as many as there are special ones (12)."""
    c = await asyncpg.connect(url)
    try:
        async with c.transaction():
            return await _Painter(c, datetime.now(UTC)).paint(workspaces, finished)
    finally:
        await c.close()


class _Painter:
    def __init__(self, c: Any, now: datetime) -> None:
        self.c, self.now = c, now
        self.ids: dict[str, str] = {}
        self.tasks: dict[str, int] = {}

    async def paint(self, workspaces: int, finished: int) -> Scenery:
        await self._pools()
        names = [f"{place}-{stage}" for stage in STAGES for place in PLACES]
        names += [f"tenant-{n:04}" for n in range(max(0, workspaces - len(names)))]
        await self._workspaces(names[:workspaces])
        await self.c.execute(
            """INSERT INTO pool_workspace (pool_id, workspace_id, allowed_by)
               SELECT pool_id, id, 'admin' FROM workspace WHERE pool_id IS NOT NULL"""
        )
        await self._history(names[:workspaces], finished)
        await self._present()
        return Scenery(self.ids, self.tasks)

    async def _pools(self) -> None:
        for pool, kind, description in (
            ("eu-west", "static", "Hosts in Dublin"),
            ("cluster", "k8s", "Pods"),
            ("edge", "static", "Behind the firewall"),
        ):
            await self.c.execute(
                """INSERT INTO agent_pool (id, name, description, kind, name_policy, require_approval, created_by)
                   VALUES ($1, $2, $3, $4, 'unique', true, 'admin')""",
                f"pool-{pool}",
                pool,
                description,
                kind,
            )
        for name, pool, seen, approved, draining, cpu, memory in (
            ("dub-01", "eu-west", ONLINE, True, False, 0.62, 0.48),
            ("dub-02", "eu-west", ONLINE, True, False, 0.07, 0.31),
            ("dub-03", "eu-west", 1900, True, False, 0.22, 0.4),
            ("pod-7f9c", "cluster", ONLINE, True, False, 0.37, 0.52),
            ("pod-b21e", "cluster", ONLINE, True, True, 0.11, 0.44),
            ("pod-new", "cluster", ONLINE, False, False, 0.03, 0.12),
        ):
            await self.c.execute(
                """INSERT INTO agent (id, pool_id, name, instance_id, secret_hash, approved, boot_id, plan_limit, draining,
                   cpu_usage, mem_usage, last_seen_at, registered_at)
                   VALUES ($1, $2, $3, $1, '', $4, 'b', 3, $5, $8, $9, $6, $7)""",
                f"agent-{name}",
                f"pool-{pool}",
                name,
                approved,
                draining,
                self.now - timedelta(seconds=seen),
                self.now - timedelta(minutes=42),
                cpu,
                memory,
            )

    async def _workspaces(self, names: Sequence[str]) -> None:
        for at, name in enumerate(names):
            place, _, stage = name.rpartition("-")
            mode, pool = ("agent", ("eu-west", "cluster")[at % 2]) if at % 3 else ("local", None)
            if name in WAITING:
                mode, pool = "agent", "edge"
            tags = {"env": stage, "team": place} if stage in STAGES else {"tenant": stage}
            self.ids[name] = f"ws-{at:016}"
            await self.c.execute(
                """INSERT INTO workspace (id, name, description, execution_mode, pool_id, tags, updated_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7)""",
                self.ids[name],
                name,
                f"{place.capitalize()} for {stage}" if at % 4 else "",
                mode,
                pool and f"pool-{pool}",
                json.dumps(tags),
                self.now - timedelta(days=at),
            )
            if at % 5:
                await self.c.execute(
                    """INSERT INTO state_version (id, workspace_id, serial, lineage, sha256, size, verdict,
                       terraform_version, resource_count, data, created_by)
                       VALUES ($1, $2, 7, 'l', 's', 1, 'current', '1.11.4', $3, '', 'admin')""",
                    f"sv-{at:016}",
                    self.ids[name],
                    (at * 37) % 412,
                )

    async def _history(self, names: Sequence[str], finished: int) -> None:
        ends = (("succeeded", "applied"), ("succeeded", "planned_and_finished"), ("failed", None), ("cancelled", None))
        for n in range(finished):
            status, outcome = ends[0 if n % 7 else 1] if n % 11 else ends[2 + n % 2]
            at = self.now - timedelta(minutes=9 * (finished - n) + 30)
            name = names[(n * 11) % (len(names) - 2)]  # two are never run
            await self.task(
                name, "plan_and_apply", status, phase="apply", outcome=outcome, at=at, by=("anna", "ci")[n % 2]
            )

    async def _present(self) -> None:
        """What is going on now; each is found again by its key."""
        minutes = self.minutes
        self.tasks["planned"] = await self.task(
            "payments-prod", "plan_and_apply", "planned", message="Bigger nodes for the sale", planned=minutes(12)
        )
        await self._plan(self.tasks["planned"], add=3, change=1, destroy=0)
        self.tasks["danger"] = await self.task("media-staging", "destroy", "planned", by="ci", planned=minutes(48))
        await self._plan(self.tasks["danger"], add=0, change=0, destroy=27)
        self.tasks["lost"] = await self.task(
            "ledger-prod", "plan_and_apply", "lost", phase="apply", agent="dub-03", started=minutes(35),
            detail="Agent dub-03 was silent for 2 minutes; whether its apply came to an end is not known.",
        )  # fmt: skip
        self.tasks["failed"] = await self.task(
            "search-prod", "plan_and_apply", "failed", phase="apply", exit_code=1, at=minutes(4), reason="terraform_failed",
            detail="Error: creating S3 bucket (search-index): BucketAlreadyExists",
        )  # fmt: skip
        self.tasks["applying"] = await self.task(
            "checkout-prod",
            "plan_and_apply",
            "running",
            phase="apply",
            agent="dub-01",
            stage="applying",
            started=minutes(3),
        )
        for n in range(12):
            status = "complete" if n < 5 else "started" if n == 5 else "pending"
            await self.c.execute(
                "INSERT INTO resource_progress (task_id, address, action, status) VALUES ($1, $2, 'create', $3)",
                self.tasks["applying"],
                f"aws_instance.node[{n}]",
                status,
            )
        self.tasks["planning"] = await self.task(
            "identity-staging", "plan", "running", agent="pod-7f9c", stage="init", by="ci", started=minutes(0.4)
        )
        for n, name in enumerate(WAITING):
            key = f"queued-{n}"
            self.tasks[key] = await self.task(
                name, "plan", "queued", by=("ci", "anna")[n % 2], pool="edge", queued=minutes(9 - n)
            )
        self.tasks["pending"] = await self.task("payments-prod", "plan_and_apply", "pending", by="ci", at=minutes(6))
        await self.c.execute(
            """UPDATE workspace SET lock_kind = 'task', lock_owner = $2, lock_token = 't', lock_reason = 'its plan waits',
               locked_at = now() WHERE id = $1""",
            self.ids["payments-prod"],
            str(self.tasks["planned"]),
        )
        await self.c.execute(
            """UPDATE workspace SET lock_kind = 'user', lock_owner = 'anna', lock_token = 't',
               lock_reason = 'migration until 18:00', locked_at = now() WHERE id = $1""",
            self.ids["mail-prod"],
        )

    def minutes(self, number: float) -> datetime:
        return self.now - timedelta(minutes=number)

    async def _plan(self, task: int, **summary: int) -> None:
        await self.c.execute(
            """INSERT INTO plan (task_id, digest, bundle_digest, terraform_version, has_changes, summary, file, json)
               VALUES ($1, 'd', 'd', '1.11.4', true, $2, '', '')""",
            task,
            json.dumps(summary),
        )

    async def task(
        self, name: str, action: str, status: str, *, phase: str = "plan", outcome: str | None = None, by: str = "anna",
        message: str = "", agent: str | None = None, pool: str | None = None, stage: str | None = None,
        reason: str | None = None, detail: str | None = None, exit_code: int | None = None, at: datetime | None = None,
        queued: datetime | None = None, started: datetime | None = None, planned: datetime | None = None,
    ) -> int:  # fmt: skip
        over = status in ("succeeded", "failed", "cancelled")
        first = at or queued or started or planned or self.now
        by_agents = agent is not None or pool is not None
        its_pool = pool or ("cluster" if "pod" in str(agent) else "eu-west")
        values = (
            self.ids[name], action, phase, status, outcome, "agent" if by_agents else "local", message, by,
            agent and f"agent-{agent}", f"pool-{its_pool}" if by_agents else None, stage, reason, detail, exit_code,
            status == "planned", first, queued or first, started, planned, first if over else None,
        )  # fmt: skip
        return int(await self.c.fetchval(_TASK, *values))
