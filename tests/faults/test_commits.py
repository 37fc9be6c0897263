"""Row 18: the connection to PostgreSQL breaks exactly at a COMMIT, so that nobody can tell whether it was carried out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.faults.scene import Scene, a_scene
from tests.harness.commit_cutter import CommitCutter, Cut, commit_cutter

MOVES = {
    "hand-out": "nextval('fence')",
    "claim": "claimed_at = $",
    "chunk": "UPDATE log_stream SET length",
    "plan": "INSERT INTO plan (",
    "state": "INSERT INTO state_version",
    "result": "result_id = $",
}
"""What happens to a task on its way, and the statement that its transaction is known by."""
LINES = [f"line {number}" for number in range(500)]


@asynccontextmanager
async def a_cut_scene(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Scene, CommitCutter]]:
    async with commit_cutter(database_url) as cutter, a_scene(tmp_path, database_url, through=cutter.url) as scene:
        scene.acts(plan={"lines": LINES}, apply={"lines": LINES})
        yield scene, cutter


async def placed(scene: Scene, where: str, stack: AsyncExitStack) -> str:
    """The workspace whose tasks run there."""
    if where == "local":
        return await scene.locally()
    await stack.enter_async_context(scene.agent())
    return "w"


LOST = pytest.mark.parametrize(
    "committed",
    [pytest.param(True, id="answer lost"), pytest.param(False, id="request lost", marks=pytest.mark.slow_fault)],
)


@LOST
@pytest.mark.parametrize("where", ["local", pytest.param("agent", marks=pytest.mark.slow_fault)])
async def test_row_18_every_move_of_a_task_may_be_committed_or_not_and_comes_to_the_same(
    tmp_path: Path, database_url: str, where: str, committed: bool
) -> None:
    async with a_cut_scene(tmp_path, database_url) as (scene, cutter), AsyncExitStack() as stack:
        workspace = await placed(scene, where, stack)
        cuts = {name: cutter.cut(part, committed=committed) for name, part in MOVES.items()}
        task = await scene.server.task(workspace, "plan_and_apply", auto_apply=True)

        done = await scene.finished(task)

        assert (done["status"], done["outcome"], done["attempt"]) == ("succeeded", "applied", 1)
        assert [name for name, cut in cuts.items() if not cut.done.is_set()] == [], "all of them were cut"
        assert [len(scene.oracle.events(command)) for command in ("plan", "apply")] == [1, 1]
        assert (await scene.call("GET", f"/workspaces/{workspace}"))["state_serial"] == 1
        assert await scene.oracle.count("SELECT count(*) FROM state_version WHERE verdict = 'current'") == 1
        text = (await scene.oracle.log(task)).decode()
        assert [line for line in text.splitlines() if line in LINES] == LINES + LINES


async def asked(scene: Scene, method: str, path: str, cut: Cut, **request: Any) -> httpx.Response:
    """The answer to the same request again, after the first one could not be answered."""
    first = await scene.server.client.request(method, f"/api/v1{path}", **request)
    assert first.status_code == 503, first.text
    assert (first.json()["error"]["code"], first.headers["Retry-After"]) == ("db_unavailable", "2")
    with trio.fail_after(60):
        await cut.done.wait()
    return await scene.server.client.request(method, f"/api/v1{path}", **request)


@LOST
async def test_row_18_what_a_person_asks_for_may_be_asked_for_again(
    tmp_path: Path, database_url: str, committed: bool
) -> None:
    async with a_cut_scene(tmp_path, database_url) as (scene, cutter):
        workspace = await scene.locally()
        where, key = f"/workspaces/{workspace}/tasks", {"Idempotency-Key": "one task"}

        cut = cutter.cut("INSERT INTO task (", committed=committed)
        made = await asked(scene, "POST", where, cut, json={"action": "plan_and_apply"}, headers=key)
        assert made.status_code == 201
        assert await scene.oracle.count("SELECT count(*) FROM task") == 1
        assert await scene.oracle.count("SELECT count(*) FROM audit WHERE verb = 'task.create'") == 1
        task = made.json()["id"]
        await scene.server.until(task, "planned")

        cut = cutter.cut("confirmed_by = $", committed=committed)
        confirmed = await asked(scene, "POST", f"/tasks/{task}/confirm", cut, json={})
        if committed:  # then it was heard, and says so
            assert confirmed.json()["error"]["code"] in ("illegal_transition", "already_final"), confirmed.text
        else:
            assert confirmed.status_code == 200, confirmed.text
        done = await scene.finished(task)
        assert (done["outcome"], done["confirmation"]["by"]) == ("applied", "admin")
        assert await scene.oracle.count("SELECT count(*) FROM audit WHERE verb = 'task.confirm'") == 1


@LOST
async def test_row_18_a_cancel_may_be_asked_for_again(tmp_path: Path, database_url: str, committed: bool) -> None:
    async with a_cut_scene(tmp_path, database_url) as (scene, cutter):
        workspace = await scene.locally()
        scene.acts(plan=scene.waiting)
        task = await scene.server.task(workspace, "plan")
        await scene.runs("plan")

        cut = cutter.cut("cancel_requested_at = $", committed=committed)
        again = await asked(scene, "POST", f"/tasks/{task}/cancel", cut, json={})

        assert again.status_code == 200, again.text
        assert (await scene.finished(task))["status"] == "cancelled"
