"""Rows 41, 46, 47, 48: sessions that end, names and identities that two agents have, versions that do not fit."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from iac.domain.messages import Hello
from tests.fakes.agent_api import serving
from tests.fakes.scripted_agent import ScriptedAgent
from tests.faults.oracle import journal_of
from tests.faults.scene import STRAIGHT, Scene, a_scene
from tests.harness.agent_process import AgentProcess, agent_process
from tests.harness.server import PATIENT
from tests.system.scenes import Stage, becomes, exists

EXIT_VERSION, EXIT_CONFLICT = 4, 5
WITHOUT_SESSION = """SELECT count(*) FROM agent a WHERE NOT EXISTS
    (SELECT 1 FROM agent_session s WHERE s.agent_id = a.id AND s.expires_at > now())"""


@asynccontextmanager
async def a_running_plan(scene: Scene) -> AsyncIterator[int]:
    """A plan that runs until the body has ended; then it succeeds, and never did anything but that."""
    scene.acts(plan=scene.waiting)
    task = await scene.server.task("w", "plan")
    await scene.runs("plan")
    yield task
    scene.go()
    await scene.server.until(task, "succeeded")
    assert await scene.oracle.moves(task) == STRAIGHT


async def until_counted(scene: Scene, least: int, query: str) -> None:
    """Until the database counts so many."""
    with trio.fail_after(PATIENT):
        while True:
            if await scene.oracle.count(query) >= least:
                return
            await trio.sleep(0.05)


async def test_row_41_a_session_is_renewed_before_it_ends(tmp_path: Path, database_url: str) -> None:
    """41: renewed at 75 % of its life; nobody notices."""
    times = {"session": 6.0, "session_overlap": 0.5}
    async with a_scene(tmp_path, database_url, times=times) as scene, scene.agent() as agent:
        async with a_running_plan(scene):
            await until_counted(scene, 1, "SELECT count(*) FROM audit WHERE verb = 'agent.session'")
        assert agent.said.count("registered") == agent.said.count("connected") == 1


async def test_row_41_after_a_missed_renewal_the_agent_registers_again_as_itself(
    tmp_path: Path, database_url: str
) -> None:
    """41: the session is over; the secret proves who it is, and the task's own token was good all the time."""
    async with a_scene(tmp_path, database_url, times={"session": 2.0}) as scene, scene.agent() as agent:
        async with a_running_plan(scene) as task:
            scene.proxy.answer(502, path="/session")
            await until_counted(scene, 1, WITHOUT_SESSION)
            scene.proxy.reset()
            await agent.says("registered", 2)
            scene.proxy.passes()
            await agent.says("connected", 2)
            before = (await scene.shown(task))["agent_id"]
        assert await scene.oracle.count("SELECT count(*) FROM agent") == 1
        assert agent.said.count(f"registered  agent={before}") == agent.said.count("registered")


async def test_row_46_a_name_that_somebody_has_is_refused_where_names_are_unique(
    tmp_path: Path, database_url: str
) -> None:
    """46: 409, then exit 5; the one who has the name does not notice."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent() as first:
        await first.says("connected")
        async with a_running_plan(scene):
            other = scene.agent(data_dir=tmp_path / "other", times={"conflict_for": 0.0})
            async with other as second:
                assert await second.ended() == EXIT_CONFLICT
                assert "IAC_AGENT_NAME" in second.said
        assert first.said.count("connected") == 1


async def test_row_46_a_name_that_somebody_has_is_made_another_one_where_pods_share_it(
    tmp_path: Path, database_url: str
) -> None:
    """46: both are there, each with a suffix of its own."""
    async with a_scene(tmp_path, database_url, name_policy="suffix") as scene, scene.agent("web") as first:
        async with scene.agent("web", data_dir=tmp_path / "other") as second:
            for agent in (first, second):
                await agent.says("connected")
            names = [agent["name"] for agent in (await scene.call("GET", "/agents"))["items"]]
            assert len(set(names)) == 2
            assert all(name.startswith("web-") and len(name) == len("web-12345") for name in names)


def copy_of(agent: AgentProcess, place: Path) -> Path:
    """A data directory with the agent's identity, as a careless image or `cp -r` makes it."""
    place.mkdir(mode=0o700)
    shutil.copy(agent.data_dir / "identity.json", place)
    return place


async def test_row_47_a_copied_data_directory_is_refused_while_the_first_one_lives(
    tmp_path: Path, database_url: str
) -> None:
    """47: session_conflict for the newcomer, no flip-flop."""
    # The first one counts as alive for 2.5 heartbeats: longer than any machine stands still.
    async with a_scene(tmp_path, database_url, times={"heartbeat": 20.0}) as scene, scene.agent() as first:
        await first.says("connected")
        copy = copy_of(first, tmp_path / "copy")
        async with a_running_plan(scene):
            async with scene.agent(data_dir=copy, times={"conflict_for": 1.0}) as newcomer:
                assert await newcomer.ended() == EXIT_CONFLICT
                assert "data directory of its own" in newcomer.said
                assert "connected  " not in newcomer.said
        assert first.said.count("connected") == 1
        await becomes(lambda: not journal_of(first.data_dir))


async def test_row_47_when_the_first_one_is_dead_its_copy_may_be_it(tmp_path: Path, database_url: str) -> None:
    """47: still one agent."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent() as first:
        await first.says("connected")
        copy = copy_of(first, tmp_path / "copy")
        await first.kill()
        async with scene.agent(data_dir=copy) as heir:
            await heir.says("connected")
            assert await scene.oracle.count("SELECT count(*) FROM agent") == 1


@pytest.mark.parametrize(("versions", "fine"), [([1], True), ([1, 2], True), ([0, 1], True), ([2], False), ([], False)])
async def test_row_48_a_server_lets_in_who_speaks_its_version_too(
    tmp_path: Path, database_url: str, versions: list[int], fine: bool
) -> None:
    """48, the server: N and N-1 are fine; others get 426 when they register, and 4406 at their hello."""
    async with a_scene(tmp_path, database_url) as scene:
        agent = ScriptedAgent(scene.server.client, scene.token)
        body: dict[str, Any] = {
            "name": "a",
            "instance_id": "i" * 16,
            "boot_id": "b" * 16,
            "protocol_versions": versions,
        }
        answer = await agent.call("POST", "/agents/register", scene.token, json=body, expect=201 if fine else 426)
        if not fine:
            assert {"min", "max"} <= set(answer.json()["error"])
        await agent.register()
        async with agent.connected() as link:
            await link.say(agent.hello(protocol_versions=tuple(versions)))
            if not fine:
                assert (await link.closed())[0] == 4406


async def test_row_48_an_agent_that_is_too_old_finishes_what_it_runs_and_then_ends(tmp_path: Path) -> None:
    """48, the agent: after 4406 it drains, reports, and exits 4."""
    stage, go = Stage(tmp_path), tmp_path / "go"
    stage.set(plan={"ready_file": str(tmp_path / "ready"), "until": str(go)})
    async with serving() as api:
        started = agent_process(tmp_path / "agents", api.url, api.pool_token, path=stage.env["PATH"])
        async with started as agent:
            await api.until(lambda: api.connected)
            made = api.offer()
            await exists(tmp_path / "ready")
            api.hang_up(4406, "no version in common")
            await agent.says("the agent has to end")
            assert made.status == "running"
            go.touch()
            assert await agent.ended() == EXIT_VERSION
        assert made.result is not None
        assert made.result.status == "planned"
        assert len(api.of(Hello)) == 1
    assert stage.events("plan") == ["start", "stop"]
