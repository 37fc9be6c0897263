"""What passes between the platform and an executor: the order, the task's data, plan, state, result.

The field names of `RunTask` and `TaskData` are those of the seed (3.3, 4.3.1); the same structs are the wire bodies of
a remote agent and the arguments of the local one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from iac.domain.limits import Limits
from iac.domain.records import Action, Engine, Outcome, Phase

BUNDLE_SCHEMA = 1
"""The version of the bundle's own form; a reader refuses what it does not know."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that is sent."""


class RunTask(Body, frozen=True, kw_only=True):
    """An order to run one phase of a task. `fence` names this assignment; a later one has a higher fence."""

    task_id: int
    workspace_id: str
    action: Phase
    assignment_id: str
    fence: int
    attempt: int


class BundleVariable(Body, frozen=True, kw_only=True):
    """A variable frozen into a bundle, in clear: a bundle is sealed at rest and never logged."""

    key: str
    value: str
    category: Literal["terraform", "environment"]
    hcl: bool
    sensitive: bool


class Bundle(Body, frozen=True, kw_only=True):
    """Everything a task runs from, frozen when the task was created. Later edits do not leak in."""

    schema: int
    workspace_id: str
    workspace_name: str
    action: Action
    engine: Engine
    terraform_version: str
    working_directory: str
    configuration_digest: str | None
    generated: Mapping[str, bytes]
    variables: tuple[BundleVariable, ...]
    targets: tuple[str, ...]
    replace: tuple[str, ...]
    lock_hcl: bytes | None
    created_at: str


class PlanFacts(Body, frozen=True, kw_only=True):
    """What a plan is bound to and what it says."""

    digest: str
    bundle_digest: str
    serial: int | None
    lineage: str | None
    terraform_version: str
    has_changes: bool
    summary: Mapping[str, Any]


class SavedPlan(Body, frozen=True, kw_only=True):
    """A plan as its executor stores it: the file, its JSON and the dependency lock it was made with."""

    facts: PlanFacts
    file: bytes
    json: bytes
    lock_hcl: bytes | None


class CurrentState(Body, frozen=True, kw_only=True):
    """The workspace's state as of now."""

    data: bytes
    sha256: str
    serial: int
    lineage: str


class TaskData(Body, frozen=True, kw_only=True):
    """The answer to a claim: all that one phase needs (seed 4.3.1)."""

    order: RunTask
    bundle: Bundle
    bundle_digest: str
    archive: bytes | None
    state: CurrentState | None
    plan: SavedPlan | None
    sensitive_values: tuple[str, ...]
    log_max_bytes: int
    log_offset: int = 0
    limits: Limits | None = None
    """None: no time limit, and the executor's own grace."""


class StatePush(Body, frozen=True, kw_only=True):
    """A state on its way to the store: raw bytes, and whether they are only a checkpoint."""

    data: bytes
    sha256: str
    partial: bool = False


class StateReceipt(Body, frozen=True, kw_only=True):
    """What became of a pushed state."""

    verdict: Literal["current", "duplicate", "quarantined", "checkpoint"]
    serial: int | None
    reason: str | None = None


class LogDigest(Body, frozen=True, kw_only=True):
    """What the executor says the whole log of its assignment is. While it is `pending`, some of it has still to come."""

    length: int
    sha256: str
    truncated_bytes: int = 0
    state: Literal["whole", "pending"] = "whole"


ResultStatus = Literal["planned", "succeeded", "failed", "cancelled"]


class Result(Body, frozen=True, kw_only=True):
    """How a phase ended. The same `result_id` again is the same result again."""

    result_id: str
    status: ResultStatus
    outcome: Outcome | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    detail: str | None = None
    state_safe: bool = True
    log: LogDigest | None = None


class ResourceProgress(Body, frozen=True, kw_only=True):
    """How far one resource of an apply is."""

    address: str
    action: str
    status: Literal["pending", "started", "complete", "errored"]
    elapsed_s: float = 0.0
