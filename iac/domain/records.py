"""The platform's records: frozen, made at the edge from rows and bodies, never changed in place.

Instants are timezone-aware datetimes in UTC. Byte counts are integers. Ids are text but for tasks, which are integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from iac.domain.agent_tokens import Scope
from iac.domain.ladder import StopStep

Action = Literal["plan", "apply", "plan_and_apply", "destroy", "refresh_only"]
Phase = Literal["plan", "apply"]
Status = Literal[
    "pending",
    "queued",
    "assigned",
    "running",
    "planned",
    "cancelling",
    "lost",
    "cancelled",
    "succeeded",
    "failed",
]
Outcome = Literal["applied", "planned", "planned_and_finished", "discarded"]
LockKind = Literal["user", "task"]
Category = Literal["terraform", "environment"]
Engine = Literal["terraform", "tofu"]
ExecutionMode = Literal["local", "agent"]
ConfigurationKind = Literal["archive", "files", "tf_code"]
StateVerdict = Literal["current", "superseded", "quarantined", "checkpoint"]
PoolKind = Literal["static", "k8s"]
NamePolicy = Literal["unique", "suffix"]
Exclusivity = Literal["agent", "slot"]
RevokeMode = Literal["soft", "hard"]

LOCAL = "local"
"""The runner id of the server itself."""
FINAL: frozenset[Status] = frozenset({"cancelled", "succeeded", "failed"})
APPLYING: frozenset[Action] = frozenset({"apply", "plan_and_apply", "destroy", "refresh_only"})
"""The actions that may change state: one of them at a time in a workspace, under the workspace's lock."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records."""


class Lock(Record, frozen=True, kw_only=True):
    """Who holds a workspace, and the token that releases it."""

    kind: LockKind
    owner: str
    token: str
    reason: str
    since: datetime


