"""The server's API as typed, synchronous calls.

`ApiClient(url, token)` for scripts and tests as well as for the command line: every call raises ApiError where the server
refuses and Unreachable where there is no answer, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Literal
from urllib.parse import quote
from uuid import uuid4

from iac.cli.following import End, LogBytes, LogEvent, Rewound, StatusEvent, follow_log
from iac.cli.pool_calls import PoolCalls
from iac.cli.transport import ApiError, BadServer, Unreachable
from iac.domain import access_bodies, bodies, state_bodies

__all__ = ["ApiClient", "ApiError", "BadServer", "End", "LogBytes", "LogEvent", "Rewound", "StatusEvent", "Unreachable"]

API = "/api/v1"
ARCHIVE = "application/gzip"
UPLOAD_WITHIN = 300.0
"""Seconds that the server may take to read and check an upload."""
PAGE = 200


class ApiClient(PoolCalls):
    """One server as one user."""

    def me(self) -> access_bodies.Me:
        return self.call("GET", f"{API}/me", into=access_bodies.Me)

    # Workspaces, named by id or name.

    def workspaces(self, *, search: str | None = None) -> Iterator[bodies.WorkspaceView]:
        """All of them, by name, page after page."""
        params = _given(limit=PAGE, search=search)
        while True:
            page = self.call("GET", f"{API}/workspaces", into=bodies.WorkspacePage, params=params)
            yield from page.items
            if page.next_cursor is None:
                return
            params["cursor"] = page.next_cursor

    def workspace(self, ws: str) -> bodies.WorkspaceView:
        return self.call("GET", _ws(ws), into=bodies.WorkspaceView)

    def create_workspace(self, body: bodies.WorkspaceCreate) -> bodies.WorkspaceView:
        return self.call("POST", f"{API}/workspaces", into=bodies.WorkspaceView, body=body)

    def change_workspace(self, ws: str, body: bodies.WorkspaceChange) -> bodies.WorkspaceView:
        return self.call("PATCH", _ws(ws), into=bodies.WorkspaceView, body=body)

    def delete_workspace(self, ws: str, *, force: bool = False) -> None:
        self.delete(_ws(ws), params=_given(force=force))

    def lock_workspace(self, ws: str, reason: str = "") -> bodies.WorkspaceView:
        body = bodies.LockRequest(reason=reason)
        return self.call("POST", _ws(ws, "lock"), into=bodies.WorkspaceView, body=body)

    def unlock_workspace(self, ws: str, *, token: str | None = None, force: bool = False) -> bodies.WorkspaceView:
        body = bodies.UnlockRequest(token=token, force=force)
        return self.call("POST", _ws(ws, "unlock"), into=bodies.WorkspaceView, body=body)

    # Configuration and variables.

    def upload_configuration(
        self, ws: str, archive_bytes: bytes, message: str = "", *, timeout: float = UPLOAD_WITHIN
    ) -> bodies.ConfigurationView:
        """A gzip-compressed tar becomes the workspace's configuration."""
        return self.call(
            "PUT",
            _ws(ws, "configuration"),
            into=bodies.ConfigurationView,
            content=archive_bytes,
            headers={"Content-Type": ARCHIVE},
            params=_given(message=message or None),
            timeout=timeout,
        )

    def variables(self, ws: str) -> list[bodies.VariableView]:
        return self.call("GET", _ws(ws, "variables"), into=bodies.VariableList).items

    def create_variable(self, ws: str, body: bodies.VariableCreate) -> bodies.VariableView:
        return self.call("POST", _ws(ws, "variables"), into=bodies.VariableView, body=body)

    def change_variable(self, ws: str, var: str, body: bodies.VariableChange) -> bodies.VariableView:
        return self.call("PATCH", _ws(ws, "variables", var), into=bodies.VariableView, body=body)

    def delete_variable(self, ws: str, var: str) -> None:
        self.delete(_ws(ws, "variables", var))

    # Tasks.

    def tasks(
        self,
        *,
        workspace: str | None = None,
        status: str | None = None,
        action: str | None = None,
        search: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> bodies.TaskPage:
        """A page, newest first; `status` and `action` may be several, separated by commas."""
        params = _given(workspace=workspace, status=status, action=action, search=search, limit=limit, cursor=cursor)
        return self.call("GET", f"{API}/tasks", into=bodies.TaskPage, params=params)

    def task(self, task_id: int, *, patience: float = 0.0) -> bodies.TaskView:
        """`patience`: for how many seconds to try again while the server cannot be reached."""
        return self.call("GET", _task(task_id), into=bodies.TaskView, patience=patience)

    def create_task(self, ws: str, body: bodies.TaskCreate, *, patience: float = 0.0) -> bodies.TaskView:
        """However often it has to be asked for, it is made once."""
        return self.call(
            "POST", _ws(ws, "tasks"), into=bodies.TaskView, body=body, headers=_own_key(), patience=patience
        )

    # A decision that was already taken does no harm when it comes again: it is refused, so patience is allowed.

    def cancel_task(
        self, task_id: int, *, force: bool = False, confirm: bool = False, patience: float = 0.0
    ) -> bodies.TaskView:
        return self._decide(task_id, "cancel", bodies.CancelRequest(force=force, confirm=confirm), patience)

    def flush_log(self, task_id: int) -> None:
        self.post(_task(task_id, "logs/flush"))

    def confirm_task(
        self, task_id: int, *, plan_digest: str | None = None, comment: str = "", patience: float = 0.0
    ) -> bodies.TaskView:
        body = bodies.ConfirmRequest(comment=comment, plan_digest=plan_digest)
        return self._decide(task_id, "confirm", body, patience)

    def discard_task(self, task_id: int, comment: str = "", *, patience: float = 0.0) -> bodies.TaskView:
        return self._decide(task_id, "discard", bodies.CommentRequest(comment=comment), patience)

    def retry_task(self, task_id: int, *, patience: float = 0.0) -> bodies.TaskView:
        return self.call("POST", _task(task_id, "retry"), into=bodies.TaskView, headers=_own_key(), patience=patience)

    def known(self, task_id: int) -> state_bodies.KnownView:
        """What is known of a task whose end nobody saw."""
        return self.call("GET", _task(task_id, "known"), into=state_bodies.KnownView)

    def resolve_task(
        self,
        task_id: int,
        *,
        comment: str = "",
        unlock: bool = False,
        checkpoint: Literal["quarantine", "adopt"] = "quarantine",
    ) -> bodies.TaskView:
        body = state_bodies.ResolveRequest(comment=comment, unlock=unlock, checkpoint=checkpoint)
        return self._decide(task_id, "resolve", body)

    def changes(self, task_id: int) -> list[bodies.ChangeView]:
        """What the task's plan does to each resource."""
        return self.call("GET", _task(task_id, "changes"), into=bodies.ChangeList).items

    def _decide(
        self,
        task_id: int,
        what: Literal["cancel", "confirm", "discard", "resolve"],
        body: object,
        patience: float = 0.0,
    ) -> bodies.TaskView:
        return self.call("POST", _task(task_id, what), into=bodies.TaskView, body=body, patience=patience)

    # Logs.

    def log(self, task_id: int, offset: int = 0, limit: int = 1024 * 1024) -> bytes:
        """Up to `limit` bytes from `offset`; empty at what is its end now."""
        data: bytes = self.get(_task(task_id, "logs"), params={"offset": offset, "limit": limit})
        return data

    def whole_log(self, task_id: int, offset: int = 0) -> Iterator[bytes]:
        """The log as it is now, piece after piece."""
        while data := self.log(task_id, offset):
            offset += len(data)
            yield data

    def follow_log(
        self,
        task_id: int,
        offset: int = 0,
        *,
        patience: float = 300.0,
        on_break: Callable[[str], None] | None = None,
    ) -> Generator[LogEvent, None, None]:
        """As `iac.cli.following.follow_log`: LogBytes and StatusEvent, then one End."""
        return follow_log(self, task_id, offset, patience=patience, on_break=on_break)

    # State. `which` is "current", a serial, or an id.

    def states(self, ws: str, *, verdict: str | None = None) -> Iterator[bodies.StateVersionView]:
        """All versions, newest first, page after page; `verdict` may be several, separated by commas."""
        params = _given(limit=PAGE, verdict=verdict)
        while True:
            page = self.call("GET", _ws(ws, "state-versions"), into=bodies.StateVersionPage, params=params)
            yield from page.items
            if page.next_cursor is None:
                return
            params["cursor"] = page.next_cursor

    def state(self, ws: str, which: str = "current") -> bodies.StateVersionView:
        return self.call("GET", _ws(ws, "state-versions", which), into=bodies.StateVersionView)

    def download_state(self, ws: str, which: str = "current") -> bytes:
        """Byte for byte as Terraform wrote it."""
        with self.stream(_ws(ws, "state-versions", which, "download"), read_timeout=UPLOAD_WITHIN) as response:
            return response.read()

    def upload_state(
        self, ws: str, data: bytes, *, force: bool = False, lock_token: str | None = None
    ) -> bodies.StateVersionView:
        return self.call(
            "POST",
            _ws(ws, "state-versions"),
            into=bodies.StateVersionView,
            content=data,
            headers={"Content-Type": "application/octet-stream"},
            params=_given(force=force, lock_token=lock_token),
            timeout=UPLOAD_WITHIN,
        )

    def rollback_state(self, ws: str, serial: int, *, lock_token: str | None = None) -> bodies.StateVersionView:
        return self.call(
            "POST",
            _ws(ws, "state-versions", str(serial), "rollback"),
            into=bodies.StateVersionView,
            params=_given(lock_token=lock_token),
        )

    def promote_state(
        self, ws: str, version: str, *, force: bool = False, expected: int | None = None, lock_token: str | None = None
    ) -> bodies.StateVersionView:
        body = state_bodies.PromoteRequest(force=force, expected_serial=expected, lock_token=lock_token)
        return self.call("POST", _ws(ws, "state-versions", version, "promote"), into=bodies.StateVersionView, body=body)

    def outputs(self, ws: str) -> bodies.OutputList:
        return self.call("GET", _ws(ws, "outputs"), into=bodies.OutputList)


def _own_key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


def _ws(ws: str, *parts: str) -> str:
    return "/".join((f"{API}/workspaces", *(quote(part, safe="") for part in (ws, *parts))))


def _task(task_id: int, *parts: str) -> str:
    return "/".join((f"{API}/tasks", str(task_id), *parts))


def _given(**params: object) -> dict[str, str]:
    """Query parameters without those that are not given; a False is as good as not given."""
    return {
        name: "true" if value is True else str(value)
        for name, value in params.items()
        if value is not None and value is not False
    }
