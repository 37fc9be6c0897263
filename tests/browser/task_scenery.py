"""Tasks to look at: real ones of fake Terraforms, and one with whatever log a test wants."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from iac.domain.agent_session import Times
from iac.settings import TerraformSettings
from iac.store import log_files
from tests.fakes.fake_terraform import install
from tests.harness.postgres import fresh_database
from tests.web.clients import BEGUN, PLAIN, STUCK_PLAN, Served, served

MAIN = {"main.tf": 'resource "terraform_data" "a" { input = "x" }\n'}
STUBBORN = "9.9.5"
"""A version of the fake Terraform whose applies never end and do not hear of a stop."""
FORCE_AFTER = 2.0
P = ParamSpec("P")
T = TypeVar("T")


def aside(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """In another thread: what has an asyncio loop cannot run beside Playwright's."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(function, *args, **kwargs).result()


@contextmanager
def workshop(directory: Path, postgres: str) -> Iterator[Served]:
    """A server with fake Terraforms: one that does what it is told, one whose plans and one whose applies never end."""
    terraform = directory / "terraform"
    stuck = {"lines": [BEGUN], "sleep": "forever"}
    stubborn = {"apply": {**stuck, "ignore_sigterm": -1}}
    for version, commands in {PLAIN: {}, STUCK_PLAN: {"plan": stuck}, STUBBORN: stubborn}.items():
        scenario = {"version": version, "commands": commands, "ledger": str(directory / f"{version}.jsonl")}
        install(terraform / version, scenario)
    settings = TerraformSettings(directory=terraform, download=False)
    times = Times(force_after=FORCE_AFTER)
    with served(directory / "data", fresh_database(postgres), terraform=settings, times=times) as server:
        yield server


def plain(log: bytes) -> str:
    """As the viewer has it as text: without colours."""
    return re.sub("\x1b\\[[0-9;]*m", "", log.decode())


def planned(server: Served, **settings: object) -> int:
    """A task that waits for a decision."""
    ws = server.admin.workspace(MAIN, terraform_version=PLAIN, **settings)
    task = server.operator.task(ws, "plan_and_apply")
    server.operator.until(task, "planned")
    return task


def stuck(server: Served, version: str = STUCK_PLAN, **settings: object) -> int:
    """A task that runs for ever."""
    task = server.operator.task(
        server.admin.workspace(MAIN, terraform_version=version, **settings), "plan_and_apply", auto_apply=True
    )
    server.operator.until_stuck(task)
    return task


def lost(server: Served) -> int:
    """An apply that was cut off; what a crash leaves is put there by hand."""
    task = planned(server)
    server.sql("UPDATE task SET status = 'lost', phase = 'apply', reason = 'server_restarted' WHERE id = $1", task)
    return task


def with_log(server: Served, log: bytes, status: str = "succeeded") -> int:
    """A task that is over and has this log; its bytes are put where the server keeps them."""
    task = server.operator.task(server.admin.workspace(MAIN, execution_mode="agent"), "plan")
    server.sql(
        "UPDATE task SET status = $2, started_at = created_at, finished_at = now(), stage = NULL WHERE id = $1",
        task,
        status,
    )
    add_log(server, task, log)
    return task


def add_log(server: Served, task: int, log: bytes) -> None:
    made = server.rows(
        """INSERT INTO log_stream (task_id, fence, phase, length, state, sha256, persisted, verified, closed_at)
           VALUES ($1, nextval('fence'), 'plan', $2, 'complete', $3, $2, true, now()) RETURNING fence, created_at""",
        task,
        len(log),
        hashlib.sha256(log).hexdigest(),
    )[0]
    root = server.running.settings.data_dir / "logs"
    path = log_files.path_of(root, log_files.Key(task, made["fence"]), made["created_at"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log)