class Workspace(Record, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    execution_mode: ExecutionMode
    engine: Engine
    terraform_version: str
    working_directory: str
    auto_apply: bool
    provider_config: Mapping[str, Any] | None
    tags: Mapping[str, str]
    lock: Lock | None
    state_fence: int
    current_serial: int | None
    lineage: str | None
    state_uncertain: bool
    states_apart: int
    """As of the read: quarantined and not promoted."""
    configuration_id: str | None
    created_at: datetime
    updated_at: datetime
    pool_id: str | None = None
    pool_name: str | None = None
    plan_timeout_s: int | None = None
    apply_timeout_s: int | None = None
    plan_grace_s: int | None = None
    apply_grace_s: int | None = None


class Configuration(Record, frozen=True, kw_only=True):
    """One immutable version of a workspace's configuration; `digest` is over the normalised archive."""

    id: str
    workspace_id: str
    kind: ConfigurationKind
    digest: str
    size: int
    files: tuple[str, ...]
    message: str
    created_by: str
    created_at: datetime


class Variable(Record, frozen=True, kw_only=True):
    """A variable; `value` is None where it is sensitive and the reader may not see it."""

    id: str
    workspace_id: str
    key: str
    category: Category
    hcl: bool
    sensitive: bool
    value: str | None
    description: str
    version: int
    created_at: datetime
    updated_at: datetime


class Resource(Record, frozen=True, kw_only=True):
    """A resource block kept by the platform itself (the seed's `resources[]`), assembled into each task's bundle."""

    id: str
    workspace_id: str
    mode: Literal["managed", "data"]
    type: str
    name: str
    body: Mapping[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime


class Confirmation(Record, frozen=True, kw_only=True):
    """The approval of a plan: data, checked in the statement that queues the apply."""

    by: str
    at: datetime
    comment: str
    plan_digest: str


class Task(Record, frozen=True, kw_only=True):
    """One run of Terraform for a workspace; see iac.domain.lifecycle for what may happen to it."""

    id: int
    workspace_id: str
    workspace_name: str
    action: Action
    phase: Phase
    status: Status
    outcome: Outcome | None
    execution_mode: ExecutionMode
    priority: int
    auto_apply: bool
    targets: tuple[str, ...]
    replace: tuple[str, ...]
    message: str
    created_by: str
    bundle_digest: str
    terraform_version: str
    plan_task_id: int | None
    retry_of: int | None
    fence: int
    attempt: int
    assignment_id: str | None
    agent_id: str | None
    stage: str | None
    cancel_id: str | None
    cancel_reason: str | None
    cancel_force: bool
    cancel_by: str | None
    confirmation: Confirmation | None
    plan_digest: str | None
    has_changes: bool | None
    exit_code: int | None
    signal: int | None
    reason: str | None
    detail: str | None
    result_id: str | None
    state_safe: bool
    created_at: datetime
    queued_at: datetime | None
    assigned_at: datetime | None
    claimed_at: datetime | None
    started_at: datetime | None
    planned_at: datetime | None
    cancel_requested_at: datetime | None
    finished_at: datetime | None
    pool_id: str | None = None
    """The pool whose agents may run it, as the workspace said when the task was created; None: the server itself."""
    timeout_s: float | None = None
    grace_s: float | None = None
    """Those of the present phase (iac.domain.limits), since it was handed out."""
    cancel_steps: tuple[StopStep, ...] = ()
    cancel_next_at: datetime | None = None
    cancel_kill_at: datetime | None = None
    cancel_deadline_at: datetime | None = None
    cancel_overdue_at: datetime | None = None

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def takes_lock(self) -> bool:
        return self.action in APPLYING


class StateVersion(Record, frozen=True, kw_only=True):
    """One stored state: raw bytes are kept elsewhere, sealed; `serial` and `lineage` are those inside them.

    `partial`: sent while its apply still ran. `promotion_of`: the version apart that this one was made from; that one has
    `promoted_at`.
    """

    id: str
    workspace_id: str
    serial: int
    lineage: str
    sha256: str
    size: int
    verdict: StateVerdict
    reason: str | None
    task_id: int | None
    fence: int | None
    partial: bool
    rollback_of: int | None
    promotion_of: str | None
    promoted_at: datetime | None
    terraform_version: str
    resource_count: int
    created_by: str
    created_at: datetime


LogState = Literal["open", "complete", "incomplete", "diverged"]


class LogStream(Record, frozen=True, kw_only=True):
    """The log of one assignment. `length` counts masked bytes that are stored for good, `persisted` those in the database.

    `sha256` is what its sender said of the whole. `verified` is unknown until it has ended and was read back. The bytes of
    one that is `expired_at` some time are deleted.
    """

    task_id: int
    fence: int
    phase: Phase
    length: int
    state: LogState
    sha256: str | None
    truncated_bytes: int
    created_at: datetime
    persisted: int
    verified: bool | None
    closed_at: datetime | None
    expired_at: datetime | None


class ApiToken(Record, frozen=True, kw_only=True):
    id: str
    name: str
    role: Literal["viewer", "operator", "admin"]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class Pool(Record, frozen=True, kw_only=True):
    """Agents that may stand in for each other. The three counts are as of the read."""

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


class PoolToken(Record, frozen=True, kw_only=True):
    """What registers agents in its pool. `replaced_by` is the token that it was rotated to."""

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


class Allowance(Record, frozen=True, kw_only=True):
    """A pool's consent to serve a workspace; `in_use` when the workspace points at the pool as well."""

    pool_id: str
    workspace_id: str
    workspace_name: str
    in_use: bool
    allowed_by: str
    allowed_at: datetime


class PoolDemand(Record, frozen=True, kw_only=True):
    """What a pool has to do and who is there for it. Slots are those of agents that are online and take new tasks."""

    waiting_plans: int
    waiting_applies: int
    oldest_waiting_since: datetime | None
    running_plans: int
    running_applies: int
    agents_online: int
    plan_slots: int


class AgentRecord(Record, frozen=True, kw_only=True):
    """An agent as of the read: `online` is derived from when it was last heard."""

    id: str
    pool_id: str
    pool_name: str
    apply_exclusivity: Exclusivity
    pool_token_id: str | None
    token_revoked: RevokeMode | None
    name: str
    approved: bool
    boot_id: str
    conn_epoch: int
    version: str
    os: str
    arch: str
    capabilities: tuple[str, ...]
    plan_limit: int
    draining: bool
    online: bool
    cpu_usage: float | None
    mem_usage: float | None
    disk_free: int | None
    ip: str | None
    registered_at: datetime
    last_seen_at: datetime | None
    retired_at: datetime | None
    clock_ahead_s: float | None = None
    """How far its clock was ahead of the platform's when it connected, in seconds; nothing is decided by it."""

    @property
    def takes_tasks(self) -> bool:
        """Whether it may be given anything new, wherever it is connected."""
        return self.approved and not self.draining and self.retired_at is None and self.token_revoked is None


class AssignmentRecord(Record, frozen=True, kw_only=True):
    """One hand-out of a task. `scope` is what its token is good for now, by the task's row as well as by its own."""

    assignment_id: str
    task_id: int
    workspace_id: str
    fence: int
    agent_id: str
    pool_id: str | None
    phase: Phase
    attempt: int
    scope: Scope
    task_status: Status
    current: bool
    boot_id: str | None
    reads: int
    first_read_at: datetime | None
    created_at: datetime
    accepted_at: datetime | None
    ended_at: datetime | None


class AuditEntry(Record, frozen=True, kw_only=True):
    id: int
    at: datetime
    actor: str
    verb: str
    subject: str
    facts: Mapping[str, Any]
