"""The server is killed, restarted, drained: every task has a stated fate, every byte of log is there once."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from iac.domain.log_transform import Transform
from tests.harness.killable import Killable, killable_server, processes_of
from tests.system.scenes import (
    ONE,
    Gate,
    Stage,
    all_cleared,
    becomes,
    cancel,
    exists,
    lock_of,
    state_of,
    statuses,
)

LIMIT = 256 * 1024 * 1024
SECRET = "correct-horse-battery"


async def talkative(program: Killable, gate: Gate) -> int:
    """An apply that prints a numbered line again and again, until its gate opens; a secret is in each."""
    loop = (
        f"i=0; while [ ! -e {gate.go} ]; do i=$((i+1)); echo line $i $WORD; "
        f"[ $i = 20 ] && touch {gate.ready}; sleep 0.02; done"
    )
    gate.root.mkdir(parents=True, exist_ok=True)
    main = (
        'resource "terraform_data" "first" {}\nresource "terraform_data" "second" {\n'
        f'  depends_on = [terraform_data.first]\n  provisioner "local-exec" {{\n    command = "{loop}"\n  }}\n}}\n'
    )
    await program.server.workspace("w", {"main.tf": main})
    variable = {"key": "WORD", "value": SECRET, "category": "environment", "sensitive": True}
    await program.server.call("POST", "/api/v1/workspaces/w/variables", json=variable)
    task = await program.server.task("w", "apply")
    await gate.reached()
    return task


def kept_raw(data: Path, into: Path) -> Path:
    """The raw log of the only apply, by a second name: the file outlives its directory."""
    [place] = [
        path for path in (data / "tasks").iterdir() if b'"action":"apply"' in (path / "assignment.json").read_bytes()
    ]
    raw = into / "kept-raw.log"
    raw.hardlink_to(place / "raw.log")
    return raw


def rendered(raw: Path) -> str:
    """What a log must be, from the bytes that were written alone."""
    transform = Transform([SECRET], LIMIT)
    return (transform.feed(raw.read_bytes())[0] + transform.finish()[0]).decode()


async def recovered(program: Killable, task: int) -> dict[str, Any]:
    """The task when its work directory is gone: all that could be collected is collected."""
    await all_cleared(program.server.settings.data_dir)
    found: dict[str, Any] = await program.server.call("GET", f"/api/v1/tasks/{task}")
    return found


async def test_an_apply_whose_server_is_killed_loses_nothing(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path / "gate")
    async with killable_server(tmp_path, database_url) as program:
        task = await talkative(program, gate)
        raw = kept_raw(tmp_path / "data", tmp_path)
        await program.kill()
    assert processes_of(tmp_path / "data"), "Terraform does not notice"

    async with killable_server(tmp_path, database_url) as program:
        server = program.server
        lost = await server.until(task, "lost")
        assert (lost["reason"], lost["phase"], lost["wait"]["code"]) == (
            "server_restarted",
            "apply",
            "needs_resolution",
        )
        lock = await lock_of(server, "w")
        assert lock["owner"] == str(task)
        assert "not known" in lock["reason"]
        assert (await server.call("GET", "/api/v1/workspaces/w"))["state_uncertain"]
        waiting = await server.task("w", "plan_and_apply")
        await server.until(waiting, "pending")
        gate.open()
        after = await recovered(program, task)

        assert (after["status"], after["outcome"], after["exit_code"]) == ("succeeded", "applied", 0)
        assert "Terraform was not" in after["detail"]
        assert statuses(await state_of(server, "w")) == {"first": None, "second": None}
        log = (await server.log(task)).decode()
        assert log.endswith(rendered(raw)), "all that was written, each byte once"
        numbers = [int(number) for number in re.findall(r"line (\d+) \*\*\*", log)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 20
        assert SECRET not in log
        # What waited behind it goes on by itself.
        ended = await server.until(waiting, "succeeded")
        assert ended["outcome"] == "planned_and_finished"
        assert await lock_of(server, "w") is None


async def test_an_apply_that_ended_while_no_server_was_there_is_collected(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path / "gate")
    async with killable_server(tmp_path, database_url) as program:
        task = await talkative(program, gate)
        raw = kept_raw(tmp_path / "data", tmp_path)
        await program.kill()
    gate.open()
    await becomes(lambda: not processes_of(tmp_path / "data"))

    async with killable_server(tmp_path, database_url) as program:
        after = await recovered(program, task)
        assert (after["status"], after["outcome"]) == ("succeeded", "applied")
        assert statuses(await state_of(program.server, "w")) == {"first": None, "second": None}
        log = (await program.server.log(task)).decode()
        assert log.endswith(rendered(raw))
        assert "Apply complete!" in log


async def test_a_server_that_is_killed_again_and_again_still_loses_nothing(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path / "gate")
    async with killable_server(tmp_path, database_url) as program:
        task = await talkative(program, gate)
        raw = kept_raw(tmp_path / "data", tmp_path)
        await program.kill()
    for _ in range(2):
        async with killable_server(tmp_path, database_url) as program:
            await program.server.until(task, "lost")
            await program.kill()

    async with killable_server(tmp_path, database_url) as program:
        gate.open()
        await recovered(program, task)
        log = (await program.server.log(task)).decode()
        assert log.endswith(rendered(raw))
        assert statuses(await state_of(program.server, "w")) == {"first": None, "second": None}


async def test_a_machine_that_loses_its_power_keeps_what_terraform_had_written(
    tmp_path: Path, database_url: str
) -> None:
    gate = Gate(tmp_path / "gate")
    async with killable_server(tmp_path, database_url) as program:
        task = await talkative(program, gate)
        raw = kept_raw(tmp_path / "data", tmp_path)
        await program.kill()
        for pid in processes_of(tmp_path / "data", shims=True):
            with suppress(ProcessLookupError):  # the shell's own `sleep` comes and goes
                os.kill(pid, signal.SIGKILL)
    await becomes(lambda: not processes_of(tmp_path / "data", shims=True))

    async with killable_server(tmp_path, database_url) as program:
        after = await recovered(program, task)
        assert (after["status"], after["reason"]) == ("lost", "server_restarted")
        assert statuses(await state_of(program.server, "w")) == {"first": None}
        assert (await program.server.log(task)).decode().endswith(rendered(raw))


async def test_a_lost_apply_that_still_runs_can_be_cancelled(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path / "gate")
    async with killable_server(tmp_path, database_url) as program:
        task = await talkative(program, gate)
        await program.kill()

    async with killable_server(tmp_path, database_url) as program:
        await program.server.until(task, "lost")
        await cancel(program.server, task)
        after = await recovered(program, task)

        assert (after["status"], after["cancel"]["by"]) == ("cancelled", "admin")
        assert statuses(await state_of(program.server, "w")) == {"first": None, "second": "tainted"}
        assert "Interrupt received" in (await program.server.log(task)).decode()


async def test_a_plan_whose_server_is_killed_is_tried_again_without_its_processes_and_not_for_ever(
    tmp_path: Path, database_url: str
) -> None:
    ready, pid_file = tmp_path / "ready", tmp_path / "child.pid"
    child = {"kind": "setsid", "pid_file": str(pid_file)}
    scene = Stage(tmp_path).set(plan={"children": [child], "ready_file": str(ready), "sleep": "forever"})
    async with killable_server(tmp_path, database_url, env=scene.env) as program:
        await program.server.workspace("w", {"main.tf": ONE})
        task = await program.server.task("w", "plan_and_apply")
        waiting = await program.server.task("w", "plan_and_apply")
        await exists(ready)
        await program.kill()

    first = set(processes_of(tmp_path / "data"))
    assert first
    ready.unlink()
    async with killable_server(tmp_path, database_url, env=scene.env) as program:
        await exists(ready)
        assert not first & set(processes_of(tmp_path / "data")), "dead before the plan began again"
        assert (await program.server.until(task, "running"))["attempt"] == 2
        assert (await program.server.log(task)).decode().count("stage planning begin") == 2
        await program.kill()
    scene.set()

    async with killable_server(tmp_path, database_url, env=scene.env) as program:
        after = await recovered(program, task)
        assert (after["status"], after["reason"], after["attempt"]) == ("failed", "server_restarted", 2)
        # What waited behind it goes on by itself.
        await program.server.until(waiting, "planned")


async def test_an_apply_that_had_not_begun_is_lost_with_its_state_unchanged(tmp_path: Path, database_url: str) -> None:
    scene, ready = Stage(tmp_path).set(), tmp_path / "ready"
    async with killable_server(tmp_path, database_url, env=scene.env) as program:
        await program.server.workspace("w", {"main.tf": ONE})
        await program.server.until(await program.server.task("w", "apply"), "succeeded")
        task = await program.server.task("w", "plan_and_apply")
        await program.server.until(task, "planned")
        scene.set(init={"ready_file": str(ready), "sleep": "forever"})
        await program.server.call("POST", f"/api/v1/tasks/{task}/confirm", json={})
        await exists(ready)
        await program.kill()

    async with killable_server(tmp_path, database_url, env=scene.env) as program:
        await program.server.until(task, "lost")
        await cancel(program.server, task)
        after = await recovered(program, task)
        assert "the state was found unchanged" in after["detail"]
        versions = await program.server.call("GET", "/api/v1/workspaces/w/state-versions")
        assert [version["verdict"] for version in versions["items"]] == ["current"]


async def test_what_waited_when_the_server_was_killed_goes_on(tmp_path: Path, database_url: str) -> None:
    scene = Stage(tmp_path).set()
    async with killable_server(tmp_path, database_url, env={**scene.env, "IAC_LOCAL_EXECUTOR": "off"}) as program:
        await program.server.workspace("w", {"main.tf": ONE})
        first, second = await program.server.task("w", "apply"), await program.server.task("w", "plan")
        await program.kill()

    async with killable_server(tmp_path, database_url, env=scene.env) as program:
        assert (await program.server.until(first, "succeeded"))["attempt"] == 1
        await program.server.until(second, "succeeded")


# Stopped on purpose


async def test_a_drain_lets_a_running_apply_finish(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path / "gate")
    async with killable_server(tmp_path, database_url) as program:
        task = await talkative(program, gate)
        queued = await program.server.task("w", "plan")
        program.signal(signal.SIGTERM)
        await becomes(lambda: any("waiting for running tasks" in str(line) for line in program.told()))
        assert (await program.server.call("GET", f"/api/v1/tasks/{task}"))["status"] == "running", "it still answers"
        gate.open()
        assert await program.ended() == 0

    async with killable_server(tmp_path, database_url) as program:
        done = await program.server.until(task, "succeeded")
        assert done["outcome"] == "applied"
        assert (await program.server.until(queued, "succeeded"))["attempt"] == 1, "it had waited for the next start"
        await all_cleared(tmp_path / "data")


async def test_a_drain_that_takes_too_long_cancels(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path / "gate")
    async with killable_server(tmp_path, database_url, env={"IAC_DRAIN_SECONDS": "10"}) as program:
        task = await talkative(program, gate)
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
    assert processes_of(tmp_path / "data") == []

    async with killable_server(tmp_path, database_url) as program:
        ended = await program.server.until(task, "cancelled")
        assert (ended["reason"], ended["cancel"]["by"]) == ("server_shutdown", "runner")
        assert statuses(await state_of(program.server, "w")) == {"first": None, "second": "tainted"}
        assert await lock_of(program.server, "w") is None


async def test_sigquit_stops_what_runs_at_once(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path / "gate")
    async with killable_server(tmp_path, database_url) as program:
        task = await talkative(program, gate)
        program.signal(signal.SIGTERM)
        await becomes(lambda: any("waiting for running tasks" in str(line) for line in program.told()))
        program.signal(signal.SIGQUIT)
        assert await program.ended() == 0
    assert processes_of(tmp_path / "data") == []

    async with killable_server(tmp_path, database_url) as program:
        ended = await program.server.until(task, "cancelled")
        assert (ended["reason"], ended["cancel"]["force"]) == ("server_shutdown", True)
        assert {resource["name"] for resource in (await state_of(program.server, "w"))["resources"]} >= {"first"}


async def test_an_idle_server_stops_at_once(tmp_path: Path, database_url: str) -> None:
    async with killable_server(tmp_path, database_url) as program:
        program.signal(signal.SIGINT)
        assert await program.ended(within=10) == 0
        assert program.told()[-1]["message"] == "stopped"


# With the database of its own


@asynccontextmanager
async def with_its_own_database(root: Path) -> AsyncIterator[Killable]:
    # As root the embedded PostgreSQL runs as another user, who must be let through to its directory.
    for directory in (root, *root.parents):
        if directory.name.startswith("pytest-"):
            directory.chmod(0o755)
    root.chmod(0o755)
    async with killable_server(root, None) as program:
        yield program


@pytest.mark.usefixtures("postgres")
async def test_a_server_with_its_own_database_starts_again_after_a_kill(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    async with with_its_own_database(tmp_path) as program:
        task = await talkative(program, gate)
        await program.kill()

    async with with_its_own_database(tmp_path) as program:
        await program.server.until(task, "lost")
        gate.open()
        await recovered(program, task)
        assert statuses(await state_of(program.server, "w")) == {"first": None, "second": None}
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
    assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists(), "its database is stopped with it"
    shutil.rmtree(tmp_path / "data")
