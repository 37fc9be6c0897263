"""Tasks in the condition that a test begins with."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.fake_terraform import ledger_of
from tests.web.clients import PLAIN, Served

MAIN = {"main.tf": 'resource "terraform_data" "a" { input = "x" }\n'}


def idle(api: Served) -> str:
    """A workspace whose tasks stay queued: no runner of its kind is there."""
    return api.admin.workspace(MAIN, execution_mode="agent")


def planned(api: Served, ws: str | None = None) -> tuple[str, int]:
    """A workspace, and a task of it that waits for a confirmation."""
    ws = ws or api.admin.workspace(MAIN, terraform_version=PLAIN)
    task = api.operator.task(ws, "plan_and_apply")
    api.operator.until(task, "planned")
    return ws, task


def finished_plan(api: Served) -> tuple[str, int]:
    ws = api.admin.workspace(MAIN, terraform_version=PLAIN)
    task = api.operator.task(ws, "plan")
    api.operator.until(task, "succeeded")
    return ws, task


def lost(api: Served) -> tuple[str, int]:
    """A task whose apply was cut off; what a crash of the server leaves is put there by hand."""
    ws, task = planned(api)
    api.sql("UPDATE task SET status = 'lost', phase = 'apply', reason = 'server_restarted' WHERE id = $1", task)
    return ws, task


def long_ago(api: Served, task: int) -> None:
    """Makes its cancellation old enough to be forced."""
    api.sql("UPDATE task SET cancel_requested_at = cancel_requested_at - interval '1 minute' WHERE id = $1", task)


def cancelled(api: Served) -> int:
    task = api.operator.task(idle(api), "plan")
    api.operator.post(f"/tasks/{task}/cancel")
    return task


def applies(terraform_dir: Path, version: str = PLAIN) -> int:
    """How often this fake Terraform was told to apply."""
    events = ledger_of(terraform_dir / f"{version}.jsonl")
    return sum(event["event"] == "start" and event["command"] == "apply" for event in events)


def verbs(api: Served, task: int) -> list[str]:
    return [entry["verb"] for entry in api.admin.get("/audit", params={"subject": f"task-{task}"})["items"]][::-1]
