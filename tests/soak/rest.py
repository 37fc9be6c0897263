"""The end of a soak: everything works again, and so everything has to come to rest; then nothing may be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from iac.store.database import open_database
from tests.faults.oracle import Oracle
from tests.harness.server import TOKEN
from tests.soak.configurations import CANARY, SECRET_INPUT, compared
from tests.soak.stage import Stage
from tests.soak.traces import descriptors, work_left
from tests.soak.users import OPEN, Crowd

LOOK = 0.5
MOVES_WITHIN = 90.0
"""Seconds without any task that moves, after which those that are open are stuck. A lost agent's take 22, a thing 25."""
CLEARS_WITHIN = 30.0
"""Seconds for what follows a task's end: work directories, journals."""
MORE_DESCRIPTORS = 25
"""Open files and connections that a program may have more at the end than at the beginning."""
_KILLED = """SELECT id AS task FROM task WHERE signal = 9 OR cancel_force
             UNION SELECT task_id FROM oracle_moved WHERE to_status = 'lost'"""
"""Tasks that may have made something which no state knows: they were killed while they were at it."""
_UNSURE = """SELECT id AS task FROM task WHERE reason IN ('server_restarted', 'agent_lost', 'agent_has_no_record')
             UNION SELECT task_id FROM oracle_moved WHERE to_status = 'lost'"""
"""Tasks whose log may end early, and says so: whoever had the rest of it is gone."""

_DISPATCH = "SELECT extract(epoch FROM assigned_at - queued_at) AS seconds FROM task WHERE assigned_at >= queued_at"


async def come_to_rest(stage: Stage, crowd: Crowd) -> None:
    """Until every task has ended, or is lost; those are resolved, and then every workspace has to work again."""
    crowd.over = True
    began = trio.current_time()
    await _at_rest(stage)
    stage.record.notes["came to rest after (s)"] = round(trio.current_time() - began, 1)
    await _resolve(stage)
    _start_again_where_something_is_left(stage)
    await _at_rest(stage)
    await _plan_everywhere(stage)
    await _cleared(stage)


async def _at_rest(stage: Stage) -> None:
    """The crowd goes on deciding meanwhile, so a plan that waits for its confirmation gets one."""
    left, before = await _open(stage), []
    patience = trio.move_on_after(MOVES_WITHIN)
    with patience:
        while left:
            await trio.sleep(LOOK)
            left, before = await _open(stage), left
            if _places(left) != _places(before):
                patience.deadline = trio.current_time() + MOVES_WITHIN
    for task in left:
        waits = "" if task["wait"] is None else f", and waits: {task['wait']['message']}"
        stage.record.complain(f"task {task['id']} of {task['workspace_name']} is still {task['status']}{waits}")


async def _open(stage: Stage) -> list[dict[str, Any]]:
    """Tasks that should go on by themselves: not what is lost and says who may resolve it, nor what stands behind it."""
    tasks = await stage.user.everything("/tasks", status=OPEN)
    lost = {
        task["workspace_name"] for task in tasks if task["status"] == "lost" and "resolve" in task["wait"]["actions"]
    }
    resting = ("lost", "pending")
    return [task for task in tasks if not (task["status"] in resting and task["workspace_name"] in lost)]


def _places(tasks: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(task["id"], task["status"], task["phase"], task["stage"], task["attempt"]) for task in tasks]


async def _resolve(stage: Stage) -> None:
    lost = await stage.user.everything("/tasks", status="lost")
    stage.record.notes["lost tasks that a human had to resolve"] = len(lost)
    for task in lost:
        body = {"comment": "the soak has looked at it", "unlock": True}
        await stage.user.insist("POST", f"/tasks/{task['id']}/resolve", json=body)


def _start_again_where_something_is_left(stage: Stage) -> None:
    """What was kept for a task that is resolved now is looked at once more at the next start."""
    for program in stage.programs.values():
        if work_left(program.data_dir):
            program.kill()
            program.start()


