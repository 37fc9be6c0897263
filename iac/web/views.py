"""Records as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import UTC, datetime
from typing import Any

import msgspec

from iac.domain import access_bodies, bodies, pool_bodies
from iac.domain.cancel_bodies import cancel_view
from iac.domain.records import (
    AgentRecord,
    Allowance,
    AuditEntry,
    Configuration,
    Phase,
    Pool,
    PoolDemand,
    PoolToken,
    Resource,
    RevokeMode,
    StateVersion,
    Task,
    Variable,
    Workspace,
)
from iac.domain.scheduling import Wait
from iac.domain.work import PlanFacts

HARD: RevokeMode = "hard"


def workspace(record: Workspace, *, with_token: bool = False) -> bodies.WorkspaceView:
    lock = record.lock
    shown = None
    if lock is not None:
        token = lock.token if with_token else None
        shown = bodies.LockView(kind=lock.kind, owner=lock.owner, reason=lock.reason, since=lock.since, token=token)
    return bodies.WorkspaceView(
        lock=shown,
        state_serial=record.current_serial,
        state_lineage=record.lineage,
        **_same(record, bodies.WorkspaceView, without={"lock", "state_serial", "state_lineage"}),
    )


def configuration(record: Configuration, left_out: tuple[str, ...] = ()) -> bodies.ConfigurationView:
    return bodies.ConfigurationView(left_out=left_out, **_same(record, bodies.ConfigurationView, without={"left_out"}))


def variable(record: Variable) -> bodies.VariableView:
    return bodies.VariableView(**_same(record, bodies.VariableView))


def resource(record: Resource) -> bodies.ResourceView:
    return bodies.ResourceView(**_same(record, bodies.ResourceView))


def state_version(record: StateVersion) -> bodies.StateVersionView:
    return bodies.StateVersionView(**_same(record, bodies.StateVersionView))


def audit_entry(record: AuditEntry) -> access_bodies.AuditView:
    return access_bodies.AuditView(**_same(record, access_bodies.AuditView))


def task(
    record: Task, plan: PlanFacts | None, wait: Wait | None, names: Mapping[str, str], *, force_after_s: float
) -> bodies.TaskView:
    """`names` are those of the pool and the agent, by id."""
    shown_plan = None
    if plan is not None:
        shown_plan = bodies.PlanView(
            digest=plan.digest,
            has_changes=plan.has_changes,
            serial=plan.serial,
            terraform_version=plan.terraform_version,
            summary=plan.summary,
        )
    return bodies.TaskView(
        plan=shown_plan,
        wait=None if wait is None else bodies.WaitView(**msgspec.structs.asdict(wait)),
        cancel=cancel_view(record, now=datetime.now(UTC), force_after_s=force_after_s),
        pool_name=names.get(record.pool_id or ""),
        agent_name=names.get(record.agent_id or ""),
        **_same(record, bodies.TaskView, without={"plan", "wait", "cancel", "pool_name", "agent_name"}),
    )


def pool(record: Pool) -> pool_bodies.PoolView:
    return pool_bodies.PoolView(**_same(record, pool_bodies.PoolView))


def pool_token(record: PoolToken, token: str | None = None) -> pool_bodies.PoolTokenView:
    return pool_bodies.PoolTokenView(token=token, **_same(record, pool_bodies.PoolTokenView, without={"token"}))


def allowance(record: Allowance) -> pool_bodies.AllowanceView:
    return pool_bodies.AllowanceView(**_same(record, pool_bodies.AllowanceView))


def demand(record: PoolDemand) -> pool_bodies.DemandView:
    return pool_bodies.DemandView(**_same(record, pool_bodies.DemandView))


def agent(record: AgentRecord, running: Mapping[int, Phase], *, leaving: bool = False) -> pool_bodies.AgentView:
    """`running`: what it has to do, by task. `leaving`: it said itself that it takes nothing new."""
    return pool_bodies.AgentView(
        status=_status(record, leaving),
        current_tasks=tuple(running),
        current_applies=tuple(task for task, phase in running.items() if phase == "apply"),
        **_same(record, pool_bodies.AgentView, without={"status", "current_tasks", "current_applies"}),
    )


def _status(record: AgentRecord, leaving: bool) -> pool_bodies.AgentStatus:
    """One word for a list: what stands most in the way of giving it a task."""
    if record.retired_at is not None:
        return "retired"
    if record.token_revoked == HARD:
        return "revoked"
    if not record.approved:
        return "pending_approval"
    if not record.online:
        return "offline"
    return "online" if record.takes_tasks and not leaving else "draining"


def _same(record: msgspec.Struct, view: type[msgspec.Struct], without: Set[str] = frozenset()) -> dict[str, Any]:
    """The fields that record and view have in common; a view without its field is a bug that mypy cannot see."""
    return {name: getattr(record, name) for name in view.__struct_fields__ if name not in without}
