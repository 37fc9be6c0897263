"""The oracle sees what it is there to see: each invariant is broken on purpose."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.fake_terraform import install, ledger_of
from tests.faults.scene import CANARY, a_scene
from tests.harness.postgres import statement
from tests.system.scenes import becomes


@contextmanager
def a_process(argv: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, env={**os.environ, **env}, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_it_finds_nothing_until_something_is_broken(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url, checked=False) as scene, scene.agent() as agent:
        oracle = scene.oracle
        task = await scene.confirmed_apply()
        await scene.server.until(task, "succeeded")
        assert await agent.stop() == 0
        assert await oracle.broken() == []
        # Each of its eyes had something to look at.
        assert [len(oracle.events(command)) for command in ("plan", "apply")] == [1, 1]
        assert await oracle.count("SELECT count(*) FROM log_stream WHERE state = 'complete'") == 2
        assert await oracle.count("SELECT count(*) FROM state_version") == 1
        assert b"***" in await oracle.log(task)

        async def becomes_broken(by: str, *expected: str) -> None:
            await statement(database_url, by)
            found = await oracle.broken()
            assert sorted(each.partition(" ")[0] for each in found) == sorted(expected), found

        oracle.patience = 0.0
        with a_process(["sleep", "60"], {"TMPDIR": f"{agent.data_dir}/tasks/1-1/tmp"}):
            await becomes_broken("SELECT 1", "I6")
        locked = "UPDATE workspace SET lock_kind = {}, lock_owner = {}, lock_token = {}"
        await becomes_broken(locked.format("'task'", f"'{task}'", "'x'"), "I8")
        await becomes_broken(locked.format("NULL", "NULL", "NULL"))
        await becomes_broken("UPDATE log_stream SET sha256 = 'x' WHERE phase = 'apply'", "I5")
        told = f"INSERT INTO audit (actor, verb, subject) VALUES ('{CANARY}', '', '')"  # noqa: S608 - a constant
        await becomes_broken(told, "I5", "I7")
        await becomes_broken("UPDATE workspace SET current_serial = 0", "I4", "I5", "I7")
        await becomes_broken("DELETE FROM state_version", "I4", "I4", "I4", "I5", "I7")
        await becomes_broken("UPDATE task SET status = 'failed'", "I3", "I4", "I4", "I4", "I5", "I7")
        [again] = oracle.events("apply")
        with oracle.ledgers[0].open("a") as ledger:
            ledger.write(json.dumps(again) + "\n")
        await becomes_broken("SELECT 1", "I1", "I3", "I4", "I4", "I4", "I5", "I7")
        left = agent.data_dir / "tasks" / "1-1.json"
        left.touch()
        await becomes_broken("SELECT 1", "I1", "I3", "I4", "I4", "I4", "I5", "I7", "I9")
        left.unlink()
        with agent.log_file.open("a") as log:
            log.write(f"a token: {scene.token}\n")
        await becomes_broken("SELECT 1", "I1", "I3", "I4", "I4", "I4", "I5", "I7", "I7")


async def test_it_sees_a_task_that_nobody_answers_for(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url, checked=False) as scene:
        oracle = scene.oracle
        task = await scene.server.task("w", "plan")
        assert await oracle.broken() == [], "it waits for an agent, and says so"
        oracle.patience = 0.0
        # As a hand-out to an agent that there is not would be.
        await statement(database_url, "UPDATE task SET status = 'assigned', agent_id = 'agt-nobody', fence = 99")
        assert await oracle.broken() == [f"I10 nobody answers for task {task}, which is assigned"]


async def test_a_checkpoint_may_go_only_when_a_newer_state_of_its_assignment_is_there(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url, checked=False) as scene, scene.agent():
        await scene.server.until(await scene.confirmed_apply(), "succeeded")
        copied = """INSERT INTO state_version (id, workspace_id, serial, lineage, sha256, size, verdict, task_id, fence,
                                               partial, terraform_version, resource_count, data, created_by)
                    SELECT 'older', workspace_id, {serial}, lineage, 'x', size, 'checkpoint', task_id, {fence}, {partial},
                           terraform_version, resource_count, data, created_by
                    FROM state_version WHERE verdict = 'current'"""
        for serial, fence, partial, broken in (
            ("serial", "fence", "true", 0),
            ("serial + 1", "fence", "true", 1),
            ("serial", "fence - 1", "true", 2),
            ("serial", "fence", "false", 3),
        ):
            await statement(database_url, copied.format(serial=serial, fence=fence, partial=partial))
            await statement(database_url, "DELETE FROM state_version WHERE id = 'older'")
            assert await scene.oracle.count("SELECT count(*) FROM oracle_broken") == broken


async def test_the_stand_in_tells_when_a_copy_of_its_task_still_runs(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    terraform = install(tmp_path, {"ledger": str(ledger), "commands": {"plan": {"sleep": "forever"}}})

    def started() -> list[tuple[str, str]]:
        return [(entry["event"], entry["run"]) for entry in ledger_of(ledger)]

    def copy_of(run: str) -> dict[str, str]:
        return {"TMPDIR": f"/tasks/{run}/tmp"}

    with a_process([str(terraform), "plan"], copy_of("7-1")):
        await becomes(lambda: started() == [("start", "7-1")])
        with a_process([str(terraform), "plan"], copy_of("8-2")):  # another task
            await becomes(lambda: len(started()) == 2)
        with a_process([str(terraform), "plan"], copy_of("7-3")):
            await becomes(lambda: started()[2:] == [("overlap", "7-3"), ("start", "7-3")])
    with a_process([str(terraform), "plan"], copy_of("7-4")):
        await becomes(lambda: started()[4:] == [("start", "7-4")])
