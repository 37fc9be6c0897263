"""The bodies of the user API: inputs refuse what they do not know, views never hold a secret.

Server, command line and API description are all made from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from iac.domain.cancel_bodies import CancelView
from iac.domain.limits import LONGEST_GRACE, LONGEST_TIMEOUT
from iac.domain.records import (
    Action,
    Category,
    ConfigurationKind,
    Confirmation,
    Engine,
    ExecutionMode,
    LockKind,
    Outcome,
    Phase,
    StateVerdict,
    Status,
)
from iac.domain.work import ResourceProgress

Name = Annotated[str, Meta(min_length=1, max_length=90, description="Letters, digits, blanks, `.`, `_` and `-`.")]
Text = Annotated[str, Meta(max_length=1000)]
Addresses = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(max_length=200)]
Tags = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=60)], Annotated[str, Meta(max_length=200)]], Meta(max_length=50)
]
Limit = Annotated[int, Meta(ge=1, le=200)]
"""How many items a page may have."""
PoolRef = Annotated[str, Meta(min_length=1, max_length=90, description="A pool of agents, by id or name.")]
Timeout = Annotated[int, Meta(ge=1, le=LONGEST_TIMEOUT, description="Seconds; null: the server's default.")]
Grace = Annotated[int, Meta(ge=1, le=LONGEST_GRACE, description="Seconds; null: the server's default.")]
Role = Literal["viewer", "operator", "admin"]


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what users send."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what users get."""


class WorkspaceCreate(Input, frozen=True, kw_only=True):
    name: Name
    description: Text = ""
    execution_mode: ExecutionMode = "local"
    engine: Engine = "terraform"
    terraform_version: Annotated[str, Meta(max_length=100)] = "latest"
    working_directory: Annotated[str, Meta(max_length=400)] = ""
    auto_apply: bool = False
    provider_config: dict[str, Any] | None = None
    tags: Tags = {}
    pool_id: PoolRef | None = None
    plan_timeout_s: Timeout | None = None
    apply_timeout_s: Timeout | None = None
    plan_grace_s: Grace | None = None
    apply_grace_s: Grace | None = None


class WorkspaceChange(Input, frozen=True, kw_only=True):
    """Only what is there is changed."""

    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    execution_mode: ExecutionMode | UnsetType = UNSET
    engine: Engine | UnsetType = UNSET
    terraform_version: Annotated[str, Meta(max_length=100)] | UnsetType = UNSET
    working_directory: Annotated[str, Meta(max_length=400)] | UnsetType = UNSET
    auto_apply: bool | UnsetType = UNSET
    provider_config: dict[str, Any] | UnsetType | None = UNSET
    tags: Tags | UnsetType = UNSET
    pool_id: PoolRef | UnsetType | None = UNSET
    plan_timeout_s: Timeout | UnsetType | None = UNSET
    apply_timeout_s: Timeout | UnsetType | None = UNSET
    plan_grace_s: Grace | UnsetType | None = UNSET
    apply_grace_s: Grace | UnsetType | None = UNSET


class LockView(View, frozen=True, kw_only=True):
    kind: LockKind
    owner: str
    reason: str
    since: datetime
    token: str | None = None
    """Only in the answer to the one who locked."""


class WorkspaceView(View, frozen=True, kw_only=True):
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
    lock: LockView | None
    state_serial: int | None
    state_lineage: str | None
    state_uncertain: bool
    states_apart: int
    """How many states are quarantined and not promoted: somebody should look at them."""
    configuration_id: str | None
    created_at: datetime
    updated_at: datetime
    pool_id: str | None = None
    pool_name: str | None = None
    plan_timeout_s: int | None = None
    apply_timeout_s: int | None = None
    plan_grace_s: int | None = None
    apply_grace_s: int | None = None
    """How long a phase may take, and Terraform to stop; None: as the server says."""


class WorkspacePage(View, frozen=True, kw_only=True):
    items: list[WorkspaceView]
    next_cursor: str | None


class LockRequest(Input, frozen=True, kw_only=True):
    reason: Text = ""


class UnlockRequest(Input, frozen=True, kw_only=True):
    token: str | None = None
    force: bool = False
    """Releases anybody's lock; needs a right of its own and is audited."""


class ConfigurationInput(Input, frozen=True, kw_only=True):
    """Exactly one of the two: the seed's `tf_code` (Terraform JSON), or files by relative path."""

    tf_code: dict[str, Any] | None = None
    files: dict[str, str] | None = None
    message: Text = ""


class ConfigurationView(View, frozen=True, kw_only=True):
    id: str
    workspace_id: str
    kind: ConfigurationKind
    digest: str
    size: int
    files: tuple[str, ...]
    message: str
    created_by: str
    created_at: datetime
    left_out: tuple[str, ...] = ()
    """Members of an uploaded archive that were not kept (state files, `.terraform/`)."""


class ConfigurationPage(View, frozen=True, kw_only=True):
    items: list[ConfigurationView]
    next_cursor: str | None


class VariableCreate(Input, frozen=True, kw_only=True):
    key: Annotated[str, Meta(min_length=1, max_length=128)]
    value: str
    category: Category = "terraform"
    hcl: bool = False
    sensitive: bool = False
    description: Text = ""