async def _plan_everywhere(stage: Stage) -> None:
    """Every workspace can plan again, and the plan ends well."""
    plans = {}
    for name in stage.workspaces:
        made = await stage.user.insist("POST", f"/workspaces/{name}/tasks", json={"action": "plan"})
        plans[made["id"]] = name
    await _at_rest(stage)
    for task, name in plans.items():
        shown = await stage.user.insist("GET", f"/tasks/{task}")
        if shown["status"] != "succeeded":
            stage.record.complain(f"the last plan of {name}, task {task}, is {shown['status']}: {shown['detail']}")


async def _cleared(stage: Stage) -> None:
    left: list[Path] = []
    with trio.move_on_after(CLEARS_WITHIN):
        while left := [each for data_dir in stage.data_dirs for each in work_left(data_dir)]:  # noqa: ASYNC110
            await trio.sleep(LOOK)
    for each in left:
        stage.record.complain(f"{each.relative_to(stage.root)} is left: {sorted(e.name for e in each.iterdir())}")


async def look_at_everything(stage: Stage, opened_before: dict[str, int]) -> list[dict[str, Any]]:
    """Every invariant; all tasks that there were."""
    record = stage.record
    tasks = await stage.user.everything("/tasks")
    record.existed(tasks, trio.current_time())
    for name, program in stage.programs.items():
        now = descriptors(program.pid)
        record.notes[f"descriptors of {name}"] = f"{opened_before[name]}, at the end {now}"
        if now > opened_before[name] + MORE_DESCRIPTORS:
            record.complain(f"{name} has {now} descriptors open; at the beginning it had {opened_before[name]}")
    async with open_database(stage.postgres.url, pool_size=2) as database:
        oracle = Oracle(
            database,
            stage.user.client,
            [CANARY, SECRET_INPUT, TOKEN],
            ledgers=[stage.ledger / "ledger"],
            work=stage.data_dirs,
            logs=[program.log_file for program in stage.programs.values()],
        )
        unsure = oracle.incomplete = {row["task"] for row in await oracle.select(_UNSURE)}
        record.violations += await oracle.broken()
        await _logs_as_they_were_read(stage, oracle, {task["id"] for task in tasks if task["attempt"] > 1} | unsure)
        await _things(stage, {row["task"] for row in await oracle.select(_KILLED)}, tasks)
        waited = await oracle.select(_DISPATCH)
        record.dispatch = [float(row["seconds"]) for row in waited]
    return tasks


async def _logs_as_they_were_read(stage: Stage, oracle: Oracle, several: set[int]) -> None:
    """What somebody has read of a log stays there. Of several attempts an earlier one may still grow before a later one."""
    for task, read in stage.record.logs.items():
        if task not in several and not (await oracle.log(task)).startswith(read):
            stage.record.complain(f"I5 the log of task {task} is another one than was read while it ran")


async def _things(stage: Stage, killed: set[int], tasks: list[dict[str, Any]]) -> None:
    """What there is is in the state, and what is in the state is there (I4: no state was lost)."""
    excused = 0
    shaken = {task["workspace_name"] for task in tasks if task["id"] in killed}
    for workspace in await stage.user.everything("/workspaces"):
        name = workspace["name"]
        if workspace["lock"] is not None:
            stage.record.complain(f"I8 {name} is locked at rest: {workspace['lock']}")
        state = None
        if workspace["state_serial"] is not None:
            state = await stage.user.insist("GET", f"/workspaces/{name}/state-versions/current/download")
        found = compared(state, stage.things / name)
        for thing, task in found.lost.items():
            if task in killed:
                excused += 1
            else:
                stage.record.complain(f"I4 {thing} of {name}, made by task {task}, is in no state")
        for thing in found.phantoms:
            if name in shaken:
                excused += 1
            else:
                stage.record.complain(f"I4 {thing} is in the state of {name}, but was destroyed")
    stage.record.notes["things of killed applies that no state knows, or that are gone"] = excused
