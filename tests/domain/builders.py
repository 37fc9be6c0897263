"""Records with defaults, so that a test names only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from iac.domain.records import Lock, Resource, Task, Workspace
from iac.domain.work import Result

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)

_NOTHING: dict[str, Any] = dict.fromkeys(field for field in Task.__struct_fields__)


def a_task(**facts: object) -> Task:
    """A pending plan_and_apply of workspace `ws-a`, unless `facts` say otherwise."""
    usual: dict[str, Any] = {
        "id": 1,
        "workspace_id": "ws-a",
        "workspace_name": "a",
        "action": "plan_and_apply",
        "phase": "plan",
        "status": "pending",
        "execution_mode": "local",
        "priority": 0,
        "auto_apply": False,
        "targets": (),
        "replace": (),
        "message": "",
        "created_by": "ann",
        "bundle_digest": "b" * 64,
        "terraform_version": "latest",
        "fence": 0,
        "attempt": 0,
        "cancel_force": False,
        "state_safe": True,
        "created_at": NOW,
        "cancel_steps": (),
    }
    chosen: dict[str, Any] = {**_NOTHING, **usual, **facts}
    return Task(**chosen)


def a_workspace(**facts: object) -> Workspace:
    usual: dict[str, Any] = {
        "id": "ws-a",
        "name": "a",
        "description": "",
        "execution_mode": "local",
        "engine": "terraform",
        "terraform_version": "latest",
        "working_directory": "",
        "auto_apply": False,
        "provider_config": None,
        "tags": {},
        "lock": None,
        "state_fence": 0,
        "current_serial": None,
        "lineage": None,
        "state_uncertain": False,
        "states_apart": 0,
        "configuration_id": None,
        "created_at": NOW,
        "updated_at": NOW,
    }
    chosen: dict[str, Any] = {**usual, **facts}
    return Workspace(**chosen)


def a_lock(**facts: object) -> Lock:
    usual: dict[str, Any] = {"kind": "user", "owner": "ann", "token": "lock-1", "reason": "freeze", "since": NOW}
    chosen: dict[str, Any] = {**usual, **facts}
    return Lock(**chosen)


def a_resource(**facts: object) -> Resource:
    usual: dict[str, Any] = {
        "id": "res-a",
        "workspace_id": "ws-a",
        "mode": "managed",
        "type": "terraform_data",
        "name": "x",
        "body": {"input": "1"},
        "version": 1,
        "created_at": NOW,
        "updated_at": NOW,
    }
    chosen: dict[str, Any] = {**usual, **facts}
    return Resource(**chosen)


def a_result(**facts: object) -> Result:
    """A phase that succeeded, unless `facts` say otherwise."""
    chosen: dict[str, Any] = {"result_id": "r-1", "status": "succeeded", **facts}
    return Result(**chosen)
