"""The bodies of the user API for pools and agents: inputs refuse what they do not know, views never hold a secret."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from iac.domain.bodies import Input, Name, Text, View
from iac.domain.records import Exclusivity, NamePolicy, PoolKind, RevokeMode

Networks = Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=50)]
MaxAgents = Annotated[int, Meta(ge=1, le=1_000_000)]
Lifetime = Annotated[int, Meta(ge=60, le=10 * 365 * 86400)]
Overlap = Annotated[int, Meta(ge=0, le=30 * 86400)]
AgentStatus = Literal["online", "offline", "draining", "pending_approval", "revoked", "retired"]


class PoolCreate(Input, frozen=True, kw_only=True):
    """A pool of agents. Static pools refuse a second agent of the same name, k8s pools give it a suffix."""

    name: Name
    kind: PoolKind = "static"
    description: Text = ""
    require_approval: bool = False
    name_policy: NamePolicy | None = None
    """None: `unique` for static pools, `suffix` for k8s pools."""
    apply_exclusivity: Exclusivity = "agent"
    """`agent`: an apply has its agent for itself. `slot`: it runs beside the agent's plans."""
    networks: Networks = ()
    """From where agents may register, as 10.0.0.0/8; empty: from everywhere."""
    max_agents: MaxAgents | None = None
    """How many agents may be there at once; None: any number."""


class PoolChange(Input, frozen=True, kw_only=True):
    """Only what is there is changed. What is asked of new agents does not touch those that are there."""

    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    require_approval: bool | UnsetType = UNSET
    name_policy: NamePolicy | UnsetType = UNSET
    apply_exclusivity: Exclusivity | UnsetType = UNSET
    networks: Networks | UnsetType = UNSET
    max_agents: MaxAgents | UnsetType | None = UNSET


class PoolView(View, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    kind: PoolKind
    require_approval: bool
    name_policy: NamePolicy
    apply_exclusivity: Exclusivity
    networks: tuple[str, ...]
    max_agents: int | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    agents: int
    agents_online: int
    workspaces: int
    """How many workspaces point at the pool."""


class PoolPage(View, frozen=True, kw_only=True):
    items: list[PoolView]
    next_cursor: str | None


class PoolTokenCreate(Input, frozen=True, kw_only=True):
    name: Name
    expires_in_s: Lifetime | None = None


class PoolTokenRotate(Input, frozen=True, kw_only=True):
    overlap_s: Overlap = 3600
    """How long the old token still registers agents."""
    expires_in_s: Lifetime | None = None
    """None: as long as the old one was made for."""


class PoolTokenView(View, frozen=True, kw_only=True):
    id: str
    pool_id: str
    name: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    revoke_mode: RevokeMode | None
    replaced_by: str | None
    last_used_at: datetime | None
    last_ip: str | None
    token: str | None = None
    """Only in the answer that created it."""

    def __repr__(self) -> str:
        return f"PoolTokenView(id={self.id!r}, pool_id={self.pool_id!r}, name={self.name!r})"


class PoolTokenList(View, frozen=True, kw_only=True):
    items: list[PoolTokenView]


class AllowanceView(View, frozen=True, kw_only=True):
    """The pool may serve the workspace. It does when the workspace points at the pool too: `in_use`."""

    workspace_id: str
    workspace_name: str
    in_use: bool
    allowed_by: str
    allowed_at: datetime


class AllowancePage(View, frozen=True, kw_only=True):
    items: list[AllowanceView]
    next_cursor: str | None


class DemandView(View, frozen=True, kw_only=True):
    """For whoever scales the pool. Slots are those of agents that are online and take new tasks."""

    waiting_plans: int
    waiting_applies: int
    oldest_waiting_since: datetime | None
    running_plans: int
    running_applies: int
    agents_online: int
    plan_slots: int


class AgentView(View, frozen=True, kw_only=True):
    id: str
    pool_id: str
    pool_name: str
    name: str
    status: AgentStatus
    online: bool
    approved: bool
    draining: bool
    version: str
    os: str
    arch: str
    capabilities: tuple[str, ...]
    plan_limit: int
    current_tasks: tuple[int, ...]
    current_applies: tuple[int, ...]
    """Those of them that apply."""
    cpu_usage: float | None
    mem_usage: float | None
    disk_free: int | None
    ip: str | None
    registered_at: datetime
    last_seen_at: datetime | None
    retired_at: datetime | None
    clock_ahead_s: float | None
    """How far its clock was ahead of the platform's when it connected (negative: behind); nothing is decided by it."""


class AgentPage(View, frozen=True, kw_only=True):
    items: list[AgentView]
    next_cursor: str | None


class ReasonRequest(Input, frozen=True, kw_only=True):
    reason: Text = ""
