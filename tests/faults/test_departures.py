"""Rows 39 and 42: agents whose host, or whose pool, wants them to go, and the server that is told to."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from iac.domain.ending import STOP_APPLIES_AT, STOP_PLANS_AT
from tests.faults.scene import Message, Scene, a_killable_scene, a_scene, noting, stages_of
from tests.harness.killable import processes_of
from tests.system.scenes import becomes, runs

BESIDE: dict[str, Any] = {"apply_exclusivity": "slot"}
DEAF = {"sleep": "forever", "ignore_sigterm": -1}
ONCE_DEAF = {"sleep": "forever", "ignore_sigterm": 1}
WITHIN = 10
"""Seconds that an agent has here to end (IAC_DRAIN_SECONDS)."""


async def test_row_39_an_agent_whose_token_was_softly_revoked_finishes_what_it_has(
    tmp_path: Path, database_url: str
) -> None:
    """39: it drains: what runs ends and is reported, nothing new comes."""
    told: list[Message] = []
    async with a_scene(tmp_path, database_url) as scene:
        scene.proxy.down.rewrite(noting(told, "drain"))
        scene.acts(plan=scene.waiting)
        async with scene.agent():
            task = await scene.server.task("w", "plan")
            await scene.runs("plan")
            [token] = (await scene.call("GET", "/agent-pools/pool/tokens"))["items"]
            await scene.call("DELETE", f"/agent-pools/pool/tokens/{token['id']}", params={"mode": "soft"})
            await becomes(lambda: bool(told))
            second = await scene.server.task("w", "plan")
            scene.go()
            assert (await scene.finished(task))["status"] == "succeeded"
            assert (await scene.shown(second))["status"] == "queued"
            assert len(scene.oracle.events("plan")) == 1
            await scene.cancel(second)


async def _plan_and_apply(scene: Scene, **manners: Any) -> tuple[int, int]:
    """A plan and an apply that run side by side on one agent."""
    await scene.call("POST", "/workspaces", json={"name": "v"})
    await scene.call("PUT", "/workspaces/v/configuration", json={"files": {"main.tf": ""}})
    await scene.call("PUT", "/agent-pools/pool/workspaces/v")
    await scene.call("PATCH", "/workspaces/v", json={"execution_mode": "agent", "pool_id": "pool"})
    scene.acts(apply=manners["apply"])
    apply = await scene.confirmed_apply()
    await scene.runs("apply")
    scene.acts(apply=manners["apply"], plan=manners["plan"])
    plan = await scene.server.task("v", "plan")
    await scene.runs("plan", 2)
    return plan, apply


def _after(scene: Scene, command: str, began: float) -> list[float]:
    """When this command got its SIGTERMs."""
    return [entry["at"] - began for entry in scene.oracle.events(command, "sigterm")]


@pytest.mark.slow_fault
async def test_row_42_an_evicted_agent_stops_applies_first_and_plans_later(tmp_path: Path, database_url: str) -> None:
    """42: at 60 % of its time applies are asked, at 85 % plans; what is stopped is brought home, then it says goodbye."""
    words: list[Message] = []
    async with a_scene(tmp_path, database_url, **BESIDE) as scene:
        scene.proxy.up.rewrite(noting(words, "goodbye"))
        async with scene.agent(env={"IAC_DRAIN_SECONDS": str(WITHIN)}) as agent:
            plan, apply = await _plan_and_apply(scene, apply=ONCE_DEAF, plan={"sleep": "forever"})
            began = time.monotonic()
            agent.signal(signal.SIGTERM)
            assert await agent.ended() == 0
        applied, planned = await scene.finished(apply), await scene.finished(plan)
        for each in (applied, planned):
            assert (each["status"], each["reason"], each["cancel"]["by"]) == ("cancelled", "agent_drained", "runner")
        assert _after(scene, "apply", began)[0] >= STOP_APPLIES_AT * WITHIN
        assert _after(scene, "plan", began)[0] >= STOP_PLANS_AT * WITHIN
        assert "sigterm2" in stages_of(applied["cancel"])
        assert words[-1]["payload"]["running"] == []


@pytest.mark.slow_fault
async def test_row_42_an_evicted_agent_lets_what_is_soon_done_end_and_takes_nothing_new(
    tmp_path: Path, database_url: str
) -> None:
    """42: it says at once that it drains; the apply ends by itself, its result is told, and the program ends with 0."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(apply=scene.waiting)
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            await scene.runs("apply")
            agent.signal(signal.SIGTERM)
            await _is_draining(scene)
            waiting = await scene.server.task("w", "plan")
            scene.go()
            assert await agent.ended() == 0
        assert (await scene.finished(task))["status"] == "succeeded"
        assert (await scene.shown(waiting))["status"] == "queued"
        await scene.cancel(waiting)


async def _is_draining(scene: Scene) -> None:
    with trio.fail_after(30):
        while (await scene.call("GET", "/agents"))["items"][0]["status"] != "draining":  # noqa: ASYNC110
            await trio.sleep(0.02)