class VariableChange(Input, frozen=True, kw_only=True):
    value: str | None = None
    hcl: bool | None = None
    sensitive: bool | None = None
    description: Text | None = None
    version: int | None = None
    """The version that was read: the change is refused if somebody was faster."""


class VariableView(View, frozen=True, kw_only=True):
    id: str
    key: str
    value: str | None
    """None where it is sensitive: such a value can be set, and never read."""
    category: Category
    hcl: bool
    sensitive: bool
    description: str
    version: int
    created_at: datetime
    updated_at: datetime


class VariableList(View, frozen=True, kw_only=True):
    items: list[VariableView]


class ResourceCreate(Input, frozen=True, kw_only=True):
    type: Annotated[str, Meta(min_length=1, max_length=128)]
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    body: dict[str, Any]
    mode: Literal["managed", "data"] = "managed"


class ResourceUpdate(Input, frozen=True, kw_only=True):
    body: dict[str, Any]
    version: int | None = None


class ResourceView(View, frozen=True, kw_only=True):
    id: str
    mode: Literal["managed", "data"]
    type: str
    name: str
    body: Mapping[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime


class ResourceList(View, frozen=True, kw_only=True):
    items: list[ResourceView]


class TaskCreate(Input, frozen=True, kw_only=True):
    action: Action
    targets: Addresses = ()
    replace: Addresses = ()
    priority: Annotated[int, Meta(ge=-10, le=10)] = 0
    auto_apply: bool | None = None
    """None: as the workspace says. `apply` without `plan_task_id` does not ask either way."""
    message: Text = ""
    plan_task_id: int | None = None
    """For `apply`: the finished plan task whose plan to apply."""


class WaitView(View, frozen=True, kw_only=True):
    """Why the task does not run right now. `actions` are what a human may do about it: confirm, discard, resolve, unlock."""

    code: str
    message: str
    position: int | None = None
    actions: tuple[str, ...] = ()


class PlanView(View, frozen=True, kw_only=True):
    digest: str
    has_changes: bool
    serial: int | None
    terraform_version: str
    summary: Mapping[str, Any]


class TaskView(View, frozen=True, kw_only=True):
    id: int
    workspace_id: str
    workspace_name: str
    action: Action
    phase: Phase
    status: Status
    outcome: Outcome | None
    stage: str | None
    reason: str | None
    detail: str | None
    wait: WaitView | None
    message: str
    priority: int
    auto_apply: bool
    targets: tuple[str, ...]
    replace: tuple[str, ...]
    created_by: str
    execution_mode: ExecutionMode
    pool_id: str | None
    pool_name: str | None
    agent_id: str | None
    """`local`: the server itself."""
    agent_name: str | None
    attempt: int
    bundle_digest: str
    plan_task_id: int | None
    retry_of: int | None
    plan: PlanView | None
    confirmation: Confirmation | None
    cancel: CancelView | None
    timeout_s: float | None
    grace_s: float | None
    """How long the present phase may take, and Terraform to stop."""
    exit_code: int | None
    signal: int | None
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    planned_at: datetime | None
    finished_at: datetime | None


class TaskPage(View, frozen=True, kw_only=True):
    items: list[TaskView]
    next_cursor: str | None
    counts: dict[str, int]
    """How many tasks there are of each status under the same filter."""


class CancelRequest(Input, frozen=True, kw_only=True):
    force: bool = False
    """Do not wait any longer for what Terraform is doing: only after a cancel, 10 s later, and once. Its state may then be
    incomplete."""
    confirm: bool = False
    """To force an apply, say that you know that."""


class ConfirmRequest(Input, frozen=True, kw_only=True):
    comment: Text = ""
    plan_digest: str | None = None
    """The digest of the plan that was looked at; None confirms whichever plan is there."""


class CommentRequest(Input, frozen=True, kw_only=True):
    comment: Text = ""


class ChangeView(View, frozen=True, kw_only=True):
    """A resource of a plan, sensitive values masked, and how far its apply is."""

    address: str
    action: str
    change: Any
    progress: ResourceProgress | None


class ChangeList(View, frozen=True, kw_only=True):
    items: list[ChangeView]


class StateVersionView(View, frozen=True, kw_only=True):
    id: str
    serial: int
    lineage: str
    sha256: str
    size: int
    verdict: StateVerdict
    reason: str | None
    task_id: int | None
    partial: bool
    """Sent while its apply still ran."""
    rollback_of: int | None
    promotion_of: str | None
    """The version apart that this one was made from."""
    promoted_at: datetime | None
    terraform_version: str
    resource_count: int
    created_by: str
    created_at: datetime


class StateVersionPage(View, frozen=True, kw_only=True):
    items: list[StateVersionView]
    next_cursor: str | None


class OutputView(View, frozen=True, kw_only=True):
    name: str
    value: Any
    """None where it is sensitive; the state itself has it."""
    type: Any
    sensitive: bool


class OutputList(View, frozen=True, kw_only=True):
    items: list[OutputView]
    state_serial: int | None


class ErrorBody(View, frozen=True, kw_only=True):
    """What went wrong: `code` for programs, `message` for people. More fields may stand beside them."""

    code: str
    message: str
    retryable: bool


class ErrorView(View, frozen=True, kw_only=True):
    error: ErrorBody
