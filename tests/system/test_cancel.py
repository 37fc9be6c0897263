"""Cancel cancels: in every state of a task, at every step, once, twice and by force."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from iac.domain.agent_session import Times
from iac.domain.ladder import Ladder
from iac.executor.run import ExecutorPolicy
from tests.harness.postgres import statement
from tests.harness.server import running_server
from tests.system.scenes import (
    ONE,
    Gate,
    Stage,
    all_cleared,
    cancel,
    exists,
    lock_of,
    state_of,
    statuses,
    wait_of,
)

PATIENT_LADDER = ExecutorPolicy(plan_ladder=Ladder(120), apply_ladder=Ladder(120), log_interval=0.02)
"""Longer than any test: where force is what counts, nothing else may have ended it."""


async def test_a_task_that_waits_for_its_workspace_is_cancelled(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path, database_url) as server:
        await server.workspace("w", {"main.tf": ONE})
        lock = await server.call("POST", "/api/v1/workspaces/w/lock", json={"reason": "mine"})
        task = await server.task("w", "plan_and_apply")
        await server.until(task, "pending")

        shown = await cancel(server, task)

        assert (shown["status"], shown["reason"], shown["cancel"]["by"]) == ("cancelled", "user", "admin")
        assert shown["wait"] is None
        assert (await lock_of(server, "w"))["kind"] == "user", "a lock that was not the task's stays"
        assert lock["lock"]["kind"] == "user"


async def test_a_task_that_waits_for_a_slot_is_cancelled_and_frees_its_workspace(
    tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path, database_url, local_executor=False) as server:
        await server.workspace("w", {"main.tf": ONE})
        first, second = await server.task("w", "plan_and_apply"), await server.task("w", "plan_and_apply")
        await wait_of(server, first, "no_runner")

        assert (await cancel(server, first))["status"] == "cancelled"

        await server.until(second, "queued")
        assert (await lock_of(server, "w"))["owner"] == str(second)


async def test_a_task_that_was_handed_out_and_not_yet_begun_is_cancelled(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path, database_url) as server:
        await refuse_claims(database_url)
        await server.workspace("w", {"main.tf": ONE})
        task = await server.task("w", "plan_and_apply")
        await server.until(task, "assigned")

        assert (await cancel(server, task))["status"] == "cancelled"

        await all_cleared(tmp_path)
        assert await lock_of(server, "w") is None
        assert await server.log(task) == b""
        # The slot is free again, and the order that was under way does nothing more.
        await statement(database_url, "DROP TRIGGER no_claims ON task")
        await server.until(await server.task("w", "plan"), "succeeded")
        assert (await server.call("GET", f"/api/v1/tasks/{task}"))["status"] == "cancelled"


async def refuse_claims(url: str) -> None:
    """From now on no task becomes running: its claim finds the database unavailable."""
    await statement(
        url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '55P03'; END$$",
    )
    await statement(
        url,
        "CREATE TRIGGER no_claims BEFORE UPDATE ON task FOR EACH ROW "
        "WHEN (NEW.status = 'running') EXECUTE FUNCTION refuse()",
    )


@pytest.mark.parametrize(
    ("command", "stage"), [("init", "init"), ("plan", "planning"), ("show", "saving_plan"), ("apply", "applying")]
)
async def test_a_task_is_cancelled_at_every_step(tmp_path: Path, database_url: str, command: str, stage: str) -> None:
    scene, ready = Stage(tmp_path), tmp_path / "ready"
    scene.set(**{command: {"ready_file": str(ready), "sleep": "forever"}})
    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await server.workspace("w", {"main.tf": ONE})
        task = await server.task("w", "plan_and_apply", auto_apply=True)
        await exists(ready)

        shown = await cancel(server, task)
        assert shown["status"] in ("cancelling", "cancelled")
        ended = await server.until(task, "cancelled")

        assert (ended["reason"], ended["stage"], ended["exit_code"]) == ("user", None, 1)
        assert scene.events(command)[-3:] == ["start", "sigterm", "stop"]
        assert await lock_of(server, "w") is None
        await all_cleared(tmp_path / "data")
        log = (await server.log(task)).decode()
        assert f"stage {stage} begin" in log
        assert "[iac] asked Terraform to stop" in log
        assert "[iac] the task was cancelled" in log


async def test_a_plan_that_waits_for_its_confirmation_is_cancelled(tmp_path: Path, database_url: str) -> None:
    scene = Stage(tmp_path).set()
    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await server.workspace("w", {"main.tf": ONE})
        task = await server.task("w", "plan_and_apply")
        await server.until(task, "planned")

        assert (await cancel(server, task))["status"] == "cancelled"

        assert await lock_of(server, "w") is None
        await server.call("POST", f"/api/v1/tasks/{task}/confirm", json={}, expect=409)
        assert scene.events("apply") == []


async def test_a_cancelled_apply_saves_what_it_was_creating_and_frees_the_workspace(
    tmp_path: Path, database_url: str
) -> None:
    gate = Gate(tmp_path)
    async with running_server(tmp_path / "data", database_url, policy=PATIENT_LADDER) as server:
        await server.workspace("w", gate.main())
        task = await server.task("w", "apply")
        await gate.reached()

        await cancel(server, task)
        ended = await server.until(task, "cancelled")

        assert (ended["reason"], ended["outcome"], ended["signal"]) == ("user", None, None)
        assert statuses(await state_of(server, "w")) == {"first": None, "second": "tainted"}
        assert await lock_of(server, "w") is None
        await all_cleared(tmp_path / "data")
        # What it left is where the next one goes on.
        gate.open()
        again = await server.until(await server.task("w", "apply"), "succeeded")
        assert again["outcome"] == "applied"
        assert statuses(await state_of(server, "w")) == {"first": None, "second": None}


async def test_a_second_cancel_is_the_same_cancel_and_force_does_not_wait(tmp_path: Path, database_url: str) -> None:
    scene, ready = Stage(tmp_path), tmp_path / "ready"
    scene.set(plan={"ready_file": str(ready), "sleep": "forever", "ignore_sigterm": 1})
    started = running_server(
        tmp_path / "data", database_url, env=scene.env, policy=PATIENT_LADDER, times=Times(force_after=0)
    )
    async with started as server:
        await server.workspace("w", {"main.tf": ONE})
        task = await server.task("w", "plan")
        await exists(ready)

        first, second = await cancel(server, task), await cancel(server, task)
        assert first["cancel"]["id"] == second["cancel"]["id"]
        assert second["status"] == "cancelling"
        forced = await cancel(server, task, force=True)
        assert forced["cancel"]["id"] == first["cancel"]["id"]
        with trio.fail_after(20):
            ended = await server.until(task, "cancelled")

        assert ended["cancel"]["force"] is True
        assert scene.events("plan") == ["start", "sigterm", "sigterm", "stop"]


async def test_a_cancel_by_force_kills_what_does_not_hear(tmp_path: Path, database_url: str) -> None:
    scene, ready = Stage(tmp_path), tmp_path / "ready"
    scene.set(apply={"ready_file": str(ready), "sleep": "forever", "ignore_sigterm": -1})
    policy = ExecutorPolicy(apply_ladder=Ladder(grace=120, second=0.5), log_interval=0.02)
    times = Times(force_after=0)
    async with running_server(tmp_path / "data", database_url, env=scene.env, policy=policy, times=times) as server:
        await server.workspace("w", {"main.tf": ONE})
        task = await server.task("w", "apply")
        await exists(ready)
        await cancel(server, task)

        await cancel(server, task, force=True, confirm=True)
        ended = await server.until(task, "cancelled")

        assert ended["signal"] == 9
        assert b"the state may be incomplete" in await server.log(task)
        assert await lock_of(server, "w") is None
        await all_cleared(tmp_path / "data")


@pytest.mark.parametrize("force", [False, True])
async def test_a_task_that_is_over_cannot_be_cancelled(tmp_path: Path, database_url: str, force: bool) -> None:
    scene = Stage(tmp_path).set()
    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await server.workspace("w", {"main.tf": ONE})
        task = await server.task("w", "plan")
        done = await server.until(task, "succeeded")

        refused = await cancel(server, task, force=force, expect=409)

        assert refused["error"]["code"] == "already_final"
        assert await server.call("GET", f"/api/v1/tasks/{task}") == done


async def test_a_task_that_does_not_exist_cannot_be_cancelled(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path, database_url) as server:
        assert (await cancel(server, 4711, expect=404))["error"]["code"] == "not_found"


async def test_whenever_a_cancel_comes_the_task_has_one_end_and_nothing_is_left(
    tmp_path: Path, database_url: str
) -> None:
    scene = Stage(tmp_path).set()
    ends = set()
    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await server.workspace("w", {"main.tf": ONE})
        for number in range(12):
            task = await server.task("w", "plan_and_apply", auto_apply=True)
            await trio.sleep(number * 0.045)  # the moment is what is tried here, not waited for
            response = await server.client.post(f"/api/v1/tasks/{task}/cancel", json={})
            assert response.status_code in (200, 409)
            ended = await server.until(task, "cancelled", "succeeded")
            ends.add((ended["status"], ended["phase"]))
            assert await lock_of(server, "w") is None
            assert (ended["cancel"] is not None) or response.status_code == 409
        await all_cleared(tmp_path / "data")
    assert ("cancelled", "plan") in ends
