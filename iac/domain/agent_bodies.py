"""The bodies of the agent API, shared by the routes and the remote accessor. Names are the seed's (4.3) where it has them.

Unknown fields are ignored on both sides: an older server serves a newer agent, and the other way round.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from iac.domain.limits import Limits
from iac.domain.messages import Confidential, Message, RunTaskOrder, Wanted
from iac.domain.work import (
    Bundle,
    CurrentState,
    LogDigest,
    PlanFacts,
    ResourceProgress,
    RunTask,
    SavedPlan,
    TaskData,
)

CHUNK_COMPRESSED = CHUNK_INFLATED = 8 * 1024 * 1024
"""The largest log chunk, in bytes: gzip, and inflated."""
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Register(Confidential, frozen=True, kw_only=True):
    """With a pool token. `agent_id` and `instance_secret` come from an earlier register of the same instance."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    instance_id: Annotated[str, Meta(min_length=8, max_length=64)]
    boot_id: Annotated[str, Meta(min_length=8, max_length=64)]
    pool_id: str | None = None
    version: str = ""
    protocol_versions: tuple[int, ...] = (1,)
    os: str = ""
    arch: str = ""
    capabilities: tuple[str, ...] = ()
    plan_limit: Annotated[int, Meta(ge=1, le=1000)] = 3
    agent_id: str | None = None
    instance_secret: str | None = None


class Registered(Confidential, frozen=True, kw_only=True):
    """`instance_secret` only the first time. `name` may have got a suffix, where the pool's policy is that."""

    agent_id: str
    pool_id: str
    name: str
    session_token: str
    session_expires_in_s: float
    instance_secret: str | None = None
    approved: bool = True
    server_time: str = ""


class SessionRequest(Confidential, frozen=True, kw_only=True):
    """`instance_secret` only beside a pool token, when there is no session any more to ask with."""

    boot_id: Annotated[str, Meta(min_length=8, max_length=64)]
    instance_secret: str | None = None


class Session(Confidential, frozen=True, kw_only=True):
    session_token: str
    session_expires_in_s: float


class Pending(Message, frozen=True, kw_only=True):
    """What the control channel would have said, for an agent that cannot open one."""

    tasks: tuple[RunTaskOrder, ...] = ()
    cancel: tuple[Wanted, ...] = ()


class SeedTask(Message, frozen=True, kw_only=True):
    id: int
    workspace_id: str
    action: str
    context: dict[str, Any] = msgspec.field(default_factory=dict)


class SeedWorkspace(Message, frozen=True, kw_only=True):
    workspace_id: str
    name: str
    terraform_version: str


class AssignmentFacts(Message, frozen=True, kw_only=True):
    assignment_id: str
    fence: int
    attempt: int
    timeout_s: float = 0.0
    grace_s: float | None = None
    log_max_bytes: int = 0

    @property
    def limits(self) -> Limits | None:
        """None where the server says nothing of them."""
        if self.grace_s is None:
            return None
        return Limits(timeout_s=self.timeout_s, grace_s=self.grace_s)


class DataBody(Confidential, frozen=True, kw_only=True):
    """The answer to `GET …/data` (seed 4.3.1). Inputs are frozen in `bundle`, which has the seed's resources and provider
    configuration assembled and its variables in clear; it is served once and never logged.
    """

    task: SeedTask
    workspace: SeedWorkspace
    assignment: AssignmentFacts
    bundle: Bundle
    bundle_digest: str
    archive: bytes | None = None
    state_version: CurrentState | None = None
    plan: SavedPlan | None = None
    sensitive_values: tuple[str, ...] = ()
    log_offset: int = 0

    def as_task_data(self, order: RunTask) -> TaskData:
        """What an executor works with."""
        return TaskData(
            order=order,
            bundle=self.bundle,
            bundle_digest=self.bundle_digest,
            archive=self.archive,
            state=self.state_version,
            plan=self.plan,
            sensitive_values=self.sensitive_values,
            log_max_bytes=self.assignment.log_max_bytes,
            log_offset=self.log_offset,
            limits=self.assignment.limits,
        )


class LogChunkBody(Message, frozen=True, kw_only=True):
    """`data` is base64 of one gzip member; `checksum` the sha256 of the uncompressed bytes, `length` their number."""

    offset: Annotated[int, Meta(ge=0)]
    data: str
    checksum: Sha256
    length: Annotated[int, Meta(ge=0)] | None = None
    final: bool = False


class LogChunkAnswer(Message, frozen=True, kw_only=True):
    status: Literal["ok"] = "ok"
    next_offset: int


class LogPosition(Message, frozen=True, kw_only=True):
    next_offset: int
    closed: bool


class StatusBody(Message, frozen=True, kw_only=True):
    """`running` tells the stage; the others are results and need a `result_id`."""

    status: Literal["running", "planned", "succeeded", "failed", "cancelled"]
    phase: str | None = None
    stage: str | None = None
    result_id: str | None = None
    outcome: Literal["applied"] | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    detail: str | None = None
    state_safe: bool = True
    log: LogDigest | None = None
    progress: tuple[ResourceProgress, ...] = ()


class StatusAnswer(Message, frozen=True, kw_only=True):
    status: str
    final: bool


class StateBody(Message, frozen=True, kw_only=True):
    """`state` is base64 of the gzip-compressed state file."""

    state: str
    sha256: Sha256
    serial: int | None = None
    lineage: str | None = None
    partial: bool = False


class StateAnswer(Message, frozen=True, kw_only=True):
    verdict: Literal["current", "duplicate", "quarantined", "checkpoint"]
    serial: int | None
    reason: str | None = None


class Stored(Message, frozen=True, kw_only=True):
    status: Literal["ok"] = "ok"


class PlanBody(Message, frozen=True, kw_only=True):
    """`file` and `json` are bytes (base64 on the wire); `sha256` is the file's."""

    facts: PlanFacts
    sha256: Sha256
    file: bytes
    json: bytes
    lock_hcl: bytes | None = None
    planned: tuple[ResourceProgress, ...] = ()
