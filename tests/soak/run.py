"""One soak from beginning to end."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.soak import report
from tests.soak.record import Record
from tests.soak.report import Report
from tests.soak.rest import come_to_rest, look_at_everything
from tests.soak.schedule import Fault, schedule
from tests.soak.stage import Stage, a_stage
from tests.soak.traces import descriptors, processes_below
from tests.soak.troubles import Troubles, named
from tests.soak.users import Crowd

DIRECT, WIRED = 2, 2
"""Agents that reach the server directly, and through a wire that misbehaves."""
EVERY, LONGEST = 5.0, 30.0
"""Seconds between faults, on average; the longest that one may last. An agent is given up after 22."""
CALM = 10.0
"""Seconds in which all agents have to be there, at the beginning."""
ENDS_WITHIN = 60.0


async def soak(root: Path, *, seed: str, seconds: float, workspaces: int = 20, every: float = EVERY) -> Report:
    """So many seconds of load and trouble, then peace, then every invariant. `root` is a directory for this soak alone."""
    record = Record()
    async with a_stage(root, record, workspaces=workspaces, direct=DIRECT, wired=WIRED) as stage:
        troubles = Troubles(stage.programs, stage.postgres, stage.wires, stage.behind, stage.user, record)
        faults = schedule(seed, seconds=seconds, targets=troubles.targets, every=every, longest=LONGEST)
        crowd = Crowd(stage.user, record, seed, stage.workspaces, stage.things, frozenset(stage.workspaces[1::5]))
        await _all_there(stage)
        opened = {name: descriptors(program.pid) for name, program in stage.programs.items()}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.run)
            await _trouble(troubles, faults, seconds)
            await come_to_rest(stage, crowd)
            nursery.cancel_scope.cancel()
        tasks = await look_at_everything(stage, opened)
        await _end(stage)
    return Report(
        seed=seed,
        seconds=seconds,
        violations=record.violations,
        faults=report.counted(record.faults),
        tasks=report.outcomes(tasks),
        calls=dict(sorted(record.calls.items())),
        dispatch=report.spread(record.dispatch),
        recovery={name: found for name, took in sorted(record.recovered.items()) if (found := report.spread(took))},
        notes=record.notes,
    )


async def _all_there(stage: Stage) -> None:
    names = {named(name) for name in stage.programs if name != "server"}
    with trio.fail_after(CALM + ENDS_WITHIN):
        while names - {each["name"] for each in await stage.user.everything("/agents") if each["online"]}:  # noqa: ASYNC110
            await trio.sleep(0.2)


async def _trouble(troubles: Troubles, faults: list[Fault], seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(troubles.run, faults)
        await trio.sleep(seconds)


async def _end(stage: Stage) -> None:
    """Everybody is stopped as an operator would do it; nothing of all that is left."""
    for name, program in reversed(stage.programs.items()):
        code = await program.stop(ENDS_WITHIN)
        if code != 0:
            stage.record.complain(f"{name} was told to end, and ended with {code}")
    for pid, command in processes_below(stage.root).items():
        stage.record.complain(f"I6 process {pid} is left: {command[:200]}")