@pytest.mark.slow_fault
async def test_row_42_a_second_signal_hurries_unless_it_is_an_echo(tmp_path: Path, database_url: str) -> None:
    """42: later than the echo it kills plans, and gives applies their second SIGTERM."""
    async with a_scene(tmp_path, database_url, **BESIDE) as scene:
        async with scene.agent(env={"IAC_DRAIN_SECONDS": "600"}, times={"deaf": 5.0}) as agent:
            plan, apply = await _plan_and_apply(scene, apply=ONCE_DEAF, plan=DEAF)
            agent.signal(signal.SIGTERM)
            await agent.says("drain")  # before the next one: the kernel makes one of two that nobody took yet
            agent.signal(signal.SIGTERM)
            await agent.says("echo")
            assert not scene.oracle.events("apply", "sigterm")
            with trio.fail_after(30):
                while "hurry" not in agent.said:
                    await trio.sleep(0.2)
                    agent.signal(signal.SIGTERM) if "hurry" not in agent.said else None
            assert await agent.ended() == 0
        planned, applied = await scene.finished(plan), await scene.finished(apply)
        assert (planned["status"], planned["signal"]) == ("cancelled", 9)
        assert stages_of(planned["cancel"]) == ["received", "sigterm", "sigkill", "exited"]
        assert len(scene.oracle.events("plan", "sigterm")) == 1
        assert stages_of(applied["cancel"])[:3] == ["received", "sigterm", "sigterm2"]


async def test_row_42_a_third_signal_ends_the_agent_and_the_apply_goes_on(tmp_path: Path, database_url: str) -> None:
    """42: the shim sees the apply to its end; the next start brings it home."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(apply={**scene.waiting, "ignore_sigterm": -1})
        await scene.call("PATCH", "/workspaces/w", json={"apply_grace_s": 600})
        async with scene.agent(env={"IAC_DRAIN_SECONDS": "600"}, times={"deaf": 600.0, "second": 600.0}) as agent:
            task = await scene.confirmed_apply()
            await scene.runs("apply")
            agent.signal(signal.SIGQUIT)
            await agent.says("hurry")
            agent.signal(signal.SIGTERM)
            assert await agent.ended() == 0
        [start] = scene.oracle.events("apply")
        assert runs(start["pid"])
        scene.go()
        async with scene.agent():
            assert (await scene.finished(task))["status"] == "succeeded"


@pytest.mark.slow_fault
async def test_row_42_an_agent_that_detaches_leaves_its_apply_running_and_finds_it_again(
    tmp_path: Path, database_url: str
) -> None:
    """42, a static host, an upgrade: nothing is signalled, nobody waits; the plan beside it is tried again."""
    async with a_scene(tmp_path, database_url, **BESIDE) as scene:
        async with scene.agent(env={"IAC_SHUTDOWN_MODE": "detach", "IAC_DRAIN_SECONDS": "600"}) as agent:
            plan, apply = await _plan_and_apply(scene, apply=scene.waiting, plan={"sleep": "forever"})
            assert await agent.stop() == 0
        [start] = scene.oracle.events("apply")
        assert runs(start["pid"])
        assert scene.oracle.events("apply", "sigterm") == []
        assert (await scene.shown(apply))["status"] == "running"
        assert (await scene.server.until(plan, "queued"))["reason"] == "runner_detached"
        scene.acts()
        async with scene.agent() as agent:
            await agent.says("connected")
            scene.go()
            assert (await scene.finished(apply))["status"] == "succeeded"
            assert (await scene.finished(plan))["attempt"] == 2
        assert ("running", "lost") not in await scene.oracle.moves(apply)


async def test_row_42_a_server_that_detaches_leaves_its_apply_running_and_finds_it_again(
    tmp_path: Path, database_url: str
) -> None:
    """42, for the server's own runner: the next start learns from the shim how the apply ended."""
    async with a_killable_scene(tmp_path, database_url, more_env={"IAC_SHUTDOWN_MODE": "detach"}) as scene:
        here = await scene.locally()
        scene.acts(apply=scene.waiting)
        task = await scene.server.task(here, "plan_and_apply", auto_apply=True)
        await scene.runs("apply")
        scene.program.signal(signal.SIGTERM)
        assert await scene.program.ended() == 0
        assert len(processes_of(tmp_path / "server" / "data")) == 1
        assert scene.oracle.events("apply", "sigterm") == []
        await scene.restart()
        scene.go()
        assert (await scene.finished(task))["status"] == "succeeded"


@pytest.mark.slow_fault
async def test_row_42_a_server_that_is_told_to_stop_asks_its_apply_when_its_time_comes(
    tmp_path: Path, database_url: str
) -> None:
    """42, for the server's own runner: the same table; what it stopped is told as such."""
    async with a_killable_scene(tmp_path, database_url, more_env={"IAC_DRAIN_SECONDS": "2"}) as scene:
        here = await scene.locally()
        scene.acts(apply={"sleep": "forever"})
        task = await scene.server.task(here, "plan_and_apply", auto_apply=True)
        await scene.runs("apply")
        began = time.monotonic()
        scene.program.signal(signal.SIGTERM)
        assert await scene.program.ended() == 0
        assert _after(scene, "apply", began)[0] >= STOP_APPLIES_AT * 2
        await scene.restart()
        ended = await scene.shown(task)
        assert (ended["status"], ended["reason"], ended["cancel"]["by"]) == ("cancelled", "server_shutdown", "runner")
